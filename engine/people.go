package engine

import (
	"encoding/binary"
	"slices"
	"time"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/media"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// What a user changes about themselves has to reach every room they are in, and a
// hub may lose its power between two rooms, or a room's policy server be silent. So
// the change and a note of what is left to do go to the disk in one batch, the note
// goes when all is done, and what is noted is taken up at the next start and by and
// by. Doing it again is harmless: a room that was told is not told twice.

// The kinds of note in the Meta table; the number of the user, or of the room
// that is closed, follows.
const (
	noteProfile = "todo/profile/"
	noteLeave   = "todo/leave/"
	noteClose   = "todo/close/"
)

func note(kind string, num uint32) string {
	return kind + string(binary.BigEndian.AppendUint32(nil, num))
}

// SetProfile sets a field of a user's profile to a JSON value, or deletes it
// where the value is nil, and tells the rooms the user is in.
// Spec: client-server, events on change of profile information.
func (e *Engine) SetProfile(user uint32, id mxid.UserID, field string, value []byte) error {
	value, err := account.CheckProfile(field, value)
	if err != nil {
		return err
	}
	defer e.Accounts.Hold(user)()
	told := field == account.DisplayName || field == account.AvatarURL
	_, err = e.log.Commit(func(tx *stream.Tx) error {
		if told {
			tx.SetMeta(note(noteProfile, user), nil)
		}
		return e.Accounts.PutProfile(tx, user, field, value)
	})
	if err != nil || !told {
		return err
	}
	return e.showProfile(user, id)
}

// Deactivate ends an account for good and leaves all its rooms.
// Spec: client-server, POST /account/deactivate.
func (e *Engine) Deactivate(user uint32, id mxid.UserID, erase bool) error {
	defer e.Accounts.Hold(user)()
	sharers, err := e.Sharers(user)
	if err != nil {
		return err
	}
	_, err = e.log.Commit(func(tx *stream.Tx) error {
		tx.SetMeta(note(noteLeave, user), nil)
		if err := e.Accounts.Deactivate(tx, user, erase); err != nil {
			return err
		}
		told, err := e.E2EE.DropUser(tx, user)
		if err != nil || !told.Any() {
			return err
		}
		return e.tellKeys(tx, user, sharers, &told)
	})
	e.Accounts.Purge(user)
	if err != nil {
		return err
	}
	return e.leaveForGood(user, id)
}

// leaveForGood has a user who was deactivated leave all rooms. Whoever wanted to
// be erased has their files removed with that.
func (e *Engine) leaveForGood(user uint32, id mxid.UserID) error {
	u, err := e.Accounts.User(user)
	if err != nil {
		return err
	}
	if u.Erased {
		if err := e.dropMedia(user); err != nil {
			return err
		}
	}
	return e.leaveAll(user, id)
}

// dropMedia removes all files of a user. Those that are on their way in are cut
// off with their session, and no longer than that.
func (e *Engine) dropMedia(user uint32) error {
	var list []*media.Media
	err := e.Media.EachOf(user, func(m *media.Media) bool {
		list = append(list, m)
		return true
	})
	if err != nil {
		return err
	}
	for _, m := range list {
		err := e.Media.Delete(m.Origin, m.ID)
		if err != nil && !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.BadState) {
			return err
		}
	}
	return nil
}

// takeUp does what was left to do when the hub stopped.
func (e *Engine) takeUp() error {
	if err := e.eachNote(noteClose, func(num uint32) error { return e.emptyRoom(room.Num(num)) }); err != nil {
		return err
	}
	return e.TakeUp()
}

// TakeUp tells rooms of users who changed or went, as far as that was left to do:
// because the hub stopped, or because the rooms' policy servers did not answer.
func (e *Engine) TakeUp() error {
	if err := e.eachNote(noteProfile, func(num uint32) error { return e.ofUser(num, e.showProfile) }); err != nil {
		return err
	}
	return e.eachNote(noteLeave, func(num uint32) error { return e.ofUser(num, e.leaveForGood) })
}

// eachNote calls do for what is noted of a kind.
func (e *Engine) eachNote(kind string, do func(num uint32) error) error {
	var nums []uint32
	prefix := append(store.Meta.Prefix(), kind...)
	err := e.st.ScanPrefix(prefix, func(key, _ []byte) (bool, error) {
		if len(key) == len(prefix)+4 {
			nums = append(nums, binary.BigEndian.Uint32(key[len(prefix):]))
		}
		return true, nil
	})
	for _, num := range nums {
		if err == nil {
			err = do(num)
		}
	}
	return err
}

func (e *Engine) ofUser(user uint32, do func(user uint32, id mxid.UserID) error) error {
	id, err := e.names.Name(store.Users, user)
	if err != nil {
		return err
	}
	defer e.Accounts.Hold(user)()
	return do(user, mxid.UserID(id))
}

// So long it takes until what is left to do is tried again, and more each time.
const (
	firstPause = time.Minute
	mostPause  = time.Hour
)

// runLeft takes up what is left to do until the engine ends.
func (e *Engine) runLeft(fail func(error)) {
	pause := firstPause
	for {
		select {
		case <-e.stop:
			return
		case <-e.left:
		}
		select {
		case <-e.stop:
			return
		case <-time.After(pause):
		}
		if err := e.TakeUp(); err != nil {
			fail(err)
			e.leave()
		}
		if pause = min(2*pause, mostPause); len(e.left) == 0 {
			pause = firstPause
		}
	}
}

// leave says that something is left to do.
func (e *Engine) leave() {
	select {
	case e.left <- struct{}{}:
	default:
	}
}

// showProfile writes the user's profile into their member event of each room
// they are in. The caller holds the user.
func (e *Engine) showProfile(user uint32, id mxid.UserID) error {
	name, avatar, err := e.Accounts.NameAndAvatar(user)
	if err != nil {
		return err
	}
	return e.eachRoom(user, noteProfile, func(w *room.Writer, m room.Member) (*room.Draft, error) {
		old, err := w.State("m.room.member", string(id))
		if err != nil || m.Membership != room.Join || old == nil || room.MembershipOf(old.Content) != room.Join {
			return nil, err
		}
		return member(id, withProfile(old.Content, name, avatar)), nil
	})
}

// withProfile is the content of a member event with another profile. What let
// the user into a restricted room counts for the moment of the join only.
func withProfile(content []byte, name, avatar string) []byte {
	dst := []byte(`{"membership":"join"`)
	// The content is that of an event in the graph, so it is a sound object.
	_ = cjson.Object(content, func(key, val []byte) bool {
		switch string(key) {
		case "membership", account.DisplayName, account.AvatarURL, "join_authorised_via_users_server":
		default:
			dst = append(cjson.AppendString(append(dst, ','), string(key)), ':')
			dst = append(dst, val...)
		}
		return true
	})
	if avatar != "" {
		dst = cjson.AppendString(append(dst, `,"avatar_url":`...), avatar)
	}
	if name != "" {
		dst = cjson.AppendString(append(dst, `,"displayname":`...), name)
	}
	return append(dst, '}')
}

// leaveAll takes the user out of each room they are in or asked into. The
// caller holds the user.
func (e *Engine) leaveAll(user uint32, id mxid.UserID) error {
	return e.eachRoom(user, noteLeave, func(_ *room.Writer, m room.Member) (*room.Draft, error) {
		switch m.Membership {
		case room.Join, room.Invite, room.Knock:
			return member(id, []byte(`{"membership":"leave"}`)), nil
		}
		return nil, nil
	})
}

func member(id mxid.UserID, content []byte) *room.Draft {
	key := string(id)
	return &room.Draft{Type: "m.room.member", StateKey: &key, Sender: id, Content: content}
}

// inFlight is how many rooms may wait for the disk together.
const inFlight = 32

// eachRoom sends the event that draft makes, if any, to each of the user's
// rooms, and then drops the note. Rooms that refuse are passed over: what they
// show of the user is theirs to say. For a room whose policy server says nothing
// the note stays.
func (e *Engine) eachRoom(user uint32, kind string, draft func(w *room.Writer, m room.Member) (*room.Draft, error)) error {
	var rooms []room.Member
	err := e.Rooms.Of(user, func(m room.Member) bool {
		rooms = append(rooms, m)
		return true
	})
	var waiting []stream.Pending
	var silent []mxid.Server // policy servers: each is waited for once
	for _, m := range rooms {
		if err != nil {
			break
		}
		if len(silent) > 0 {
			if via := e.policeOf(m.Room); via != "" && slices.Contains(silent, via) {
				continue
			}
		}
		var p stream.Pending
		if p, err = e.once(m, draft); err == nil {
			waiting = append(waiting, p)
		} else if passedOver(err) {
			if fault.Is(err, fault.Remote) || fault.Is(err, fault.Limit) {
				silent = append(silent, e.policeOf(m.Room))
			}
			err = nil
		}
		if len(waiting) == inFlight {
			err = settle(waiting, err)
			waiting = waiting[:0]
		}
	}
	if err = settle(waiting, err); err != nil {
		return err
	}
	if len(silent) > 0 {
		e.leave()
		return nil
	}
	b := e.st.NewBatch()
	b.DropMeta(note(kind, user))
	return e.st.Apply(b) // a note that comes back after a power cut does no harm
}

// passedOver says whether an error is one room's and not the hub's: the room's
// rules, or its policy server, are against what others take.
func passedOver(err error) bool {
	return fault.Is(err, fault.Remote) || fault.Is(err, fault.Limit) ||
		fault.Is(err, fault.Forbidden) || fault.Is(err, fault.NotFound) || fault.Is(err, fault.BadJSON) || fault.Is(err, fault.TooLarge)
}

// settle waits for what has been begun, and gives the first error.
func settle(waiting []stream.Pending, err error) error {
	for _, p := range waiting {
		if werr := p.Wait(); err == nil {
			err = werr
		}
	}
	return err
}

// once sends one event to one room and does not wait for the disk.
func (e *Engine) once(m room.Member, draft func(w *room.Writer, m room.Member) (*room.Draft, error)) (p stream.Pending, err error) {
	w, err := e.Rooms.Write(m.Room)
	if err != nil {
		return p, err
	}
	defer func() { w.End() }() // of the writer that is there then
	d, err := draft(w, m)
	if err != nil || d == nil {
		return p, err
	}
	if old, err := w.Already(d); old != nil || err != nil {
		return p, err
	}
	_, p, err = e.commit(&w, d)
	return p, err
}
