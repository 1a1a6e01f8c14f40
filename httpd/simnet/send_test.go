package simnet

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/ephemeral"
	"hearth/engine/mxid"
)

// pair is two hubs with a user each, both in one room.
func pair(t *testing.T) (n *Net, amy, bob *User, id string) {
	n = New(t, 2)
	amy, bob = n.Hubs[0].User("amy"), n.Hubs[1].User("bob")
	id = amy.create(`{"preset":"public_chat"}`)
	bob.Want(200, "", "POST", joinPath(id, amy.Hub.Name), `{}`)
	return n, amy, bob, id
}

// until asks until the answer has a text in it, and gives the answer.
func (u *User) until(want, method, path, body string) (r Reply) {
	u.Hub.net.T.Helper()
	u.Hub.net.Until(fmt.Sprintf("%s %s tells %s of %s", method, path, u.ID, want), func() bool {
		r = u.Ask(method, path, body)
		return strings.Contains(r.Body, want)
	})
	return r
}

// since gives a token of /sync.
func (u *User) since() string {
	u.Hub.net.T.Helper()
	return u.Want(200, "", "GET", v3+"/sync", "").Str("next_batch")
}

func text(body string) string { return fmt.Sprintf(`{"msgtype":"m.text","body":%q}`, body) }

// What is said on one hub is read on the other, through a link that comes and goes.
func TestMessages(t *testing.T) {
	n, amy, bob, id := pair(t)
	amy.Want(200, "", "PUT", inRoom(id, "/send/m.room.message/1"), text("one"))
	bob.until(`"one"`, "GET", inRoom(id, "/messages?dir=b"), "")
	bob.Want(200, "", "PUT", inRoom(id, "/send/m.room.message/1"), text("two"))
	amy.until(`"two"`, "GET", inRoom(id, "/messages?dir=b"), "")
	n.Cut(amy.Hub.Name, bob.Hub.Name)
	for i := range 90 {
		amy.Want(200, "", "PUT", inRoom(id, fmt.Sprint("/send/m.room.message/c", i)), text(fmt.Sprint("cut", i)))
	}
	n.Heal(amy.Hub.Name, bob.Hub.Name)
	bob.Want(200, "", "PUT", inRoom(id, "/send/m.room.message/2"), text("heard again")) // that ends amy's wait
	r := bob.until(`"cut89"`, "GET", inRoom(id, "/messages?dir=b&limit=100"), "")
	last := len(r.Body)
	for i := range 90 { // the newest first
		at := strings.Index(r.Body, fmt.Sprintf(`"cut%d"`, i))
		if at < 0 || at > last || strings.Count(r.Body, fmt.Sprintf(`"cut%d"`, i)) != 1 {
			t.Fatalf("cut%d is at %d behind %d", i, at, last)
		}
		last = at
	}
	n.sound()
}

// Typing, receipts and presence are told.
func TestTold(t *testing.T) {
	n, amy, bob, id := pair(t)
	said := amy.Want(200, "", "PUT", inRoom(id, "/send/m.room.message/1"), text("one")).Str("event_id")
	bob.until(`"one"`, "GET", inRoom(id, "/messages?dir=b"), "")
	bob.Want(200, "", "PUT", inRoom(id, "/typing/"+string(bob.ID)), `{"typing":true,"timeout":60000}`)
	bob.Want(200, "", "POST", inRoom(id, "/receipt/m.read/"+said), `{}`)
	bob.Want(200, "", "POST", inRoom(id, "/receipt/m.read.private/"+said), `{}`)
	bob.Want(200, "", "PUT", v3+"/presence/"+string(bob.ID)+"/status", `{"presence":"online","status_msg":"here"}`)
	amy.until(`{"user_ids":["@bob:b.test"]}`, "GET", v3+"/sync", "")
	r := amy.until(`"m.read":{"@bob:b.test"`, "GET", v3+"/sync", "")
	if strings.Contains(r.Body, "m.read.private") {
		t.Error("a private receipt was told")
	}
	amy.until(`"status_msg":"here"`, "GET", v3+"/presence/"+string(bob.ID)+"/status", "")
	bob.Want(200, "", "PUT", inRoom(id, "/typing/"+string(bob.ID)), `{"typing":false}`)
	n.Until("nobody types", func() bool {
		return !strings.Contains(amy.Ask("GET", v3+"/sync", "").Body, `"user_ids":["@bob:b.test"]`)
	})
	num, _ := amy.Hub.Rooms.User(bob.ID)
	if s, err := amy.Hub.Ephemeral.Presence(num); err != nil || s.State != ephemeral.Online || time.Since(time.UnixMilli(s.Acted)) > time.Hour {
		t.Errorf("%+v, %v", s, err)
	}
	n.sound()
}

// What one hub asks of another for its users: profiles, rooms, files.
func TestAskedElsewhere(t *testing.T) {
	n, amy, bob, id := pair(t)
	bob.Want(200, "", "PUT", v3+"/profile/"+string(bob.ID)+"/displayname", `{"displayname":"Bob"}`)
	if r := amy.Want(200, "", "GET", v3+"/profile/"+string(bob.ID), ""); r.Str("displayname") != "Bob" {
		t.Error(r.Body)
	}
	amy.Want(404, "M_NOT_FOUND", "GET", v3+"/profile/@nobody:b.test", "")
	token := bob.Want(200, "", "POST", v3+"/user/"+string(bob.ID)+"/openid/request_token", `{}`).Str("access_token")
	if r := bob.Want(200, "", "GET", "/_matrix/federation/v1/openid/userinfo?access_token="+token, ""); r.Str("sub") != string(bob.ID) {
		t.Error(r.Body)
	}
	amy.Want(200, "", "PUT", v3+"/directory/list/room/"+url.PathEscape(id), `{"visibility":"public"}`)
	for _, r := range []Reply{
		bob.Want(200, "", "GET", v3+"/publicRooms?server=a.test", ""),
		bob.Want(200, "", "POST", v3+"/publicRooms?server=a.test", `{"limit":5}`),
	} {
		if !strings.Contains(r.Body, id) {
			t.Error(r.Body)
		}
	}
	// A space that bob's hub is not in, with a room that it is in and one that nobody may see.
	space := amy.create(`{"preset":"public_chat","creation_content":{"type":"m.space"},"name":"Space"}`)
	inner := amy.create(`{"preset":"public_chat","name":"Inner"}`)
	secret := amy.create(`{"preset":"private_chat","name":"Secret"}`)
	for _, child := range []string{id, inner, secret} {
		amy.Want(200, "", "PUT", inRoom(space, "/state/m.space.child/"+url.PathEscape(child)), `{"via":["a.test"]}`)
	}
	mine := bob.create(`{"preset":"public_chat","creation_content":{"type":"m.space"},"name":"Mine"}`)
	bob.Want(200, "", "PUT", inRoom(mine, "/state/m.space.child/"+url.PathEscape(space)), `{"via":["a.test"]}`)
	r := bob.Want(200, "", "GET", "/_matrix/client/v1/rooms/"+url.PathEscape(mine)+"/hierarchy", "")
	for _, want := range []string{mine, space, inner, id} {
		if strings.Count(r.Body, fmt.Sprintf(`"room_id":%q`, want)) != 1 {
			t.Errorf("%s is not in %s once", want, r.Body)
		}
	}
	if strings.Contains(r.Body, fmt.Sprintf(`"room_id":%q`, secret)) {
		t.Errorf("%s is in %s", secret, r.Body)
	}
	if r := bob.Want(200, "", "GET", "/_matrix/client/v1/room_summary/"+url.PathEscape(inner)+"?via=a.test", ""); r.Str("name") != "Inner" || r.Str("membership") != "leave" {
		t.Error(r.Body)
	}
	bob.Want(404, "M_NOT_FOUND", "GET", "/_matrix/client/v1/room_summary/"+url.PathEscape(secret)+"?via=a.test", "")
	// Files.
	uri := amy.Want(200, "", "POST", "/_matrix/media/v3/upload?filename=a.txt", `some bytes`).Str("content_uri")
	file := "/_matrix/client/v1/media/download/" + strings.TrimPrefix(uri, "mxc://")
	for range 2 {
		n.Asked()
		if r := bob.Want(200, "", "GET", file, ""); r.Body != "some bytes" {
			t.Error(r.Body)
		}
	}
	if again := n.Asked(); len(again) != 0 {
		t.Errorf("a file that is here was asked for: %s", again[0].Path)
	}
	bob.Want(404, "M_NOT_FOUND", "GET", "/_matrix/client/v1/media/download/a.test/nothere", "")
	n.sound()
}

// keys is an upload of a device's keys, which are signed by nobody who asks.
func keys(u *User, device string) string {
	return fmt.Sprintf(`{"device_keys":{"user_id":%q,"device_id":%q,"algorithms":["m.olm.v1.curve25519-aes-sha2"],"keys":{"ed25519:%s":"x"},`+
		`"signatures":{%q:{"ed25519:%s":"y"}}},"one_time_keys":{"curve25519:AAAA":"one"}}`, u.ID, device, device, u.ID, device)
}

func (u *User) deviceID() string {
	u.Hub.net.T.Helper()
	return u.Want(200, "", "GET", v3+"/account/whoami", "").Str("device_id")
}

// Keys are asked for, claimed, and followed when they change; messages for devices
// come once.
func TestKeysElsewhere(t *testing.T) {
	n, amy, bob, _ := pair(t)
	since := amy.since()
	dev := bob.deviceID()
	bob.Want(200, "", "POST", v3+"/keys/upload", keys(bob, dev))
	sync := v3 + "/sync?since=" + since
	amy.until(`"changed":["@bob:b.test"]`, "GET", sync, "")
	query := `{"device_keys":{"@bob:b.test":[]}}`
	if r := amy.Want(200, "", "POST", v3+"/keys/query", query); r.Str("device_keys", "@bob:b.test", dev, "user_id") != string(bob.ID) {
		t.Fatal(r.Body)
	}
	claim := fmt.Sprintf(`{"one_time_keys":{"@bob:b.test":{%q:"curve25519"}}}`, dev)
	if r := amy.Want(200, "", "POST", v3+"/keys/claim", claim); r.Str("one_time_keys", "@bob:b.test", dev, "curve25519:AAAA") != "one" {
		t.Fatal(r.Body)
	}
	n.Asked()
	amy.Want(200, "", "POST", v3+"/keys/query", query)
	if asked := n.Asked(); len(asked) != 0 {
		t.Errorf("what is known was asked for: %s", asked[0].Path)
	}
	// A name of a device is told too.
	since = amy.since()
	bob.Want(200, "", "PUT", v3+"/devices/"+dev, `{"display_name":"Bob's own"}`)
	amy.until(`"changed":["@bob:b.test"]`, "GET", v3+"/sync?since="+since, "")
	if r := amy.Want(200, "", "POST", v3+"/keys/query", query); r.Str("device_keys", "@bob:b.test", dev, "unsigned", "device_display_name") != "Bob's own" {
		t.Fatal(r.Body)
	}
	// With the link cut nothing is, and it is caught up with.
	since = amy.since()
	n.Cut(amy.Hub.Name, bob.Hub.Name)
	bob.Want(200, "", "POST", v3+"/keys/upload", strings.ReplaceAll(keys(bob, dev), `"x"`, `"z"`))
	n.Heal(amy.Hub.Name, bob.Hub.Name)
	amy.Want(200, "", "PUT", v3+"/sendToDevice/m.test/1", fmt.Sprintf(`{"messages":{"@bob:b.test":{%q:{"n":1}}}}`, dev))
	amy.Want(200, "", "PUT", v3+"/sendToDevice/m.test/1", fmt.Sprintf(`{"messages":{"@bob:b.test":{%q:{"n":1}}}}`, dev))
	amy.Want(200, "", "PUT", v3+"/sendToDevice/m.test/2", `{"messages":{"@bob:b.test":{"*":{"n":2}}}}`)
	r := bob.until(`{"n":2}`, "GET", v3+"/sync", "")
	if strings.Count(r.Body, `{"n":1}`) != 1 || strings.Index(r.Body, `{"n":1}`) > strings.Index(r.Body, `{"n":2}`) {
		t.Error(r.Body)
	}
	amy.until(`"changed":["@bob:b.test"]`, "GET", v3+"/sync?since="+since, "")
	amy.until(`"z"`, "POST", v3+"/keys/query", query)
	n.sound()
}

// edus lists the contents of the EDUs of a type that a server was sent.
func edus(n *Net, dest mxid.Server, typ string) (list []string) {
	for _, r := range n.Asked() {
		if r.Dest != dest || !strings.Contains(r.Path, "/send/") {
			continue
		}
		all, _ := cjson.Lookup(r.Body, "edus")
		_ = cjson.Array(all, func(edu []byte) bool {
			if is, _ := cjson.LookupString(edu, "edu_type"); is == typ {
				content, _ := cjson.Lookup(edu, "content")
				list = append(list, string(content))
			}
			return true
		})
	}
	return list
}

// The servers of a room that somebody comes into are told of that user's devices
// once, unless they have been told all along.
func TestDevicesOfWhoArrives(t *testing.T) {
	n, _, bob, id := pair(t)
	amy := n.Hubs[0].User("ann") // in no room yet
	dev := amy.deviceID()
	amy.Want(200, "", "POST", v3+"/keys/upload", keys(amy, dev))
	read := func() {
		n.Until("what was is found out for whom", func() bool {
			list, err := amy.Hub.Federation.Destinations()
			return err == nil && len(list) == 1 && list[0].From == amy.Hub.Tip()
		})
	}
	read()
	told := func(what string) {
		t.Helper()
		seen := ""
		n.Until(what, func() bool {
			for _, content := range edus(n, bob.Hub.Name, "m.device_list_update") {
				seen += content
			}
			return strings.Contains(seen, `"user_id":"@ann:a.test"`)
		})
		if strings.Count(seen, `"prev_id"`) != 1 || !strings.Contains(seen, fmt.Sprintf(`"device_id":%q`, dev)) {
			t.Fatalf("%s: %s", what, seen)
		}
	}
	n.Asked()
	amy.Want(200, "", "POST", joinPath(id, amy.Hub.Name), `{}`)
	told("who comes into a room of this hub's")
	second := bob.create(`{"preset":"public_chat"}`)
	n.Asked()
	amy.Want(200, "", "POST", joinPath(second, bob.Hub.Name), `{}`)
	said := amy.Want(200, "", "PUT", inRoom(second, "/send/m.room.message/1"), text("in")).Str("event_id")
	bob.until(said, "GET", inRoom(second, "/messages?dir=b"), "")
	if list := edus(n, bob.Hub.Name, "m.device_list_update"); len(list) != 0 {
		t.Fatal("told again of what is known: ", list)
	}
	for _, room := range []string{id, second} {
		amy.Want(200, "", "POST", inRoom(room, "/leave"), `{}`)
		n.Until("she is gone", func() bool {
			return bob.Ask("GET", inRoom(room, "/state/m.room.member/"+string(amy.ID)), "").Str("membership") == "leave"
		})
	}
	query := `{"device_keys":{"@ann:a.test":[]}}`
	amy.Want(200, "", "POST", v3+"/keys/upload", strings.ReplaceAll(keys(amy, dev), `"x"`, `"new"`)) // nobody is told
	read()
	n.Asked()
	amy.Want(200, "", "POST", joinPath(second, bob.Hub.Name), `{}`)
	told("who comes into a room of the other hub's")
	bob.until(`"new"`, "POST", v3+"/keys/query", query)
	n.sound()
}

// A message for a device that was acknowledged reaches it once, whatever gets
// lost and whoever starts again on the way.
func TestToDeviceOnce(t *testing.T) {
	n, amy, bob, _ := pair(t)
	n.Lose(0.3)
	const all = 12
	for i := range all {
		path, body := fmt.Sprint(v3+"/sendToDevice/m.test/", i), fmt.Sprintf(`{"messages":{"@bob:b.test":{"*":{"n":%d}}}}`, i)
		amy.Want(200, "", "PUT", path, body)
		switch i % 6 {
		case 0:
			amy.Hub.Restart()
		case 1:
			amy.Hub.PowerCut()
		case 3:
			bob.Hub.Restart()
		case 4:
			bob.Hub.PowerCut()
		}
	}
	n.Lose(0)
	var got string
	n.Until("all messages are there", func() bool {
		if err := amy.Hub.Federation.Retry(bob.Hub.Name); err != nil {
			t.Fatal(err)
		}
		got = bob.Ask("GET", v3+"/sync", "").Body
		return strings.Contains(got, fmt.Sprintf(`{"n":%d}`, all-1))
	})
	last := -1
	for i := range all {
		said := fmt.Sprintf(`{"n":%d}`, i)
		at := strings.Index(got, said)
		if at < last || at < 0 || strings.Count(got, said) != 1 {
			t.Errorf("message %d is at %d behind %d, %d times", i, at, last, strings.Count(got, said))
		}
		last = at
	}
	list, err := amy.Hub.Federation.Destinations()
	if err != nil || len(list) != 1 || list[0].Server != bob.Hub.Name {
		t.Errorf("%+v, %v", list, err)
	}
	n.sound()
}
