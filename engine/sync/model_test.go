package sync

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"hearth/engine/mxid"
	"hearth/engine/room"
)

// view is what a client knows of a room by playing answers one after another.
type view struct {
	state map[string]string // type and key → event id
	seen  []string          // ids of the timeline since the last gap
	in    bool
}

// play lets a client take in an answer.
func (c *client) play(rooms map[string]*view, after bool) {
	for id, s := range c.reply.Rooms.Join {
		v := rooms[id]
		if v == nil || !v.in {
			v = &view{state: map[string]string{}, in: true}
			rooms[id] = v
		}
		v.apply(s, after)
	}
	for id, s := range c.reply.Rooms.Leave {
		if v := rooms[id]; v != nil {
			v.apply(s, after)
			v.in = false
		}
	}
	for id := range c.reply.Rooms.Invite {
		if v := rooms[id]; v != nil {
			v.in = false
		}
	}
}

func (v *view) apply(s *shown, after bool) {
	set := func(list []ev) {
		for _, e := range list {
			if e.Key != nil {
				v.state[e.Type+" "+*e.Key] = e.ID
			}
		}
	}
	set(s.State.Events)
	if after {
		set(s.StateAfter.Events)
	} else {
		set(s.Timeline.Events)
	}
	if s.Timeline.Limited {
		v.seen = nil
	}
	for _, e := range s.Timeline.Events {
		v.seen = append(v.seen, e.ID)
	}
}

// One first answer or many small ones, with state before or after, through
// narrow timelines and hiding filters: the client must know the same in the end.
func TestAllRoadsLeadToTheSameState(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	h := start(t)
	users := []mxid.UserID{alice, bob, carol}
	rooms := []room.Num{h.create(alice, ""), h.create(bob, "joined"), h.create(carol, "shared")}
	type road struct {
		*client
		rooms map[string]*view
		after bool
		every int
	}
	var roads []*road
	for i, f := range []string{"", `{"room":{"timeline":{"limit":1}}}`, `{"room":{"timeline":{"limit":3}}}`,
		`{"room":{"timeline":{"types":["m.room.message","m.room.name"],"limit":2}}}`, `{"room":{"timeline":{"limit":0}}}`} {
		for _, after := range []bool{false, true} {
			r := &road{h.client(bob, f), map[string]*view{}, after, 1 + 3*i}
			r.req.UseStateAfter = after
			roads = append(roads, r)
		}
	}
	for step := range 400 {
		num, user := rooms[rnd.IntN(3)], users[rnd.IntN(3)]
		key := string(users[rnd.IntN(3)])
		var d room.Draft
		switch rnd.IntN(8) {
		case 0, 1:
			d = room.Draft{Type: "m.room.message", Sender: user, Content: fmt.Appendf(nil, `{"body":"%d"}`, step)}
		case 2:
			d = member(user, user, "join")
		case 3:
			d = member(user, user, "leave")
		case 4:
			d = member(user, mxid.UserID(key), []string{"invite", "leave"}[rnd.IntN(2)])
		default:
			d = room.Draft{Type: []string{"m.room.name", "x.state"}[rnd.IntN(2)], StateKey: new(string), Sender: user,
				Content: fmt.Appendf(nil, `{"name":"%d"}`, rnd.IntN(4))}
		}
		_, _ = h.rooms.Send(num, &d) // what the rules refuse is no step
		for _, r := range roads {
			if rnd.IntN(r.every) == 0 {
				r.sync()
				r.play(r.rooms, r.after)
			}
		}
	}
	for i, r := range roads {
		r.sync()
		r.play(r.rooms, r.after)
		for _, num := range rooms {
			h.compare(fmt.Sprintf("road %d", i), num, r.rooms[h.id(num)], r.req.Filter == nil)
		}
	}
}

// compare holds a view against the room as it is.
func (h *hub) compare(road string, num room.Num, v *view, whole bool) {
	h.t.Helper()
	m, err := h.rooms.MemberOf(num, h.user(bob))
	h.must(err)
	if joined := m.Membership == room.Join; v == nil && !joined || v != nil && !v.in && !joined {
		return
	} else if v == nil || v.in != joined {
		h.t.Fatalf("%s: the client errs about being in room %d (%v)", road, num, joined)
	}
	head, err := h.rooms.Head(num)
	h.must(err)
	state := map[string]string{}
	h.must(h.rooms.Each(head.State, func(e *room.Event) (bool, error) {
		state[e.Type+" "+e.StateKey] = string(e.ID)
		return true, nil
	}))
	if !maps.Equal(state, v.state) {
		var diff []string
		for k, id := range state {
			if v.state[k] != id {
				diff = append(diff, k)
			}
		}
		h.t.Fatalf("%s: state of room %d differs in %s, %d keys of %d", road, num, strings.Join(diff, ", "), len(v.state), len(state))
	}
	if !whole {
		return
	}
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
	if tail := ids[max(0, len(ids)-len(v.seen)):]; !slices.Equal(tail, v.seen) {
		h.t.Fatalf("%s: the timeline of room %d is not the room's last %d events", road, num, len(v.seen))
	}
}
