package sync

import (
	"crypto/ed25519"
	"encoding/json"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/e2ee"
	"hearth/engine/ephemeral"
	"hearth/engine/event"
	"hearth/engine/filter"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/store"
	"hearth/engine/stream"
	"hearth/engine/unread"
)

const (
	alice = mxid.UserID("@alice:hub")
	bob   = mxid.UserID("@bob:hub")
	carol = mxid.UserID("@carol:hub")
)

// hub is a server without sockets.
type hub struct {
	t     testing.TB
	st    *store.Store
	log   *stream.Log
	names *store.Names
	rooms *room.Rooms
	acc   *account.Accounts
	eph   *ephemeral.Records
	keys  *e2ee.Records
	*Sync
	parts Parts
	made  int
}

func (h *hub) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func open(t testing.TB, fs store.FS) *hub {
	t.Helper()
	h := &hub{t: t}
	var err error
	h.st, err = store.Open(store.Options{Dir: "db", FS: fs})
	h.must(err)
	h.log, err = stream.Open(h.st)
	h.must(err)
	h.names, err = store.OpenNames(h.st)
	h.must(err)
	h.rooms, err = room.Open(h.st, h.log, h.names, room.Options{
		Signer: event.Signer{Server: "hub", KeyID: "ed25519:1", Key: ed25519.NewKeyFromSeed(make([]byte, 32))},
		Now:    time.Now, CacheBytes: 1 << 20,
	})
	h.must(err)
	h.acc, err = account.Open(h.st, h.log, h.names, "hub", account.Options{})
	h.must(err)
	h.eph, err = ephemeral.Open(h.st, h.names, ephemeral.Options{})
	h.must(err)
	h.keys = e2ee.Open(h.st, h.log, h.names, e2ee.Options{})
	h.parts = Parts{h.st, h.log, h.rooms, h.acc, h.eph, unread.Open(h.st, h.rooms, h.acc, h.eph), h.keys}
	h.Sync, err = Open(h.parts)
	h.must(err)
	return h
}

func start(t testing.TB) *hub {
	h := open(t, vfs.NewMem())
	t.Cleanup(func() { h.must(h.st.Close()) })
	return h
}

// create makes a room; visibility "" is the default.
func (h *hub) create(creator mxid.UserID, visibility string) room.Num {
	h.t.Helper()
	h.made++
	w := h.rooms.New(event.LookupVersion("11"), mxid.RoomID("!"+string(rune('a'+h.made))+":hub"))
	drafts := []room.Draft{
		{Type: "m.room.create", StateKey: new(string), Content: []byte(`{"room_version":"11"}`)},
		member(creator, creator, "join"),
		{Type: "m.room.power_levels", StateKey: new(string), Content: []byte(`{"users":{"` + string(creator) + `":100},"state_default":0}`)},
		{Type: "m.room.join_rules", StateKey: new(string), Content: []byte(`{"join_rule":"public"}`)},
	}
	if visibility != "" {
		drafts = append(drafts, room.Draft{Type: "m.room.history_visibility", StateKey: new(string),
			Content: []byte(`{"history_visibility":"` + visibility + `"}`)})
	}
	for _, d := range drafts {
		d.Sender = creator
		_, err := w.Add(&d)
		h.must(err)
	}
	p, err := w.Commit(nil)
	h.must(err)
	h.must(p.Wait())
	return w.Head().Room
}

func member(sender, user mxid.UserID, membership string) room.Draft {
	key := string(user)
	return room.Draft{Type: "m.room.member", StateKey: &key, Sender: sender, Content: []byte(`{"membership":"` + membership + `"}`)}
}

func (h *hub) send(num room.Num, d room.Draft) mxid.EventID {
	h.t.Helper()
	id, err := h.rooms.Send(num, &d)
	h.must(err)
	return id
}

func (h *hub) say(num room.Num, sender mxid.UserID, body string) mxid.EventID {
	h.t.Helper()
	return h.send(num, room.Draft{Type: "m.room.message", Sender: sender, Content: []byte(`{"body":"` + body + `"}`)})
}

func (h *hub) state(num room.Num, sender mxid.UserID, typ, key, val string) mxid.EventID {
	h.t.Helper()
	return h.send(num, room.Draft{Type: typ, StateKey: &key, Sender: sender, Content: []byte(`{"name":"` + val + `"}`)})
}

func (h *hub) join(num room.Num, user mxid.UserID) {
	h.t.Helper()
	h.send(num, member(user, user, "join"))
}

func (h *hub) user(id mxid.UserID) uint32 {
	h.t.Helper()
	num, err := h.names.Number(store.Users, string(id))
	h.must(err)
	return num
}

func (h *hub) id(num room.Num) string {
	h.t.Helper()
	id, err := h.rooms.RoomID(num)
	h.must(err)
	return string(id)
}

func (h *hub) receipt(num room.Num, id mxid.UserID, typ ephemeral.ReceiptType, ev mxid.EventID) {
	h.t.Helper()
	e, err := h.rooms.Lookup(ev)
	h.must(err)
	head, err := h.rooms.Head(num)
	h.must(err)
	_, err = h.log.Commit(func(tx *stream.Tx) error {
		_, err := h.eph.PutReceipt(tx, &ephemeral.Receipt{Room: uint32(num), User: h.user(id), Type: typ, Event: ev, At: e.At.Pos, Time: 1})
		tx.Wake(head.Local...)
		return err
	})
	h.must(err)
}

// What an answer looks like to a client.
type (
	reply struct {
		Next     string `json:"next_batch"`
		Data     events `json:"account_data"`
		Presence events `json:"presence"`
		ToDevice events `json:"to_device"`
		Devices  struct {
			Changed, Left []string
		} `json:"device_lists"`
		Counts map[string]int `json:"device_one_time_keys_count"`
		Unused *[]string      `json:"device_unused_fallback_key_types"`
		Rooms  struct {
			Join   map[string]*shown `json:"join"`
			Leave  map[string]*shown `json:"leave"`
			Invite map[string]struct {
				State events `json:"invite_state"`
			} `json:"invite"`
			Knock map[string]struct {
				State events `json:"knock_state"`
			} `json:"knock"`
		} `json:"rooms"`
	}
	shown struct {
		Data       events  `json:"account_data"`
		Ephemeral  events  `json:"ephemeral"`
		State      events  `json:"state"`
		StateAfter *events `json:"state_after"`
		Summary    *struct {
			Heroes  []string `json:"m.heroes"`
			Joined  int      `json:"m.joined_member_count"`
			Invited int      `json:"m.invited_member_count"`
		} `json:"summary"`
		Timeline struct {
			events
			Limited bool   `json:"limited"`
			Prev    string `json:"prev_batch"`
		} `json:"timeline"`
		Unread  map[string]int            `json:"unread_notifications"`
		Threads map[string]map[string]int `json:"unread_thread_notifications"`
	}
	events struct {
		Events []ev `json:"events"`
	}
	ev struct {
		Type     string          `json:"type"`
		ID       string          `json:"event_id"`
		Sender   string          `json:"sender"`
		Key      *string         `json:"state_key"`
		Room     string          `json:"room_id"`
		Content  json.RawMessage `json:"content"`
		Unsigned struct {
			Membership string `json:"membership"`
		} `json:"unsigned"`
	}
)

// client is one device of a user.
type client struct {
	h     *hub
	req   Request
	raw   []byte
	reply reply
}

func (h *hub) client(id mxid.UserID, filterJSON string) *client {
	h.t.Helper()
	c := &client{h: h, req: Request{User: h.user(id), UserID: id, Device: uint64(h.user(id)), Presence: ephemeral.Offline}}
	if filterJSON != "" {
		f, err := filter.Parse([]byte(filterJSON))
		h.must(err)
		c.req.Filter = f
	}
	return c
}

// sync asks at once, and moves the client on.
func (c *client) sync() *reply {
	c.h.t.Helper()
	req := c.req
	body, ready, err := c.h.Now(&req)
	c.h.must(err)
	if !ready {
		c.h.t.Fatal("not ready without a timeout")
	}
	c.take(body)
	c.h.Done(body)
	return &c.reply
}

func (c *client) take(body []byte) {
	c.h.t.Helper()
	if err := cjson.Check(body); err != nil {
		c.h.t.Fatalf("%s: %v", body, err)
	}
	c.raw, c.reply = append([]byte(nil), body...), reply{}
	c.h.must(json.Unmarshal(body, &c.reply))
	c.req.Since = c.reply.Next
}

// again asks from the token before the last.
func (c *client) from(since string) *reply {
	c.h.t.Helper()
	c.req.Since = since
	return c.sync()
}

// bodies spells a list of events: the body of messages, the type of others.
func bodies(list []ev) string {
	s := ""
	for _, e := range list {
		var content struct {
			Body, Name, Membership string
		}
		_ = json.Unmarshal(e.Content, &content)
		if s != "" {
			s += " "
		}
		switch {
		case e.Type == "m.room.member":
			s += (*e.Key)[1:2] + ":" + content.Membership
		case content.Body != "":
			s += content.Body
		case content.Name != "":
			s += e.Type + "=" + content.Name
		default:
			s += e.Type
		}
	}
	return s
}

func memFS() store.FS { return vfs.NewMem() }

// noNews is an answer that tells nothing.
func noNews(next string) string {
	return `{"device_one_time_keys_count":{"signed_curve25519":0},"device_unused_fallback_key_types":[],"next_batch":"` + next + `"}`
}
