package federation

import (
	"context"
	"slices"

	"hearth/engine/auth"
	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// Other servers' users come into rooms that this hub is in, and go, by a template
// that their server completes.

// resident gives a room that this hub is in and the server may speak about.
func (f *Federation) resident(op string, id mxid.RoomID, origin mxid.Server) (*room.Head, error) {
	num, err := f.Rooms.Find(id)
	if err != nil {
		return nil, err
	}
	h, err := f.Rooms.Head(num)
	if err != nil {
		return nil, err
	}
	if len(h.Local) == 0 {
		return nil, fault.E(fault.NotFound, op, "this server is not in the room")
	}
	if f.o.Blocked != nil {
		if blocked, err := f.o.Blocked(id); err != nil || blocked {
			return nil, orElse(err, fault.E(fault.Forbidden, op, "the room is blocked on this server"))
		}
	}
	return h, f.Admits(h, origin)
}

func orElse(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// Template makes the template of a change of a user's membership; what is join,
// leave or knock, and versions are the room versions that the other server knows.
//
// Errors: NotFound, Forbidden, IncompatibleRoom (with Incompatible in its chain),
// UnableToAuthorise, UnableToGrant.
// Spec: server-server, GET /make_join, /make_leave, /make_knock.
func (f *Federation) Template(origin mxid.Server, what string, c *Change, versions []string) ([]byte, error) {
	const op = "federation.Template"
	if c.User.Server() != origin {
		return nil, fault.E(fault.Forbidden, op, "%s is no user of %s", c.User, origin)
	}
	h, err := f.resident(op, c.Room, origin)
	if err != nil {
		return nil, err
	}
	v := h.Version
	if what != "leave" && !slices.Contains(versions, v.ID) {
		return nil, fault.E(fault.IncompatibleRoom, op, "the room is of version %s%w", v.ID, silent{&Incompatible{v.ID}})
	}
	w, err := f.Rooms.Write(h.Room)
	if err != nil {
		return nil, err
	}
	defer w.End()
	key := string(c.User)
	d := room.Draft{Type: "m.room.member", StateKey: &key, Sender: c.User, Content: []byte(`{"membership":"` + what + `"}`)}
	if what == "join" {
		via, err := f.Voucher(w, c.User)
		if err != nil {
			return nil, err
		}
		if via != "" {
			d.Content = append(cjson.AppendString([]byte(`{"join_authorised_via_users_server":`), via), `,"membership":"join"}`...)
		}
	}
	e, err := w.Draw(&d, false)
	if err != nil {
		return nil, err
	}
	dst := []byte(`{"event":{`)
	first := true
	err = cjson.Object(e.JSON, func(key, val []byte) bool {
		switch string(key) {
		case "hashes", "signatures", "event_id":
			return true
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(append(cjson.AppendString(dst, string(key)), ':'), val...)
		return true
	})
	dst = cjson.AppendString(append(dst, `},"room_version":`...), v.ID)
	return append(dst, '}'), err
}

// Voucher is the user of this hub by whom a user may join a restricted room
// because they are in one of the rooms that its rules name; empty where none is
// needed, or where the rules do not let the user in.
//
// Errors: UnableToAuthorise where that is not for this hub to know, UnableToGrant
// where nobody here may let anybody in. Spec: client-server, restricted rooms.
func (f *Federation) Voucher(w *room.Writer, user mxid.UserID) (mxid.UserID, error) {
	const op = "federation.Voucher"
	h := w.Head()
	if !h.Version.Restricted {
		return "", nil
	}
	member, err := w.State("m.room.member", string(user))
	if err != nil {
		return "", err
	}
	if member != nil {
		switch room.MembershipOf(member.Content) {
		case room.Join, room.Invite, room.Ban:
			return "", nil
		}
	}
	rules, err := w.State("m.room.join_rules", "")
	if err != nil || rules == nil {
		return "", err
	}
	if rule := auth.JoinRule(rules.Event); rule != "restricted" && rule != "knock_restricted" {
		return "", nil
	}
	in, unknown, err := f.inAny(auth.AllowedRooms(rules.Event), user)
	switch {
	case err != nil:
		return "", err
	case !in && unknown:
		return "", fault.E(fault.UnableToAuthorise, op, "this server is not in the rooms whose members may join")
	case !in:
		return "", nil
	}
	for _, member := range h.Local {
		id, err := f.Rooms.UserID(member)
		if err != nil {
			return "", err
		}
		if h.Levels.UserLevel(id) >= h.Levels.Invite() {
			return id, nil
		}
	}
	return "", fault.E(fault.UnableToGrant, op, "nobody of this server may let others in")
}

// inAny says whether a user is in one of some rooms, and whether there are some
// of which this hub does not know.
func (f *Federation) inAny(rooms []mxid.RoomID, user mxid.UserID) (in, unknown bool, err error) {
	known, err := f.Rooms.User(user)
	if err != nil {
		return false, false, err
	}
	for _, id := range rooms {
		num, err := f.Rooms.Find(id)
		if fault.Is(err, fault.NotFound) {
			unknown = true
			continue
		}
		if err != nil {
			return false, false, err
		}
		h, err := f.Rooms.Head(num)
		if err != nil {
			return false, false, err
		}
		if len(h.Local) == 0 {
			unknown = true
			continue
		}
		if known == 0 {
			continue
		}
		m, err := f.Rooms.MemberOf(num, known)
		if err != nil || m.Membership == room.Join && !m.Outside {
			return err == nil, unknown, err
		}
	}
	return false, unknown, nil
}

// Arrival is an event that another server gave this hub to let in.
type Arrival struct {
	Room  mxid.RoomID
	Event mxid.EventID // as the path names it
	Body  []byte       // a checked JSON object
}

// LetIn takes a completed template into the room and has it passed on to the
// others in it. It gives the event as it was kept.
//
// Errors: NotFound, Forbidden, Invalid for what is no such event, BadJSON,
// BadSignature. Spec: server-server, PUT /send_join, /send_leave, /send_knock.
func (f *Federation) LetIn(ctx context.Context, origin mxid.Server, what string, a *Arrival) (*room.Event, error) {
	const op = "federation.LetIn"
	h, err := f.resident(op, a.Room, origin)
	if err != nil {
		return nil, err
	}
	e, _, err := event.Receive(h.Version, a.Body)
	if err != nil {
		return nil, err
	}
	user := mxid.UserID(e.StateKey)
	switch {
	case e.ID != a.Event:
		return nil, fault.E(fault.Invalid, op, "the event is %s and not %s", e.ID, a.Event)
	case e.Room != a.Room:
		return nil, fault.E(fault.Invalid, op, "the event is of another room")
	case e.Type != "m.room.member" || !e.IsState || auth.Membership(e) != what:
		return nil, fault.E(fault.Invalid, op, "the event is no %s", what)
	case e.Sender != user:
		return nil, fault.E(fault.Invalid, op, "the event's sender is not the one whose membership it is")
	case user.Server() != origin:
		return nil, fault.E(fault.Forbidden, op, "%s is no user of %s", user, origin)
	}
	if old, err := f.letInBefore(h, e); old != nil || err != nil {
		return old, err
	}
	via, vouched := auth.AuthorisedVia(e)
	vouched = vouched && via.Server() == f.server
	if vouched {
		if e, err = f.vouch(h.Room, e); err != nil {
			return nil, err
		}
	}
	if err := f.o.VerifyEvents(ctx, h.Version, []*event.Event{e})[0]; err != nil {
		return nil, fault.E(fault.Forbidden, op, "the event's signatures do not hold: %w", err)
	}
	if e, err = f.Policed(ctx, h.Room, e); err != nil {
		return nil, err
	}
	w, err := f.Rooms.Write(h.Room)
	if err != nil {
		return nil, err
	}
	defer w.End()
	if vouched {
		if by, err := f.Voucher(w, user); err != nil || by == "" {
			return nil, orElse(err, fault.E(fault.Forbidden, op, "%s may not be let in", user))
		}
	}
	if err := f.accept(w, e); err != nil {
		return nil, err
	}
	return f.Rooms.Lookup(e.ID)
}

// letInBefore finds a change of membership that was let in already and is sent once
// more, because the answer was lost; nil where there is none. One that the room has
// refused stays refused: to have been sent does not make it good.
func (f *Federation) letInBefore(h *room.Head, e *event.Event) (*room.Event, error) {
	const op = "federation.LetIn"
	old, err := f.Rooms.Lookup(e.ID)
	if fault.Is(err, fault.NotFound) || err == nil && old.Outlier() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// In old room versions an id can be taken for anything.
	if old.In != h.Room || !old.Is(e.Type, e.StateKey) || old.Sender != e.Sender || auth.Membership(old.Event) != auth.Membership(e) {
		return nil, fault.E(fault.Invalid, op, "there is another event of this id")
	}
	if old.Rejected() || old.SoftFailed() {
		return nil, fault.E(fault.Forbidden, op, "the rules of the room do not allow it")
	}
	f.Rooms.SettledAt(old.At.Pos)
	if auth.Membership(e) != "join" {
		return old, nil
	}
	user, err := f.Rooms.User(e.Sender)
	if err != nil {
		return nil, err
	}
	m, err := f.Rooms.MemberOf(h.Room, user)
	if err == nil && m.Membership != room.Join {
		err = fault.E(fault.Forbidden, op, "%s is not in the room any more", e.Sender)
	}
	return old, err
}

// vouch signs a join that this hub answers for. Nobody is shown our signature on
// one for which there is no reason: other servers would take it for a reason.
func (f *Federation) vouch(num room.Num, e *event.Event) (*event.Event, error) {
	w, err := f.Rooms.Write(num)
	if err != nil {
		return nil, err
	}
	by, err := f.Voucher(w, mxid.UserID(e.StateKey))
	w.End()
	if err != nil || by == "" {
		return nil, orElse(err, fault.E(fault.Forbidden, "federation.LetIn", "%s may not be let in", e.StateKey))
	}
	return e.Sign(&f.o.Signer)
}

// accept brings an event into a room for whose servers it is then passed on, and
// waits for the disk.
func (f *Federation) accept(w *room.Writer, e *event.Event) error {
	const op = "federation.accept"
	outcome, _, err := w.Accept(e, nil)
	switch {
	case err != nil:
		return err
	case outcome == room.Known:
		w.End()
		if old, err := f.Rooms.Lookup(e.ID); err != nil || !old.Rejected() && !old.SoftFailed() {
			return err
		}
		return fault.E(fault.Forbidden, op, "the rules of the room do not allow it")
	case outcome == room.Missing:
		return fault.E(fault.Invalid, op, "the event follows others than the template said")
	case outcome != room.Accepted:
		return fault.E(fault.Forbidden, op, "the rules of the room do not allow it")
	}
	w.Relay()
	pending, err := w.Commit(nil)
	if err != nil {
		return err
	}
	return pending.Wait()
}
