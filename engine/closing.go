package engine

import (
	"strconv"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/stream"
)

// RoomSummary is what the hub's owner sees of a room.
type RoomSummary struct {
	Num                     room.Num
	ID                      mxid.RoomID
	Version                 string
	Creator                 mxid.UserID
	Name, Topic, Avatar     string
	Alias                   string // canonical
	Type                    string
	Encryption              string
	JoinRule, Guests        string
	Visibility              string // of the history
	Federates, Published    bool
	Joined, Local, StateLen int
	Bare                    bool // an outline: nothing is known of it but what came with invites
}

// Summary describes a room as it is now.
func (e *Engine) Summary(num room.Num) (s RoomSummary, err error) {
	h, err := e.Rooms.Head(num)
	if err != nil {
		return s, err
	}
	e.Rooms.Settled(h)
	s = RoomSummary{Num: num, ID: h.ID, Version: h.Version.ID, Federates: true, Joined: h.Joined, Local: len(h.Local), StateLen: len(h.State), Bare: h.Bare()}
	for _, f := range [...]struct {
		typ, key string
		to       *string
	}{
		{"m.room.name", "name", &s.Name}, {"m.room.topic", "topic", &s.Topic}, {"m.room.avatar", "url", &s.Avatar},
		{typeCanonicalAlias, "alias", &s.Alias}, {"m.room.create", "type", &s.Type},
		{"m.room.encryption", "algorithm", &s.Encryption}, {"m.room.join_rules", "join_rule", &s.JoinRule},
		{typeGuestAccess, "guest_access", &s.Guests}, {"m.room.history_visibility", "history_visibility", &s.Visibility},
	} {
		if *f.to, err = e.stateText(h, f.typ, f.key); err != nil {
			return s, err
		}
	}
	create, err := e.Rooms.StateEvent(h.State, "m.room.create", "")
	if err != nil {
		return s, err
	}
	if create != nil {
		s.Creator = create.Sender
		if val, ok := cjson.Lookup(create.Content, "m.federate"); ok {
			s.Federates, ok = cjson.Bool(val)
			s.Federates = s.Federates || !ok
		}
	}
	s.Published, err = e.Directory.IsPublished(uint32(num))
	return s, err
}

// metaBlocked names, in the Meta table, rooms that nobody of this hub may join;
// the room id follows, the value is who blocked it.
const metaBlocked = "blocked/"

// BlockRoom keeps everybody of this hub from joining a room, or lets them
// again. The room need not be known yet.
func (e *Engine) BlockRoom(id mxid.RoomID, by mxid.UserID, on bool) error {
	if _, err := mxid.ParseRoom(string(id)); err != nil {
		return fault.E(fault.Invalid, "engine.BlockRoom", "not a room id: %w", err)
	}
	b := e.st.NewBatch()
	if on {
		b.SetMeta(metaBlocked+string(id), []byte(by))
	} else {
		b.DropMeta(metaBlocked + string(id))
	}
	return e.st.Commit(b)
}

// RoomBlocked says whether a room is blocked.
func (e *Engine) RoomBlocked(id mxid.RoomID) (bool, error) {
	_, ok, err := e.st.Meta(metaBlocked + string(id))
	return ok, err
}

// BlockedBy says who blocked a room; empty where it is not blocked.
func (e *Engine) BlockedBy(id mxid.RoomID) (mxid.UserID, error) {
	by, _, err := e.st.Meta(metaBlocked + string(id))
	return mxid.UserID(by), err
}

// CloseRoom takes everybody of this hub out of a room, has them forget it, and
// drops its aliases and its place in the public list. It gives those who were
// joined and the aliases. With purge the room is no more when it returns, and
// Rooms.Purged tells when its rows are.
func (e *Engine) CloseRoom(num room.Num, purge bool) (out []mxid.UserID, aliases []mxid.Alias, err error) {
	head, err := e.Rooms.Head(num)
	if err != nil {
		return nil, nil, err
	}
	for _, user := range head.Local {
		id, err := e.Rooms.UserID(user)
		if err != nil {
			return nil, nil, err
		}
		out = append(out, id)
	}
	if aliases, err = e.Directory.Aliases(uint32(num)); err != nil {
		return nil, nil, err
	}
	_, err = e.log.Commit(func(tx *stream.Tx) error {
		var how []byte
		if purge {
			how = []byte{1}
		}
		tx.SetMeta(note(noteClose, uint32(num)), how)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return out, aliases, e.emptyRoom(num)
}

// emptyRoom does what CloseRoom has noted.
func (e *Engine) emptyRoom(num room.Num) error {
	if err := e.dropListing(num); err != nil {
		return err
	}
	if err := e.takeOut(num); err != nil {
		return err
	}
	if ended, err := e.endEmptied(num); ended || err != nil {
		return err
	}
	b := e.st.NewBatch()
	b.DropMeta(note(noteClose, uint32(num)))
	return e.st.Apply(b) // a note that comes back after a power cut does no harm
}

// takeOut has everybody of this hub leave a room and forget it.
func (e *Engine) takeOut(num room.Num) error {
	var inside, left []uint32
	err := e.Rooms.Members(num, func(m room.Member) bool {
		switch {
		case !m.Local:
		case m.Membership == room.Join, m.Membership == room.Invite, m.Membership == room.Knock:
			inside = append(inside, m.User)
		case !m.Forgotten:
			left = append(left, m.User)
		}
		return true
	})
	if err != nil {
		return err
	}
	for _, user := range inside {
		id, err := e.Rooms.UserID(user)
		if err == nil {
			err = e.standing(num, id, id, "leave", "the room was closed", func(*room.Writer, room.Membership) (bool, error) { return true, nil })
		}
		if err != nil && !passedOver(err) {
			return err
		}
		left = append(left, user)
	}
	for _, user := range left {
		if err := e.Rooms.Forget(num, user); err != nil && !fault.Is(err, fault.Unknown) {
			return err
		}
	}
	return nil
}

func (e *Engine) dropListing(num room.Num) error {
	e.aliases.Lock()
	defer e.aliases.Unlock()
	aliases, err := e.Directory.Aliases(uint32(num))
	if err != nil {
		return err
	}
	b := e.st.NewBatch()
	for _, alias := range aliases {
		e.Directory.Drop(b, alias, uint32(num))
	}
	e.Directory.Publish(b, uint32(num), false)
	return e.st.Commit(b)
}

// most is the power that Crown gives: what creators give themselves.
const most = 100

// Crown gives a user of this hub as much power in a room as somebody of this
// hub may give there, and invites them where they are not in it. For rooms whose
// last admin has gone.
//
// Errors: Forbidden where nobody of this hub may.
func (e *Engine) Crown(num room.Num, user mxid.UserID) error {
	return e.crown(num, user, most, func(mxid.UserID) (bool, error) { return true, nil })
}

// crown gives power up to a level, of that of somebody who may give it.
func (e *Engine) crown(num room.Num, user mxid.UserID, upto int64, may func(mxid.UserID) (bool, error)) error {
	head, err := e.Rooms.Head(num)
	if err != nil {
		return err
	}
	var giver mxid.UserID
	level := head.Levels.EventLevel("m.room.power_levels", true) - 1
	for _, local := range head.Local {
		id, err := e.Rooms.UserID(local)
		if err != nil {
			return err
		}
		has := head.Levels.UserLevel(id)
		if has <= level {
			continue
		}
		ok, err := may(id)
		if err != nil {
			return err
		}
		if ok {
			giver, level = id, has
		}
	}
	if giver == "" {
		return fault.E(fault.Forbidden, "engine.Crown", "nobody of this hub may change who has power in this room")
	}
	if head.Levels.UserLevel(user) < min(level, upto) {
		if err := e.raise(num, giver, user, min(level, upto)); err != nil {
			return err
		}
	}
	known, err := e.Rooms.User(user)
	if err != nil {
		return err
	}
	m, err := e.Rooms.MemberOf(num, known)
	if err != nil || m.Membership == room.Join || m.Membership == room.Invite {
		return err
	}
	return e.Invite(num, giver, user, "")
}

// raise writes the power levels anew with another level of one user.
func (e *Engine) raise(num room.Num, giver, user mxid.UserID, level int64) error {
	head, err := e.Rooms.Head(num)
	if err != nil {
		return err
	}
	old, err := e.Rooms.StateEvent(head.State, "m.room.power_levels", "")
	if err != nil {
		return err
	}
	content, users := []byte("{}"), []byte("{}")
	if old != nil {
		content = old.Content
		if val, ok := cjson.Lookup(content, "users"); ok && cjson.KindOf(val) == cjson.ObjectKind {
			users = val
		}
	}
	one := strconv.AppendInt(append(cjson.AppendString([]byte{'{'}, string(user)), ':'), level, 10)
	users = merge(users, append(one, '}'))
	content = merge(content, append(append([]byte(`{"users":`), users...), '}'))
	key := ""
	_, err = e.post(num, &room.Draft{Type: "m.room.power_levels", StateKey: &key, Sender: giver, Content: content})
	return err
}
