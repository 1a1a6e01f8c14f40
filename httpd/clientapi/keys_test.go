package clientapi

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

// again logs a user in on one more device and gives its token.
func (h *hub) again(name, device string) string {
	h.t.Helper()
	a := h.want(200, "", "POST", v3+"/login", "", fmt.Sprintf(
		`{"type":"m.login.password","identifier":{"type":"m.id.user","user":%q},"password":%q,"device_id":%q}`, name, pw, device))
	return a.str("access_token")
}

func deviceKeys(user, device, key string) string {
	return fmt.Sprintf(`{"user_id":"@%s:hub.test","device_id":%q,"algorithms":["m.olm"],"keys":{"ed25519:%s":%q},"signatures":{}}`, user, device, device, key)
}

func TestKeyUpload(t *testing.T) {
	h := start(t, Anyone)
	bob, eve := h.join("bob"), h.join("eve")
	body := `{"device_keys":` + deviceKeys("bob", "DEV", "k") + `,"one_time_keys":{"signed:1":{"key":"a"},"signed:2":{"key":"b"}},"fallback_keys":{"signed:f":{"key":"f"}}}`
	for _, base := range []string{v3, "/_matrix/client/r0"} {
		h.want(200, `{"one_time_key_counts":{"signed":2,"signed_curve25519":0}}`, "POST", base+"/keys/upload", bob, body)
	}
	h.want(200, `{"one_time_key_counts":{"signed":2,"signed_curve25519":0}}`, "POST", v3+"/keys/upload", bob, `{}`)
	h.want(200, `{"one_time_key_counts":{"signed_curve25519":0}}`, "POST", v3+"/keys/upload", eve, `{}`)
	for _, c := range []struct{ code, body string }{
		{"M_NOT_JSON", `{"broken": `},
		{"M_BAD_JSON", `["not an object"]`},
		{"M_BAD_JSON", `{"device_keys":[{}],"one_time_keys":[{}],"fallback_keys":[{}]}`},
		{"M_BAD_JSON", `{"device_keys":{"user_id":"@eve:hub.test","device_id":"DEV"},"one_time_keys":{"signed:1":{"key":"a"}}}`},
		{"M_INVALID_PARAM", `{"device_keys":` + deviceKeys("bob", "DEV", "k") + `}`},
		{"M_INVALID_PARAM", `{"device_keys":` + deviceKeys("eve", "OTHER", "k") + `}`},
	} {
		h.want(400, c.code, "POST", v3+"/keys/upload", eve, c.body)
	}
	h.want(200, `{"one_time_key_counts":{"signed_curve25519":0}}`, "POST", v3+"/keys/upload", eve, `{}`)
	h.want(400, "M_INVALID_PARAM", "POST", v3+"/keys/upload", bob, `{"one_time_keys":{"signed:1":{"key":"other"}}}`)
	h.want(401, "M_MISSING_TOKEN", "POST", v3+"/keys/upload", "", body)

	claim := `{"one_time_keys":{"@bob:hub.test":{"DEV":"signed","NONE":"signed"},"@none:hub.test":{"DEV":"signed"},"@x:other.test":{"D":"signed"}}}`
	for _, want := range []string{`"signed:1":{"key":"a"}`, `"signed:2":{"key":"b"}`, `"signed:f":{"key":"f"}`} {
		a := h.want(200, "", "POST", v3+"/keys/claim", eve, claim)
		if !strings.HasPrefix(a.body, `{"one_time_keys":{"@bob:hub.test":{"DEV":{`+want+`}}},"failures":{"other.test":{`) {
			t.Fatal(a.body)
		}
	}
	h.want(200, `{"one_time_keys":{},"failures":{}}`, "POST", v3+"/keys/claim", eve, `{"one_time_keys":{"@bob:hub.test":{"DEV":"other"}}}`)
	h.want(400, "M_MISSING_PARAM", "POST", v3+"/keys/claim", eve, `{}`)
	for _, bad := range []string{`{"one_time_keys":"wrong"}`, `{"one_time_keys":{"@bob:hub.test":[]}}`, `{"one_time_keys":{"@bob:hub.test":{"DEV":1}}}`} {
		h.want(400, "M_BAD_JSON", "POST", v3+"/keys/claim", eve, bad)
	}
}

func TestKeyQuery(t *testing.T) {
	h := start(t, Anyone)
	bob, eve := h.join("bob"), h.join("eve")
	h.want(200, "", "POST", v3+"/keys/upload", bob, `{"device_keys":`+deviceKeys("bob", "DEV", "k")+`}`)
	h.want(200, "", "PUT", v3+"/devices/DEV", bob, `{"display_name":"phone"}`)
	shown := `{"algorithms":["m.olm"],"device_id":"DEV","keys":{"ed25519:DEV":"k"},"user_id":"@bob:hub.test","signatures":{},"unsigned":{"device_display_name":"phone"}}`
	none := `"master_keys":{},"self_signing_keys":{},"user_signing_keys":{},"failures":{}}`
	for query, want := range map[string]string{
		`{"@bob:hub.test":[]}`:                                                           `{"@bob:hub.test":{"DEV":` + shown + `}}`,
		`{"@bob:hub.test":["DEV","X"],"@eve:hub.test":[]}`:                               `{"@bob:hub.test":{"DEV":` + shown + `},"@eve:hub.test":{}}`,
		`{"@bob:hub.test":["X"],"@none:hub.test":[],"nonsense":["a"],"bad:hub.test":[]}`: `{"@bob:hub.test":{},"@none:hub.test":{}}`,
		`{}`: `{}`,
	} {
		h.want(200, `{"device_keys":`+want+`,`+none, "POST", v3+"/keys/query", eve, `{"timeout":1,"device_keys":`+query+`}`)
	}
	h.want(400, "M_MISSING_PARAM", "POST", v3+"/keys/query", eve, `{}`)
	for _, bad := range []string{`"wrong"`, `{"@bob:hub.test":{"DEV":true}}`, `{"@bob:hub.test":[1]}`} {
		h.want(400, "M_BAD_JSON", "POST", v3+"/keys/query", eve, `{"device_keys":`+bad+`}`)
	}
	// With the device go its keys.
	h.again("bob", "TWO")
	h.want(200, "", "POST", v3+"/logout", bob, "")
	h.want(200, `{"device_keys":{"@bob:hub.test":{}},`+none, "POST", v3+"/keys/query", eve, `{"device_keys":{"@bob:hub.test":[]}}`)
	bob = h.again("bob", "DEV")
	h.want(200, `{"device_keys":{"@bob:hub.test":{}},`+none, "POST", v3+"/keys/query", eve, `{"device_keys":{"@bob:hub.test":[]}}`)
	h.want(200, `{"one_time_key_counts":{"signed_curve25519":0}}`, "POST", v3+"/keys/upload", bob, `{}`)
}

// crossBody is an upload of a master key, and of a self-signing key where the
// seed is set.
func crossBody(user string, seed, selfSeed byte) (body, master string) {
	pair := func(seed byte) (ed25519.PrivateKey, string) {
		key := ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(seed)), ed25519.SeedSize)))
		return key, base64.RawStdEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
	}
	key, id := pair(seed)
	body = fmt.Sprintf(`"master_key":{"user_id":"@%s:hub.test","usage":["master"],"keys":{"ed25519:%s":%q}}`, user, id, id)
	if selfSeed != 0 {
		_, self := pair(selfSeed)
		core := fmt.Sprintf(`{"keys":{"ed25519:%s":%q},"usage":["self_signing"],"user_id":"@%s:hub.test"`, self, self, user)
		sig := base64.RawStdEncoding.EncodeToString(ed25519.Sign(key, []byte(core+"}")))
		body += fmt.Sprintf(`,"self_signing_key":%s,"signatures":{"@%s:hub.test":{"ed25519:%s":%q}}}`, core, user, id, sig)
	}
	return body, id
}

func TestCrossSigning(t *testing.T) {
	h := start(t, Anyone)
	bob, eve := h.join("bob"), h.join("eve")
	const at = v3 + "/keys/device_signing/upload"
	h.want(400, "M_MISSING_PARAM", "POST", at, bob, `{}`)
	h.want(400, "M_BAD_JSON", "POST", at, bob, `{"master_key":[{}],"self_signing_key":[{}],"user_signing_key":[{}]}`)
	first, master := crossBody("bob", 'a', 0)
	h.want(200, "{}", "POST", at, bob, "{"+first+"}")
	h.want(200, "{}", "POST", unstable+"/keys/device_signing/upload", bob, "{"+first+"}")
	other, _ := crossBody("bob", 'b', 0)
	more, _ := crossBody("bob", 'a', 'c')
	more = more[strings.Index(more, `,"self`)+1:]
	for _, body := range []string{other, more} {
		if a := h.want(401, "", "POST", at, bob, "{"+body+"}"); !strings.Contains(a.body, `"flows":[{"stages":["m.login.password"]}]`) {
			t.Fatal(a.body)
		}
	}
	forged, _ := crossBody("bob", 'b', 'c')
	forged = forged[strings.Index(forged, `,"self`)+1:]
	proof := `,"auth":{"type":"m.login.password","password":"` + pw + `","session":%q}}`
	session := h.want(401, "", "POST", at, bob, "{"+forged+"}").str("session")
	h.want(400, "M_INVALID_SIGNATURE", "POST", at, bob, "{"+forged+fmt.Sprintf(proof, session))
	session = h.want(401, "", "POST", at, bob, "{"+more+"}").str("session")
	for range 2 {
		h.want(200, "{}", "POST", at, bob, "{"+more+fmt.Sprintf(proof, session))
	}
	a := h.want(200, "", "POST", v3+"/keys/query", eve, `{"device_keys":{"@bob:hub.test":[]}}`)
	if a.get("master_keys", "@bob:hub.test") == nil || a.get("self_signing_keys", "@bob:hub.test", "signatures", "@bob:hub.test") == nil {
		t.Fatal(a.body)
	}
	// Neither has the key a device's name, nor the device a key's.
	named, id := crossBody("eve", 'e', 0)
	e2 := h.again("eve", id)
	h.want(403, "M_FORBIDDEN", "POST", at, eve, "{"+named+"}")
	h.want(200, "", "POST", v3+"/logout", e2, "")
	h.want(200, "", "POST", at, eve, "{"+named+"}")
	e2 = h.again("eve", id)
	h.want(403, "M_FORBIDDEN", "POST", v3+"/keys/upload", e2, `{"device_keys":`+deviceKeys("eve", id, "k")+`}`)

	const sign = v3 + "/keys/signatures/upload"
	a = h.want(200, "", "POST", sign, eve, fmt.Sprintf(`{"@bob:hub.test":{%q:{},"NONE":{}},"@eve:hub.test":{"DEV":{}}}`, master))
	for path, want := range map[[2]string]string{
		{"@bob:hub.test", master}: "M_INVALID_PARAM", {"@bob:hub.test", "NONE"}: "M_NOT_FOUND", {"@eve:hub.test", "DEV"}: "M_NOT_FOUND",
	} {
		if got := a.str("failures", path[0], path[1], "errcode"); got != want {
			t.Fatal(path, got, a.body)
		}
	}
	h.want(200, `{"failures":{}}`, "POST", sign, eve, `{}`)
	h.want(400, "M_BAD_JSON", "POST", sign, eve, `{"@bob:hub.test":{"a":1}}`)
}

// waits gives the messages that wait for a device.
func (h *hub) waits(name, device string) string {
	h.t.Helper()
	user, err := h.e.Accounts.Find(h.e.Accounts.ID(name))
	if err != nil {
		h.t.Fatal(err)
	}
	d, err := h.e.Accounts.Device(user, device)
	if err != nil {
		h.t.Fatal(err)
	}
	dst, _, err := h.e.AppendToDevice(nil, d.Num, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(dst)
}

func TestSendToDevice(t *testing.T) {
	h := start(t, Anyone)
	bob := h.join("bob")
	h.join("eve")
	h.again("eve", "TWO")
	h.again("eve", "THREE")
	body := `{"messages":{"@eve:hub.test":{"DEV":{"n":1},"NONE":{}},"@none:hub.test":{"*":{}},"@x:other.test":{"*":{}}}}`
	for range 2 {
		h.want(200, "{}", "PUT", v3+"/sendToDevice/m.test/1", bob, body)
	}
	h.want(200, "{}", "PUT", "/_matrix/client/r0/sendToDevice/m.test/2", bob, `{"messages":{"@eve:hub.test":{"*":{"n":2}}}}`)
	one, two := `{"content":{"n":1},"sender":"@bob:hub.test","type":"m.test"}`, `{"content":{"n":2},"sender":"@bob:hub.test","type":"m.test"}`
	if got := h.waits("eve", "DEV"); got != one+","+two {
		t.Fatal(got)
	}
	if got := h.waits("eve", "TWO") + h.waits("eve", "THREE"); got != two+two {
		t.Fatal(got)
	}
	h.want(400, "M_MISSING_PARAM", "PUT", v3+"/sendToDevice/m.test/3", bob, `{}`)
	for _, bad := range []string{`"wrong"`, `{"@eve:hub.test":[]}`, `{"@eve:hub.test":{"DEV":1}}`} {
		h.want(400, "M_BAD_JSON", "PUT", v3+"/sendToDevice/m.test/3", bob, `{"messages":`+bad+`}`)
	}
	h.want(400, "M_INVALID_PARAM", "PUT", v3+"/sendToDevice/"+strings.Repeat("t", 256)+"/3", bob, `{"messages":{}}`)
	h.want(413, "M_TOO_LARGE", "PUT", v3+"/sendToDevice/t/3", bob, `{"messages":{"@eve:hub.test":{"DEV":{"a":"`+strings.Repeat("x", 64<<10)+`"}}}}`)
}

func TestBackup(t *testing.T) {
	h := start(t, Anyone)
	bob := h.join("bob")
	const at = v3 + "/room_keys"
	h.want(404, "M_NOT_FOUND", "GET", at+"/version", bob, "")
	h.want(400, "M_BAD_JSON", "POST", at+"/version", bob, `{}`)
	auth := `{"algorithm":"m.alg","auth_data":{"k":"v"}}`
	h.want(200, `{"version":"1"}`, "POST", at+"/version", bob, auth)
	shown := `{"algorithm":"m.alg","auth_data":{"k":"v"},"count":0,"etag":"0","version":"1"}`
	h.want(200, shown, "GET", at+"/version", bob, "")
	h.want(200, shown, "GET", unstable+"/room_keys/version/1", bob, "")
	h.want(404, "M_NOT_FOUND", "GET", at+"/version/x", bob, "")
	h.want(200, "{}", "PUT", at+"/version/1", bob, auth)
	h.want(400, "M_INVALID_PARAM", "PUT", at+"/version/1", bob, `{"algorithm":"other","auth_data":{}}`)
	key := `{"first_message_index":1,"forwarded_count":0,"is_verified":true,"session_data":{"c":"x"}}`
	const q = "?version=1"
	h.want(200, `{"count":1,"etag":"1"}`, "PUT", at+"/keys/!a:b/s1"+q, bob, key)
	h.want(200, `{"count":2,"etag":"2"}`, "PUT", at+"/keys/!a:b"+q, bob, `{"sessions":{"s1":`+key+`,"s2":`+key+`}}`)
	h.want(200, `{"count":3,"etag":"3"}`, "PUT", at+"/keys"+q, bob, `{"rooms":{"!b:b":{"sessions":{"s1":`+key+`}}}}`)
	h.want(200, key, "GET", at+"/keys/!a:b/s1"+q, bob, "")
	h.want(404, "M_NOT_FOUND", "GET", at+"/keys/!a:b/none"+q, bob, "")
	h.want(200, `{"sessions":{"s1":`+key+`,"s2":`+key+`}}`, "GET", at+"/keys/!a:b"+q, bob, "")
	h.want(200, `{"sessions":{}}`, "GET", at+"/keys/!none:b"+q, bob, "")
	h.want(200, `{"rooms":{"!a:b":{"sessions":{"s1":`+key+`,"s2":`+key+`}},"!b:b":{"sessions":{"s1":`+key+`}}}}`, "GET", at+"/keys"+q, bob, "")
	for _, path := range []string{"/keys", "/keys/!a:b", "/keys/!a:b/s1"} {
		h.want(400, "M_MISSING_PARAM", "GET", at+path, bob, "")
		h.want(404, "M_NOT_FOUND", "GET", at+path+"?version=7", bob, "")
		h.want(400, "M_MISSING_PARAM", "DELETE", at+path, bob, "")
		h.want(404, "M_NOT_FOUND", "DELETE", at+path+"?version=7", bob, "")
		h.want(400, "M_BAD_JSON", "PUT", at+path+q, bob, `{"rooms":"wrong","sessions":"wrong"}`)
	}
	h.want(200, `{"count":2,"etag":"4"}`, "DELETE", at+"/keys/!a:b/s1"+q, bob, "")
	h.want(200, `{"count":1,"etag":"5"}`, "DELETE", at+"/keys/!a:b"+q, bob, "")
	h.want(200, `{"count":0,"etag":"6"}`, "DELETE", at+"/keys"+q, bob, "")
	h.want(200, `{"version":"2"}`, "POST", at+"/version", bob, auth)
	if a := h.want(403, "M_WRONG_ROOM_KEYS_VERSION", "PUT", at+"/keys/!a:b/s1"+q, bob, key); a.str("current_version") != "2" {
		t.Fatal(a.body)
	}
	h.want(200, "{}", "DELETE", at+"/version/2", bob, "")
	h.want(200, "{}", "DELETE", at+"/version/2", bob, "")
	h.want(404, "M_NOT_FOUND", "DELETE", at+"/version/9", bob, "")
	h.want(200, "", "GET", at+"/version", bob, "")
}

func TestDehydratedDevice(t *testing.T) {
	h := start(t, Anyone)
	bob, eve := h.join("bob"), h.join("eve")
	const at = unstable + "/org.matrix.msc3814.v1/dehydrated_device"
	h.want(404, "M_NOT_FOUND", "GET", at, bob, "")
	h.want(404, "M_NOT_FOUND", "DELETE", at, bob, "")
	put := func(id string) string {
		return fmt.Sprintf(`{"device_id":%q,"device_data":{"algorithm":"a"},"initial_device_display_name":"asleep","device_keys":%s,"one_time_keys":{"s:1":"k"}}`,
			id, deviceKeys("bob", id, "k"))
	}
	h.want(400, "M_BAD_JSON", "PUT", at, bob, `{}`)
	h.want(400, "M_MISSING_PARAM", "PUT", at, bob, `{"device_id":"D","device_data":{}}`)
	h.want(403, "M_FORBIDDEN", "PUT", at, bob, put("DEV"))
	for _, id := range []string{"SLEEP", "DREAM", "DREAM"} {
		h.want(200, `{"device_id":"`+id+`"}`, "PUT", at, bob, put(id))
	}
	h.want(200, `{"device_id":"DREAM","device_data":{"algorithm":"a"}}`, "GET", at, bob, "")
	h.want(404, "M_NOT_FOUND", "GET", v3+"/devices/SLEEP", bob, "")
	h.want(200, `{"device_id":"DREAM","display_name":"asleep"}`, "GET", v3+"/devices/DREAM", bob, "")
	a := h.want(200, "", "POST", v3+"/keys/query", eve, `{"device_keys":{"@bob:hub.test":[]}}`)
	if a.get("device_keys", "@bob:hub.test", "DREAM") == nil || a.get("device_keys", "@bob:hub.test", "SLEEP") != nil {
		t.Fatal(a.body)
	}
	a = h.want(200, "", "POST", v3+"/keys/claim", eve, `{"one_time_keys":{"@bob:hub.test":{"DREAM":"s"}}}`)
	if a.str("one_time_keys", "@bob:hub.test", "DREAM", "s:1") != "k" {
		t.Fatal(a.body)
	}
	h.want(200, "{}", "PUT", v3+"/sendToDevice/m.test/1", eve, `{"messages":{"@bob:hub.test":{"DREAM":{"n":1}}}}`)
	message := `{"content":{"n":1},"sender":"@eve:hub.test","type":"m.test"}`
	a = h.want(200, "", "POST", at+"/DREAM/events", bob, `{}`)
	if !strings.HasPrefix(a.body, `{"events":[`+message+`],"next_batch":"`) {
		t.Fatal(a.body)
	}
	next := a.str("next_batch")
	h.want(200, `{"events":[],"next_batch":"`+next+`"}`, "POST", at+"/DREAM/events", bob, `{"next_batch":"`+next+`"}`)
	h.want(200, `{"events":[]}`, "GET", at+"/DREAM/events?from="+next, bob, "")
	h.want(200, a.body, "GET", at+"/DREAM/events", bob, "")
	h.want(200, a.body, "POST", at+"/DREAM/events", bob, "")
	h.want(400, "M_INVALID_PARAM", "POST", at+"/DREAM/events", bob, `{"next_batch":"x"}`)
	h.want(403, "M_FORBIDDEN", "POST", at+"/DEV/events", bob, `{}`)
	h.want(404, "M_NOT_FOUND", "POST", at+"/DREAM/events", eve, `{}`)
	h.want(200, `{"device_id":"DREAM"}`, "DELETE", at, bob, "")
	h.want(404, "M_NOT_FOUND", "GET", v3+"/devices/DREAM", bob, "")
	h.want(404, "M_NOT_FOUND", "GET", at, bob, "")
}

// lists gives device_lists of a sync from a token, and the next token.
func (h *hub) lists(token, since string) (lists, next string) {
	h.t.Helper()
	a := h.want(200, "", "GET", v3+"/sync?since="+since, token, "")
	changed, _ := a.get("device_lists", "changed").([]any)
	left, _ := a.get("device_lists", "left").([]any)
	asked := h.want(200, "", "GET", v3+"/keys/changes?from="+since+"&to="+a.str("next_batch"), token, "")
	c, _ := asked.get("changed").([]any)
	l, _ := asked.get("left").([]any)
	if fmt.Sprint(c, l) != fmt.Sprint(changed, left) {
		h.t.Fatal(asked.body, a.body)
	}
	return fmt.Sprint(changed, left), a.str("next_batch")
}

func TestKeyChanges(t *testing.T) {
	h := start(t, Anyone)
	bob, eve := h.join("bob"), h.join("eve")
	upload := func(token, user, device, key string) {
		h.want(200, "", "POST", v3+"/keys/upload", token, `{"device_keys":`+deviceKeys(user, device, key)+`}`)
	}
	upload(bob, "bob", "DEV", "k1")
	next := h.want(200, "", "GET", v3+"/sync", eve, "").str("next_batch")
	expect := func(want string) {
		t.Helper()
		var got string
		if got, next = h.lists(eve, next); got != want {
			t.Fatal(got, ", want ", want)
		}
	}
	room := h.want(200, "", "POST", v3+"/createRoom", eve, `{"preset":"public_chat"}`).str("room_id")
	expect("[@eve:hub.test] []") // who comes into a room is told of themselves too
	h.want(200, "", "POST", v3+"/join/"+room, bob, `{}`)
	expect("[@bob:hub.test] []")
	expect("[] []")
	upload(bob, "bob", "DEV", "k2")
	expect("[@bob:hub.test] []")
	two := h.again("bob", "TWO")
	expect("[] []") // a device without keys is nobody's business
	upload(two, "bob", "TWO", "k")
	expect("[@bob:hub.test] []")
	h.want(200, "", "POST", v3+"/logout", two, "")
	expect("[@bob:hub.test] []")
	master, _ := crossBody("bob", 'a', 'b')
	h.want(200, "", "POST", v3+"/keys/device_signing/upload", bob, "{"+master+"}")
	expect("[@bob:hub.test] []")
	upload(eve, "eve", "DEV", "k")
	expect("[@eve:hub.test] []")
	h.want(200, "", "POST", v3+"/rooms/"+room+"/leave", bob, `{}`)
	expect("[] [@bob:hub.test]")
	upload(bob, "bob", "DEV", "k3")
	expect("[] []")
	h.want(200, "", "POST", v3+"/join/"+room, bob, `{}`)
	expect("[@bob:hub.test] []")

	const at = v3 + "/keys/changes"
	h.want(400, "M_MISSING_PARAM", "GET", at+"?from="+next, eve, "")
	h.want(400, "M_INVALID_PARAM", "GET", at+"?from=-99x%7B&to=x", eve, "")
	h.want(400, "M_INVALID_PARAM", "GET", at+"?from="+next+"&to=x", eve, "")
	h.want(200, `{"changed":["@bob:hub.test","@eve:hub.test"],"left":[]}`, "GET", at+"?from=s1_1_1&to="+next, eve, "")
}

// What a device is sent comes by its sync once, and again where the answer was lost.
func TestSyncTellsOfKeysAndMessages(t *testing.T) {
	h := start(t, Anyone)
	bob, eve := h.join("bob"), h.join("eve")
	h.want(200, "", "POST", v3+"/keys/upload", eve, `{"one_time_keys":{"s:1":"k","s:2":"k"},"fallback_keys":{"s:f":"k"}}`)
	first := h.want(200, "", "GET", v3+"/sync", eve, "")
	if first.get("device_one_time_keys_count", "s") != 2.0 || fmt.Sprint(first.get("device_unused_fallback_key_types")) != "[s]" {
		t.Fatal(first.body)
	}
	for range 3 {
		h.want(200, "", "POST", v3+"/keys/claim", bob, `{"one_time_keys":{"@eve:hub.test":{"DEV":"s"}}}`)
	}
	h.want(200, "", "PUT", v3+"/sendToDevice/m.test/1", bob, `{"messages":{"@eve:hub.test":{"DEV":{"n":1}}}}`)
	var next string
	for range 2 {
		a := h.want(200, "", "GET", v3+"/sync?since="+first.str("next_batch"), eve, "")
		if fmt.Sprint(a.get("to_device", "events")) != "[map[content:map[n:1] sender:@bob:hub.test type:m.test]]" ||
			a.get("device_one_time_keys_count", "s") != 0.0 || fmt.Sprint(a.get("device_unused_fallback_key_types")) != "[]" {
			t.Fatal(a.body)
		}
		next = a.str("next_batch")
	}
	if a := h.want(200, "", "GET", v3+"/sync?since="+next, eve, ""); a.get("to_device") != nil {
		t.Fatal(a.body)
	}
	if left := h.waits("eve", "DEV"); left != "" {
		t.Fatal("not deleted: ", left)
	}
}
