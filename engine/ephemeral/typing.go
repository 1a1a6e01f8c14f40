package ephemeral

import (
	"slices"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/store"
)

const (
	// MaxTyping is the longest a client may be taken to be typing without
	// saying so again.
	MaxTyping = 2 * time.Minute
	// maxTypists bounds those who type in one room at once; the answer to who
	// is typing names them all, each time it changes.
	maxTypists = 64
	// maxQuiet bounds the rooms that are remembered for having fallen silent.
	maxQuiet = 1024
)

// typists are those who type in one room.
type typists struct {
	users []typist
	seq   uint64 // of the last change of who they are
}

type typist struct {
	user  uint32
	until time.Time
}

// SetTyping says that a user types in a room for so long, or no longer does.
// It says whether that was news. Run wakes who is to know.
func (r *Records) SetTyping(room, user uint32, typing bool, long time.Duration) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.typing[room]
	i := -1
	if t != nil {
		i = slices.IndexFunc(t.users, func(x typist) bool { return x.user == user })
	}
	typing = typing && long > 0
	until := r.now().Add(min(long, MaxTyping))
	switch {
	case typing && i >= 0:
		t.users[i].until = until
		return false
	case !typing && i < 0, typing && t != nil && len(t.users) >= maxTypists:
		return false
	case !typing:
		t.users = slices.Delete(t.users, i, i+1)
	default:
		if t == nil {
			r.dropQuiet()
			t = &typists{}
			r.typing[room] = t
		}
		t.users = append(t.users, typist{user, until})
	}
	r.typingChanged(room, t)
	return true
}

func (r *Records) typingChanged(room uint32, t *typists) {
	t.seq = r.changed()
	if !slices.Contains(r.newRooms, room) {
		r.newRooms = append(r.newRooms, room)
	}
}

// dropQuiet makes place for a room. Who still holds an old token of a room
// dropped here may go on showing somebody as typing until the next one does;
// after a thousand other rooms that is a small harm.
func (r *Records) dropQuiet() {
	if len(r.typing) < maxQuiet {
		return
	}
	for room, t := range r.typing {
		if len(t.users) == 0 {
			delete(r.typing, room)
		}
	}
}

func (r *Records) expireTyping(now time.Time, next *time.Time) {
	for room, t := range r.typing {
		n := len(t.users)
		t.users = slices.DeleteFunc(t.users, func(x typist) bool { return !x.until.After(now) })
		if len(t.users) < n {
			r.typingChanged(room, t)
		}
		for _, x := range t.users {
			sooner(next, x.until)
		}
	}
}

// TypingSince lists the rooms whose typists changed after the counter stood at
// seq. From 0 those are the rooms in which somebody types.
func (r *Records) TypingSince(seq uint64) (rooms []uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seq >= r.seq {
		return nil
	}
	for room, t := range r.typing {
		if t.seq > seq && (seq > 0 || len(t.users) > 0) {
			rooms = append(rooms, room)
		}
	}
	slices.Sort(rooms)
	return rooms
}

// Typists lists who types in a room.
func (r *Records) Typists(room uint32) (users []uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.typing[room]; t != nil {
		for _, x := range t.users {
			users = append(users, x.user)
		}
	}
	return users
}

// AppendTyping appends the m.typing event of a room, without its room id.
// Spec: client-server, m.typing.
func (r *Records) AppendTyping(dst []byte, room uint32) ([]byte, error) {
	var buf [maxTypists]uint32
	users := buf[:0]
	r.mu.Lock()
	if t := r.typing[room]; t != nil {
		for _, x := range t.users {
			users = append(users, x.user)
		}
	}
	r.mu.Unlock()
	dst = append(dst, `{"content":{"user_ids":[`...)
	for i, user := range users {
		id, err := r.names.Name(store.Users, user)
		if err != nil {
			return dst, err
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = cjson.AppendString(dst, id)
	}
	return append(dst, `]},"type":"m.typing"}`...), nil
}
