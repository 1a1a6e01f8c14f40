package sim

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"

	"hearth/engine"
	"hearth/engine/account"
	"hearth/engine/fault"
	"hearth/engine/filter"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/store"
	"hearth/engine/stream"
	esync "hearth/engine/sync"
)

const server = "hub"

// hub is an engine with what the scripts do to it.
type hub struct {
	*engine.Engine
}

// memTable is small, so that a short script flushes and compacts many times.
const memTable = 64 << 10

func open(fs store.FS) (*hub, error) { return openSaying(fs, memTable, nil) }

// openSaying is open that keeps what the hub says to its owner.
func openSaying(fs store.FS, memTable int, said *[]string) (*hub, error) {
	e, err := engine.Open(engine.Options{
		Log: func(format string, args ...any) {
			if said != nil {
				*said = append(*said, fmt.Sprintf(format, args...))
			}
		},
		Dir: "data", FS: fs, Server: server, MemTable: memTable, CacheBytes: 1 << 20, RecordBytes: 256 << 10,
		Accounts: account.Options{Cost: account.Cost{KiB: 64, Passes: 1}},
	})
	if err != nil {
		return nil, err
	}
	return &hub{e}, nil
}

// actor is one client with its own user, who does one thing after the other.
// Names of registers carry the user's, so each has one writer.
type actor struct {
	h    *hub
	l    *ledger
	rng  *rand.Rand
	user mxid.UserID
	num  uint32
	seq  int // of all operations of all registers

	device  uint64
	rooms   []mxid.RoomID // those it is in
	public  *square
	guestIn map[mxid.RoomID]bool
	sent    []fact // its messages
	tokens  []fact
	since   string // of the next /sync
}

// square is where the actors find each other's rooms.
type square struct {
	mu    sync.Mutex
	rooms []mxid.RoomID
}

func (s *square) add(id mxid.RoomID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rooms = append(s.rooms, id)
}

func (s *square) pick(rng *rand.Rand) (id mxid.RoomID, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.rooms) == 0 {
		return "", false
	}
	return s.rooms[rng.IntN(len(s.rooms))], true
}

func newActor(h *hub, l *ledger, public *square, rng *rand.Rand, name string) (*actor, error) {
	a := &actor{h: h, l: l, public: public, rng: rng, guestIn: map[mxid.RoomID]bool{}, user: mxid.UserID("@" + name + ":" + server)}
	var err error
	if a.num, err = h.Accounts.Create(account.NewUser{Localpart: name}); err != nil {
		return nil, err
	}
	_, s, err := h.Accounts.Login(a.num, account.NewSession{Device: "MAIN"})
	a.device = s.DeviceNum
	return a, err
}

// step does one operation, drawn at random.
func (a *actor) step() error {
	a.seq++
	if len(a.rooms) == 0 {
		return a.create()
	}
	switch n := a.rng.IntN(100); {
	case n < 39:
		return a.send()
	case n < 45:
		return a.sync()
	case n < 55:
		return a.state()
	case n < 62:
		return a.redact()
	case n < 66:
		return a.profile()
	case n < 76:
		return a.data()
	case n < 82:
		return a.login()
	case n < 87:
		return a.logout()
	case n < 93:
		return a.membership()
	case n < 94:
		return a.create()
	case n < 95:
		return a.sync()
	case n < 97:
		return a.join()
	}
	return a.read()
}

func (a *actor) pick() mxid.RoomID { return a.rooms[a.rng.IntN(len(a.rooms))] }

// set does what gives a register its next value.
func (a *actor) set(f fact, do func() (pos uint64, err error)) error {
	f.seq = a.seq
	a.l.ask(f)
	pos, err := do()
	if fault.Is(err, fault.Forbidden) {
		return nil // as good an answer, and nothing was promised
	}
	if err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	f.pos = pos
	a.l.ack(f)
	return nil
}

func (a *actor) create() error {
	name := string(a.user[1:2]) + strconv.Itoa(a.seq)
	f := fact{name: "room " + name}
	var id mxid.RoomID
	err := a.set(f, func() (_ uint64, err error) {
		version := []string{"1", "6", "10", "12"}[a.rng.IntN(4)]
		id, err = a.h.CreateRoom(&engine.NewRoom{Creator: a.user, Version: version, Preset: "public_chat", Public: a.rng.IntN(2) == 0,
			Alias: name, Name: name})
		return 0, err
	})
	if err == nil && id != "" {
		a.rooms = append(a.rooms, id)
		a.public.add(id)
	}
	return err
}

// join enters a room that somebody made.
func (a *actor) join() error {
	id, ok := a.public.pick(a.rng)
	if !ok || slices.Contains(a.rooms, id) {
		return nil
	}
	num, err := a.h.Rooms.Find(id)
	if err != nil {
		return err
	}
	err = a.h.Join(num, a.user, nil)
	if err == nil {
		a.l.ack(fact{kind: joined, name: string(a.user), room: id})
		a.rooms = append(a.rooms, id)
	}
	return err
}

// filler makes some messages long, so that logs and tables of the script fill.
func (a *actor) filler() string { return strings.Repeat("x", a.rng.IntN(4)*a.rng.IntN(1200)) }

func (a *actor) send() error {
	id := a.pick()
	op := string(a.user) + " " + strconv.Itoa(a.seq)
	content, err := json.Marshal(map[string]string{"body": op, "msgtype": "m.text", "filler": a.filler()})
	if err != nil {
		return err
	}
	txn, user := room.Txn{Device: a.device, ID: strconv.Itoa(a.seq)}, a.user
	f := fact{kind: message, name: op, room: id}
	f.again = func(h *hub) (mxid.EventID, error) {
		num, err := h.Rooms.Find(id)
		if err != nil {
			return "", err
		}
		return h.Rooms.Send(num, &room.Draft{Type: "m.room.message", Sender: user, Content: content, Txn: txn})
	}
	a.l.ask(f)
	if f.event, err = f.again(a.h); err != nil {
		return err
	}
	a.l.ack(f)
	a.sent = append(a.sent, f)
	if a.rng.IntN(4) == 0 { // the answer was lost on its way
		if again, err := f.again(a.h); err != nil || again != f.event {
			return fmt.Errorf("%s was sent as %s and again as %s, %w", op, f.event, again, err)
		}
	}
	return nil
}

func (a *actor) state() error {
	id := a.pick()
	return a.set(fact{name: "state " + string(id) + " " + string(a.user)}, func() (uint64, error) {
		num, err := a.h.Rooms.Find(id)
		if err != nil {
			return 0, err
		}
		key := string(a.user)
		_, err = a.h.Rooms.Send(num, &room.Draft{Type: "sim.value", StateKey: &key, Sender: a.user, Content: fmt.Append(nil, `{"seq":`, a.seq, `}`)})
		return 0, err
	})
}

func (a *actor) redact() error {
	if len(a.sent) == 0 {
		return nil
	}
	i := a.rng.IntN(len(a.sent))
	f := fact{kind: redacted, event: a.sent[i].event, room: a.sent[i].room}
	a.sent = append(a.sent[:i], a.sent[i+1:]...)
	num, err := a.h.Rooms.Find(f.room)
	if err != nil {
		return err
	}
	a.l.ask(f)
	_, err = a.h.Rooms.Send(num, &room.Draft{Type: "m.room.redaction", Sender: a.user, Redacts: f.event,
		Content: fmt.Appendf(nil, `{"redacts":%q}`, f.event)})
	if err == nil {
		a.l.ack(f)
	}
	return err
}

func (a *actor) profile() error {
	return a.set(fact{name: "profile " + string(a.user)}, func() (uint64, error) {
		return 0, a.h.SetProfile(a.num, a.user, account.DisplayName, fmt.Appendf(nil, `"%d"`, a.seq))
	})
}

func (a *actor) data() error {
	typ := "sim." + strconv.Itoa(a.rng.IntN(3))
	return a.set(fact{name: "data " + string(a.user) + " " + typ}, func() (uint64, error) {
		pos, err := a.h.Accounts.SetData(a.num, 0, typ, fmt.Append(nil, `{"seq":`, a.seq, `}`))
		return uint64(pos), err
	})
}

func (a *actor) login() error {
	f := fact{kind: login, name: string(a.user), seq: a.seq}
	tokens, _, err := a.h.Accounts.Login(a.num, account.NewSession{Device: "D" + strconv.Itoa(a.seq)})
	if err == nil {
		f.token = tokens.Access
		a.l.ack(f)
		a.tokens = append(a.tokens, f)
	}
	return err
}

func (a *actor) logout() error {
	if len(a.tokens) == 0 {
		return nil
	}
	f := a.tokens[0]
	a.tokens = a.tokens[1:]
	f.kind = logout
	a.l.ask(f)
	err := a.h.Accounts.DeleteDevices(a.num, func(d *account.Device) bool { return d.ID == "D"+strconv.Itoa(f.seq) })
	if err == nil {
		a.l.ack(f)
	}
	return err
}

// membership has a guest join or leave; the reason carries the register's value.
func (a *actor) membership() error {
	id := a.pick()
	num, err := a.h.Rooms.Find(id)
	if err != nil {
		return err
	}
	guest := mxid.UserID("@guest-" + string(a.user[1:]))
	in := a.guestIn[id]
	a.guestIn[id] = !in
	return a.set(fact{name: "member " + string(id) + " " + string(guest)}, func() (uint64, error) {
		if in {
			return 0, a.h.Leave(num, guest, strconv.Itoa(a.seq))
		}
		return 0, a.h.Join(num, guest, fmt.Appendf(nil, `{"reason":"%d"}`, a.seq))
	})
}

// sync asks for what is new, as a client does that lost no answer.
func (a *actor) sync() error {
	f, _, err := a.h.sync(a.user, a.num, a.device, a.since)
	if err == nil {
		a.since = f.token
		a.l.ack(f)
	}
	return err
}

// sync answers one /sync: what it tells, and the rooms of which it leaves out a
// part.
func (h *hub) sync(user mxid.UserID, num uint32, device uint64, since string) (f fact, limited map[mxid.RoomID]bool, err error) {
	all, err := filter.Parse([]byte(`{"room":{"timeline":{"limit":1000}}}`))
	if err != nil {
		return f, nil, err
	}
	body, _, err := h.Sync.Now(&esync.Request{User: num, UserID: user, Device: device, Since: since, Filter: all})
	if err != nil {
		return f, nil, err
	}
	defer h.Sync.Done(body)
	var answer struct {
		Next  string `json:"next_batch"`
		Rooms struct {
			Join map[mxid.RoomID]struct {
				Timeline struct {
					Limited bool
					Events  []struct {
						ID mxid.EventID `json:"event_id"`
					}
				}
			}
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return f, nil, fmt.Errorf("%w in %s", err, body)
	}
	f = fact{kind: told, name: string(user), seq: int(num), token: answer.Next, pos: device}
	limited = map[mxid.RoomID]bool{}
	for id, r := range answer.Rooms.Join {
		limited[id] = r.Timeline.Limited
		for _, e := range r.Timeline.Events {
			f.list = append(f.list, e.ID)
		}
	}
	return f, limited, nil
}

// read is a reader who sees the newest event of a room that the tip covers.
func (a *actor) read() error {
	id := a.pick()
	num, err := a.h.Rooms.Find(id)
	if err != nil {
		return err
	}
	tip := a.h.Tip()
	a.l.ack(fact{kind: position, pos: tip})
	return a.h.Rooms.Timeline(num, room.Key{}, room.After(stream.Pos(tip)), true, func(k room.Key, n room.EventNum) (bool, error) {
		e, err := a.h.Rooms.Event(n)
		if err == nil {
			a.l.ack(fact{kind: seen, room: id, event: e.ID, pos: uint64(k.Pos)})
		}
		return false, err
	})
}
