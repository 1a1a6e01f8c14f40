package mxid

import (
	"reflect"
	"testing"
)

// The examples of the specification, and how each is printed again.
func TestLinks(t *testing.T) {
	for _, tt := range []struct {
		in       string
		want     Link
		uri, web string // empty: as it came in
	}{
		{"matrix:r/somewhere:example.org", Link{Alias: "#somewhere:example.org"}, "", "https://matrix.to/#/%23somewhere:example.org"},
		{"matrix:roomid/somewhere:example.org?via=elsewhere.ca", Link{Room: "!somewhere:example.org", Via: []Server{"elsewhere.ca"}}, "",
			"https://matrix.to/#/!somewhere:example.org?via=elsewhere.ca"},
		{"matrix:roomid/somewhere:example.org/e/event?via=elsewhere.ca", Link{Room: "!somewhere:example.org", Event: "$event", Via: []Server{"elsewhere.ca"}}, "",
			"https://matrix.to/#/!somewhere:example.org/$event?via=elsewhere.ca"},
		{"matrix:u/alice:example.org?action=chat", Link{User: "@alice:example.org", Action: "chat"}, "", "https://matrix.to/#/@alice:example.org"},
		{"https://matrix.to/#/%23somewhere%3Aexample.org", Link{Alias: "#somewhere:example.org"}, "matrix:r/somewhere:example.org", "https://matrix.to/#/%23somewhere:example.org"},
		{"https://matrix.to/#/#somewhere:example.org", Link{Alias: "#somewhere:example.org"}, "matrix:r/somewhere:example.org", "https://matrix.to/#/%23somewhere:example.org"},
		{"https://matrix.to/#/%21somewhere%3Aexample.org/%24event%3Aexample.org?via=elsewhere.ca",
			Link{Room: "!somewhere:example.org", Event: "$event:example.org", Via: []Server{"elsewhere.ca"}},
			"matrix:roomid/somewhere:example.org/e/event:example.org?via=elsewhere.ca", "https://matrix.to/#/!somewhere:example.org/$event:example.org?via=elsewhere.ca"},
		{"https://matrix.to/#/%40alice%3Aexample.org", Link{User: "@alice:example.org"}, "matrix:u/alice:example.org", "https://matrix.to/#/@alice:example.org"},
		{"https://matrix.to/#/!r:x.org/$a/b+c", Link{Room: "!r:x.org", Event: "$a/b+c"}, "matrix:roomid/r:x.org/e/a%2Fb%2Bc", "https://matrix.to/#/!r:x.org/$a%2Fb%2Bc"},
		{"MATRIX:room/a:x.org?action=join&action=chat&org.example.q=%26", Link{Alias: "#a:x.org", Action: "join"}, "matrix:r/a:x.org?action=join", "https://matrix.to/#/%23a:x.org"},
		{"matrix://hub.example/u/bob:x.org#frag", Link{User: "@bob:x.org"}, "matrix:u/bob:x.org", "https://matrix.to/#/@bob:x.org"},
		{"matrix:u/b%C3%B6b%2Fc:x.org?via=x.org:8448&via=%5B::1%5D", Link{User: "@böb/c:x.org", Via: []Server{"x.org:8448", "[::1]"}},
			"matrix:u/b%C3%B6b%2Fc:x.org?via=x.org:8448&via=%5B::1%5D", "https://matrix.to/#/@b%C3%B6b%2Fc:x.org?via=x.org:8448&via=%5B::1%5D"},
	} {
		got, err := ParseLink(tt.in)
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, %v", tt.in, got, err)
			continue
		}
		if tt.uri == "" {
			tt.uri = tt.in
		}
		if got.URI() != tt.uri || got.Web() != tt.web {
			t.Errorf("%s is printed as %s and %s", tt.in, got.URI(), got.Web())
		}
		for _, again := range [...]string{got.URI(), got.Web()} {
			back, err := ParseLink(again)
			back.Action = got.Action // matrix.to has none
			if err != nil || !reflect.DeepEqual(back, got) {
				t.Errorf("%s: %+v, %v", again, back, err)
			}
		}
	}
	for _, bad := range []string{
		"", "matrix:", "matrix:u", "matrix:u/", "matrix:u/alice", "matrix:x/a:b.org", "matrix:u/a:b.org/e/x", "matrix:roomid/a:b.org/x/y", "matrix:roomid/a:b.org/e",
		"https://matrix.to/#/", "https://matrix.to/#/+group:x.org", "https://matrix.to/@a:x.org", "https://example.org/#/@a:x.org", "matrix:u/a%ZZ:x.org",
		"matrix:r/a:x.org?via=%20", "matrix:roomid/a:b.org/e/x/e/y",
	} {
		if got, err := ParseLink(bad); err == nil {
			t.Errorf("%s: %+v", bad, got)
		}
	}
	if (&Link{}).URI() != "" || (&Link{}).Web() != "" {
		t.Error("a link to nothing")
	}
}

func FuzzLink(f *testing.F) {
	for _, s := range []string{"matrix:roomid/a:b.org/e/x?via=c.org&action=join", "https://matrix.to/#/%21a%3Ab/$x/y?via=c", "matrix:u/a:b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParseLink(s)
		if err != nil {
			return
		}
		back, err := ParseLink(l.URI())
		if err != nil || !reflect.DeepEqual(back, l) {
			t.Errorf("%q: %+v, then %+v, %v", s, l, back, err)
		}
	})
}
