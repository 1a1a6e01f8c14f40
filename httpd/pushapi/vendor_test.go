package pushapi

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

// unseal is what a browser does.
func unseal(t *testing.T, browser *ecdh.PrivateKey, auth, body []byte) []byte {
	t.Helper()
	must := func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	salt, point, sealed := body[:16], body[21:21+int(body[20])], body[21+int(body[20]):]
	from, err := ecdh.P256().NewPublicKey(point)
	if err != nil {
		t.Fatal(err)
	}
	shared := must(browser.ECDH(from))
	ikm := must(hkdf.Key(sha256.New, shared, auth, "WebPush: info\x00"+string(browser.PublicKey().Bytes())+string(point), 32))
	key := must(hkdf.Key(sha256.New, ikm, salt, "Content-Encoding: aes128gcm\x00", 16))
	nonce := must(hkdf.Key(sha256.New, ikm, salt, "Content-Encoding: nonce\x00", 12))
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	box, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	plain := must(box.Open(nil, nonce, sealed, nil))
	if plain[len(plain)-1] != 2 {
		t.Fatal("the record does not end")
	}
	return plain[:len(plain)-1]
}

// apps parses a list whose files are given.
func apps(t *testing.T, list string, files map[string][]byte) func(base string) []App {
	return func(base string) []App {
		t.Helper()
		all, err := ParseApps([]byte(strings.ReplaceAll(list, "BASE", base)), func(name string) ([]byte, error) {
			if b, ok := files[name]; ok {
				return []byte(strings.ReplaceAll(string(b), "BASE", base)), nil
			}
			return nil, os.ErrNotExist
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
}

func TestAPNs(t *testing.T) {
	file, key := keyFile(t)
	w := build(t, apps(t, `{"apps":[{"app_id":"org.example.*","kind":"apns","key_file":"k.p8","key_id":"KEY1","team_id":"TEAM","topic":"org.example.app","url":"BASE"}]}`,
		map[string][]byte{"k.p8": file}))
	tokens := map[string]bool{}
	reason := ""
	w.answer = func(g *got) (int, string) {
		token := strings.TrimPrefix(g.header.Get("Authorization"), "bearer ")
		head, claims := checkES256(t, token, &key.PublicKey)
		if head["kid"] != "KEY1" || head["alg"] != "ES256" || claims["iss"] != "TEAM" || time.Since(time.Unix(int64(claims["iat"].(float64)), 0)) > time.Minute {
			t.Errorf("%v %v", head, claims)
		}
		tokens[token] = true
		switch {
		case reason == "once" && len(tokens) == 1:
			w.pass(appleLeast)
			return 403, `{"reason":"ExpiredProviderToken"}`
		case reason != "" && reason != "once":
			return 400, `{"reason":"` + reason + `"}`
		}
		return 200, ""
	}
	raw := []byte("0123456789abcdef0123456789abcdef")
	device := `{"app_id":"org.example.ios","pushkey":"` + base64.StdEncoding.EncodeToString(raw) + `","data":{},"tweaks":{"sound":"bing"}}`
	w.notify(event("$1", device), 200, none)
	r := w.take()[0]
	if r.proto != "HTTP/2.0" || r.path != "/3/device/3031323334353637383961626364656630313233343536373839616263646566" {
		t.Errorf("%s %s", r.proto, r.path)
	}
	if r.header.Get("apns-topic") != "org.example.app" || r.header.Get("apns-push-type") != "alert" || r.header.Get("apns-priority") != "10" {
		t.Errorf("%v", r.header)
	}
	var m struct {
		APS struct {
			Alert struct{ Title, Body string }
			Badge int
			Sound string
		} `json:"aps"`
		Event  string `json:"event_id"`
		Unread int    `json:"unread_count"`
	}
	if err := json.Unmarshal(r.body, &m); err != nil || m.APS.Alert.Title != "Garden" || m.APS.Alert.Body != "Bob: the tomatoes are ripe" ||
		m.APS.Badge != 2 || m.APS.Sound != "default" || m.Event != "$1" || m.Unread != 2 {
		t.Errorf("%s %v", r.body, err)
	}
	w.notify(event("$2", device), 200, none)
	if len(tokens) != 1 {
		t.Error("a new token for each notification: Apple refuses that")
	}
	w.take()
	// What the app wants in each, and nothing of the event.
	w.notify(event("$3", `{"app_id":"org.example.ios","pushkey":"`+strings.Repeat("ab", 32)+`","data":{"format":"event_id_only",`+
		`"default_payload":{"aps":{"alert":{"loc-key":"SINGLE_UNREAD","loc-args":[]},"mutable-content":1}}}}`), 200, none)
	r = w.take()[0]
	if s := string(r.body); !strings.Contains(s, "SINGLE_UNREAD") || strings.Contains(s, "ripe") || strings.Contains(s, "Bob") || strings.Count(s, `"aps"`) != 1 {
		t.Errorf("%s", s)
	}
	w.notify(strings.Replace(event("$4", device), "the tomatoes", strings.Repeat("é", 9000), 1), 200, none)
	if r = w.take()[0]; len(r.body) > maxApple || !json.Valid(r.body) {
		t.Errorf("%d bytes", len(r.body))
	}
	tokens, reason = map[string]bool{}, "once"
	w.notify(event("$5", device), 200, none)
	if len(tokens) != 2 {
		t.Errorf("%d tokens", len(tokens))
	}
	for i, tt := range [...]struct {
		reason string
		status int
		want   string
	}{{"BadDeviceToken", 200, "MDEy"}, {"Unregistered", 200, "MDEy"}, {"InvalidProviderToken", 503, ""}, {"PayloadEmpty", 200, none}} {
		reason = tt.reason
		w.notify(event("$r"+string(rune('a'+i)), device), tt.status, tt.want)
	}
	w.notify(event("$9", `{"app_id":"org.example.ios","pushkey":"no token"}`), 200, `["no token"]`)
}

func TestFCM(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	account, err := json.Marshal(map[string]string{
		"project_id": "garden", "private_key_id": "g1", "client_email": "push@garden.test", "token_uri": "BASE/token",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}
	w := build(t, apps(t, `{"apps":[{"app_id":"org.example.android","kind":"fcm","service_account_file":"a.json","url":"BASE"}]}`,
		map[string][]byte{"a.json": account}))
	grants, send := 0, func() (int, string) { return 200, `{"name":"x"}` }
	w.answer = func(g *got) (int, string) {
		if g.path == "/token" {
			grants++
			checkGrant(t, g, &key.PublicKey, w.server.URL)
			return 200, `{"access_token":"t` + string(rune('0'+grants)) + `","expires_in":3599,"token_type":"Bearer"}`
		}
		if g.path != "/v1/projects/garden/messages:send" || g.header.Get("Authorization") != "Bearer t"+string(rune('0'+grants)) {
			t.Errorf("%s %v", g.path, g.header)
		}
		return send()
	}
	device := `{"app_id":"org.example.android","pushkey":"TOKEN","data":{"default_payload":{"from":"x","cs":"1"}}}`
	w.notify(event("$1", device), 200, none)
	w.notify(strings.Replace(event("$2", device), `"prio":"high"`, `"prio":"low"`, 1), 200, none)
	if grants != 1 {
		t.Errorf("%d access tokens", grants)
	}
	list := w.take()
	var m struct {
		Message struct {
			Token   string
			Data    map[string]string
			Android struct{ Priority, TTL string }
		}
	}
	if err := json.Unmarshal(list[1].body, &m); err != nil {
		t.Fatal(err)
	}
	if d := m.Message.Data; m.Message.Token != "TOKEN" || d["event_id"] != "$1" || d["unread"] != "2" || d["cs"] != "1" || d["from"] != "" ||
		!strings.Contains(d["content"], "ripe") || m.Message.Android.Priority != "HIGH" || m.Message.Android.TTL != "86400s" {
		t.Errorf("%s", list[1].body)
	}
	if !strings.Contains(string(list[2].body), `"priority":"NORMAL"`) {
		t.Errorf("%s", list[2].body)
	}
	once := true
	send = func() (int, string) {
		if once {
			once = false
			return 401, `{"error":{"status":"UNAUTHENTICATED"}}`
		}
		return 200, "{}"
	}
	w.notify(event("$3", device), 200, none)
	if grants != 2 {
		t.Errorf("%d access tokens after one was refused", grants)
	}
	for i, tt := range [...]struct {
		status int
		body   string
		want   int
		text   string
	}{
		{404, `{"error":{"details":[{"errorCode":"UNREGISTERED"}]}}`, 200, `["TOKEN"]`},
		{403, `{"error":{"details":[{"errorCode":"SENDER_ID_MISMATCH"}]}}`, 200, `["TOKEN"]`},
		{400, `{"error":{"details":[{"errorCode":"INVALID_ARGUMENT"},{"fieldViolations":[{"field":"message.token"}]}]}}`, 200, `["TOKEN"]`},
		{400, `{"error":{"details":[{"errorCode":"INVALID_ARGUMENT"}]}}`, 200, none},
		{429, `{}`, 503, ""}, {404, `{}`, 503, ""},
	} {
		send = func() (int, string) { return tt.status, tt.body }
		w.notify(event("$e"+string(rune('a'+i)), device), tt.want, tt.text)
	}
}

// checkGrant is what Google does with a request for a token.
func checkGrant(t *testing.T, g *got, key *rsa.PublicKey, base string) {
	t.Helper()
	form, err := url.ParseQuery(string(g.body))
	if err != nil || form.Get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" || g.header.Get("Content-Type") != "application/x-www-form-urlencoded" {
		t.Fatalf("%s", g.body)
	}
	part := strings.Split(form.Get("assertion"), ".")
	if len(part) != 3 {
		t.Fatalf("%s", g.body)
	}
	sig, _ := base64.RawURLEncoding.DecodeString(part[2])
	hash := sha256.Sum256([]byte(part[0] + "." + part[1]))
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, hash[:], sig); err != nil {
		t.Fatal(err)
	}
	head, claims := claimsOf(t, part[0]), claimsOf(t, part[1])
	if head["alg"] != "RS256" || head["kid"] != "g1" || claims["iss"] != "push@garden.test" || claims["aud"] != base+"/token" ||
		claims["scope"] != "https://www.googleapis.com/auth/firebase.messaging" || claims["exp"].(float64)-claims["iat"].(float64) != 3600 {
		t.Errorf("%v %v", head, claims)
	}
}

func TestParseApps(t *testing.T) {
	file, _ := keyFile(t)
	read := func(name string) ([]byte, error) {
		if name == "k" {
			return file, nil
		}
		return nil, os.ErrNotExist
	}
	for _, tt := range []struct{ text, want string }{
		{`{`, "the list of apps"}, {`{"aps":[]}`, "unknown field"}, {`{"apps":[{}]}`, "app_id"}, {`{"apps":[{"app_id":"*"}]}`, "app_id"},
		{`{"apps":[{"app_id":"a","kind":"x"}]}`, "apns or fcm"}, {`{"apps":[{"app_id":"a","kind":"apns"}]}`, "key_file"},
		{`{"apps":[{"app_id":"a","kind":"apns","key_file":"none","key_id":"1","team_id":"2","topic":"3"}]}`, "not exist"},
		{`{"apps":[{"app_id":"a","kind":"fcm","service_account_file":"k"}]}`, "k:"},
		{`{"apps":[{"app_id":"a","kind":"apns","key_file":"k","key_id":"1","team_id":"2","topic":"3","url":"http://x"}]}`, "https://"},
	} {
		if _, err := ParseApps([]byte(tt.text), read); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.text, err, tt.want)
		}
	}
}
