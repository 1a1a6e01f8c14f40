// Package history reads a room for one user: pages of its past, what surrounds
// an event, single events, and the state and members that the user may see.
//
// It owns who may look at what: a joined member sees the present, one who has
// left sees the room as it was at the leaving, anybody sees what is world
// readable, and history visibility judges each event. It writes nothing, and
// appends its answers as JSON, so that a page is never held twice.
package history

import (
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// View is a room as one user may look at it, for one request.
type View struct {
	Room   room.Num
	Head   *room.Head
	Member room.Member
	State  room.State // the present, or what the user saw last

	rooms   *room.Rooms
	viewer  *room.Viewer
	device  uint64
	ignored map[mxid.UserID]struct{}
	bundle  room.Bundle // what is told with the room's events
	end     room.Key    // behind the last event there is for the user
	allowed bool
	stops   bool              // a page ends at a hole; see Hole
	passed  map[room.Key]bool // holes that are read over
}

// Open begins looking at a room. All that is in the view is on disk. Device is
// told the transaction ids of its own events.
//
// Errors: Forbidden for a room the hub does not know: who is not in a room is
// not told whether it exists.
func Open(rooms *room.Rooms, id mxid.RoomID, user mxid.UserID, device uint64) (*View, error) {
	num, err := rooms.Find(id)
	if fault.Is(err, fault.NotFound) {
		return nil, outside()
	}
	if err != nil {
		return nil, err
	}
	v := &View{Room: num, rooms: rooms, device: device}
	if v.viewer, err = rooms.Viewer(num, user); err != nil {
		return nil, err
	}
	v.bundle = room.Bundle{User: user, Viewer: v.viewer}
	if v.Head, err = rooms.Head(num); err != nil {
		return nil, err
	}
	rooms.Settled(v.Head)
	v.Member = v.viewer.Member()
	v.State, v.end = v.Head.State, room.After(v.Head.Last)
	if v.Member.Membership == room.Join {
		v.allowed = true
		return v, nil
	}
	if v.viewer.Departed() {
		return v, v.depart()
	}
	v.allowed, err = rooms.Peekable(v.Head)
	return v, err
}

// depart sets the view back to the moment the user left. What became readable
// for everybody since then is readable for the user as well.
func (v *View) depart() error {
	v.allowed = true
	left := v.viewer.Left()
	var err error
	if v.State, err = v.rooms.StateAfter(left); err != nil {
		return err
	}
	open, err := v.rooms.Peekable(v.Head)
	if err == nil && !open {
		v.end = left.At.Next()
	}
	return err
}

// Allowed is nil if the user may look at the room, and Forbidden otherwise.
func (v *View) Allowed() error {
	if v.allowed {
		return nil
	}
	return outside()
}

// Joined is nil for a member of the room, and Forbidden otherwise.
func (v *View) Joined() error {
	if v.Member.Membership == room.Join {
		return nil
	}
	return outside()
}

func outside() error { return fault.E(fault.Forbidden, "history.Open", "you are not in the room") }

// find looks up an event of the room that the user may read; NotFound for any
// other.
func (v *View) find(id mxid.EventID) (*room.Event, error) {
	e, err := v.rooms.Lookup(id)
	if err != nil {
		return nil, err
	}
	seen := e.In == v.Room && e.At != room.Key{} && (v.allowed || !v.Member.Forgotten)
	if seen {
		if seen, err = v.viewer.Sees(e); err != nil {
			return nil, err
		}
	}
	if !seen {
		return nil, fault.E(fault.NotFound, "history.Event", "event not found")
	}
	return e, nil
}

// Find is the event of the room with this id, if the user may read it; NotFound
// for any other.
func (v *View) Find(id mxid.EventID) (*room.Event, error) { return v.find(id) }

// AppendEvent appends one event in client form.
func (v *View) AppendEvent(dst []byte, id mxid.EventID) ([]byte, error) {
	e, err := v.find(id)
	if err != nil {
		return dst, err
	}
	return v.append(dst, e)
}

// Ignore leaves out what these users have sent, except for state.
// Spec: client-server, ignoring users.
func (v *View) Ignore(users map[mxid.UserID]struct{}) {
	if v.ignored = users; len(users) > 0 {
		v.bundle.Ignores = v.ignores
	}
}

func (v *View) ignores(id mxid.UserID) bool {
	_, is := v.ignored[id]
	return is
}

// append appends an event with the user's membership at it and with what relates
// to it.
func (v *View) append(dst []byte, e *room.Event) ([]byte, error) {
	m, err := v.viewer.MembershipAt(e)
	if err != nil {
		return dst, err
	}
	return v.rooms.AppendClient(dst, e, room.Reader{Device: v.device, Membership: m, Bundle: &v.bundle})
}

// appendPlain appends a state event, with which nothing is told that relates to
// it: there may be thousands of them.
func (v *View) appendPlain(dst []byte, e *room.Event) ([]byte, error) {
	m, err := v.viewer.MembershipAt(e)
	if err != nil {
		return dst, err
	}
	return v.rooms.AppendClient(dst, e, room.Reader{Device: v.device, Membership: m})
}

// appendList appends events as a JSON array, each by one.
func (v *View) appendList(dst []byte, list []*room.Event, one func([]byte, *room.Event) ([]byte, error)) (_ []byte, err error) {
	dst = append(dst, '[')
	for i, e := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = one(dst, e); err != nil {
			return dst, err
		}
	}
	return append(dst, ']'), nil
}
