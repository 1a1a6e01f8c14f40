package pushapi

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// apple answers as Apple's service does: with the reasons it documents, for
// whatever it would not take.
// Reference: Handling notification responses from APNs.
type apple struct {
	*world
	key     *ecdsa.PublicKey
	tokens  []string          // in the order in which they were first seen
	last    time.Time         // of the newest token's iat
	devices map[string]string // the reason for which a device is refused; empty: none
	taken   []string          // types and priorities
	reasons []string          // of what was refused
	busy    int               // how many of the next requests are told to come later
}

func (a *apple) answer(g *got) (int, string) {
	status, reason := a.judge(g)
	if reason == "" {
		return 200, ""
	}
	a.reasons = append(a.reasons, reason)
	return status, `{"reason":"` + reason + `"}`
}

func (a *apple) judge(g *got) (int, string) {
	if g.proto != "HTTP/2.0" {
		a.Errorf("Apple speaks HTTP/2, and this was %s", g.proto)
	}
	device, ok := strings.CutPrefix(g.path, "/3/device/")
	if raw, err := hex.DecodeString(device); !ok || err != nil || len(raw) < 16 {
		return 400, "BadDeviceToken"
	}
	if g.method != "POST" {
		return 405, "MethodNotAllowed"
	}
	if a.busy > 0 {
		a.busy--
		return 503, "ServiceUnavailable"
	}
	if status, reason := a.provider(g.header.Get("Authorization")); reason != "" {
		return status, reason
	}
	for _, c := range []struct {
		bad    bool
		reason string
	}{
		{g.header.Get("apns-topic") == "", "MissingTopic"}, {g.header.Get("apns-topic") != "org.example.app", "TopicDisallowed"},
		{!slices.Contains([]string{"alert", "background"}, g.header.Get("apns-push-type")), "InvalidPushType"},
		{!slices.Contains([]string{"10", "5"}, g.header.Get("apns-priority")), "BadPriority"},
		{g.header.Get("apns-push-type") == "background" && g.header.Get("apns-priority") != "5", "BadPriority"},
		{len(g.body) == 0, "PayloadEmpty"}, {len(g.body) > 4096, "PayloadTooLarge"},
	} {
		if c.bad {
			return 400, c.reason
		}
	}
	until, err := strconv.ParseInt(g.header.Get("apns-expiration"), 10, 64)
	if life := time.Unix(until, 0).Sub(a.now()); err != nil || life < 0 || life > 30*24*time.Hour {
		return 400, "BadExpirationDate"
	}
	var body struct {
		APS struct {
			Alert, Sound json.RawMessage
			Badge        *int
			Available    int `json:"content-available"`
			Mutable      int `json:"mutable-content"`
		} `json:"aps"`
	}
	if err := json.Unmarshal(g.body, &body); err != nil {
		a.Errorf("%s: %v", g.body, err)
	}
	shows := body.APS.Alert != nil || body.APS.Badge != nil || body.APS.Sound != nil
	if background := g.header.Get("apns-push-type") == "background"; background == shows || background && body.APS.Available != 1 {
		a.Errorf("%s with the body %s", g.header.Get("apns-push-type"), g.body)
	}
	if reason := a.devices[device]; reason != "" {
		status := 400
		if reason == "Unregistered" {
			status = 410
		}
		return status, reason
	}
	a.taken = append(a.taken, g.header.Get("apns-push-type")+" "+g.header.Get("apns-priority"))
	return 0, ""
}

// provider judges the token that says who asks.
func (a *apple) provider(header string) (int, string) {
	token, ok := strings.CutPrefix(header, "bearer ")
	if !ok {
		return 403, "MissingProviderToken"
	}
	head, claims, good := a.jwt(token, func(text, sig []byte) bool {
		hash := sha256.Sum256(text)
		return len(sig) == 64 && ecdsa.Verify(a.key, hash[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
	})
	iat, _ := claims["iat"].(float64)
	made := time.Unix(int64(iat), 0)
	switch {
	case !good || head["alg"] != "ES256" || head["kid"] != "KEY1" || claims["iss"] != "TEAM":
		return 403, "InvalidProviderToken"
	case a.now().Sub(made) > time.Hour || made.Sub(a.now()) > time.Minute:
		return 403, "ExpiredProviderToken"
	}
	if !slices.Contains(a.tokens, token) {
		if len(a.tokens) > 0 && made.Sub(a.last) < 20*time.Minute {
			return 429, "TooManyProviderTokenUpdates"
		}
		a.tokens, a.last = append(a.tokens, token), made
	}
	return 0, ""
}

// jwt takes a token apart.
func (w *world) jwt(token string, verify func(text, sig []byte) bool) (head, claims map[string]any, good bool) {
	part := strings.Split(token, ".")
	if len(part) != 3 {
		return nil, nil, false
	}
	var raw [3][]byte
	for i, p := range part {
		var err error
		if raw[i], err = base64.RawURLEncoding.DecodeString(p); err != nil {
			return nil, nil, false
		}
	}
	if json.Unmarshal(raw[0], &head) != nil || json.Unmarshal(raw[1], &claims) != nil {
		return nil, nil, false
	}
	return head, claims, verify([]byte(part[0]+"."+part[1]), raw[2])
}

func TestAppleTakesIt(t *testing.T) {
	file, key := keyFile(t)
	a := &apple{key: &key.PublicKey, devices: map[string]string{}}
	a.world = build(t, apps(t, `{"apps":[{"app_id":"org.example.*","kind":"apns","key_file":"k.p8","key_id":"KEY1","team_id":"TEAM","topic":"org.example.app","url":"BASE"}]}`,
		map[string][]byte{"k.p8": file}))
	a.world.answer = a.answer
	n := 0
	device := func(pair, data string) string {
		return `{"app_id":"org.example.ios","pushkey":"` + strings.Repeat(pair, 32) + `","data":` + data + `}`
	}
	next := func(device string) string {
		n++
		return event(fmt.Sprintf("$%d", n), device)
	}
	quiet := func(body string) string { return strings.Replace(body, `"prio":"high"`, `"prio":"low"`, 1) }
	wants := func(taken ...string) {
		t.Helper()
		if !slices.Equal(a.taken, taken) || len(a.reasons) > 0 {
			t.Fatalf("taken %q, refused %q; want %q", a.taken, a.reasons, taken)
		}
		a.taken = nil
	}
	amy := device("ab", `{}`)
	a.notify(next(amy), 200, none)
	a.notify(quiet(next(amy)), 200, none)
	a.notify(next(device("ab", `{"format":"event_id_only"}`)), 200, none)
	a.notify(`{"notification":{"counts":{"unread":0},"prio":"low","devices":[`+amy+`]}}`, 200, none) // the badge goes
	a.notify(strings.Replace(next(amy), "the tomatoes", strings.Repeat("é", 9000), 1), 200, none)
	wants("alert 10", "alert 5", "alert 10", "alert 5", "alert 10")

	// One token for a long time, and another in time.
	a.pass(49 * time.Minute)
	a.notify(next(amy), 200, none)
	a.pass(2 * time.Minute)
	a.notify(next(amy), 200, none)
	a.pass(40 * time.Minute)
	a.notify(next(amy), 200, none)
	if wants("alert 10", "alert 10", "alert 10"); len(a.tokens) != 2 {
		t.Errorf("%d tokens in 91 minutes", len(a.tokens))
	}

	// It is tried again, so often and no oftener.
	a.busy = 2
	a.notify(next(amy), 200, none)
	a.busy = 100
	a.notify(next(amy), 503, "M_UNKNOWN")
	if a.busy > 98 || a.busy < 90 {
		t.Errorf("%d tries", 100-a.busy)
	}
	a.busy, a.reasons = 0, nil
	wants("alert 10")

	// Who is gone is rejected, and only they.
	a.devices[strings.Repeat("cd", 32)], a.devices[strings.Repeat("ef", 32)] = "Unregistered", "BadDeviceToken"
	a.notify(next(device("cd", `{}`)+","+amy+","+device("ef", `{}`)), 200, `["`+strings.Repeat("cd", 32)+`","`+strings.Repeat("ef", 32)+`"]`)
	if a.reasons = nil; len(a.taken) != 1 {
		t.Error(a.taken)
	}

	// A hub whose clock is wrong is refused with a fresh token. It does not ask for
	// more of them, which Apple would hold against it.
	a.pass(time.Hour)
	wrong := &apple{world: a.world, key: a.key, devices: a.devices}
	a.world.answer = func(g *got) (int, string) {
		if status, reason := wrong.provider(g.header.Get("Authorization")); reason != "" {
			return status, reason
		}
		return 403, `{"reason":"ExpiredProviderToken"}`
	}
	a.take()
	for range 3 {
		a.notify(next(amy), 503, "M_UNKNOWN")
	}
	if len(wrong.tokens) != 1 || len(a.take()) > 3*tries {
		t.Errorf("%d tokens within moments", len(wrong.tokens))
	}
}

// google answers as Google's services do, for a service account and one project.
// Reference: OAuth 2.0 for server to server applications; projects.messages.send.
type google struct {
	*world
	key    *rsa.PublicKey
	grants []time.Time       // when each of the tokens g0, g1, ... was given
	states map[string]string // errors of device tokens; empty: none
	taken  []string          // priority and life
	wrong  []string          // what was refused and why
}

func (g *google) answer(r *got) (int, string) {
	if r.path == "/token" {
		return g.grant(r)
	}
	status, code, field := g.send(r)
	if status == 200 {
		return 200, `{"name":"projects/garden/messages/1"}`
	}
	g.wrong = append(g.wrong, code)
	details := `{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"` + code + `"}`
	if field != "" {
		details += `,{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"field":"` + field + `","description":"x"}]}`
	}
	return status, fmt.Sprintf(`{"error":{"code":%d,"message":"x","status":"X","details":[%s]}}`, status, details)
}

func (g *google) grant(r *got) (int, string) {
	form, err := url.ParseQuery(string(r.body))
	if err != nil || r.method != "POST" || r.header.Get("Content-Type") != "application/x-www-form-urlencoded" || form.Get("grant_type") != googleGrant {
		return 400, `{"error":"unsupported_grant_type"}`
	}
	head, claims, good := g.jwt(form.Get("assertion"), func(text, sig []byte) bool {
		hash := sha256.Sum256(text)
		return rsa.VerifyPKCS1v15(g.key, crypto.SHA256, hash[:], sig) == nil
	})
	iat, _ := claims["iat"].(float64)
	exp, _ := claims["exp"].(float64)
	at := g.now().Unix()
	if !good || head["alg"] != "RS256" || head["kid"] != "g1" || claims["iss"] != "push@garden.test" || claims["aud"] != g.server.URL+"/token" ||
		claims["scope"] != googleScope || exp-iat > 3600 || exp <= iat || int64(exp) < at || int64(iat) > at+10 {
		g.Errorf("an assertion with %v %v, signed: %v", head, claims, good)
		return 400, `{"error":"invalid_grant","error_description":"Invalid JWT Signature."}`
	}
	g.grants = append(g.grants, g.now())
	return 200, fmt.Sprintf(`{"access_token":"g%d","expires_in":3599,"token_type":"Bearer"}`, len(g.grants)-1)
}

func (g *google) send(r *got) (status int, code, field string) {
	n, err := strconv.Atoi(strings.TrimPrefix(r.header.Get("Authorization"), "Bearer g"))
	if err != nil || n >= len(g.grants) || g.now().Sub(g.grants[n]) > 3599*time.Second {
		return 401, "UNAUTHENTICATED", ""
	}
	if r.method != "POST" || r.path != "/v1/projects/garden/messages:send" {
		return 404, "NOT_FOUND", ""
	}
	var m struct {
		Message struct {
			Token   string            `json:"token"`
			Data    map[string]string `json:"data"`
			Android struct {
				Priority string `json:"priority"`
				TTL      string `json:"ttl"`
			} `json:"android"`
		} `json:"message"`
	}
	d := json.NewDecoder(bytes.NewReader(r.body))
	d.DisallowUnknownFields() // as Google's services do
	if err := d.Decode(&m); err != nil || r.header.Get("Content-Type") != "application/json" {
		g.Errorf("%s: %v", r.body, err)
		return 400, "INVALID_ARGUMENT", ""
	}
	size := 0
	for key, val := range m.Message.Data {
		if size += len(key) + len(val); key == "from" || key == "message_type" || strings.HasPrefix(key, "google") || strings.HasPrefix(key, "gcm") {
			return 400, "INVALID_ARGUMENT", "message.data"
		}
	}
	life, err := time.ParseDuration(m.Message.Android.TTL)
	if err != nil || life < 0 || life > 28*24*time.Hour || !slices.Contains([]string{"HIGH", "NORMAL"}, m.Message.Android.Priority) || size > 4096 {
		return 400, "INVALID_ARGUMENT", "message.android"
	}
	switch code := g.states[m.Message.Token]; code {
	case "":
		g.taken = append(g.taken, m.Message.Android.Priority)
		return 200, "", ""
	case "UNREGISTERED":
		return 404, code, ""
	case "SENDER_ID_MISMATCH":
		return 403, code, ""
	case "QUOTA_EXCEEDED":
		return 429, code, ""
	default:
		return 400, "INVALID_ARGUMENT", "message.token"
	}
}

func TestGoogleTakesIt(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	account, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "garden", "private_key_id": "g1", "client_email": "push@garden.test", "token_uri": "BASE/token",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}
	g := &google{key: &key.PublicKey, states: map[string]string{}}
	g.world = build(t, apps(t, `{"apps":[{"app_id":"org.example.android","kind":"fcm","service_account_file":"a.json","url":"BASE"}]}`,
		map[string][]byte{"a.json": account}))
	g.world.answer = g.answer
	n := 0
	next := func(tokens ...string) string {
		n++
		var list []string
		for _, token := range tokens {
			list = append(list, `{"app_id":"org.example.android","pushkey":"`+token+`","data":{"default_payload":{"google.x":"1","from":"y","gcm.z":{},"cs":{"a":1}}}}`)
		}
		return event(fmt.Sprintf("$%d", n), strings.Join(list, ","))
	}
	g.notify(next("amy"), 200, none)
	g.notify(strings.Replace(next("amy"), `"prio":"high"`, `"prio":"low"`, 1), 200, none)
	g.notify(strings.Replace(next("amy"), "the tomatoes", strings.Repeat("é", 9000), 1), 200, none)
	if !slices.Equal(g.taken, []string{"HIGH", "NORMAL", "HIGH"}) || len(g.wrong) > 0 || len(g.grants) != 1 {
		t.Fatalf("taken %q, wrong %q, %d grants", g.taken, g.wrong, len(g.grants))
	}
	// A token serves nearly its hour, and is never sent when it is over.
	g.pass(57 * time.Minute)
	g.notify(next("amy"), 200, none)
	g.pass(3 * time.Minute)
	g.notify(next("amy"), 200, none)
	if len(g.wrong) > 0 || len(g.grants) != 2 {
		t.Fatalf("wrong %q, %d grants", g.wrong, len(g.grants))
	}
	g.states["bob"], g.states["eve"], g.states["zoe"] = "UNREGISTERED", "SENDER_ID_MISMATCH", "garbled"
	g.notify(next("bob", "amy", "eve", "zoe"), 200, `["bob","eve","zoe"]`)
	g.states["dan"], g.wrong = "QUOTA_EXCEEDED", nil
	g.notify(next("dan"), 503, "M_UNKNOWN")
	if len(g.wrong) != tries {
		t.Errorf("%d tries of what is over its quota", len(g.wrong))
	}
}
