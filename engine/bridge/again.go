package bridge

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"sync"
	"time"

	"hearth/engine/fault"
	"hearth/engine/mqtt"
	"hearth/engine/store"
)

// Who was not answered sends a message again, with the same packet id and the
// mark that it is a repeat; a room must show one event all the same. So each
// message that becomes an event is noted with the transaction of that event,
// before it: where the event is on disk the note is too. A repeat that fits a
// note is sent with the note's transaction, and the room knows that one.
//
// Packet ids are used anew, and two alarms may be alike in every byte. A note
// therefore counts for repeats only, and not for long after the answer: an alarm
// told twice is harmless, one taken for another is not.
type notes struct {
	mu  sync.Mutex
	all map[string]*note
}

// note is a message that became, or is about to become, an event.
type note struct {
	Sum  []byte    `json:"sum"` // of topic and payload
	Txn  string    `json:"txn"` // of the event
	over time.Time // when it is forgotten; zero: the message is not answered yet
}

const (
	maxNotes = 4096
	// repeatFor is how long after its answer a message may come again: so long a
	// connection may seem alive that is not.
	repeatFor = 5 * time.Minute
	// repeatLater is that for messages from before the hub's start, whose answers
	// may all be lost. Rooms know transactions for as long.
	repeatLater = 24 * time.Hour
)

// noteKey names a packet of a session.
func noteKey(m *mqtt.Message) string {
	key := append(append([]byte(m.From.Name), 0), m.ClientID...)
	return string(binary.BigEndian.AppendUint16(append(key, 0), m.ID))
}

func noteRow(key string) []byte { return append(store.Repeat.Prefix(), key...) }

func (n *notes) load(st *store.Store, now time.Time) error {
	n.all = map[string]*note{}
	return st.ScanPrefix(store.Repeat.Prefix(), func(key, val []byte) (bool, error) {
		one := &note{over: now.Add(repeatLater)}
		if err := json.Unmarshal(val, one); err != nil {
			return false, fault.E(fault.Corrupt, "bridge.Open", "the row of a message cannot be read: %w", err)
		}
		n.all[string(key[1:])] = one
		return true, nil
	})
}

// transaction gives the id of the transaction that a message becomes an event in.
func (n *notes) transaction(st *store.Store, m *mqtt.Message) (string, error) {
	var raw [12]byte
	_, _ = rand.Read(raw[:]) // never fails
	one := &note{Txn: txnPrefix + hex.EncodeToString(raw[:])}
	if m.ID == 0 || m.Will {
		return one.Txn, nil
	}
	h := sha256.New()
	h.Write(append([]byte(m.Topic), 0))
	h.Write(m.Payload)
	one.Sum = h.Sum(nil)[:16]
	key := noteKey(m)
	n.mu.Lock()
	defer n.mu.Unlock()
	if old := n.all[key]; old != nil && m.Dup && string(old.Sum) == string(one.Sum) {
		return old.Txn, nil
	}
	if n.all[key] == nil && len(n.all) >= maxNotes {
		return one.Txn, nil
	}
	row, err := json.Marshal(one)
	if err != nil {
		return "", fault.E(fault.Internal, "bridge", "%w", err)
	}
	b := st.NewBatch()
	b.Set(noteRow(key), row)
	if err := st.Apply(b); err != nil { // synced with the event that follows
		return "", err
	}
	n.all[key] = one
	return one.Txn, nil
}

// answered has the note of a message forgotten some time later.
func (n *notes) answered(m *mqtt.Message, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if one := n.all[noteKey(m)]; one != nil {
		one.over = now.Add(repeatFor)
	}
}

// clean forgets what is over.
func (n *notes) clean(st *store.Store, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	b := st.NewBatch()
	b.Frees()
	for key, one := range n.all {
		if !one.over.IsZero() && !one.over.After(now) {
			b.Delete(noteRow(key))
			delete(n.all, key)
		}
	}
	if b.Empty() {
		b.Drop()
		return
	}
	_ = st.Apply(b) // they are looked at again after the next start
}
