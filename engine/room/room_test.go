package room

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// hub is a small server without accounts.
type hub struct {
	t     *testing.T
	st    *store.Store
	log   *stream.Log
	names *store.Names
	*Rooms
}

func openHub(t *testing.T, fs store.FS) *hub {
	t.Helper()
	st, err := store.Open(store.Options{Dir: "db", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	log, err := stream.Open(st)
	if err != nil {
		t.Fatal(err)
	}
	names, err := store.OpenNames(st)
	if err != nil {
		t.Fatal(err)
	}
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	r, err := Open(st, log, names, Options{
		Signer: event.Signer{Server: "hub", KeyID: "ed25519:1", Key: key}, Now: time.Now, CacheBytes: 1 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	return &hub{t, st, log, names, r}
}

func (h *hub) close() {
	if err := h.st.Close(); err != nil {
		h.t.Fatal(err)
	}
}

func sk(s string) *string { return &s }

// create makes a room of the version with its first events.
func (h *hub) create(version string, creator mxid.UserID, joinRule string) Num {
	h.t.Helper()
	v := event.LookupVersion(version)
	id := mxid.RoomID("")
	if !v.RoomIDIsCreate {
		id = mxid.RoomID(fmt.Sprintf("!r%d:hub", h.lastEvent.Load()))
	}
	w := h.New(v, id)
	defer w.End()
	content := `{"room_version":"` + version + `"}`
	if !v.ImplicitCreator {
		content = `{"room_version":"` + version + `","creator":"` + string(creator) + `"}`
	}
	levels := `{"users":{"` + string(creator) + `":100},"events":{"m.room.name":50}}`
	if v.Creators {
		levels = `{"events":{"m.room.name":50}}`
	}
	for _, d := range []Draft{
		{Type: "m.room.create", StateKey: sk(""), Content: []byte(content)},
		{Type: "m.room.member", StateKey: sk(string(creator)), Content: []byte(`{"membership":"join"}`)},
		{Type: "m.room.power_levels", StateKey: sk(""), Content: []byte(levels)},
		{Type: "m.room.join_rules", StateKey: sk(""), Content: []byte(`{"join_rule":"` + joinRule + `"}`)},
	} {
		d.Sender = creator
		if _, err := w.Add(&d); err != nil {
			h.t.Fatalf("version %s: %s: %v", version, d.Type, err)
		}
	}
	p, err := w.Commit(nil)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		h.t.Fatal(err)
	}
	return w.Head().Room
}

func (h *hub) send(room Num, d Draft) mxid.EventID {
	h.t.Helper()
	id, err := h.Send(room, &d)
	if err != nil {
		h.t.Fatal(err)
	}
	return id
}

func (h *hub) member(room Num, sender, user mxid.UserID, membership string) {
	h.t.Helper()
	h.send(room, Draft{Type: "m.room.member", StateKey: sk(string(user)), Sender: sender, Content: []byte(`{"membership":"` + membership + `"}`)})
}

func text(sender mxid.UserID, s string) Draft {
	return Draft{Type: "m.room.message", Sender: sender, Content: []byte(`{"body":"` + s + `","msgtype":"m.text"}`)}
}

// timeline lists a room's events as type or body, in the order asked for.
func (h *hub) timeline(room Num, back bool) (list []string) {
	h.t.Helper()
	err := h.Timeline(room, Key{}, After(h.log.Tip()), back, func(_ Key, num EventNum) (bool, error) {
		e, err := h.Event(num)
		if err != nil {
			return false, err
		}
		var c struct{ Body string }
		if err := json.Unmarshal(e.Content, &c); err != nil {
			return false, err
		}
		if c.Body == "" {
			c.Body = strings.TrimPrefix(e.Type, "m.room.")
		}
		list = append(list, c.Body)
		return true, nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return list
}

func TestEveryVersionLivesThroughARestart(t *testing.T) {
	for _, version := range event.Versions() {
		fs := vfs.NewMem()
		h := openHub(t, fs)
		room := h.create(version, "@a:hub", "public")
		h.member(room, "@b:hub", "@b:hub", "join")
		msg := h.send(room, text("@b:hub", "one"))
		h.send(room, text("@a:hub", "two"))
		h.send(room, Draft{Type: "m.room.redaction", Sender: "@a:hub", Redacts: msg, Content: []byte(`{"reason":"r"}`)})
		h.close()
		h = openHub(t, fs)
		if got := fmt.Sprint(h.timeline(room, false)); got != "[create member power_levels join_rules member message two redaction]" {
			t.Errorf("version %s: %s", version, got)
		}
		head, err := h.Head(room)
		if err != nil || head.Joined != 2 || len(head.Local) != 2 || len(head.State) != 5 || head.Version.ID != version {
			t.Fatalf("version %s: %+v, %v", version, head, err)
		}
		e, err := h.Lookup(msg)
		if err != nil || !e.Redacted() || e.RedactedBy == 0 || string(e.Content) != "{}" || e.ID != msg {
			t.Fatalf("version %s: %+v %v", version, e, err)
		}
		if again, err := h.Find(head.ID); err != nil || again != room {
			t.Fatal(again, err)
		}
		h.send(room, text("@b:hub", "three"))
		h.close()
	}
}

func TestRulesRefuse(t *testing.T) {
	h := openHub(t, vfs.NewMem())
	defer h.close()
	room := h.create("12", "@a:hub", "invite")
	for _, d := range []Draft{
		text("@b:hub", "not a member"),
		{Type: "m.room.member", StateKey: sk("@b:hub"), Sender: "@b:hub", Content: []byte(`{"membership":"join"}`)},
	} {
		if _, err := h.Send(room, &d); !fault.Is(err, fault.Forbidden) {
			t.Errorf("%s: %v", d.Type, err)
		}
	}
	h.member(room, "@a:hub", "@b:hub", "invite")
	h.member(room, "@b:hub", "@b:hub", "join")
	name := Draft{Type: "m.room.name", StateKey: sk(""), Sender: "@b:hub", Content: []byte(`{"name":"n"}`)}
	if _, err := h.Send(room, &name); !fault.Is(err, fault.Forbidden) {
		t.Errorf("a name without the power: %v", err)
	}
	big := text("@a:hub", strings.Repeat("x", 70000))
	if _, err := h.Send(room, &big); !fault.Is(err, fault.TooLarge) {
		t.Error(err)
	}
	for body, kind := range map[string]fault.Kind{`{"a":1.5}`: fault.BadJSON, `{"a":`: fault.NotJSON, `[]`: fault.BadJSON} {
		if _, err := h.Send(room, &Draft{Type: "x", Sender: "@a:hub", Content: []byte(body)}); !fault.Is(err, kind) {
			t.Errorf("%s: %v", body, err)
		}
	}
	if got := fmt.Sprint(h.timeline(room, true)); got != "[member member join_rules power_levels member create]" {
		t.Error(got)
	}
}

func TestTransactionsAndEqualStateMakeOneEvent(t *testing.T) {
	h := openHub(t, vfs.NewMem())
	defer h.close()
	room := h.create("11", "@a:hub", "public")
	d := text("@a:hub", "once")
	d.Txn = Txn{Device: 5, ID: "t1"}
	first := h.send(room, d)
	if again := h.send(room, d); again != first {
		t.Fatal("a transaction made two events")
	}
	d.Txn.Device = 6
	if other := h.send(room, d); other == first {
		t.Fatal("another device's transaction was taken for the first's")
	}
	e, err := h.Lookup(first)
	if err != nil {
		t.Fatal(err)
	}
	mine, err := h.AppendClient(nil, e, Reader{Device: 5})
	if err != nil || !strings.Contains(string(mine), `"transaction_id":"t1"`) {
		t.Fatalf("%s %v", mine, err)
	}
	if theirs, _ := h.AppendClient(nil, e, Reader{Device: 6}); strings.Contains(string(theirs), "transaction_id") || !json.Valid(theirs) {
		t.Fatalf("%s", theirs)
	}
	name := Draft{Type: "m.room.name", StateKey: sk(""), Sender: "@a:hub", Content: []byte(`{ "name":"n" }`)}
	if one, two := h.send(room, name), h.send(room, name); one != two {
		t.Fatal("equal state made a second event")
	}
}

// However many transactions there are, after a restart and over midnight, each
// makes one event: the filter before the store never hides one.
func TestManyTransactions(t *testing.T) {
	fs := vfs.NewMem()
	now := time.Date(2026, 3, 1, 23, 0, 0, 0, time.UTC)
	first := map[int]mxid.EventID{}
	var room Num
	for round := range 4 {
		h := openHub(t, fs)
		h.opts.Now = func() time.Time { return now }
		if round == 0 {
			room = h.create("12", "@a:hub", "public")
		}
		for i := range 100 * (round + 1) {
			d := text("@a:hub", "m")
			d.Txn = Txn{Device: 9, ID: fmt.Sprint("t", i)}
			id := h.send(room, d)
			if old := first[i]; old != "" && old != id {
				t.Fatalf("round %d: transaction %d made a second event", round, i)
			}
			first[i] = id
		}
		if round > 0 && !h.txns.ready {
			t.Fatal("the rows of before were not all read")
		}
		h.close()
		now = now.Add(30 * time.Minute)
	}
}

// A room whose commit was given up is not there, and its name is free.
func TestGivenUpRoomIsNotThere(t *testing.T) {
	h := openHub(t, vfs.NewMem())
	defer h.close()
	v := event.LookupVersion("11")
	for i := range 2 {
		w := h.New(v, "!r:hub")
		if _, err := w.Add(&Draft{Type: "m.room.create", StateKey: sk(""), Sender: "@a:hub", Content: []byte(`{"room_version":"11"}`)}); err != nil {
			t.Fatal(err)
		}
		_, err := w.Commit(func(*stream.Tx) error { return errors.New("no") })
		w.End()
		if err == nil || len(h.live) != 0 {
			t.Fatalf("round %d: %v, %d rooms", i, err, len(h.live))
		}
		if _, err := h.Find("!r:hub"); !fault.Is(err, fault.NotFound) {
			t.Fatal(err)
		}
	}
}

// A transaction is known through the next day, and its row is gone after that.
func TestTransactionsEnd(t *testing.T) {
	h := openHub(t, vfs.NewMem())
	defer h.close()
	now := time.Date(2026, 3, 1, 23, 59, 0, 0, time.UTC)
	h.opts.Now = func() time.Time { return now }
	room := h.create("12", "@a:hub", "public")
	d := text("@a:hub", "once")
	d.Txn = Txn{Device: 5, ID: "t1"}
	first := h.send(room, d)
	now = now.Add(24 * time.Hour)
	if h.send(room, d) != first {
		t.Fatal("forgotten within a day")
	}
	now = now.Add(48 * time.Hour)
	if h.send(room, d) == first {
		t.Fatal("known after three days")
	}
	rows := 0
	if err := h.st.ScanPrefix(store.Transaction.Prefix(), func(_, _ []byte) (bool, error) { rows++; return true, nil }); err != nil || rows != 1 {
		t.Fatalf("%d rows are left, %v", rows, err)
	}
}

// Senders at the same time: every event once, in both directions.
func TestSendersAtTheSameTime(t *testing.T) {
	h := openHub(t, vfs.NewMem())
	defer h.close()
	room := h.create("12", "@a:hub", "public")
	const senders, each = 8, 25
	for s := range senders {
		h.member(room, mxid.UserID(fmt.Sprintf("@s%d:hub", s)), mxid.UserID(fmt.Sprintf("@s%d:hub", s)), "join")
	}
	var wg sync.WaitGroup
	for s := range senders {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range each {
				d := text(mxid.UserID(fmt.Sprintf("@s%d:hub", s)), fmt.Sprintf("%d-%d", s, i))
				if _, err := h.Send(room, &d); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	wg.Wait()
	for _, back := range []bool{false, true} {
		seen := map[string]int{}
		for _, body := range h.timeline(room, back) {
			seen[body]++
		}
		for s := range senders {
			for i := range each {
				if n := seen[fmt.Sprintf("%d-%d", s, i)]; n != 1 {
					t.Fatalf("event %d-%d is there %d times", s, i, n)
				}
			}
		}
	}
}

func TestVisibility(t *testing.T) {
	h := openHub(t, vfs.NewMem())
	defer h.close()
	room := h.create("12", "@a:hub", "invite")
	visibility := func(v string) {
		h.send(room, Draft{Type: "m.room.history_visibility", StateKey: sk(""), Sender: "@a:hub", Content: []byte(`{"history_visibility":"` + v + `"}`)})
	}
	say := func(s string) { h.send(room, text("@a:hub", s)) }
	visibility("joined")
	say("joined-before")
	visibility("invited")
	say("invited-before")
	visibility("shared")
	say("shared-before")
	visibility("world_readable")
	say("world")
	visibility("invited")
	h.member(room, "@a:hub", "@b:hub", "invite")
	say("while-invited")
	visibility("joined")
	h.member(room, "@b:hub", "@b:hub", "join")
	say("while-joined")
	h.member(room, "@b:hub", "@b:hub", "leave")
	visibility("shared")
	say("after")

	for user, want := range map[mxid.UserID]string{
		"@a:hub": "joined-before invited-before shared-before world while-invited while-joined after",
		"@b:hub": "shared-before world while-invited while-joined",
		"@c:hub": "world",
		"":       "world",
	} {
		v, err := h.Viewer(room, user)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		if err := h.Timeline(room, Key{}, After(h.log.Tip()), false, func(_ Key, num EventNum) (bool, error) {
			e, err := h.Event(num)
			if err != nil {
				return false, err
			}
			ok, err := v.Sees(e)
			if ok && e.Type == "m.room.message" {
				var c struct{ Body string }
				if err := json.Unmarshal(e.Content, &c); err != nil {
					return false, err
				}
				got = append(got, c.Body)
			}
			return true, err
		}); err != nil {
			t.Fatal(err)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s sees %v, want %s", user, got, want)
		}
	}
}

func TestMembersAndForgetting(t *testing.T) {
	h := openHub(t, vfs.NewMem())
	defer h.close()
	room := h.create("12", "@a:hub", "public")
	h.member(room, "@b:hub", "@b:hub", "join")
	user, err := h.User("@b:hub")
	if err != nil || user == 0 {
		t.Fatal(err)
	}
	if err := h.Forget(room, user); err == nil {
		t.Fatal("forgot a room while in it")
	}
	h.member(room, "@a:hub", "@b:hub", "leave")
	m, err := h.MemberOf(room, user)
	if err != nil || m.Membership != Leave || !m.Local || m.Forgotten {
		t.Fatalf("%+v %v", m, err)
	}
	if err := h.Forget(room, user); err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := h.Of(user, func(m Member) bool { n++; return m.Forgotten && m.Room == room }); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	h.member(room, "@b:hub", "@b:hub", "join")
	if m, _ := h.MemberOf(room, user); m.Forgotten || m.Membership != Join {
		t.Fatalf("%+v", m)
	}
}

// The log's entries carry what each event did to the current state.
func TestEntriesCarryDifferences(t *testing.T) {
	h := openHub(t, vfs.NewMem())
	defer h.close()
	room := h.create("12", "@a:hub", "public")
	h.send(room, text("@a:hub", "x"))
	state := map[uint32]EventNum{}
	if err := h.log.Read(0, h.log.Tip(), func(_ stream.Pos, e *stream.Entry) bool {
		if err := Changes(e.Diff, func(c Change) {
			if state[c.Key] != c.Old {
				t.Errorf("key %d was %d, the entry says %d", c.Key, state[c.Key], c.Old)
			}
			state[c.Key] = c.New
		}); err != nil {
			t.Error(err)
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	head, err := h.Head(room)
	if err != nil || len(head.State) != len(state) {
		t.Fatal(err, len(state))
	}
	for _, p := range head.State {
		if state[p.Key] != EventNum(p.Event) {
			t.Errorf("key %d: %d, want %d", p.Key, state[p.Key], p.Event)
		}
	}
}

func TestKeysAndTokens(t *testing.T) {
	k := Key{Pos: 7, Fill: liveFill}
	if got, err := ParseKey(k.String()); err != nil || got != k {
		t.Fatal(got, err)
	}
	if k.Next() != (Key{8, 0}) || !k.Before(After(7)) || !(Key{7, 3}).Before(k) {
		t.Fatal("order")
	}
	for _, c := range [][2]Key{{{}, {1, 0}}, {{}, {0, 1}}, {{5, 2}, {5, 3}}, {{5, 2}, {6, 0}}, {{5, liveFill}, {6, 1}}, {{5, 60000}, {9, 2}}, {{}, {1 << 60, 7}}} {
		n := 0
		for low, high := c[0], c[1]; low.Before(high); n++ { // to either side
			mid := Between(low, high)
			if mid.Before(low) || !mid.Before(high) {
				t.Fatalf("%v is not between %v and %v", mid, low, high)
			}
			if n%2 == 0 {
				high = mid
			} else {
				low = mid.Next()
			}
		}
		if n > 64+16 {
			t.Errorf("%v: %d steps", c, n)
		}
	}
	for _, s := range []string{"", "t", "t1", "s1_2", "t1_70000", "t-1_2", "t1_2_3", strings.Repeat("t", 50)} {
		if _, err := ParseKey(s); err == nil {
			t.Errorf("%q was read", s)
		}
	}
}
