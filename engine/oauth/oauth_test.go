package oauth

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func parse(t *testing.T, format string, args ...any) *Metadata {
	t.Helper()
	m, err := Parse(fmt.Appendf(nil, format, args...))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// code is the code of an error; empty for none.
func code(err error) string {
	var e *Error
	if errors.As(err, &e) {
		for i := range len(e.Text) {
			if c := e.Text[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
				return "a text that may not be told: " + e.Text
			}
		}
		return e.Code
	}
	return ""
}

// Spec: client-server, redirect URI validation. The examples there are among these.
func TestRedirects(t *testing.T) {
	for _, c := range []struct {
		base, kind, uri string
		ok              bool
	}{
		{"https://example.com/", "web", "https://example.com/callback", true},
		{"https://example.com/", "web", "https://app.example.com/callback", true},
		{"https://example.com/", "web", "https://example.com:5173/?query=value", true},
		{"https://example.com/", "web", "https://example.com/callback#fragment", false},
		{"https://example.com/", "web", "https://example.com/callback#", false},
		{"https://example.com/", "web", "http://example.com/callback", false},
		{"https://example.com/", "web", "http://localhost/", false},
		{"https://example.com/", "web", "https://app.com/callback", false},
		{"https://example.com/", "web", "https://evilexample.com/", false},
		{"https://example.com/", "web", "https://example.com.evil.org/", false},
		{"https://example.com/", "web", "https://example.com@evil.org/", false},
		{"https://example.com/", "web", "https://evil.org\\@example.com/", false},
		{"https://example.com/", "web", "https://user@example.com/", false},
		{"https://example.com/", "web", "https:///callback", false},
		{"https://example.com/", "web", "https:example.com", false},
		{"https://example.com/", "web", "https://example.com/\r\nX: y", false},
		{"https://example.com/", "web", "//example.com/", false},
		{"https://example.com/", "web", "javascript:alert(1)", false},
		{"https://example.com/", "web", "com.example.app:/callback", false},
		{"https://192.0.2.1/", "web", "https://192.0.2.1:8443/cb", true},
		{"https://192.0.2.1/", "web", "https://a.192.0.2.1/cb", false},
		{"https://example.com/", "native", "https://example.com/callback", true},
		{"https://example.com/", "native", "com.example.app:/callback", true},
		{"https://example.com/", "native", "com.example:/", true},
		{"https://example.com/", "native", "com.example:callback", true},
		{"https://example.com/", "native", "http://localhost/callback", true},
		{"https://example.com/", "native", "http://127.0.0.1/callback", true},
		{"https://example.com/", "native", "http://[::1]/callback", true},
		{"https://example.com/", "native", "example:/callback", false},
		{"https://example.com/", "native", "com.example.app://callback", false},
		{"https://example.com/", "native", "com.example.app:///callback", false},
		{"https://example.com/", "native", "com.examples:/callback", false},
		{"https://example.com/", "native", "https://localhost/callback", false},
		{"https://example.com/", "native", "http://localhost:1234/callback", false},
		{"https://example.com/", "native", "http://[::1]:1/callback", false},
		{"https://example.com/", "native", "http://localhost.evil.org/callback", false},
		{"https://example.com/", "native", "http://127.0.0.2/callback", false},
		{"https://javascript/", "native", "javascript:alert(1)", false},
		{"https://x.javascript/", "native", "javascript:alert(1)", false},
		{"https://x.data/", "native", "data:text/html,x", false},
	} {
		_, err := Parse(fmt.Appendf(nil, `{"client_uri":%q,"application_type":%q,"redirect_uris":[%q]}`, c.base, c.kind, c.uri))
		if got := code(err); (got == "") != c.ok || !c.ok && got != InvalidRedirect {
			t.Errorf("%s %s %s: %v", c.kind, c.base, c.uri, err)
		}
	}
}

// A loopback address may come with any port, and nothing else may differ.
func TestRedirectAsked(t *testing.T) {
	m := parse(t, `{"client_uri":"https://example.com","application_type":"native","redirect_uris":["http://127.0.0.1/cb?a=1","http://[::1]/","com.example:/x","https://example.com/cb"]}`)
	for uri, ok := range map[string]bool{
		"http://127.0.0.1/cb?a=1": true, "http://127.0.0.1:49152/cb?a=1": true, "http://[::1]:8/": true, "com.example:/x": true, "https://example.com/cb": true,
		"http://127.0.0.1:1/cb": false, "http://127.0.0.1:1/cb?a=1&b": false, "http://127.0.0.1:1/cb?a=1#x": false, "http://localhost:1/cb?a=1": false,
		"http://127.0.0.1:1@evil.org/cb?a=1": false, "https://example.com:1/cb": false, "https://example.com/cb/": false, "com.example:/y": false,
		"http://x@127.0.0.1:1/cb?a=1": false, "": false, "https://example.com/CB": false, "http://127.0.0.1:1/../cb?a=1": false,
	} {
		if m.Redirect(uri) != ok {
			t.Errorf("%s: %v", uri, !ok)
		}
	}
}

func TestMetadata(t *testing.T) {
	const some = `"client_uri":"https://example.com/","redirect_uris":["https://example.com/"]`
	for _, c := range []struct{ body, code string }{
		{`{` + some + `}`, ""},
		{`{` + some + `,"x":{},"contacts":[1],"client_uri#fr":7}`, ""},
		{`{` + some + `,"token_endpoint_auth_method":"none","response_types":["code","what"],"grant_types":["implicit","authorization_code"]}`, ""},
		{`{"client_uri":"https://example.com/","grant_types":["urn:ietf:params:oauth:grant-type:device_code","refresh_token"],"response_types":[]}`, ""},
		{`[]`, InvalidMetadata},
		{`{`, InvalidMetadata},
		{`{}`, InvalidMetadata},
		{`{"client_uri":"https://example.com/"}`, InvalidRedirect},
		{`{"client_uri":"http://example.com/","redirect_uris":[]}`, InvalidMetadata},
		{`{"client_uri":"https://a:b@example.com/","redirect_uris":[]}`, InvalidMetadata},
		{`{"client_uri":"https://ex ample.com/","redirect_uris":[]}`, InvalidMetadata},
		{`{"client_uri":"https://ex\u0430mple.com/","redirect_uris":[]}`, InvalidMetadata},
		{`{"client_uri":7}`, InvalidMetadata},
		{`{` + some + `,"client_uri":"https://evil.org/"}`, InvalidMetadata},
		{`{` + some + `,"token_endpoint_auth_method":"client_secret_basic"}`, InvalidMetadata},
		{`{` + some + `,"application_type":"other"}`, InvalidMetadata},
		{`{` + some + `,"logo_uri":"https://cdn.org/x.png"}`, InvalidMetadata},
		{`{` + some + `,"logo_uri":"javascript:alert(1)"}`, InvalidMetadata},
		{`{` + some + `,"tos_uri#de":"http://example.com/"}`, InvalidMetadata},
		{`{` + some + `,"grant_types":["implicit"]}`, InvalidMetadata},
		{`{` + some + `,"response_types":["token"]}`, InvalidMetadata},
		{`{` + some + `,"grant_types":"x"}`, InvalidMetadata},
		{`{` + some + `,"client_name":["x"]}`, InvalidMetadata},
		{`{"client_uri":"https://example.com/","redirect_uris":[` + strings.Repeat(`"https://example.com/`+strings.Repeat("x", 1000)+`",`, 3) + `"https://example.com/"]}`, ""},
		{`{"client_uri":"https://example.com/","redirect_uris":["` + "https://example.com/" + strings.Repeat("x", 3000) + `"]}`, InvalidMetadata},
	} {
		m, err := Parse([]byte(c.body))
		if code(err) != c.code {
			t.Errorf("%s: %v, want %s", c.body, err, c.code)
		}
		if err != nil {
			continue
		}
		again, err := Parse([]byte("{" + string(m.Append(nil)) + "}"))
		if err != nil || again.ID() != m.ID() {
			t.Errorf("%s: it is not read back: %v", c.body, err)
		}
	}
}

func TestNames(t *testing.T) {
	m := parse(t, `{"client_uri":"https://example.com/","redirect_uris":["https://example.com/"],"client_name":" My\nApp\u202e ","client_name#fr":"Mon app","client_name#pt-BR":"App <b>","client_name#":"x","client_name#a b":"y"}`)
	for accept, want := range map[string]string{
		"": "My App", "fr": "Mon app", "fr-CH, en;q=0.8": "Mon app", "en-US,fr;q=0.5": "My App", "de,pt-br;q=0.9": "App <b>", "pt": "My App", strings.Repeat("xx,", 1000): "My App",
	} {
		if got := m.Name(accept); got != want {
			t.Errorf("%.40s: %q", accept, got)
		}
	}
	same := parse(t, `{"redirect_uris":["https://example.com/"],"client_name#pt-BR":"App <b>","client_name#fr":"Mon app","client_name":"My App","client_uri":"https://example.com/","unknown":1}`)
	if same.ID() != m.ID() || len(m.ID()) != 32 {
		t.Error("the same metadata are not the same client")
	}
	other := parse(t, `{"client_uri":"https://example.com/","redirect_uris":["https://example.com/b"]}`)
	if other.ID() == m.ID() || other.Name("fr") != "example.com" {
		t.Error(other.ID(), other.Name("fr"))
	}
}

func TestScope(t *testing.T) {
	for _, c := range []struct{ in, device, out string }{
		{"urn:matrix:client:api:* urn:matrix:client:device:AB", "AB", "urn:matrix:client:api:* urn:matrix:client:device:AB"},
		{"openid urn:matrix:org.matrix.msc2967.client:device:AB  urn:matrix:org.matrix.msc2967.client:api:*", "AB",
			"urn:matrix:org.matrix.msc2967.client:api:* urn:matrix:org.matrix.msc2967.client:device:AB"},
		{"urn:matrix:client:api:* urn:matrix:client:device:a:b/!~ urn:matrix:org.matrix.msc2967.client:device:a:b/!~", "a:b/!~",
			"urn:matrix:client:api:* urn:matrix:client:device:a:b/!~ urn:matrix:org.matrix.msc2967.client:device:a:b/!~"},
		{"urn:matrix:client:api:*", "", ""},
		{"urn:matrix:client:device:AB", "", ""},
		{"urn:matrix:client:api:* urn:matrix:client:device:", "", ""},
		{"urn:matrix:client:api:* urn:matrix:client:device:A urn:matrix:client:device:B", "", ""},
		{"urn:matrix:client:api:* urn:matrix:client:device:A\"", "", ""},
		{"urn:matrix:client:api:* urn:matrix:client:device:Ä", "", ""},
		{"urn:matrix:client:api:* urn:matrix:client:device:" + strings.Repeat("x", 256), "", ""},
		{"", "", ""},
	} {
		s, err := ParseScope(c.in)
		if c.device == "" {
			if code(err) != InvalidScope {
				t.Errorf("%q: %v", c.in, err)
			}
			continue
		}
		if err != nil || s.Device != c.device || s.String() != c.out {
			t.Errorf("%q: %+v %q %v", c.in, s, s.String(), err)
		}
	}
}

// Spec: RFC 7636, appendix B.
func TestVerifier(t *testing.T) {
	const verifier, challenge = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
	if !IsChallenge(challenge) || !Verifies(verifier, challenge) {
		t.Error("the example of the RFC")
	}
	for _, bad := range []string{"", verifier[:42], verifier + "!", strings.Repeat("a", 129), verifier[:42] + "K"} {
		if Verifies(bad, challenge) {
			t.Error(bad)
		}
	}
	for _, bad := range []string{"", "x", challenge + "=", challenge[:42], strings.Repeat("/", 43), challenge[:42] + "N", challenge[:42] + "\n"} {
		if IsChallenge(bad) {
			t.Error(bad)
		}
	}
}

func TestCallback(t *testing.T) {
	for _, c := range []struct {
		uri      string
		fragment bool
		want     string
	}{
		{"https://x.org/cb", false, "https://x.org/cb?code=a%26b&state=%23"},
		{"https://x.org/cb?x=1", false, "https://x.org/cb?x=1&code=a%26b&state=%23"},
		{"https://x.org/cb?", false, "https://x.org/cb?code=a%26b&state=%23"},
		{"https://x.org/cb?x=1", true, "https://x.org/cb?x=1#code=a%26b&state=%23"},
		{"com.example:/cb", false, "com.example:/cb?code=a%26b&state=%23"},
	} {
		if got := Callback(c.uri, c.fragment, Pair{"code", "a&b"}, Pair{"error", ""}, Pair{"state", "#"}); got != c.want {
			t.Error(got)
		}
	}
	if n, s := Place("com.example.app:/x"); n != "com.example.app" || s != "com.example.app:" {
		t.Error(n, s)
	}
	if n, s := Place("http://[::1]:80/x"); n != "[::1]:80" || s != "http:" {
		t.Error(n, s)
	}
}

func TestUserCode(t *testing.T) {
	got, ok := NewUserCode([8]byte{0, 19, 20, 239, 1, 2, 3, 4})
	if !ok || got != "BZBZ-CDFG" {
		t.Fatal(got, ok)
	}
	if _, ok := NewUserCode([8]byte{7: 240}); ok {
		t.Error("the first letters come oftener than the last")
	}
	for in, want := range map[string]string{
		"BZBZ-CDFG": "BZBZ-CDFG", "bzbzcdfg": "BZBZ-CDFG", " bzbz cdfg ": "BZBZ-CDFG",
		"BZBZ-CDF": "", "BZBZ-CDFGH": "", "BZBA-CDFG": "", "": "", strings.Repeat("-", 65): "",
	} {
		if got := ParseUserCode(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

// What a client says of itself is either refused, or read back as it was taken,
// and leads nowhere but to its own host, an app or the browser's own machine.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"client_uri":"https://example.com/","application_type":"native","redirect_uris":["com.example:/cb","http://[::1]/"],"client_name#fr":"x"}`), "http://[::1]:7/")
	f.Add([]byte(`{"client_uri":"https://example.com:1/","redirect_uris":["https://a.example.com/?x"],"grant_types":["authorization_code"]}`), "https://a.example.com/?x")
	f.Fuzz(func(t *testing.T, body []byte, asked string) {
		m, err := Parse(body)
		if err != nil {
			if code(err) == "" || strings.Contains(code(err), " ") {
				t.Fatal(err)
			}
			return
		}
		stored := m.Append(nil)
		again, err := Parse([]byte("{" + string(stored) + "}"))
		if err != nil || string(again.Append(nil)) != string(stored) || len(stored) > MaxMetadata {
			t.Fatalf("%v\n%s", err, stored)
		}
		if !m.Redirect(asked) {
			return
		}
		for _, bad := range []string{"javascript:", "data:", "vbscript:", "file:", "blob:", "about:"} {
			if strings.HasPrefix(strings.ToLower(asked), bad) {
				t.Fatalf("a browser may be sent to %q", asked)
			}
		}
		if strings.ContainsAny(asked, " \r\n\"<>#") {
			t.Fatalf("%q", asked)
		}
	})
}

func FuzzScope(f *testing.F) {
	f.Add("openid urn:matrix:client:api:* urn:matrix:client:device:AB")
	f.Fuzz(func(t *testing.T, in string) {
		s, err := ParseScope(in)
		if err != nil {
			return
		}
		again, err := ParseScope(s.String())
		if err != nil || again != s {
			t.Fatalf("%q: %+v, then %+v %v", in, s, again, err)
		}
	})
}
