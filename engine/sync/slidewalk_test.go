package sync

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"hearth/engine/account"
	"hearth/engine/ephemeral"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/stream"
)

// pane is what a client of sliding sync knows of a room.
type pane struct {
	view
	name            string
	joined, invited int
	dm              bool
	asked           bool              // invited, or has knocked
	data            map[string]string // type → content
	read            map[string]string // user → event
	typing          string
}

// walker is a client that keeps what it is told, of which some answers never
// reach it.
type walker struct {
	*phone
	state   string // required_state
	lazy    bool
	named   []string // the only types there are in state; nil: all
	rooms   map[string]*pane
	global  map[string]string
	resets  int
	lost    int
	counted int

	messages []string // to the device
	next     string   // the token for them
}

func (w *walker) body(rnd *rand.Rand, last bool) string {
	to, limit, narrow, sub := rnd.IntN(6), rnd.IntN(4), rnd.IntN(3), ""
	if rnd.IntN(3) == 0 {
		sub = fmt.Sprintf(`"!%c:hub":{"timeline_limit":%d,"required_state":[%s]}`, 'b'+rune(rnd.IntN(6)), rnd.IntN(8), w.state)
	}
	if last {
		to, limit, narrow, sub = 99, 2, 0, ""
	}
	return fmt.Sprintf(`{"lists":{"a":{"ranges":[[%d,%d]],"timeline_limit":%d,"required_state":[%s]},"n":{"ranges":[[0,%d]],"timeline_limit":1,"required_state":[["m.room.member","$ME"]]}},`+
		`"room_subscriptions":{%s},"extensions":{"account_data":{"enabled":true},"receipts":{"enabled":true},"typing":{"enabled":true},`+
		`"to_device":{"enabled":true,"since":%q,"limit":%d}}}`, 0, to, limit, w.state, narrow, sub, w.next, 1+rnd.IntN(200))
}

// step asks once. The answer may be lost, and the connection forgotten.
func (w *walker) step(rnd *rand.Rand, last bool) {
	w.h.t.Helper()
	from := w.pos
	body, ready, err := w.h.Slide(w.request(w.body(rnd, last)))
	if fault.Is(err, fault.UnknownPos) {
		w.pos = "" // and what is told from now on goes over what the client has
		w.resets++
		w.step(rnd, last)
		return
	}
	w.h.must(err)
	if !ready {
		w.h.t.Fatal("not ready")
	}
	w.take(body)
	w.h.Done(body)
	// Who has no position yet and loses the answer has nothing by which the hub, were
	// it to forget once more, could tell what is missing.
	if !last && from != "" && rnd.IntN(4) == 0 {
		w.pos = from
		w.lost++
		return
	}
	w.play()
}

// play takes an answer in, as clients do.
func (w *walker) play() {
	w.counted = w.slid.Lists["a"].Count
	for id, r := range w.slid.Rooms {
		p := w.rooms[id]
		if p == nil {
			p = &pane{data: map[string]string{}, read: map[string]string{}}
			w.rooms[id] = p
		}
		if r.Initial {
			p.view, p.name, p.joined, p.invited, p.dm, p.typing = view{state: map[string]string{}}, "", 0, 0, false, ""
		}
		w.playRoom(p, r)
	}
	if w.slid.Ext.Data != nil {
		for _, e := range w.slid.Ext.Data.Global {
			w.global[e.Type] = string(e.Content)
		}
		for id, list := range w.slid.Ext.Data.Rooms {
			for _, e := range list {
				w.rooms[id].data[e.Type] = string(e.Content)
			}
		}
	}
	if w.slid.Ext.Receipts != nil {
		for id, e := range w.slid.Ext.Receipts.Rooms {
			w.playReceipts(w.rooms[id], e.Content)
		}
	}
	if w.slid.Ext.Typing != nil {
		for id, e := range w.slid.Ext.Typing.Rooms {
			w.rooms[id].typing = strings.Join(e.Content.IDs, " ")
		}
	}
	for _, e := range w.slid.Ext.ToDevice.Events {
		w.messages = append(w.messages, bodies([]ev{e}))
	}
	w.next = w.slid.Ext.ToDevice.Next
}

func (w *walker) playRoom(p *pane, r *slidRoom) {
	if p.in, p.asked = r.Invite == nil, r.Invite != nil; p.asked {
		return
	}
	if r.Name != nil {
		p.name = *r.Name
	} else if strings.Contains(string(w.raw), `"name":null`) && r.Heroes != nil {
		p.name = ""
	}
	if r.Joined != nil {
		p.joined, p.invited = *r.Joined, *r.Invited
	}
	if r.DM != nil {
		p.dm = *r.DM
	}
	if r.Limited || r.Expanded || r.Initial {
		p.seen = nil
		if w.lazy && r.Limited {
			maps.DeleteFunc(p.state, func(k, _ string) bool { return strings.HasPrefix(k, "m.room.member ") })
		}
	}
	for _, e := range r.Required {
		p.state[e.Type+" "+*e.Key] = e.ID
		if e.Type == "m.room.member" && *e.Key == string(w.req.UserID) {
			p.in = strings.Contains(string(e.Content), `"join"`) // as clients do: joined unless the state says otherwise
		}
	}
	for _, e := range r.Timeline {
		p.seen = append(p.seen, e.ID)
	}
}

func (w *walker) playReceipts(p *pane, content []byte) {
	for _, part := range strings.Split(string(content), `"$`)[1:] {
		id, rest, _ := strings.Cut(part, `"`)
		for _, user := range strings.Split(rest, `"@`)[1:] {
			name, _, _ := strings.Cut(user, `"`)
			p.read["@"+name] = "$" + id
		}
	}
}

// Events, windows, subscriptions and limits come at random, answers are lost and
// the hub forgets: a client that keeps what it is told knows in the end what the
// rooms are.
func TestSlideWalk(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	slideWalk(t, seed)
}

func slideWalk(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	h := start(t)
	users := []mxid.UserID{alice, bob, carol}
	var rooms []room.Num
	for i := range 6 {
		rooms = append(rooms, h.create(users[i%3], []string{"", "joined", "shared"}[i/2]))
	}
	var walkers []*walker
	for i, c := range []struct {
		state string
		lazy  bool
		named []string
	}{{`["*","*"]`, false, nil}, {`["*","*"],["m.room.member","$LAZY"],["m.room.member","$ME"]`, true, nil}, {`["m.room.name",""],["m.room.member","$ME"]`, false, []string{"m.room.name "}}} {
		p := h.phone(bob)
		p.req.Device += uint64(i)
		walkers = append(walkers, &walker{phone: p, state: c.state, lazy: c.lazy, named: c.named, rooms: map[string]*pane{}, global: map[string]string{}})
	}
	var said []mxid.EventID
	sent := make([][]string, len(walkers))
	for step := range 500 {
		num, user := rooms[rnd.IntN(6)], users[rnd.IntN(3)]
		said = h.happen(rnd, num, user, step, said)
		for i, w := range walkers {
			if rnd.IntN(8) == 0 {
				sent[i] = append(sent[i], fmt.Sprint("d", step))
				h.toDevice(&client{req: Request{User: w.req.User, Device: w.req.Device}}, sent[i][len(sent[i])-1])
			}
			if rnd.IntN(4) == 0 {
				w.step(rnd, false)
			}
		}
		if rnd.IntN(150) == 0 { // as after a restart
			s, err := Open(h.parts)
			h.must(err)
			h.Sync.Close()
			h.Sync = s
		}
	}
	for i, w := range walkers {
		w.step(rnd, true)
		for len(w.slid.Ext.ToDevice.Events) > 0 {
			w.step(rnd, true)
		}
		w.step(rnd, true)
		if !slices.Equal(w.messages, sent[i]) {
			t.Errorf("walker %d got the messages %v of %v", i, w.messages, sent[i])
		}
		if len(w.slid.Rooms) > 0 {
			t.Errorf("walker %d is told more though nothing happened: %s", i, w.raw)
		}
		for _, num := range rooms {
			w.compare(i, num)
		}
		t.Logf("walker %d: %d answers lost, %d connections", i, w.lost, w.resets+1)
	}
}

// happen does something in a room, if the room's rules let it.
func (h *hub) happen(rnd *rand.Rand, num room.Num, user mxid.UserID, step int, said []mxid.EventID) []mxid.EventID {
	other := []mxid.UserID{alice, bob, carol}[rnd.IntN(3)]
	var d room.Draft
	switch rnd.IntN(15) {
	case 0, 1, 2:
		d = room.Draft{Type: "m.room.message", Sender: user, Content: fmt.Appendf(nil, `{"body":"%d"}`, step)}
	case 3, 4:
		d = member(user, user, "join")
	case 5:
		d = member(user, user, "leave")
	case 6:
		d = member(user, other, []string{"invite", "leave", "ban"}[rnd.IntN(3)])
	case 7:
		_, err := h.acc.SetData(h.user(bob), uint32(num), []string{"x.a", "m.tag"}[rnd.IntN(2)], fmt.Appendf(nil, `{"tags":{},"n":%d}`, rnd.IntN(9)))
		h.must(err)
		return said
	case 8:
		_, err := h.acc.SetData(h.user(bob), 0, []string{"x.g", "m.direct"}[rnd.IntN(2)], fmt.Appendf(nil, `{"@alice:hub":["%s","%s"]}`, h.id(num), h.id(1)))
		h.must(err)
		return said
	case 9:
		if len(said) == 0 {
			return said
		}
		e, err := h.rooms.Lookup(said[rnd.IntN(len(said))])
		h.must(err)
		h.receipt(e.In, user, ephemeral.Read, e.ID)
		return said
	case 10:
		h.eph.SetTyping(uint32(num), h.user(user), rnd.IntN(2) == 0, time.Hour)
		return said
	case 11:
		_ = h.rooms.Forget(num, h.user(bob)) // where bob is out of it
		return said
	default:
		d = room.Draft{Type: []string{"m.room.name", "x.state"}[rnd.IntN(2)], StateKey: new(string), Sender: user,
			Content: fmt.Appendf(nil, `{"name":"%d"}`, rnd.IntN(4))}
	}
	id, err := h.rooms.Send(num, &d)
	if err == nil && d.Type == "m.room.message" {
		said = append(said, id)
	}
	return said
}

// compare holds what a client knows against the room as it is.
func (w *walker) compare(road int, num room.Num) {
	h := w.h
	h.t.Helper()
	p := w.rooms[h.id(num)]
	m, err := h.rooms.MemberOf(num, w.req.User)
	h.must(err)
	joined := m.Membership == room.Join
	if !joined {
		asked := m.Membership == room.Invite || m.Membership == room.Knock
		if p != nil && p.in || asked != (p != nil && p.asked) {
			h.t.Errorf("walker %d takes room %d for one in which bob is %s: %+v", road, num, m.Membership, p)
		}
		return
	}
	if p == nil || !p.in {
		h.t.Errorf("walker %d does not know of room %d: %+v", road, num, p)
		return
	}
	head, err := h.rooms.Head(num)
	h.must(err)
	state := map[string]string{}
	name := ""
	h.must(h.rooms.Each(head.State, func(e *room.Event) (bool, error) {
		key := e.Type + " " + e.StateKey
		if w.named == nil || slices.Contains(w.named, key) || key == "m.room.member "+string(bob) {
			state[key] = string(e.ID)
		}
		if e.Type == "m.room.name" {
			name = strings.Trim(strings.TrimPrefix(string(e.Content), `{"name":`), `"}`)
		}
		return true, nil
	}))
	if w.lazy {
		maps.DeleteFunc(state, func(k, _ string) bool { return strings.HasPrefix(k, "m.room.member ") && p.state[k] == "" })
	}
	if !maps.Equal(state, p.state) {
		for k := range state {
			if p.state[k] != state[k] {
				h.t.Errorf("walker %d, room %d: %s is %s, should be %s", road, num, k, p.state[k], state[k])
			}
		}
		h.t.Errorf("walker %d: state of room %d has %d keys of %d", road, num, len(p.state), len(state))
	}
	if p.name != name || p.joined != head.Joined || p.invited != head.Invited {
		h.t.Errorf("walker %d, room %d: %q, %d joined, %d invited; should be %q, %d, %d", road, num, p.name, p.joined, p.invited, name, head.Joined, head.Invited)
	}
	w.compareTimeline(road, num, p)
	w.compareRest(road, num, p)
}

func (w *walker) compareTimeline(road int, num room.Num, p *pane) {
	h := w.h
	h.t.Helper()
	viewer, err := h.rooms.Viewer(num, bob)
	h.must(err)
	var ids []string
	h.must(h.rooms.Timeline(num, room.Key{}, room.After(h.log.Tip()), false, func(_ room.Key, n room.EventNum) (bool, error) {
		e, err := h.rooms.Event(n)
		h.must(err)
		seen, err := viewer.Sees(e)
		if seen {
			ids = append(ids, string(e.ID))
		}
		return true, err
	}))
	if tail := ids[max(0, len(ids)-len(p.seen)):]; !slices.Equal(tail, p.seen) || len(tail) < min(1, len(ids)) {
		h.t.Errorf("walker %d: the timeline of room %d is not the room's last %d events of %d", road, num, len(p.seen), len(ids))
	}
}

func (w *walker) compareRest(road int, num room.Num, p *pane) {
	h := w.h
	h.t.Helper()
	data, global := map[string]string{}, map[string]string{}
	h.must(h.acc.RoomData(w.req.User, uint32(num), func(typ string, content []byte) { data[typ] = string(content) }))
	if !maps.Equal(data, p.data) {
		h.t.Errorf("walker %d, room %d: data %v, should be %v", road, num, p.data, data)
	}
	direct := ""
	h.must(h.acc.DataSince(w.req.User, 0, h.log.Tip(), func(c *account.Change) bool {
		if c.Room == 0 {
			global[c.Type] = string(c.Content)
		}
		if c.Type == "m.direct" {
			direct = string(c.Content)
		}
		return true
	}))
	delete(w.global, "m.push_rules")
	if !maps.Equal(global, w.global) {
		h.t.Errorf("walker %d: data %v, should be %v", road, w.global, global)
	}
	if p.dm != strings.Contains(direct, h.id(num)) {
		h.t.Errorf("walker %d, room %d: direct %v, %s", road, num, p.dm, direct)
	}
	var typing []string
	for _, user := range h.eph.Typists(uint32(num)) {
		id, err := h.rooms.UserID(user)
		h.must(err)
		typing = append(typing, string(id))
	}
	if got := strings.Fields(p.typing); len(got) != len(typing) || slices.ContainsFunc(typing, func(id string) bool { return !slices.Contains(got, id) }) {
		h.t.Errorf("walker %d, room %d: %q type, should be %v", road, num, p.typing, typing)
	}
	read := map[string]string{}
	h.must(h.eph.ReceiptsSince(uint32(num), ephemeral.Reader{User: w.req.User}, 0, stream.Pos(1<<62), func(rc *ephemeral.Receipt) bool {
		id, err := h.rooms.UserID(rc.User)
		h.must(err)
		read[string(id)] = string(rc.Event)
		return true
	}))
	if !maps.Equal(read, p.read) {
		h.t.Errorf("walker %d, room %d: receipts %v, should be %v", road, num, p.read, read)
	}
}
