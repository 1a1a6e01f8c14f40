package federation

import (
	"context"
	"net/url"
	"slices"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// leaveTime bounds how long a user waits for servers that may be gone: they leave
// in any case.
const leaveTime = 20 * time.Second

// Knock has a user of this hub knock on a room that the hub is not in.
// Errors: as Join. Spec: server-server, knocking.
func (f *Federation) Knock(ctx context.Context, c *Change) error {
	return f.each(ctx, c, func(server mxid.Server) error {
		t, err := f.make(ctx, server, "knock", c, nil)
		if err != nil {
			return err
		}
		e, err := f.complete(t, c)
		if err != nil {
			return err
		}
		num, err := f.Rooms.Outline(t.v, c.Room)
		if err != nil {
			return err
		}
		answer, err := f.do(ctx, &Request{Dest: server, Method: "PUT", Path: sendPath("v1", "knock", e), Body: e.JSON, MaxAnswer: maxTemplate})
		if err != nil {
			return asTold(err)
		}
		state, _ := cjson.Lookup(answer, "knock_room_state")
		told, err := f.told(ctx, t.v, e, state)
		if err != nil {
			told = event.AppendStripped(nil, e) // the knock has been made
		}
		return f.outside(num, e, &room.Invitation{Via: []mxid.Server{server}, Told: told})
	})
}

func sendPath(version, what string, e *event.Event) string {
	return "/_matrix/federation/" + version + "/send_" + what + "/" + url.PathEscape(string(e.Room)) + "/" + url.PathEscape(string(e.ID))
}

// Leave has a user of this hub leave a room that the hub is not in: it turns an
// invite down or takes a knock back. Where no server can be told, the user has
// left all the same, as far as this hub is concerned.
// Spec: server-server, leaving rooms (rejecting invites).
func (f *Federation) Leave(ctx context.Context, num room.Num, c *Change) error {
	h, err := f.Rooms.Head(num)
	if err != nil {
		return err
	}
	short, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	var left *event.Event
	err = f.each(short, c, func(server mxid.Server) error {
		t, err := f.make(short, server, "leave", c, h.Version)
		if err != nil {
			return err
		}
		if t.v != h.Version {
			return fault.E(fault.Remote, "federation.Leave", "%s says that the room is of another version", server)
		}
		if left, err = f.complete(t, c); err != nil {
			return err
		}
		r := &Request{Dest: server, Method: "PUT", Path: sendPath("v2", "leave", left), Body: left.JSON}
		if _, err = f.do(short, r); unknownEndpoint(err) {
			r.Path = sendPath("v1", "leave", left)
			_, err = f.askOld(short, r)
		}
		return err
	})
	if err != nil {
		if ours(err) {
			return err
		}
		f.o.Log("federation: %s leaves %s without its servers: %v", c.User, c.Room, err)
		if left, err = f.leaveAlone(num, h, c); err != nil {
			return err
		}
	}
	return f.outside(num, left, &room.Invitation{Told: event.AppendStripped(nil, left)})
}

// leaveAlone makes a leaving that no other server hears of: it follows what gave
// the user their standing.
func (f *Federation) leaveAlone(num room.Num, h *room.Head, c *Change) (*event.Event, error) {
	user, err := f.Rooms.User(c.User)
	if err != nil {
		return nil, err
	}
	m, err := f.Rooms.MemberOf(num, user)
	if err != nil {
		return nil, err
	}
	last, err := f.Rooms.Event(m.Event)
	if err != nil {
		return nil, err
	}
	refs := cjson.AppendStrings(nil, []mxid.EventID{last.ID})
	if h.Version.IDs == event.IDInEvent {
		refs = []byte(`[]`)
	}
	t := template{v: h.Version, obj: append(append(append(append([]byte(`{"auth_events":`), refs...), `,"prev_events":`...), refs...), '}')}
	return f.complete(&t, c)
}

// outsider takes in an event that changes the standing of one of our users in a
// room that the hub is not in: an invite withdrawn, a knock answered. It has to
// be about the standing that the user has now, and an invite is withdrawn by who
// made it: what others may do in the room cannot be seen from here. taken says
// that it was such an event.
func (f *Federation) outsider(h *room.Head, origin mxid.Server, e *event.Event) (taken bool, err error) {
	id := mxid.UserID(e.StateKey)
	if !e.Is("m.room.member", e.StateKey) || id.Server() != f.server || e.Sender.Server() != origin {
		return false, nil
	}
	user, err := f.Rooms.User(id)
	if err != nil || user == 0 {
		return false, err
	}
	m, err := f.Rooms.MemberOf(h.Room, user)
	if err != nil || !m.Outside || m.Membership != room.Invite && m.Membership != room.Knock {
		return false, err
	}
	last, err := f.Rooms.Event(m.Event)
	if err != nil {
		return false, err
	}
	ends := room.MembershipOf(e.Content) == room.Leave || room.MembershipOf(e.Content) == room.Ban
	if !ends || !slices.Contains(e.Auth, last.ID) || m.Membership == room.Invite && e.Sender != last.Sender {
		return false, nil
	}
	had, err := f.Rooms.Invitation(h.Room, user)
	if err != nil {
		return false, err
	}
	return true, f.outside(h.Room, e, &room.Invitation{Via: had.Via, Told: event.AppendStripped(nil, e)})
}
