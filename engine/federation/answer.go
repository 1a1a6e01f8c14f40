package federation

import (
	"bufio"
	"io"

	"hearth/engine/auth"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/stream"
)

// WriteJoin writes the answer to a join that was let in: the state before it and
// what authorises that state. With omit, members are left out that the joining
// server does not need at once. It is written as it is read: of a large room
// nothing but numbers is in memory. old is the form of v1.
// Spec: server-server, PUT /send_join/{roomId}/{eventId}.
func (f *Federation) WriteJoin(to io.Writer, e *room.Event, omit, old bool) error {
	state, err := f.Rooms.StateBefore(e)
	if err != nil {
		return err
	}
	w := joinWriter{f: f, out: bufio.NewWriterSize(to, 32<<10), seen: make(map[room.EventNum]struct{}, len(state)), join: e}
	if omit {
		if state, err = w.fewer(state); err != nil {
			return err
		}
	}
	if old {
		w.text(`[200,`)
	}
	w.text(`{"auth_chain":[`)
	if err := w.chain(state); err != nil {
		return err
	}
	w.text(`],"event":`)
	w.write(e.JSON)
	w.text(`,"members_omitted":`)
	if omit {
		w.text(`true`)
	} else {
		w.text(`false`)
	}
	w.text(`,"origin":`)
	w.write(cjson.AppendString(nil, f.server))
	if omit {
		if err := w.servers(e.In); err != nil {
			return err
		}
	}
	w.text(`,"state":[`)
	w.first = true
	if err := f.Rooms.Each(state, func(s *room.Event) (bool, error) {
		w.event(s)
		return w.err == nil, w.err
	}); err != nil {
		return err
	}
	w.text(`]}`)
	if old {
		w.text(`]`)
	}
	if w.err != nil {
		return w.err
	}
	return w.out.Flush()
}

// joinWriter keeps the first error of writing.
type joinWriter struct {
	f     *Federation
	out   *bufio.Writer
	first bool
	seen  map[room.EventNum]struct{}
	known int // members that are told though they have nothing to do with the join
	join  *room.Event
	err   error
}

func (w *joinWriter) write(b []byte) {
	if w.err == nil {
		_, w.err = w.out.Write(b)
	}
}

func (w *joinWriter) text(s string) {
	if w.err == nil {
		_, w.err = w.out.WriteString(s)
	}
}

func (w *joinWriter) event(e *room.Event) {
	if !w.first {
		w.text(`,`)
	}
	w.first = false
	w.write(e.JSON)
}

// chain writes the auth chain of the join and of the state before it.
func (w *joinWriter) chain(state room.State) error {
	w.first = true
	if w.join.Version.RoomIDIsCreate {
		// No event names it, and the room id authorises all by it: who joins looks
		// for it here as in older rooms.
		if err := w.follow([]mxid.EventID{auth.CreateID(w.join.Room)}); err != nil {
			return err
		}
	}
	if err := w.follow(w.join.Auth); err != nil {
		return err
	}
	return w.f.Rooms.Each(state, func(s *room.Event) (bool, error) {
		err := w.follow(s.Auth)
		return err == nil, err
	})
}

// follow writes events and what authorises them, as far as they are here and
// were not written before.
func (w *joinWriter) follow(ids []mxid.EventID) error {
	stack := append([]mxid.EventID(nil), ids...)
	for len(stack) > 0 && w.err == nil {
		id := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		e, err := w.f.Rooms.Lookup(id)
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if _, done := w.seen[e.Num]; done {
			continue
		}
		w.seen[e.Num] = struct{}{}
		w.event(e)
		stack = append(stack, e.Auth...)
	}
	return w.err
}

// heroes is how many members are told so that the room can be named by them.
const heroes = 5

// needed says whether an event of the state is told with members omitted: all but
// the members who have nothing to do with the join, and not even a few of those.
func (w *joinWriter) needed(s *room.Event) bool {
	if s.Type != "m.room.member" || s.StateKey == w.join.StateKey || string(s.Sender) == w.join.StateKey {
		return true
	}
	if m := room.MembershipOf(s.Content); m != room.Join && m != room.Invite || w.known == heroes {
		return false
	}
	w.known++
	return true
}

// fewer is the part of a state that is told with members omitted. None of it is
// told again as authorising the rest.
func (w *joinWriter) fewer(state room.State) (part room.State, err error) {
	i := 0
	err = w.f.Rooms.Each(state, func(s *room.Event) (bool, error) {
		if w.needed(s) {
			part = append(part, state[i])
			w.seen[s.Num] = struct{}{}
		}
		i++
		return true, nil
	})
	return part, err
}

// servers writes the servers that were in the room before the join, ours among
// them.
func (w *joinWriter) servers(num room.Num) error {
	w.text(`,"servers_in_room":[`)
	w.write(cjson.AppendString(nil, w.f.server))
	err := w.f.Rooms.Servers(num, func(s mxid.Server, _ stream.Pos) bool {
		if s != w.join.Sender.Server() {
			w.text(`,`)
			w.write(cjson.AppendString(nil, s))
		}
		return w.err == nil
	})
	w.text(`]`)
	return err
}

// AppendKnockState appends the list of events by which the users of another
// server know the room that one of them has knocked on: whole ones, so that their
// server can check them. Spec: server-server, PUT /send_knock/{roomId}/{eventId}.
func (f *Federation) AppendKnockState(dst []byte, e *room.Event) ([]byte, error) {
	state, err := f.Rooms.StateBefore(e)
	if err != nil {
		return dst, err
	}
	return f.appendShown(dst, state)
}

// appendShown appends the state that those outside a room are shown.
func (f *Federation) appendShown(dst []byte, state room.State) ([]byte, error) {
	list, err := f.Rooms.Stripped(state, "")
	if err != nil {
		return dst, err
	}
	dst = append(dst, '[')
	for i, e := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, e.JSON...)
	}
	return append(dst, ']'), nil
}
