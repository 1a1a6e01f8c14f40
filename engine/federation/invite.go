package federation

import (
	"context"
	"errors"
	"net/url"
	"time"

	"hearth/engine/auth"
	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// Invite shows an invite that one of our users makes to the server of who is
// invited, and brings it into the room once that has signed it too. Nobody holds
// the room meanwhile.
//
// Errors: those of the other server (Forbidden, InviteBlocked), Remote.
// Spec: server-server, PUT /invite/{roomId}/{eventId}, v2 and v1.
func (f *Federation) Invite(ctx context.Context, num room.Num, e *event.Event) error {
	h, err := f.Rooms.Head(num)
	if err != nil {
		return err
	}
	if e, err = f.Policed(ctx, num, e); err != nil {
		return err
	}
	shown, err := f.appendShown(nil, h.State)
	if err != nil {
		return err
	}
	server := mxid.UserID(e.StateKey).Server()
	path := "invite/" + url.PathEscape(string(e.Room)) + "/" + url.PathEscape(string(e.ID))
	body := append(append([]byte(`{"event":`), e.JSON...), `,"invite_room_state":`...)
	body = cjson.AppendString(append(append(body, shown...), `,"room_version":`...), e.Version.ID)
	answer, err := f.do(ctx, &Request{Dest: server, Method: "PUT", Path: "/_matrix/federation/v2/" + path, Body: append(body, '}')})
	if e.Version.IDs == event.IDInEvent && unknownEndpoint(err) {
		old := append(append([]byte(nil), e.JSON[:len(e.JSON)-1]...), `,"unsigned":{"invite_room_state":`...)
		answer, err = f.askOld(ctx, &Request{Dest: server, Method: "PUT", Path: apiV1 + path, Body: append(append(old, shown...), '}', '}')})
	}
	if err != nil {
		return asTold(err)
	}
	const op = "federation.Invite"
	raw, _ := cjson.Lookup(answer, "event")
	signed, _, err := event.Receive(e.Version, raw)
	if err != nil || signed.ID != e.ID {
		return fault.E(fault.Remote, op, "%s gave another event back", server)
	}
	if err := f.o.VerifyEvents(ctx, e.Version, []*event.Event{signed})[0]; err != nil {
		return fault.E(fault.Remote, op, "what %s gave back is not signed: %w", server, err)
	}
	if len(event.Signatures(signed.JSON, string(server))) == 0 {
		return fault.E(fault.Remote, op, "%s did not sign the invite", server)
	}
	if signed, err = f.Policed(ctx, num, signed); err != nil { // it may have come back without that signature
		return err
	}
	w, err := f.Rooms.Write(num)
	if err != nil {
		return err
	}
	defer w.End()
	return f.accept(w, signed)
}

// askOld is do for the answers of v1, which stand in a list behind a status.
func (f *Federation) askOld(ctx context.Context, r *Request) (obj []byte, err error) {
	a, err := f.ask(ctx, r)
	if err != nil {
		return nil, err
	}
	if a.Status/100 != 2 {
		return nil, refusal(r, a.Status, a.Body)
	}
	if cjson.Check(a.Body) == nil && cjson.KindOf(a.Body) == cjson.ArrayKind {
		_ = cjson.Array(a.Body, func(val []byte) bool { // it was checked
			obj = val
			return true
		})
	}
	if cjson.KindOf(obj) != cjson.ObjectKind {
		return nil, fault.E(fault.Remote, "federation.Do", "%s answered with something else than was asked for", r.Dest)
	}
	return obj, nil
}

// Invited is an invite of one of our users that another server shows.
type Invited struct {
	Room    mxid.RoomID
	Event   mxid.EventID // as the path names it
	Version string       // of the room
	Body    []byte       // the event, a checked JSON object
	State   []byte       // a list of events by which the user knows the room; may be empty
}

// Bounds of what comes with an invite.
const (
	maxTold      = 64       // events
	maxToldBytes = 64 << 10 // of all
	maxInvites   = 100      // that wait for one user, to rooms that the hub is not in
	inviteWait   = time.Hour
)

// TakeInvite signs an invite of one of our users and gives the signed event. Where
// the hub is not in the room the user's standing there is kept; otherwise the event
// comes again, by the room.
//
// Errors: Invalid for what is no such invite, IncompatibleRoom, NotFound for an
// unknown user, Forbidden, InviteBlocked, Limit.
// Spec: server-server, PUT /invite/{roomId}/{eventId}.
func (f *Federation) TakeInvite(ctx context.Context, origin mxid.Server, i *Invited) ([]byte, error) {
	const op = "federation.TakeInvite"
	v := event.LookupVersion(i.Version)
	if v == nil {
		return nil, fault.E(fault.IncompatibleRoom, op, "this server does not know room version %q%w", i.Version, silent{&Incompatible{i.Version}})
	}
	e, _, err := event.Receive(v, i.Body)
	if err != nil {
		return nil, err
	}
	user := mxid.UserID(e.StateKey)
	switch {
	case e.ID != i.Event || e.Room != i.Room:
		return nil, fault.E(fault.Invalid, op, "the event is not the one that the path names")
	case e.Type != "m.room.member" || !e.IsState || auth.Membership(e) != "invite":
		return nil, fault.E(fault.Invalid, op, "the event is no invite")
	case e.Sender.Server() != origin:
		return nil, fault.E(fault.Invalid, op, "the event's sender is no user of %s", origin)
	case user.Server() != f.server:
		return nil, fault.E(fault.Invalid, op, "who is invited is no user of this server")
	}
	if err := f.mayTake(e, origin, user); err != nil {
		return nil, err
	}
	if err := f.o.VerifyEvents(ctx, v, []*event.Event{e})[0]; err != nil {
		return nil, fault.E(fault.Invalid, op, "the event's signatures do not hold: %w", err)
	}
	told, err := f.told(ctx, v, e, i.State)
	if err != nil {
		return nil, err
	}
	if e, err = e.Sign(&f.o.Signer); err != nil {
		return nil, err
	}
	num, err := f.Rooms.Outline(v, i.Room)
	if err != nil {
		return nil, err
	}
	return e.JSON, f.outside(num, e, &room.Invitation{Via: []mxid.Server{origin}, Told: told})
}

// mayTake refuses invites that the owner or the user does not want.
func (f *Federation) mayTake(e *event.Event, origin mxid.Server, user mxid.UserID) error {
	const op = "federation.TakeInvite"
	num, err := f.Accounts.Find(user)
	if err != nil {
		return err
	}
	u, err := f.Accounts.User(num)
	if err != nil {
		return err
	}
	if u.Deactivated {
		return fault.E(fault.Forbidden, op, "the user's account has ended")
	}
	if f.o.Blocked != nil {
		if blocked, err := f.o.Blocked(e.Room); err != nil || blocked {
			return orElse(err, fault.E(fault.Forbidden, op, "the room is blocked on this server"))
		}
	}
	if f.o.MayInvite != nil {
		if err := f.o.MayInvite(e.Sender, user); err != nil {
			return err
		}
	}
	in, err := f.Rooms.Find(e.Room)
	if err == nil {
		h, err := f.Rooms.Head(in)
		if err != nil {
			return err
		}
		if err := f.Admits(h, origin); err != nil {
			return err
		}
	} else if !fault.Is(err, fault.NotFound) {
		return err
	}
	waiting := 0
	err = f.Rooms.Of(num, func(m room.Member) bool {
		if m.Outside && m.Membership == room.Invite && m.Room != in {
			waiting++
		}
		return waiting < maxInvites
	})
	if err == nil && waiting >= maxInvites {
		err = fault.Wait(op, inviteWait)
	}
	return err
}

// told reads the state that came with an invite or a knock into what clients are
// shown, with the user's own event behind it. In rooms of version 12 and later
// they have to be whole events of the room, its create event among them.
// Spec: server-server, PUT /invite/{roomId}/{eventId}.
func (f *Federation) told(ctx context.Context, v *event.Version, own *event.Event, list []byte) ([]byte, error) {
	const op = "federation.told"
	var shown []*event.Event
	var bad error
	n, size, created := 0, 0, false
	err := cjson.Array(list, func(raw []byte) bool {
		if n++; n > maxTold || size+len(raw) > maxToldBytes {
			return false
		}
		size += len(raw)
		e := shownEvent(raw)
		if v.RoomIDIsCreate {
			e, bad = whole(v, own.Room, raw)
		}
		if bad == nil && e != nil {
			shown = append(shown, e)
			created = created || e.Is("m.room.create", "")
		}
		return bad == nil
	})
	if len(list) == 0 {
		err = nil
	}
	if v.RoomIDIsCreate && err == nil && bad == nil {
		// All at once: a list that names many slow servers takes no longer than one.
		bad = errors.Join(f.o.VerifyEvents(ctx, v, shown)...)
	}
	if err != nil || bad != nil {
		return nil, fault.E(fault.Invalid, op, "the state that shows the room cannot be read: %w", orElse(bad, err))
	}
	if v.RoomIDIsCreate && n > 0 && !created { // who shows nothing shows nothing wrong
		return nil, fault.E(fault.Invalid, op, "the state that shows the room has no create event")
	}
	var dst []byte
	for _, e := range shown {
		if !e.Is("m.room.member", own.StateKey) {
			dst = append(event.AppendStripped(dst, e), ',')
		}
	}
	return event.AppendStripped(dst, own), nil
}

// whole reads an event that has to be one of the room's state; its signatures are
// for the caller to check.
func whole(v *event.Version, in mxid.RoomID, raw []byte) (*event.Event, error) {
	e, _, err := event.Receive(v, raw)
	if err == nil && (e.Room != in || !e.IsState) {
		err = fault.E(fault.Invalid, "federation.told", "an event is not of the room's state")
	}
	return e, err
}

// shownEvent reads a stripped event, or the same fields of a whole one; nil where
// it is neither.
func shownEvent(raw []byte) *event.Event {
	typ, ok1 := cjson.LookupString(raw, "type")
	key, ok2 := cjson.LookupString(raw, "state_key")
	sender, ok3 := cjson.LookupString(raw, "sender")
	content, ok4 := cjson.Lookup(raw, "content")
	if !ok1 || !ok2 || !ok3 || !ok4 || cjson.KindOf(content) != cjson.ObjectKind || len(typ) > event.MaxKey || len(key) > event.MaxKey {
		return nil
	}
	id, err := mxid.ParseUser(sender)
	if err != nil {
		return nil
	}
	if content, err = cjson.Canonical(nil, content, false); err != nil {
		return nil
	}
	return &event.Event{Type: typ, StateKey: key, IsState: true, Sender: id, Content: content}
}

// outside keeps the standing of one of our users in a room that the hub is not
// in; where it is, the room says so itself.
func (f *Federation) outside(num room.Num, e *event.Event, i *room.Invitation) error {
	w, err := f.Rooms.Write(num)
	if err != nil {
		return err
	}
	defer w.End()
	if len(w.Head().Local) > 0 {
		return nil
	}
	if err := w.Outside(e, i); err != nil {
		return err
	}
	pending, err := w.Commit(nil)
	if err != nil {
		return err
	}
	return pending.Wait()
}

// Exchange asks the server of who invited an address to invite its user.
// Spec: server-server, PUT /exchange_third_party_invite/{roomId}.
func (f *Federation) Exchange(ctx context.Context, in mxid.RoomID, sender, user mxid.UserID, content []byte) error {
	body := append(append([]byte(`{"content":`), content...), `,"room_id":`...)
	body = cjson.AppendString(append(cjson.AppendString(body, in), `,"sender":`...), sender)
	body = cjson.AppendString(append(body, `,"state_key":`...), user)
	body = append(body, `,"type":"m.room.member"}`...)
	_, err := f.do(ctx, &Request{Dest: sender.Server(), Method: "PUT", Path: pathOf("exchange_third_party_invite", string(in)), Body: body})
	return asTold(err)
}
