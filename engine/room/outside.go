package room

import (
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// Users of this hub have a standing also in rooms that the hub is not in: they are
// invited there, or have knocked. What is known of such a room is its id, its
// version and what the other server told with the event. The room has a row
// without extremities, its outline; the user has the usual member rows, marked, and
// a row of Invitation with what was told.

// Outline makes a room known of which nothing is here but its id and version,
// and gives its number; a room that is known stays as it is. An outline of another
// version goes, with the standings that belong to it: one of the two was wrong, and
// what a server says of a room with an invite nobody can check.
//
// Errors: IncompatibleRoom where the room is here and of another version.
func (r *Rooms) Outline(v *event.Version, id mxid.RoomID) (Num, error) {
	r.outlining.Lock()
	defer r.outlining.Unlock()
	num, err := r.Find(id)
	if err == nil {
		have, err := r.versionOf(num)
		if err == nil && have != v {
			err = r.redraw(num, v)
		}
		return num, err
	}
	if !fault.Is(err, fault.NotFound) {
		return 0, err
	}
	w := r.New(v, id)
	if _, err := w.Commit(nil); err != nil { // what follows waits for the disk
		return 0, err
	}
	return w.head.Room, nil
}

// redraw makes an outline one of another version.
func (r *Rooms) redraw(num Num, v *event.Version) error {
	w, err := r.Write(num)
	if err != nil {
		return err
	}
	defer w.End()
	if h := w.head; !h.Bare() || h.snap.Num != 0 {
		return fault.E(fault.IncompatibleRoom, "room.Outline", "the room %s is of version %s, not %s", h.ID, h.Version.ID, v.ID)
	}
	var members []Member
	if err := r.Members(num, func(m Member) bool {
		members = append(members, m)
		return true
	}); err != nil {
		return err
	}
	w.head.Version = v
	for _, m := range members {
		r.standings.begin(num, m.User)
		defer r.standings.end(num, m.User)
	}
	pending, err := r.log.Begin(func(tx *stream.Tx) error {
		for _, m := range members {
			if e, err := r.Event(m.Event); err == nil {
				tx.Delete(eventNumberKey(nil, e.ID))
			}
			tx.Delete(bodyKey(nil, true, m.Event))
			tx.Delete(userRoomKey(nil, m.User, num))
			tx.Delete(memberKey(nil, num, m.User))
			tx.Delete(invitationKey(nil, num, m.User))
		}
		tx.Set(roomKey(nil, num), w.head.appendTo(nil))
		return nil
	})
	if err != nil {
		return err
	}
	w.l.gone.Store(true) // who waits to write there has the old version in hand
	r.forget([]Num{num})
	r.cache.clear()
	w.End()
	return pending.Wait()
}

// Bare says whether the room is an outline: no event of its graph is here.
func (h *Head) Bare() bool { return len(h.ext) == 0 }

// Anew lets go of the room's present: what is here is from before the hub was
// last in the room, and no event that the hub has leads on from it. The next event
// that is accepted brings its state along, and that is the room's from then on.
func (w *Writer) Anew() { w.head.ext, w.head.rest = nil, 0 }

// Invitation is what another server told of a room with an event that gave a
// user of this hub a standing there.
type Invitation struct {
	Via  []mxid.Server // servers that are in the room
	Told []byte        // stripped events with commas between, as clients are shown them
}

func (i *Invitation) appendTo(dst []byte) []byte {
	dst = append(dst, byte(len(i.Via)))
	for _, s := range i.Via {
		dst = append(append(dst, byte(len(s))), s...)
	}
	return append(dst, i.Told...)
}

func (i *Invitation) parse(val []byte) error {
	d := decoder{src: val}
	for range d.byte() {
		i.Via = append(i.Via, mxid.Server(d.bytes(int(d.byte()))))
	}
	i.Told = d.src
	return d.err("invitation")
}

func invitationKey(dst []byte, room Num, user uint32) []byte {
	return store.U32(store.U32(store.Invitation.Key(dst), uint32(room)), user)
}

// Invitation gives what was told with a user's standing outside a room; zero
// where there is none.
func (r *Rooms) Invitation(room Num, user uint32) (i Invitation, err error) {
	val, ok, err := r.st.Get(nil, invitationKey(nil, room, user))
	if err != nil || !ok {
		return i, err
	}
	return i, i.parse(val)
}

// Outside stages a member event of one of this hub's users in a room that the hub
// is not in. Its signatures were checked before; whether the room's rules allow it
// cannot be known. The user's standing is the event's from then on.
func (w *Writer) Outside(e *event.Event, i *Invitation) error {
	if err := w.ours(e); err != nil {
		return err
	}
	id := mxid.UserID(e.StateKey)
	if e.Type != "m.room.member" || !e.IsState || id.Server() != w.r.Server() {
		return fault.E(fault.Invalid, "room.Outside", "%s gives no user of this hub a standing", e.ID)
	}
	user, err := w.r.names.Number(store.Users, string(id))
	if err != nil {
		return err
	}
	m, err := w.r.MemberOf(w.head.Room, user)
	if err != nil {
		return err
	}
	s := staged{ev: &Event{Event: e, In: w.head.Room, Flags: flagOutlier | flagUnjudged, links: newLinks(linksUnknown)}, outcome: Aside}
	old, err := w.byID(e.ID)
	switch {
	case err == nil && old.In != w.head.Room:
		return fault.E(fault.Invalid, "room.Outside", "the event %s is of another room", e.ID)
	case err == nil:
		if m.Event == old.Num {
			return nil // told twice
		}
		s.ev, s.known = old, true
	case !fault.Is(err, fault.NotFound):
		return err
	default:
		w.adopt(&s, nil)
	}
	s.members = []*memberChange{{user: user, event: s.ev.Num, local: true, old: m.Membership, new: MembershipOf(e.Content), outside: true}}
	s.told = i.appendTo(nil)
	w.pack(&s)
	w.staged = append(w.staged, s)
	return nil
}

// appendOutside writes a standing outside the room, and tells the log.
func (w *Writer) appendOutside(tx *stream.Tx, s *staged, buf []byte) []byte {
	for _, m := range s.members {
		pos := tx.Put(&stream.Entry{Kind: stream.Standing, Room: uint32(w.head.Room), User: m.user, Event: uint64(s.ev.Num)})
		buf = m.appendRows(tx, w.head.Room, pos, buf)
		tx.Set(invitationKey(nil, w.head.Room, m.user), s.told)
		tx.Wake(m.user)
	}
	return buf
}
