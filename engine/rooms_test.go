package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// hub is an engine in memory with the users @a, @b and @c.
type hub struct {
	t *testing.T
	*Engine
	nums map[mxid.UserID]uint32
}

func openOn(t *testing.T, fs vfs.FS) *hub {
	t.Helper()
	now := time.UnixMilli(1_700_000_000_000)
	e, err := Open(Options{
		Dir: "data", FS: fs, Server: "hub", Now: func() time.Time { return now },
		Accounts: account.Options{Cost: account.Cost{KiB: 64, Passes: 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &hub{t, e, map[mxid.UserID]uint32{}}
}

func open(t *testing.T) *hub {
	h := openOn(t, vfs.NewMem())
	t.Cleanup(func() { h.ok(h.Close()) })
	for _, name := range []string{"a", "b", "c"} {
		h.user(name)
	}
	return h
}

func (h *hub) user(name string) {
	h.t.Helper()
	num, err := h.Accounts.Create(account.NewUser{Localpart: name})
	h.ok(err)
	h.nums[mxid.UserID("@"+name+":hub")] = num
}

func (h *hub) ok(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// is fails unless err has the kind; Internal stands for no error.
func (h *hub) is(err error, kind fault.Kind) {
	h.t.Helper()
	if kind == 0 && err != nil || kind != 0 && !fault.Is(err, kind) {
		h.t.Fatalf("got %v, want kind %d", err, kind)
	}
}

func (h *hub) create(n NewRoom) room.Num {
	h.t.Helper()
	if n.Creator == "" {
		n.Creator = "@a:hub"
	}
	id, err := h.CreateRoom(&n)
	h.ok(err)
	num, err := h.Rooms.Find(id)
	h.ok(err)
	return num
}

// content is a state event's content; empty where there is none.
func (h *hub) content(num room.Num, typ, key string) string {
	h.t.Helper()
	head, err := h.Rooms.Head(num)
	h.ok(err)
	e, err := h.Rooms.StateEvent(head.State, typ, key)
	h.ok(err)
	if e == nil {
		return ""
	}
	return string(e.Content)
}

func (h *hub) membership(num room.Num, user string) string {
	s, _ := cjson.LookupString([]byte(h.content(num, "m.room.member", user)), "membership")
	return s
}

const (
	a = mxid.UserID("@a:hub")
	b = mxid.UserID("@b:hub")
	c = mxid.UserID("@c:hub")
)

// Every operation against every standing of the target.
func TestStandings(t *testing.T) {
	h := open(t)
	bring := map[string]func(num room.Num){
		"none":   func(room.Num) {},
		"invite": func(num room.Num) { h.ok(h.Invite(num, a, b, "")) },
		"join":   func(num room.Num) { h.ok(h.Join(num, b, nil)) },
		"leave":  func(num room.Num) { h.ok(h.Join(num, b, nil)); h.ok(h.Leave(num, b, "")) },
		"ban":    func(num room.Num) { h.ok(h.Ban(num, a, b, "")) },
	}
	do := map[string]func(num room.Num) error{
		"join":              func(num room.Num) error { return h.Join(num, b, nil) },
		"invite":            func(num room.Num) error { return h.Invite(num, a, b, "why") },
		"leave":             func(num room.Num) error { return h.Leave(num, b, "why") },
		"kick":              func(num room.Num) error { return h.Kick(num, a, b, "why") },
		"ban":               func(num room.Num) error { return h.Ban(num, a, b, "why") },
		"unban":             func(num room.Num) error { return h.Unban(num, a, b, "why") },
		"kick by stranger":  func(num room.Num) error { return h.Kick(num, c, b, "") },
		"unban by stranger": func(num room.Num) error { return h.Unban(num, c, b, "") },
		"invite oneself":    func(num room.Num) error { return h.Invite(num, b, b, "") },
	}
	no := fault.Forbidden
	for _, row := range []struct {
		op                             string
		none, invite, join, leave, ban fault.Kind
	}{
		{"join", 0, 0, 0, 0, no},
		{"invite", 0, 0, no, 0, no},
		{"leave", no, 0, 0, 0, no},
		{"kick", no, 0, 0, no, no},
		{"ban", 0, 0, 0, 0, 0},
		{"unban", fault.BadState, fault.BadState, fault.BadState, fault.BadState, 0},
		{"kick by stranger", no, no, no, no, no},
		{"unban by stranger", no, no, no, no, no},
		{"invite oneself", no, no, no, no, no},
	} {
		for standing, want := range map[string]fault.Kind{
			"none": row.none, "invite": row.invite, "join": row.join, "leave": row.leave, "ban": row.ban,
		} {
			t.Run(row.op+" from "+standing, func(t *testing.T) {
				h.t = t
				num := h.create(NewRoom{Preset: "public_chat"})
				bring[standing](num)
				h.is(do[row.op](num), want)
			})
		}
	}
}

// Rooms that are made in the same millisecond are not the same room.
func TestRoomsOfOneMoment(t *testing.T) {
	h := open(t)
	seen := map[room.Num]bool{}
	for range 5 {
		seen[h.create(NewRoom{Version: "12"})] = true
	}
	if len(seen) != 5 {
		t.Fatal(seen)
	}
}

func TestJoining(t *testing.T) {
	h := open(t)
	num := h.create(NewRoom{Preset: "public_chat"})
	h.ok(h.SetProfile(h.nums[b], b, account.DisplayName, []byte(`"Bob"`)))
	h.ok(h.Join(num, b, []byte(`{"foo":"bar","membership":"ban","reason":"hello"}`)))
	if got := h.content(num, "m.room.member", "@b:hub"); got != `{"displayname":"Bob","foo":"bar","membership":"join","reason":"hello"}` {
		t.Fatal(got)
	}
	first := h.content(num, "m.room.member", "@b:hub")
	h.ok(h.Join(num, b, []byte(`{"other":1}`)))
	if got := h.content(num, "m.room.member", "@b:hub"); got != first {
		t.Fatal("a second join wrote", got)
	}
	private := h.create(NewRoom{Preset: "private_chat"})
	h.is(h.Join(private, b, nil), fault.Forbidden)
	key := ""
	_, err := h.State(private, &room.Draft{Type: "m.room.join_rules", StateKey: &key, Sender: a, Content: []byte(fmt.Sprintf(
		`{"join_rule":"restricted","allow":[{"type":"m.room_membership","room_id":%q}]}`, h.id(num)))})
	h.ok(err)
	h.is(h.Join(private, c, nil), fault.Forbidden)
	h.ok(h.Join(private, b, nil))
	if got := h.content(private, "m.room.member", "@b:hub"); got != `{"displayname":"Bob","join_authorised_via_users_server":"@a:hub","membership":"join"}` {
		t.Fatal(got)
	}
}

func TestLeavingEndsTyping(t *testing.T) {
	h := open(t)
	num := h.create(NewRoom{Preset: "public_chat"})
	h.is(h.Typing(h.nums[b], h.id(num), true, time.Minute), fault.Forbidden)
	h.ok(h.Join(num, b, nil))
	h.ok(h.Typing(h.nums[b], h.id(num), true, time.Minute))
	typists := func() string {
		dst, err := h.Ephemeral.AppendTyping(nil, uint32(num))
		h.ok(err)
		return string(dst)
	}
	if got := typists(); !strings.Contains(got, "@b:hub") {
		t.Error(got)
	}
	h.ok(h.Kick(num, a, b, ""))
	if got := typists(); strings.Contains(got, "@b:hub") {
		t.Error(got)
	}
}

func (h *hub) id(num room.Num) mxid.RoomID {
	id, err := h.Rooms.RoomID(num)
	h.ok(err)
	return id
}

func TestAliases(t *testing.T) {
	h := open(t)
	num := h.create(NewRoom{Preset: "public_chat", Alias: "main"})
	other := h.create(NewRoom{Creator: b})
	h.ok(h.Join(num, b, nil))
	id := h.id(num)
	for _, x := range []struct {
		user  mxid.UserID
		alias string
		room  mxid.RoomID
		want  fault.Kind
	}{
		{b, "#second:hub", id, 0},
		{a, "#second:hub", h.id(other), fault.Forbidden},
		{b, "#second:hub", h.id(other), fault.AliasInUse},
		{c, "#third:hub", id, fault.Forbidden},
		{a, "#third:hub", "!none:hub", fault.Forbidden},
		{a, "#third:hub", "none", fault.Invalid},
		{a, "#third:elsewhere", id, fault.Invalid},
		{a, "third:hub", id, fault.Invalid},
		{a, "#老虎🤨:hub", id, 0},
	} {
		h.is(h.AddAlias(h.nums[x.user], x.alias, x.room), x.want)
	}
	_, err := h.CreateRoom(&NewRoom{Creator: a, Alias: "main"})
	h.is(err, fault.RoomInUse)
	_, err = h.CreateRoom(&NewRoom{Creator: a, Alias: "a:b"})
	h.is(err, fault.Invalid)

	h.ok(h.AddAlias(h.nums[b], "#other:hub", h.id(other)))
	key := ""
	set := func(content string) error {
		_, err := h.State(num, &room.Draft{Type: typeCanonicalAlias, StateKey: &key, Sender: a, Content: []byte(content)})
		return err
	}
	for content, want := range map[string]fault.Kind{
		`{"alias":"#none:hub"}`:                              fault.BadAlias,
		`{"alias":"%main:hub"}`:                              fault.Invalid,
		`{"alias":"#other:hub"}`:                             fault.BadAlias,
		`{"alias":"#main:hub","alt_aliases":["#other:hub"]}`: fault.BadAlias,
		`{"alias":"#main:hub","alt_aliases":["x"]}`:          fault.Invalid,
		`{"alias":"#main:hub","alt_aliases":"#second:hub"}`:  fault.BadJSON,
		`{"alias":7}`: fault.BadJSON,
		`{"alias":"#main:hub","alt_aliases":["#second:hub"]}`:     0,
		`{"alias":null,"alt_aliases":["#second:hub","#老虎🤨:hub"]}`: 0,
	} {
		h.is(set(content), want)
	}
	h.ok(set(`{"alias":"#main:hub","alt_aliases":["#second:hub"],"x":1}`))
	h.is(h.DropAlias(h.nums[c], c, "#second:hub"), fault.Forbidden)
	h.is(h.DropAlias(h.nums[c], c, "#none:hub"), fault.NotFound)
	h.ok(h.DropAlias(h.nums[b], b, "#second:hub")) // its maker, who has no power over the event
	if got := h.content(num, typeCanonicalAlias, ""); got != `{"alias":"#main:hub","alt_aliases":["#second:hub"],"x":1}` {
		t.Fatal(got)
	}
	h.ok(set(`{"alias":"#main:hub","alt_aliases":["#second:hub"]}`)) // there already, so it is not looked at
	h.ok(h.DropAlias(h.nums[a], a, "#main:hub"))
	if got := h.content(num, typeCanonicalAlias, ""); got != `{"alt_aliases":["#second:hub"]}` {
		t.Fatal(got)
	}
	h.is(set(`{"alias":"#main:hub"}`), fault.BadAlias)
}

func TestRedactionByTheGeneralWay(t *testing.T) {
	h := open(t)
	for _, version := range []string{"1", "10", "11", "12"} {
		num := h.create(NewRoom{Version: version})
		target, err := h.Send(num, &room.Draft{Type: "m.room.message", Sender: a, Content: []byte(`{"body":"x"}`)})
		h.ok(err)
		content := []byte(fmt.Sprintf(`{"reason":"r","redacts":%q}`, target))
		d := room.Draft{Type: "m.room.redaction", Sender: a, Content: content, Txn: room.Txn{Device: 1, ID: "t"}}
		id, err := h.Send(num, &d)
		h.ok(err)
		e, err := h.Rooms.Lookup(target)
		h.ok(err)
		r, err := h.Rooms.Lookup(id)
		h.ok(err)
		_, inside := cjson.Lookup(r.Content, "redacts")
		if !e.Redacted() || string(e.Content) != `{}` || r.Redacts != target || inside != r.Version.RedactsInContent {
			t.Error(version, string(e.Content), string(r.JSON))
		}
		d = room.Draft{Type: "m.room.redaction", Sender: a, Content: content, Txn: room.Txn{Device: 1, ID: "t"}}
		if again, err := h.Send(num, &d); err != nil || again != id {
			t.Error("a repeated transaction", again, err)
		}
		_, err = h.Send(num, &room.Draft{Type: "m.room.redaction", Sender: a, Content: []byte(`{}`)})
		h.is(err, fault.Missing)
	}
	key := ""
	_, err := h.State(h.create(NewRoom{}), &room.Draft{Type: "m.room.create", StateKey: &key, Sender: a, Content: []byte(`{}`)})
	h.is(err, fault.Invalid)
}
