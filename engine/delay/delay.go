// Package delay keeps the events that clients want sent later: rows on disk, so
// that a restart forgets none, and when each of them is due. Spec: MSC4140.
//
// It refuses to send: package engine asks what is due, sends it and says so.
// All rows are in memory as well; how many there are is bounded, for each user and
// for the hub.
package delay

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
)

// Bounds of what may wait.
const (
	MaxDelay = 7 * 24 * time.Hour
	maxUser  = 100
	maxAll   = 5000
	// The contents are in memory: bytes of one user's, and of all.
	maxUserBytes = 512 << 10
	maxAllBytes  = 8 << 20
)

// Event is an event that waits. Shared and not written to.
type Event struct {
	ID       string          `json:"-"`
	User     uint32          `json:"user"`
	Sender   mxid.UserID     `json:"sender"`
	Room     mxid.RoomID     `json:"room"`
	Type     string          `json:"type"`
	StateKey *string         `json:"state_key,omitempty"`
	Content  json.RawMessage `json:"content"`
	Delay    int64           `json:"delay"` // milliseconds
	Since    int64           `json:"since"` // when the time began to run, in milliseconds
	Device   uint64          `json:"device"`
	Txn      string          `json:"txn,omitempty"` // the client's; empty for state
}

// Due is when the event is to be sent, in milliseconds.
func (e *Event) Due() int64 { return e.Since + e.Delay }

// Queue is what waits. All methods may be called at the same time.
type Queue struct {
	st    *store.Store
	count atomic.Int64
	moved chan struct{} // holds one where what is next may have changed

	mu   sync.Mutex
	byID map[string]*Event
}

// Open reads what waits.
func Open(st *store.Store) (*Queue, error) {
	q := &Queue{st: st, byID: map[string]*Event{}, moved: make(chan struct{}, 1)}
	err := st.ScanPrefix(store.Delayed.Prefix(), func(key, val []byte) (bool, error) {
		e := &Event{ID: string(key[1:])}
		if err := json.Unmarshal(val, e); err != nil {
			return false, fault.E(fault.Corrupt, "delay.Open", "a row cannot be read: %w", err)
		}
		q.byID[e.ID] = e
		return true, nil
	})
	q.count.Store(int64(len(q.byID)))
	return q, err
}

func (q *Queue) key(id string) []byte { return append(store.Delayed.Prefix(), id...) }

// write puts a row to disk. The caller holds mu.
func (q *Queue) write(e *Event) error {
	row, err := json.Marshal(e)
	if err != nil {
		return fault.E(fault.BadJSON, "delay", "the content is no JSON: %w", err)
	}
	b := q.st.NewBatch()
	b.Set(q.key(e.ID), row)
	if err := q.st.Commit(b); err != nil {
		return err
	}
	q.byID[e.ID] = e
	q.changed()
	return nil
}

func (q *Queue) changed() {
	q.count.Store(int64(len(q.byID)))
	select {
	case q.moved <- struct{}{}:
	default:
	}
}

// Moved gets a value when what is due next may have changed.
func (q *Queue) Moved() <-chan struct{} { return q.moved }

// Add takes an event in and gives its id. Errors: Limit where too many wait.
func (q *Queue) Add(e *Event) (string, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	mine, myBytes, bytes := 0, len(e.Content), len(e.Content)
	for _, other := range q.byID {
		bytes += len(other.Content)
		if other.User == e.User {
			mine++
			myBytes += len(other.Content)
		}
	}
	if mine >= maxUser || len(q.byID) >= maxAll || myBytes > maxUserBytes || bytes > maxAllBytes {
		return "", fault.Wait("delay.Add", time.Minute)
	}
	var raw [18]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return "", err
	}
	e.ID = base64.RawURLEncoding.EncodeToString(raw[:])
	return e.ID, q.write(e)
}

// Again finds the event that a client's transaction has made; empty where it is
// new or gone.
func (q *Queue) Again(room mxid.RoomID, typ string, device uint64, txn string) string {
	if q.count.Load() == 0 || txn == "" {
		return ""
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range q.byID {
		if e.Txn == txn && e.Device == device && e.Room == room && e.Type == typ {
			return e.ID
		}
	}
	return ""
}

// Get finds an event that waits. NotFound where there is none.
func (q *Queue) Get(id string) (*Event, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e := q.byID[id]; e != nil {
		return e, nil
	}
	return nil, fault.E(fault.NotFound, "delay.Get", "no event with this id waits")
}

// Restart lets the time of an event run anew.
func (q *Queue) Restart(id string, now int64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	old := q.byID[id]
	if old == nil {
		return fault.E(fault.NotFound, "delay.Restart", "no event with this id waits")
	}
	e := *old
	e.Since = now
	return q.write(&e)
}

// Drop takes an event out: it was sent, or is not to be. NotFound where there is
// none.
func (q *Queue) Drop(id string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.byID[id] == nil {
		return fault.E(fault.NotFound, "delay.Drop", "no event with this id waits")
	}
	return q.drop(id)
}

func (q *Queue) drop(id string) error {
	b := q.st.NewBatch()
	b.Delete(q.key(id))
	b.Frees()
	if err := q.st.Commit(b); err != nil {
		return err
	}
	delete(q.byID, id)
	q.changed()
	return nil
}

// Supersede drops the state events that wait for a key which somebody else has
// set now. It costs nothing where nothing waits.
func (q *Queue) Supersede(room mxid.RoomID, typ, stateKey string, by mxid.UserID) error {
	if q.count.Load() == 0 {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for id, e := range q.byID {
		if e.StateKey != nil && e.Room == room && e.Type == typ && *e.StateKey == stateKey && e.Sender != by {
			if err := q.drop(id); err != nil {
				return err
			}
		}
	}
	return nil
}

// Of lists what waits of a user, the next due first.
func (q *Queue) Of(user uint32) []*Event {
	return q.list(func(e *Event) bool { return e.User == user })
}

// All lists what waits, the next due first.
func (q *Queue) All() []*Event {
	return q.list(func(*Event) bool { return true })
}

// Due lists what is due at a time, the oldest first; next is when more is, 0 where
// nothing waits.
func (q *Queue) Due(now int64) (due []*Event, next int64) {
	due = q.list(func(e *Event) bool {
		if e.Due() > now && (next == 0 || e.Due() < next) {
			next = e.Due()
		}
		return e.Due() <= now
	})
	return due, next
}

func (q *Queue) list(want func(e *Event) bool) (list []*Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range q.byID {
		if want(e) {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b *Event) int {
		if a.Due() != b.Due() {
			return int(min(max(a.Due()-b.Due(), -1), 1))
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list
}
