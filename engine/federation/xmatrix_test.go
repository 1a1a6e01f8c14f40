package federation

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"testing"
	"time"

	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
)

func TestParseCredentials(t *testing.T) {
	for _, c := range []struct {
		header string
		want   Credentials // zero: refused
	}{
		{`X-Matrix origin="a.example",destination="b.example",key="ed25519:1",sig="AbC/+"`, Credentials{"a.example", "b.example", "ed25519:1", "AbC/+"}},
		{`X-Matrix origin=a.example:8448,key=ed25519:1,sig=AbC`, Credentials{Origin: "a.example:8448", Key: "ed25519:1", Signature: "AbC"}},
		{`x-matrix   KEY="ed25519:1" , Sig="A\"b\\" ,origin="a.example" , unknown=1`, Credentials{Origin: "a.example", Key: "ed25519:1", Signature: `A"b\`}},
		{header: ``}, {header: `Bearer abc`}, {header: `X-Matrix`}, {header: `X-Matrix origin="a.example`},
		{header: `X-Matrix origin`}, {header: `X-Matrix origin="a.example",key="ed25519:1"`},
		{header: `X-Matrix origin="not a name",key="ed25519:1",sig="a"`},
	} {
		got, err := ParseCredentials(c.header)
		if got != c.want || (err == nil) != (c.want != Credentials{}) {
			t.Errorf("%q: %+v, %v; want %+v", c.header, got, err, c.want)
		}
		if err != nil && !fault.Is(err, fault.Unauthorised) {
			t.Errorf("%q: %v is no refusal of credentials", c.header, err)
		}
	}
}

func FuzzParseCredentials(f *testing.F) {
	f.Add(`X-Matrix origin="a.example",destination="b.example",key="ed25519:1",sig="AbC"`)
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseCredentials(s)
		if err == nil && (c.Origin == "" || c.Key == "" || c.Signature == "") {
			t.Errorf("%q: taken with %+v", s, c)
		}
	})
}

// wire joins two servers: what the one signs, the other judges.
func TestAuthenticate(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	verify := func(_ context.Context, server mxid.Server, obj []byte, _ time.Time) error {
		if server != "a.example" {
			return fmt.Errorf("no keys of %s", server)
		}
		return event.VerifyJSON(obj, "a.example", "ed25519:1", key.Public().(ed25519.PublicKey))
	}
	a, _ := Open(Parts{}, Options{Signer: event.Signer{Server: "a.example", KeyID: "ed25519:1", Key: key}})
	b, _ := Open(Parts{}, Options{Signer: event.Signer{Server: "b.example"}, VerifyJSON: verify, Allow: []mxid.Server{"a.example", "c.example"}})
	r := Request{Dest: "b.example", Method: "PUT", Path: "/_matrix/x?y=%20", Body: []byte(`{"b": 1, "a": [2]}`)}
	if err := a.authorise(&r); err != nil {
		t.Fatal(err)
	}
	good := Signed{r.Authorization, r.Method, r.Path, r.Body}
	if from, err := b.Authenticate(t.Context(), &good); err != nil || from != "a.example" {
		t.Fatal(from, err)
	}
	for what, change := range map[string]func(s *Signed){
		"another method":  func(s *Signed) { s.Method = "POST" },
		"another target":  func(s *Signed) { s.URI = "/_matrix/x?y=%21" },
		"another content": func(s *Signed) { s.Content = []byte(`{"b":1,"a":[3]}`) },
		"no content":      func(s *Signed) { s.Content = nil },
		"another destination": func(s *Signed) {
			s.Header = `X-Matrix origin="a.example",destination="c.example",key="ed25519:1",sig="AAAA"`
		},
		"itself":     func(s *Signed) { s.Header = `X-Matrix origin="b.example",key="ed25519:1",sig="AAAA"` },
		"without":    func(s *Signed) { s.Header = "" },
		"other keys": func(s *Signed) { s.Header = `X-Matrix origin="c.example",key="ed25519:1",sig="AAAA"` },
	} {
		s := good
		change(&s)
		if from, err := b.Authenticate(t.Context(), &s); !fault.Is(err, fault.Unauthorised) {
			t.Errorf("%s: %q, %v", what, from, err)
		}
	}
	out := good
	out.Header = `X-Matrix origin="d.example",key="ed25519:1",sig="AAAA"`
	if _, err := b.Authenticate(t.Context(), &out); !fault.Is(err, fault.Forbidden) {
		t.Errorf("a server that is kept out: %v", err)
	}
}

// Homeservers sign requests to an identity server in one of two ways.
func TestSigner(t *testing.T) {
	key := event.Signer{Server: "a.test", KeyID: "ed25519:1", Key: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))}
	verify := func(server mxid.Server, obj []byte) error {
		return event.VerifyJSON(obj, string(server), "ed25519:1", key.Key.Public().(ed25519.PublicKey))
	}
	for _, tt := range []struct {
		obj  string
		dest string
		ok   bool
	}{
		{`{"content":{"a":1},"destination":"id.test","method":"POST","origin":"a.test","uri":"/x"}`, "id.test", true},
		{`{"content":{"a":1},"destination_is":"id.test","method":"POST","origin":"a.test","uri":"/x"}`, "id.test", true},
		{`{"content":{"a":1},"method":"POST","origin":"a.test","uri":"/x"}`, "", true},
		{`{"content":{"a":2},"destination":"id.test","method":"POST","origin":"a.test","uri":"/x"}`, "id.test", false},
		{`{"content":{"a":1},"destination":"other.test","method":"POST","origin":"a.test","uri":"/x"}`, "other.test", false},
		{`{"content":{"a":1},"destination_is":"other.test","method":"POST","origin":"a.test","uri":"/x"}`, "id.test", false},
	} {
		signed, err := event.SignJSON(nil, []byte(tt.obj), &key)
		if err != nil {
			t.Fatal(err)
		}
		header := `X-Matrix origin="a.test",key="ed25519:1",sig="` + base64.RawStdEncoding.EncodeToString(event.Signatures(signed, "a.test")[0].Sig) + `"`
		if tt.dest != "" {
			header += `,destination="` + tt.dest + `"`
		}
		s := Signed{Header: header, Method: "POST", URI: "/x", Content: []byte(`{"a":1}`)}
		if origin, err := s.Signer("id.test", verify); (err == nil) != tt.ok || tt.ok && origin != "a.test" {
			t.Errorf("%s: %s, %v", tt.obj, origin, err)
		}
	}
}
