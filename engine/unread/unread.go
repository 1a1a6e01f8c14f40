// Package unread counts what a user has not read: for each room the events that
// the user's push rules notify of, by thread, behind the user's receipts.
//
// It owns one row for each room and user who syncs. The row holds the unread
// notifications themselves, a few bytes each, up to a bound, and the position
// up to which the room was looked through. Asked for the counts, it reads on
// from there; a receipt only takes entries off the list, so nothing is counted
// twice and nothing is ever counted back. Nothing is written when an event
// arrives: a room of a thousand members costs its sender nothing.
//
// It refuses to be exact beyond its bounds: whoever was away for more events
// than maxFold is told about the newest of them.
package unread

import (
	"slices"
	"sync"

	"hearth/engine/account"
	"hearth/engine/ephemeral"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/pushrule"
	"hearth/engine/room"
	"hearth/engine/store"
	"hearth/engine/stream"
)

const (
	// maxFold is how many events of a room are looked through at once.
	maxFold = 500
	// maxNotes is how many unread notifications a row holds. Nobody reads the
	// difference between a thousand and more.
	maxNotes = 1000
	// maxThreads is how many threads a row tells apart; the notifications of
	// others count for the main timeline.
	maxThreads = 200
	// saveEvery is how many events a row may be behind on disk: less than
	// maxFold, so that a crash forgets nothing.
	saveEvery = 250
	// maxCached bounds the notes of the rows in memory, with rowWeight for each row.
	maxCached = 1 << 16
	rowWeight = 16
)

// Unread is the open record. All methods may be called at the same time.
type Unread struct {
	st       *store.Store
	rooms    *room.Rooms
	accounts *account.Accounts
	eph      *ephemeral.Records

	folding [64]sync.Mutex // by user; held while a row is brought up to date

	mu     sync.Mutex
	rows   map[rowKey]*row
	weight int
}

type rowKey struct{ user, room uint32 }

// Open begins with no row in memory.
func Open(st *store.Store, rooms *room.Rooms, accounts *account.Accounts, eph *ephemeral.Records) *Unread {
	return &Unread{st: st, rooms: rooms, accounts: accounts, eph: eph, rows: map[rowKey]*row{}}
}

// Reader is whose notifications are counted. One Reader serves one request.
type Reader struct {
	User    uint32
	ID      mxid.UserID
	Ignores func(sender mxid.UserID) bool // nil: nobody

	rules *pushrule.Ruleset // read when first needed
}

// Counts are two numbers that clients show beside a room.
type Counts struct{ Notify, Highlight int }

// Thread is the counts of one thread, named by its root.
type Thread struct {
	Root mxid.EventID
	Counts
}

// Tally is what a user has not read of a room.
type Tally struct {
	All     Counts   // of all threads together
	Main    Counts   // of what is in no thread
	Threads []Thread // those that have any
	Calls   int      // how many of All are calls that nobody took or turned down
}

// News is what the caller knows of a room already: all events behind a position
// up to the one that is asked for. It spares looking them up.
type News struct {
	After  stream.Pos
	Events []room.EventNum // oldest first
}

// Count brings a joined user's row of a room up to the position, which is not
// past the tip, and gives the counts. news may be nil. Spec: client-server, receiving
// notifications; unread_thread_notifications.
func (u *Unread) Count(rd *Reader, h *room.Head, upto stream.Pos, news *News) (t Tally, err error) {
	err = u.look(rd, h, upto, news, func(r *row) { t = r.tally() })
	return t, err
}

// Pending says whether a joined user has an event at a position yet to read that
// they were to be notified of. upto is as for Count.
func (u *Unread) Pending(rd *Reader, h *room.Head, upto, pos stream.Pos) (is bool, err error) {
	err = u.look(rd, h, upto, nil, func(r *row) {
		is = slices.ContainsFunc(r.notes, func(n note) bool { return n.pos == pos })
	})
	return is, err
}

// Judge says what a user is to be told about an event, whether or not they have
// read it: the actions of their push rules in the room as it is now. There are
// none for what is their own, of somebody they ignore, or redacted.
func (u *Unread) Judge(rd *Reader, h *room.Head, e *room.Event) (pushrule.Actions, error) {
	if e.Redacted() || e.Sender == rd.ID || rd.Ignores != nil && rd.Ignores(e.Sender) {
		return pushrule.Actions{}, nil
	}
	f := fold{u: u, rd: rd, h: h}
	return f.actions(e)
}

// look brings a row up to a position and shows it.
func (u *Unread) look(rd *Reader, h *room.Head, upto stream.Pos, news *News, show func(r *row)) error {
	lock := &u.folding[rd.User%uint32(len(u.folding))]
	lock.Lock()
	defer lock.Unlock()
	k := rowKey{rd.User, uint32(h.Room)}
	r, err := u.row(k)
	if err != nil {
		return err
	}
	notes := len(r.notes)
	f := fold{u: u, rd: rd, h: h, r: r}
	if err := f.run(upto, news); err != nil {
		return err
	}
	// What was removed of the room's history nobody can read any more.
	if floor := u.rooms.Floor(h.Room); floor != (room.Key{}) {
		r.notes = slices.DeleteFunc(r.notes, func(n note) bool { return n.pos < floor.Pos })
	}
	if r.heard == 0 || u.eph.Moved(r.heard) {
		if err := u.eph.ReceiptsOf(k.room, k.user, r.read); err != nil {
			return err
		}
	}
	r.heard = max(r.heard, upto)
	if r.behind >= saveEvery {
		b := u.st.NewBatch()
		u.save(b, k, r)
		// On a disk that takes nothing the counts are known all the same.
		if err := u.st.Apply(b); err != nil && !fault.Is(err, fault.Full) {
			return err
		}
	}
	u.grown(len(r.notes) - notes)
	show(r)
	return nil
}

// row gives a row, from memory or disk; a new one has position 0.
func (u *Unread) row(k rowKey) (*row, error) {
	u.mu.Lock()
	r := u.rows[k]
	u.mu.Unlock()
	if r != nil {
		return r, nil
	}
	val, ok, err := u.st.Get(nil, k.key())
	if err != nil {
		return nil, err
	}
	r = &row{}
	if ok && !r.parse(val) {
		return nil, fault.E(fault.Corrupt, "unread", "the row of user %d in room %d is cut", k.user, k.room)
	}
	u.mu.Lock()
	u.rows[k] = r
	u.mu.Unlock()
	u.grown(rowWeight + len(r.notes))
	return r, nil
}

// grown counts what the rows in memory have grown by. Where that is too much
// all are forgotten: it happens seldom, and needs no order of use. What the disk
// lacks of them is found again by the same fold, since it is less than maxFold.
func (u *Unread) grown(by int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.weight += by; u.weight > maxCached {
		u.rows, u.weight = map[rowKey]*row{}, 0
	}
}

// Close writes down what the disk lacks. Nobody may be counting any more.
func (u *Unread) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	b := u.st.NewBatch()
	for k, r := range u.rows {
		if r.behind > 0 {
			u.save(b, k, r)
		}
	}
	if b.Empty() {
		b.Drop()
		return nil
	}
	if err := u.st.Commit(b); !fault.Is(err, fault.Full) {
		return err
	}
	return nil // counted anew when the disk can be written
}

// Drop forgets what a user has not read of a room that is no more.
func (u *Unread) Drop(b *store.Batch, user, room uint32) {
	k := rowKey{user, room}
	b.Delete(k.key())
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.rows, k)
}

func (u *Unread) save(b *store.Batch, k rowKey, r *row) {
	b.Set(k.key(), r.appendTo(nil))
	r.behind = 0
}

func (k rowKey) key() []byte { return store.U32(store.U32(store.Unread.Prefix(), k.user), k.room) }
