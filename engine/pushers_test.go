package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/account"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/push"
	"hearth/engine/room"
)

// gateway is a push gateway in memory.
type gateway struct {
	mu     sync.Mutex
	bodies []string
	status int
	answer string
	mails  []string
}

func (g *gateway) post(_ context.Context, url string, body []byte) (int, []byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !strings.HasSuffix(url, "/_matrix/push/v1/notify") || !json.Valid(body) {
		return 0, nil, errors.New("not a notification: " + url + string(body))
	}
	if g.status != 200 {
		return g.status, nil, nil
	}
	g.bodies = append(g.bodies, string(body))
	return 200, []byte(g.answer), nil
}

func (g *gateway) mail(_ context.Context, to, subject, text string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mails = append(g.mails, to+"|"+subject+"|"+text)
	return nil
}

func (g *gateway) set(status int, answer string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.status, g.answer = status, answer
}

// take gives what came since it was last asked, when all is quiet.
func (g *gateway) take() []string {
	synctest.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	all := g.bodies
	g.bodies = nil
	return all
}

// told is take with each body cut down to "event type, badge".
func (g *gateway) told(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, body := range g.take() {
		var q struct {
			Notification struct {
				Type   string
				Body   struct{ Body string } `json:"content"`
				Counts struct{ Unread, Missed_calls int }
			}
		}
		if err := json.Unmarshal([]byte(body), &q); err != nil {
			t.Fatal(err)
		}
		n := q.Notification
		all = append(all, strings.TrimSpace(fmt.Sprintf("%s %s %d", n.Type, n.Body.Body, n.Counts.Unread)))
	}
	return all
}

// pushing runs a test on an engine with @a and @b in a room, @b with a pusher.
func pushing(t *testing.T, data string, f func(h *hub, g *gateway, num room.Num)) {
	synctest.Test(t, func(t *testing.T) {
		g := &gateway{status: 200, answer: `{"rejected":[]}`}
		e, err := Open(Options{
			Dir: "data", FS: vfs.NewMem(), Server: "hub", Accounts: account.Options{Cost: account.Cost{KiB: 64, Passes: 1}},
			Push: push.Options{Post: g.post, Mail: g.mail},
		})
		if err != nil {
			t.Fatal(err)
		}
		h := &hub{t, e, map[mxid.UserID]uint32{}}
		defer func() { h.ok(h.Close()) }()
		h.user("a")
		h.user("b")
		num := h.create(NewRoom{Preset: "public_chat", Name: "Den"})
		h.ok(h.Join(num, b, nil))
		h.ok(h.pusher("key", data))
		f(h, g, num)
	})
}

func (h *hub) session(user mxid.UserID) *account.Session {
	h.t.Helper()
	_, s, err := h.Accounts.Login(h.nums[user], account.NewSession{Device: "DEV"})
	h.ok(err)
	return &s
}

func (h *hub) pusher(key, data string) error {
	return h.SetPusher(h.session(b), account.Pusher{
		Kind: account.PushHTTP, App: "app", Key: key, AppName: "App", DeviceName: "Phone", Lang: "en",
		Data: []byte(`{"url":"https://push.example/_matrix/push/v1/notify"` + data + `}`),
	}, true)
}

func (h *hub) say(num room.Num, who mxid.UserID, body string) mxid.EventID {
	h.t.Helper()
	return h.send(num, who, "m.room.message", `{"body":"`+body+`","msgtype":"m.text"}`)
}

func (h *hub) send(num room.Num, who mxid.UserID, typ, content string) mxid.EventID {
	h.t.Helper()
	id, err := h.Rooms.Send(num, &room.Draft{Type: typ, Sender: who, Content: []byte(content)})
	h.ok(err)
	return id
}

func wantTold(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("told %q, want %q", got, want)
	}
}

// Spec: push gateway, POST /notify: all that the full form has.
func TestPushFull(t *testing.T) {
	pushing(t, `,"x":{"y":1},"format":"other"`, func(h *hub, g *gateway, num room.Num) {
		id := h.say(num, a, "hello")
		all := g.take()
		if len(all) != 1 {
			t.Fatal(all)
		}
		pu, _, err := h.Accounts.Pusher(h.nums[b], account.NewPusherID("app", "key"))
		h.ok(err)
		head, err := h.Rooms.Head(num)
		h.ok(err)
		want := fmt.Sprintf(`{"notification":{"event_id":%q,"room_id":%q,"prio":"high","type":"m.room.message","sender":"@a:hub",`+
			`"content":{"body":"hello","msgtype":"m.text"},"room_name":"Den",`+
			`"counts":{"unread":1},"devices":[{"app_id":"app","pushkey":"key","pushkey_ts":%d,"data":{"format":"other","x":{"y":1}},"tweaks":{"sound":"default"}}]}}`,
			id, head.ID, pu.Set.Unix())
		if all[0] != want {
			t.Fatalf("got  %s\nwant %s", all[0], want)
		}
		h.send(num, a, "m.room.message", `{"body":"x","m.mentions":{"user_ids":["@b:hub"]},"msgtype":"m.text"}`)
		if got := g.take(); len(got) != 1 || !strings.Contains(got[0], `"highlight":true`) || !strings.Contains(got[0], `"prio":"high"`) {
			t.Fatal(got)
		}
	})
}

// A room without a name is called by those who are in it, and a sender by the
// name that they have there.
func TestPushNames(t *testing.T) {
	pushing(t, "", func(h *hub, g *gateway, _ room.Num) {
		h.ok(h.SetProfile(h.nums[a], a, account.DisplayName, []byte(`"Ann"`)))
		num := h.create(NewRoom{Invite: []mxid.UserID{b}})
		h.ok(h.Join(num, b, nil))
		g.take()
		h.say(num, a, "hello")
		if got := g.take(); len(got) != 1 || !strings.Contains(got[0], `"sender_display_name":"Ann","room_name":"Ann",`) {
			t.Fatal(got)
		}
		h.ok(h.Invite(num, a, c, ""))
		h.ok(h.Join(num, c, nil))
		h.say(num, c, "hi")
		if got := g.take(); len(got) != 1 || !strings.Contains(got[0], `"room_name":"Ann and @c:hub",`) || strings.Contains(got[0], "sender_display") {
			t.Fatal(got)
		}
	})
}

func TestPushShort(t *testing.T) {
	pushing(t, `,"format":"event_id_only"`, func(h *hub, g *gateway, num room.Num) {
		h.say(num, a, "secret")
		all := g.take()
		if len(all) != 1 || strings.Contains(all[0], "secret") || strings.Contains(all[0], "@a:hub") ||
			!strings.Contains(all[0], `"event_id":`) || !strings.Contains(all[0], `"room_id":`) || !strings.Contains(all[0], `"counts":{"unread":1}`) {
			t.Fatal(all)
		}
	})
}

// What is one's own, read, redacted or of somebody ignored is not told; reading
// tells the new count once.
func TestPushWhat(t *testing.T) {
	pushing(t, "", func(h *hub, g *gateway, num room.Num) {
		h.say(num, a, "one")
		id := h.say(num, a, "two")
		got := g.told(t)
		if len(got) < 2 || !strings.HasPrefix(got[0], "m.room.message one ") || got[len(got)-1] != "m.room.message two 2" {
			t.Fatal(got)
		}
		head, err := h.Rooms.Head(num)
		h.ok(err)
		h.ok(h.Mark(h.nums[b], head.ID, &Marks{Read: id}))
		wantTold(t, g.told(t), "0")
		h.ok(h.Mark(h.nums[b], head.ID, &Marks{Private: id}))
		wantTold(t, g.told(t))
		h.say(num, b, "mine")
		wantTold(t, g.told(t))
		h.send(num, a, "m.call.invite", `{"call_id":"1","lifetime":1,"offer":{},"version":0}`)
		wantTold(t, g.told(t), "m.call.invite  1")
		h.say(num, a, "did you hear")
		if got := g.take(); len(got) != 1 || !strings.Contains(got[0], `"counts":{"unread":2,"missed_calls":1}`) {
			t.Fatal(got)
		}
		_, err = h.Accounts.SetData(h.nums[b], 0, account.TypeIgnored, []byte(`{"ignored_users":{"@a:hub":{}}}`))
		h.ok(err)
		h.say(num, a, "rude")
		wantTold(t, g.told(t))
		h.ok(h.Leave(num, b, ""))
		h.say(num, a, "gone?")
		wantTold(t, g.told(t))
	})
}

func TestPushInvite(t *testing.T) {
	pushing(t, "", func(h *hub, g *gateway, _ room.Num) {
		other := h.create(NewRoom{Name: "Attic"})
		h.ok(h.Invite(other, a, b, ""))
		all := g.take()
		if len(all) != 1 || !strings.Contains(all[0], `"user_is_target":true`) || !strings.Contains(all[0], `"room_name":"Attic"`) {
			t.Fatal(all)
		}
	})
}

// A gateway that is away gets the newest that is unread when it is back, and
// nothing of what was read meanwhile.
func TestPushAway(t *testing.T) {
	pushing(t, "", func(h *hub, g *gateway, num room.Num) {
		g.set(502, "")
		h.say(num, a, "lost in time")
		read := h.say(num, a, "read elsewhere")
		synctest.Wait()
		head, err := h.Rooms.Head(num)
		h.ok(err)
		h.ok(h.Mark(h.nums[b], head.ID, &Marks{Read: read}))
		for i := range 30 {
			h.say(num, a, fmt.Sprint(i))
		}
		synctest.Wait()
		wantTold(t, g.take())
		g.set(200, `{}`)
		time.Sleep(3 * time.Hour)
		got := g.told(t)
		if len(got) != 20 || got[0] != "m.room.message 10 30" || got[19] != "m.room.message 29 30" {
			t.Fatal(got)
		}
		h.say(num, a, "again")
		wantTold(t, g.told(t), "m.room.message again 31")
	})
}

// Spec: push gateway, rejected pushkeys.
func TestPushRejected(t *testing.T) {
	pushing(t, "", func(h *hub, g *gateway, num room.Num) {
		g.set(200, `{"rejected":["other"]}`)
		h.say(num, a, "one")
		wantTold(t, g.told(t), "m.room.message one 1")
		g.set(200, `{"rejected":["other","key"]}`)
		h.say(num, a, "two")
		wantTold(t, g.told(t), "m.room.message two 2")
		list, err := h.Accounts.Pushers(h.nums[b])
		h.ok(err)
		if len(list) != 0 {
			t.Fatal(list)
		}
		h.say(num, a, "three")
		wantTold(t, g.told(t))
		g.set(200, `{}`)
		h.ok(h.pusher("new", ""))
		h.say(num, a, "four")
		wantTold(t, g.told(t), "m.room.message four 4")
		h.ok(h.Verify(func(line string) { t.Error(line) }))
	})
}

// Mail comes once for all that has been unread for a while, to proven addresses
// only, and never for what was read in time.
func TestPushMail(t *testing.T) {
	pushing(t, "", func(h *hub, g *gateway, num room.Num) {
		mail := account.Pusher{Kind: account.PushEmail, App: "m.email", Key: "B@Example.org", AppName: "Mail", DeviceName: "Mail", Lang: "en", Data: []byte(`{}`)}
		h.is(h.SetPusher(h.session(b), mail, true), fault.Invalid)
		h.ok(h.Accounts.AddThreepid(h.nums[b], "email", "b@example.org", time.Now()))
		h.ok(h.SetPusher(h.session(b), mail, true))
		mails := func() []string {
			synctest.Wait()
			g.mu.Lock()
			defer g.mu.Unlock()
			all := g.mails
			g.mails = nil
			return all
		}
		read := h.say(num, a, "read in time")
		synctest.Wait()
		time.Sleep(5 * time.Minute)
		head, err := h.Rooms.Head(num)
		h.ok(err)
		h.ok(h.Mark(h.nums[b], head.ID, &Marks{Read: read}))
		h.say(num, a, "one\\nFrom: x")
		time.Sleep(6 * time.Minute)
		wantTold(t, mails())
		h.say(num, a, "two")
		time.Sleep(5 * time.Minute)
		wantTold(t, mails(), "B@Example.org|[hub] 2 unread|What @b:hub has not read on hub:\n\nDen\n  @a:hub: one From: x\n  @a:hub: two\n")
		h.say(num, a, "three")
		h.ok(h.Accounts.DropThreepid(h.nums[b], "email", "b@example.org"))
		time.Sleep(time.Hour)
		wantTold(t, mails())
		list, err := h.Accounts.Pushers(h.nums[b])
		h.ok(err)
		if len(list) != 1 || list[0].Kind != account.PushHTTP {
			t.Fatal(list)
		}
	})
}
