package engine

import (
	"bytes"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// memberContent is the content of a member event: the membership, with the
// profile of a user of this hub where the membership shows one.
func (e *Engine) memberContent(user mxid.UserID, membership, reason string, direct bool) ([]byte, error) {
	dst := []byte{'{'}
	if user.Server() == e.Server && (membership == "join" || membership == "invite" || membership == "knock") {
		num, err := e.Accounts.Find(user)
		switch {
		case err == nil:
			name, avatar, err := e.Accounts.NameAndAvatar(num)
			if err != nil {
				return nil, err
			}
			if avatar != "" {
				dst = append(cjson.AppendString(append(dst, `"avatar_url":`...), avatar), ',')
			}
			if name != "" {
				dst = append(cjson.AppendString(append(dst, `"displayname":`...), name), ',')
			}
		case !fault.Is(err, fault.NotFound):
			return nil, err
		}
	}
	if direct {
		dst = append(dst, `"is_direct":true,`...)
	}
	dst = cjson.AppendString(append(dst, `"membership":`...), membership)
	if reason != "" {
		dst = cjson.AppendString(append(dst, `,"reason":`...), reason)
	}
	return append(dst, '}'), nil
}

// Membership changes a user's standing in a room as sender asks: join, invite,
// leave (also kick and unban) or ban. Where the user stands so already nothing
// is written, unless the change carries a reason.
//
// Errors: NotFound for an unknown room, Forbidden where the rules refuse.
func (e *Engine) Membership(num room.Num, sender, user mxid.UserID, membership, reason string) error {
	content, err := e.memberContent(user, membership, reason, false)
	if err != nil {
		return err
	}
	key := string(user)
	_, err = e.Rooms.Send(num, &room.Draft{Type: "m.room.member", StateKey: &key, Sender: sender, Content: content})
	return err
}

// MemberState sends a member event whose content a client wrote, adding the
// profile of the user where it joins and the content shows none.
func (e *Engine) MemberState(num room.Num, sender, user mxid.UserID, content []byte, txn room.Txn) (mxid.EventID, error) {
	key := string(user)
	if room.MembershipOf(content) == room.Join && sender == user {
		_, name := cjson.Lookup(content, "displayname")
		_, avatar := cjson.Lookup(content, "avatar_url")
		if !name && !avatar {
			own, err := e.memberContent(user, "join", "", false)
			if err != nil {
				return "", err
			}
			content = merge(own, content)
		}
	}
	return e.Rooms.Send(num, &room.Draft{Type: "m.room.member", StateKey: &key, Sender: sender, Content: content, Txn: txn})
}

// merge puts the members of two JSON objects into one; where both have a key
// the later counts when the result is made canonical.
func merge(a, b []byte) []byte {
	a, b = bytes.TrimSpace(a), bytes.TrimSpace(b)
	inner := bytes.TrimSpace(b[1 : len(b)-1])
	if len(inner) == 0 {
		return a
	}
	out := append([]byte(nil), a[:len(a)-1]...)
	if len(out) > 1 {
		out = append(out, ',')
	}
	return append(append(out, inner...), '}')
}
