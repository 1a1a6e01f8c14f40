package pushapi

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"hearth/engine/account"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// got is one request that a push service of the test was sent.
type got struct {
	method, path, proto string
	header              http.Header
	body                []byte
}

// world is a gateway and the push services around it.
type world struct {
	*testing.T
	gate   *Gateway
	server *httptest.Server
	answer func(g *got) (status int, body string) // called for one request at a time

	turn  sync.Mutex // of answer
	mu    sync.Mutex
	seen  []got
	told  []string      // topic, space, payload
	dead  bool          // devices are gone
	ahead time.Duration // of the gateway's clock
}

func (w *world) take() []got {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.seen
	w.seen = nil
	return list
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.ahead)
}

// pass lets time go by.
func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ahead += d
}

func build(t *testing.T, apps func(base string) []App) *world {
	w := &world{T: t}
	w.server = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		g := got{r.Method, r.URL.RequestURI(), r.Proto, r.Header, body}
		w.mu.Lock()
		w.seen = append(w.seen, g)
		w.mu.Unlock()
		status, text := 201, ""
		if w.answer != nil {
			w.turn.Lock()
			status, text = w.answer(&g)
			w.turn.Unlock()
		}
		rw.WriteHeader(status)
		io.WriteString(rw, text)
	}))
	w.server.EnableHTTP2 = true
	w.server.StartTLS()
	t.Cleanup(w.server.Close)
	client := w.server.Client()
	o := Options{
		Server: "hub.test", PublicURL: "https://hub.test", Secret: bytes.Repeat([]byte{7}, 32), Contact: "mailto:owner@hub.test", Pause: time.Millisecond,
		Log: t.Logf, Now: w.now,
		Ask: func(ctx context.Context, r *Request) (*Answer, error) {
			q, err := http.NewRequestWithContext(ctx, r.Method, r.URL, bytes.NewReader(r.Body))
			if err != nil {
				return nil, err
			}
			if strings.HasPrefix(q.URL.Host, "10.") {
				return nil, fault.E(fault.Forbidden, "test", "private")
			}
			for k, v := range r.Header {
				q.Header.Set(k, v)
			}
			resp, err := client.Do(q)
			if err != nil {
				return nil, err
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			return &Answer{resp.StatusCode, resp.Header.Get("Retry-After"), body}, err
		},
		Publish: func(_ context.Context, topic string, payload []byte) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.told = append(w.told, topic+" "+string(payload))
			return nil
		},
		Alive: func(user mxid.UserID, device string) (bool, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return !w.dead && user == "@alice:hub.test" && device == "PHONE", nil
		},
	}
	if apps != nil {
		o.Apps = apps(w.server.URL)
	}
	var err error
	if w.gate, err = New(o); err != nil {
		t.Fatal(err)
	}
	return w
}

// ask makes one request of the gateway's API.
func (w *world) ask(method, path, body string) (int, string) {
	w.Helper()
	mux := wire.New(wire.Options{
		Authenticate: func(*wire.Req) (account.Session, error) {
			return account.Session{User: 1, UserID: "@alice:hub.test", Device: "PHONE"}, nil
		},
		Log: slog.New(slog.DiscardHandler),
	})
	if err := mux.Add(w.gate.Routes()); err != nil {
		w.Fatal(err)
	}
	var req fasthttp.Request
	req.Header.SetMethod(method)
	req.SetRequestURI(path)
	req.Header.Set("Authorization", "Bearer x")
	if body != "" {
		req.SetBodyString(body)
	}
	var ctx fasthttp.RequestCtx
	ctx.Init(&req, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, nil)
	mux.Serve(&ctx)
	return ctx.Response.StatusCode(), string(ctx.Response.Body())
}

// event is a notification of a message, for a device given as JSON.
func event(id, device string) string {
	return `{"notification":{"event_id":"` + id + `","room_id":"!r:hub.test","type":"m.room.message","sender":"@bob:hub.test","sender_display_name":"Bob",` +
		`"room_name":"Garden","prio":"high","content":{"msgtype":"m.text","body":"the tomatoes are ripe"},"counts":{"unread":2},"devices":[` + device + `]}}`
}

func (w *world) notify(body string, status int, want string) {
	w.Helper()
	if s, b := w.ask("POST", NotifyPath, body); s != status || !strings.Contains(b, want) {
		w.Fatalf("got %d %s, want %d %s", s, b, status, want)
	}
}

const none = `{"rejected":[]}`

// The example of RFC 8291, section 5.
func TestSealVector(t *testing.T) {
	b := func(s string) []byte {
		raw, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	from, err := ecdh.P256().NewPrivateKey(b("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"))
	if err != nil {
		t.Fatal(err)
	}
	to, err := ecdh.P256().NewPublicKey(b("BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := sealWith(from, to, [2][]byte{b("BTBZMqHH6r4Tts7J_aSIgg"), b("DGv6ra1nlYgDCS1FRnbzlw")}, []byte("When I grow up, I want to be a watermelon"))
	const want = "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_" +
		"yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
	if err != nil || base64.RawURLEncoding.EncodeToString(out) != want {
		t.Fatalf("%s, %v", base64.RawURLEncoding.EncodeToString(out), err)
	}
}

// checkES256 verifies a token and gives its header and claims.
func checkES256(t *testing.T, token string, key *ecdsa.PublicKey) (head, claims map[string]any) {
	t.Helper()
	part := strings.Split(token, ".")
	if len(part) != 3 {
		t.Fatalf("no token: %s", token)
	}
	sig, _ := base64.RawURLEncoding.DecodeString(part[2])
	hash := sha256.Sum256([]byte(part[0] + "." + part[1]))
	if len(sig) != 64 || !ecdsa.Verify(key, hash[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		t.Fatal("the signature does not hold")
	}
	return claimsOf(t, part[0]), claimsOf(t, part[1])
}

func claimsOf(t *testing.T, part string) (m map[string]any) {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(part)
	if err == nil {
		err = json.Unmarshal(raw, &m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func vapidKey(t *testing.T, point string) *ecdsa.PublicKey {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(point)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), raw)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestWebPush(t *testing.T) {
	w := build(t, nil)
	browser, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	auth := bytes.Repeat([]byte{3}, 16)
	point := base64.RawURLEncoding.EncodeToString(browser.PublicKey().Bytes())
	device := func(more string) string {
		return fmt.Sprintf(`{"app_id":"web","pushkey":"%s","data":{"endpoint":"%s/sub/1","auth":"%s"%s}}`, point, w.server.URL,
			base64.RawURLEncoding.EncodeToString(auth), more)
	}
	w.notify(event("$1", device(`,"only_last_per_room":true,"default_payload":{"app":"x","event_id":"forged"}`)), 200, none)
	list := w.take()
	if len(list) != 1 {
		t.Fatalf("%d requests", len(list))
	}
	r := list[0]
	_, vapid, _ := strings.Cut(w.discovery(), `"vapid":"`)
	vapid, _, _ = strings.Cut(vapid, `"`)
	cred, ok := strings.CutPrefix(r.header.Get("Authorization"), "vapid t=")
	token, k, _ := strings.Cut(cred, ",k=")
	if !ok || k != vapid {
		t.Fatalf("%s", r.header.Get("Authorization"))
	}
	head, claims := checkES256(t, token, vapidKey(t, vapid))
	if head["alg"] != "ES256" || claims["aud"] != w.server.URL || claims["sub"] != "mailto:owner@hub.test" ||
		claims["exp"].(float64) > float64(time.Now().Add(24*time.Hour).Unix()) {
		t.Errorf("%v %v", head, claims)
	}
	if r.header.Get("TTL") != "86400" || r.header.Get("Urgency") != "high" || r.header.Get("Content-Encoding") != "aes128gcm" || len(r.header.Get("Topic")) != 32 {
		t.Errorf("%v", r.header)
	}
	var m map[string]any
	if err := json.Unmarshal(unseal(t, browser, auth, r.body), &m); err != nil {
		t.Fatal(err)
	}
	if m["event_id"] != "$1" || m["app"] != "x" || m["sender"] != "@bob:hub.test" || m["unread"] != 2.0 || m["content"].(map[string]any)["body"] != "the tomatoes are ripe" {
		t.Errorf("%v", m)
	}

	w.notify(event("$1", device("")), 200, none)
	if list := w.take(); len(list) != 0 {
		t.Error("an event was told twice")
	}
	w.notify(event("$2", device(`,"format":"event_id_only"`)), 200, none)
	if plain := string(unseal(t, browser, auth, w.take()[0].body)); strings.Contains(plain, "ripe") || strings.Contains(plain, "Bob") || !strings.Contains(plain, "$2") {
		t.Errorf("event_id_only tells %s", plain)
	}
	long := strings.Replace(event("$3", device("")), "the tomatoes", strings.Repeat("x", 9000), 1)
	w.notify(long, 200, none)
	if r := w.take()[0]; len(r.body) > 4096 || !strings.Contains(string(unseal(t, browser, auth, r.body)), "$3") {
		t.Errorf("a long one has %d bytes", len(r.body))
	}

	answers := []int{503, 429, 201}
	w.answer = func(*got) (int, string) {
		s := answers[0]
		answers = answers[1:]
		return s, ""
	}
	w.notify(event("$4", device("")), 200, none)
	answers = []int{500, 500, 500}
	w.notify(event("$5", device("")), 503, "M_UNKNOWN")
	answers = []int{410}
	w.notify(event("$6", device("")), 200, `{"rejected":["`+point+`"]}`)
	answers = []int{400} // of no use to try again, and no fault of the key
	w.notify(event("$7", device("")), 200, none)
	w.notify(event("$8", fmt.Sprintf(`{"app_id":"web","pushkey":"short","data":{"endpoint":"%s/x","auth":"AAAA"}}`, w.server.URL)), 200, `["short"]`)
	w.take()
	w.notify(strings.Replace(event("", device(`,"events_only":true`)), `"event_id":"",`, "", 1), 200, none)
	if len(w.take()) != 0 {
		t.Error("counts went to a device that wants none")
	}
}

func (w *world) discovery() string {
	w.Helper()
	s, b := w.ask("GET", NotifyPath, "")
	if s != 200 || !strings.Contains(b, `"unifiedpush":{"gateway":"matrix"}`) {
		w.Fatalf("%d %s", s, b)
	}
	return b
}

func TestUnifiedPush(t *testing.T) {
	w := build(t, nil)
	w.answer = func(g *got) (int, string) {
		switch {
		case g.method == "GET" && g.path == "/web":
			return 200, "<html>"
		case g.method == "GET":
			return 200, `{"unifiedpush":{"version":1}}`
		case g.path == "/gone":
			return 404, ""
		}
		return 201, ""
	}
	device := func(path string) string {
		return `{"app_id":"up","pushkey":"` + w.server.URL + path + `","data":{}}`
	}
	w.notify(event("$0", device("/web")), 200, "/web") // not a push server
	if list := w.take(); len(list) != 1 || list[0].method != "GET" {
		t.Errorf("%v", list)
	}
	w.notify(event("$1", device("/topic?up=1")), 200, none)
	list := w.take()
	if len(list) != 2 || list[1].path != "/topic?up=1" {
		t.Fatalf("%v", list)
	}
	var m struct {
		N notification `json:"notification"`
	}
	if err := json.Unmarshal(list[1].body, &m); err != nil || m.N.Event != "$1" || *m.N.Counts.Unread != 2 || m.N.Sender != "@bob:hub.test" {
		t.Errorf("%s %v", list[1].body, err)
	}
	w.notify(event("$2", device("/gone")), 200, `/gone"]`)
	w.notify(event("$3", `{"app_id":"up","pushkey":"https://10.0.0.1/x"}`), 200, "10.0.0.1")
}

// The hub as the push server: an endpoint, messages on it, and by the gateway.
func TestEndpoint(t *testing.T) {
	w := build(t, nil)
	s, b := w.ask("POST", "/_matrix/client/unstable/org.hearth.push/endpoint", "")
	var e struct{ Endpoint, Topic, Gateway string }
	if err := json.Unmarshal([]byte(b), &e); err != nil || s != 200 || e.Topic != "$push/alice/PHONE" || e.Gateway != "https://hub.test"+NotifyPath {
		t.Fatalf("%d %s", s, b)
	}
	path := strings.TrimPrefix(e.Endpoint, "https://hub.test")
	if s, b := w.ask("GET", path, ""); s != 200 || b != `{"unifiedpush":{"version":1}}` {
		t.Errorf("%d %s", s, b)
	}
	if s, b := w.ask("POST", path, "anything\x00"); s != 201 {
		t.Errorf("%d %s", s, b)
	}
	if s, _ := w.ask("POST", path, strings.Repeat("x", 5000)); s != 413 {
		t.Errorf("a long message: %d", s)
	}
	if s, _ := w.ask("POST", path[:len(path)-4]+"AAAA", "x"); s != 404 {
		t.Errorf("a forged endpoint: %d", s)
	}
	device := `{"app_id":"up","pushkey":"` + e.Endpoint + `"}`
	w.notify(event("$1", device), 200, none)
	if len(w.told) != 2 || w.told[0] != "$push/alice/PHONE anything\x00" || !strings.Contains(w.told[1], `"event_id":"$1"`) {
		t.Errorf("%q", w.told)
	}
	if len(w.take()) != 0 {
		t.Error("the hub asked itself by HTTP")
	}
	w.dead = true
	w.notify(event("$2", device), 200, "_hearth/push/")
	if s, _ := w.ask("POST", path, "x"); s != 404 {
		t.Errorf("a device that is gone: %d", s)
	}
}

func TestBadInput(t *testing.T) {
	w := build(t, nil)
	for _, tt := range []struct {
		body string
		code string
	}{
		{`{`, "M_NOT_JSON"}, {`[]`, "M_BAD_JSON"}, {`{}`, "M_MISSING_PARAM"}, {`{"notification":{}}`, "M_MISSING_PARAM"},
		{`{"notification":[]}`, "M_BAD_JSON"}, {`{"notification":{"devices":[{}]}}`, "M_MISSING_PARAM"},
		{`{"notification":{"devices":[{"app_id":1,"pushkey":"k"}]}}`, "M_BAD_JSON"},
		{`{"notification":{"devices":[` + strings.Repeat(`{"app_id":"a","pushkey":"k"},`, 64) + `{"app_id":"a","pushkey":"k"}]}}`, "M_INVALID_PARAM"},
	} {
		w.notify(tt.body, 400, tt.code)
	}
	w.notify(event("$1", `{"app_id":"nobody","pushkey":"k","data":{}}`), 200, `{"rejected":["k"]}`)
}

// keyFile is a key on P-256 as Apple gives it out.
func keyFile(t *testing.T) ([]byte, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), key
}

// Who names devices that are none does not have the gateway ask on and on.
func TestMissesAreCounted(t *testing.T) {
	w := build(t, nil)
	w.answer = func(*got) (int, string) { return 405, "" }
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point := base64.RawURLEncoding.EncodeToString(key.PublicKey().Bytes())
	auth := base64.RawURLEncoding.EncodeToString(make([]byte, 16))
	notify := func(n int) int {
		var devices []string
		for i := range 50 {
			devices = append(devices, fmt.Sprintf(`{"app_id":"a","pushkey":%q,"data":{"endpoint":"%s/%d/%d","auth":%q}}`, point, w.server.URL, n, i, auth))
		}
		mux := wire.New(wire.Options{Log: slog.New(slog.DiscardHandler)})
		if err := mux.Add(w.gate.Routes()); err != nil {
			t.Fatal(err)
		}
		var req fasthttp.Request
		req.Header.SetMethod("POST")
		req.SetRequestURI(NotifyPath)
		req.SetBodyString(`{"notification":{"devices":[` + strings.Join(devices, ",") + `]}}`)
		var ctx fasthttp.RequestCtx
		ctx.Init(&req, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, nil)
		mux.Serve(&ctx)
		return ctx.Response.StatusCode()
	}
	n := 0
	for ; n < 30 && notify(n) == 200; n++ {
	}
	if asked := len(w.take()); n != 10 || asked != 500 {
		t.Errorf("%d notifications were taken, and %d requests made", n, asked)
	}
	w.pass(time.Hour)
	if status := notify(n); status != 200 {
		t.Errorf("an hour later: %d", status)
	}
}
