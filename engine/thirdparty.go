package engine

import (
	"context"
	"errors"

	"hearth/engine/auth"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/federation"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// An address that somebody invited to a room, and that has since found its user,
// is invited by an event that the identity server's signature in it allows.

// Exchange makes the invite of a third-party invite that one of our users made.
// content is the member event's, with the identity server's signature in it; the
// room's rules check that.
//
// Errors: NotFound, Forbidden, Invalid; Remote where the identity server does not
// say whether its key is still good.
// Spec: server-server, PUT /exchange_third_party_invite/{roomId}.
func (e *Engine) Exchange(ctx context.Context, id mxid.RoomID, sender, user mxid.UserID, content []byte) error {
	const op = "engine.Exchange"
	if sender.Server() != e.Server {
		return fault.E(fault.Forbidden, op, "who invites is no user of this server")
	}
	third, ok := cjson.Lookup(content, "third_party_invite")
	if !ok || cjson.KindOf(third) != cjson.ObjectKind {
		return fault.E(fault.Invalid, op, "this is no third-party invite")
	}
	num, err := e.Rooms.Find(id)
	if err != nil {
		return err
	}
	own, err := e.memberContent(user, "invite", "", false)
	if err != nil {
		return err
	}
	if third, err = e.displayed(ctx, num, sender, third); err != nil {
		return err
	}
	key := string(user)
	d := room.Draft{Type: "m.room.member", StateKey: &key, Sender: sender,
		Content: merge(append(append([]byte(`{"third_party_invite":`), third...), '}'), own)}
	_, err = e.memberState(num, &d)
	return err
}

// displayed puts the name into a third-party invite under which the room knows
// the invited, whatever the other server has put there: the room is not to learn
// the address. It refuses one whose key is not good any more.
func (e *Engine) displayed(ctx context.Context, num room.Num, sender mxid.UserID, third []byte) ([]byte, error) {
	head, err := e.Rooms.Head(num)
	if err != nil {
		return nil, err
	}
	third, err = cjson.Canonical(nil, third, false)
	if err != nil {
		return nil, fault.E(fault.BadJSON, "engine.Exchange", "the third-party invite cannot be read: %w", err)
	}
	signed, _ := cjson.Lookup(third, "signed")
	token, _ := cjson.LookupString(signed, "token")
	offer, err := e.Rooms.StateEvent(head.State, "m.room.third_party_invite", token)
	if err != nil || offer == nil || offer.Sender != sender {
		return third, err // the room's rules refuse it, and nobody has this hub ask at a link of theirs
	}
	if key, link, ok := auth.OfferedKey(offer.Content, signed); ok { // else the rules refuse it
		if err := e.keyIsGood(ctx, key, link); err != nil {
			return nil, err
		}
	}
	name, _ := cjson.LookupString(offer.Content, "display_name")
	return merge(third, appendField(nil, "display_name", name)), nil
}

// accept has a user invited by an invite that an identity server has signed for
// them, so that they can join. Who is invited or in the room already needs none.
// Errors: Invalid, and those of Exchange. Spec: client-server, third-party invites.
func (e *Engine) accept(ctx context.Context, id mxid.RoomID, user mxid.UserID, signed []byte) error {
	const op = "engine.Join"
	whom, _ := cjson.LookupString(signed, "mxid")
	text, _ := cjson.LookupString(signed, "sender")
	sender, err := mxid.ParseUser(text)
	if cjson.KindOf(signed) != cjson.ObjectKind || err != nil {
		return fault.E(fault.Invalid, op, "third_party_signed needs mxid, sender, token and signatures")
	}
	if whom != string(user) {
		return fault.E(fault.Forbidden, op, "the third-party invite is for another user")
	}
	if num, err := e.Rooms.Find(id); err == nil {
		known, err := e.Rooms.User(user)
		if err != nil {
			return err
		}
		m, err := e.Rooms.MemberOf(num, known)
		if err != nil || m.Membership == room.Invite || m.Membership == room.Join {
			return err
		}
	} else if !fault.Is(err, fault.NotFound) {
		return err
	}
	return e.exchange(ctx, id, [2]mxid.UserID{sender, user}, signed)
}

// exchange makes the invite of a third-party invite, or has the inviter's server
// make it; who is the inviter and the invited.
func (e *Engine) exchange(ctx context.Context, id mxid.RoomID, who [2]mxid.UserID, signed []byte) error {
	content := []byte(`{"membership":"invite","third_party_invite":{"display_name":"","signed":`)
	content = append(append(content, signed...), '}', '}')
	if who[0].Server() == e.Server {
		return e.Exchange(ctx, id, who[0], who[1], content)
	}
	return e.Federation.Exchange(ctx, id, who[0], who[1], content)
}

// Bound takes one invite that an identity server found the user of, where this
// hub is in the room; otherwise the inviter's server is asked to make it. What is
// wrong with it is passed over; the one error is Remote, for an inviter's server
// that is away: then it is worth to be told again.
// Spec: server-server, PUT /3pid/onbind.
func (e *Engine) Bound(ctx context.Context, invite []byte) error {
	field := func(name string) string {
		s, _ := cjson.LookupString(invite, name)
		return s
	}
	sender, err1 := mxid.ParseUser(field("sender"))
	user, err2 := mxid.ParseUser(field("mxid"))
	id, err3 := mxid.ParseRoom(field("room_id"))
	signed, ok := cjson.Lookup(invite, "signed")
	if err1 != nil || err2 != nil || err3 != nil || !ok || cjson.KindOf(signed) != cjson.ObjectKind || user.Server() != e.Server {
		return nil
	}
	// Anybody may say that an address is somebody's: nobody is asked for the sake of a
	// user who is not here.
	if num, err := e.Accounts.Find(user); err != nil || num == 0 {
		return nil
	}
	err := e.exchange(ctx, id, [2]mxid.UserID{sender, user}, signed)
	if err != nil {
		e.say("a third-party invite of %s came to nothing: %v", user, err)
	}
	var refused *federation.Refusal
	if fault.Is(err, fault.Remote) && (!errors.As(err, &refused) || refused.Status >= 500) {
		return err
	}
	return nil
}
