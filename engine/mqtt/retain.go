package mqtt

import (
	"bytes"
	"sync"
	"time"

	"hearth/engine/store"
)

// keeper has the retained messages. They lie on disk alone; what came by QoS 0
// waits in memory for at most Limits.RetainedSeconds, so that a value that
// changes ten times a second is written once.
type keeper struct {
	b *Broker

	mu      sync.Mutex
	waiting map[string]held // by topic
	bytes   int             // of waiting
	since   time.Time       // of the oldest in waiting
	count   int             // on disk
	size    int64
	urgent  bool // a flush is under way because waiting was full
}

// held is a retained value of QoS 0 that is not on disk yet.
type held struct {
	m     *Message // nil: the topic is to have none
	fresh bool     // the topic has none on disk
}

const maxHeld = 1 << 20 // bytes of waiting

func retainedKey(topic string) []byte { return append(store.Retained.Key(nil), topic...) }

func openKeeper(b *Broker) (*keeper, error) {
	k := &keeper{b: b, waiting: map[string]held{}}
	err := b.st.ScanPrefix(store.Retained.Prefix(), func(key, val []byte) (bool, error) {
		k.count++
		k.size += int64(len(key) + len(val))
		return true, nil
	})
	return k, err
}

// admit says whether there is room for a retained message.
func (k *keeper) admit(m *Message) bool {
	if len(m.Payload) == 0 {
		return true
	}
	k.mu.Lock()
	full := k.count+len(k.waiting) >= k.b.limits.Retained || k.size+int64(k.bytes+m.memory()) > k.b.limits.RetainedBytes
	k.mu.Unlock()
	if !full {
		return true
	}
	known, err := k.b.st.Has(retainedKey(m.Topic)) // a new value takes the old one's place
	return err == nil && known
}

// hold takes a retained value of QoS 0, and says whether there was room.
func (k *keeper) hold(m *Message) bool {
	if !k.admit(m) {
		return false
	}
	k.mu.Lock()
	old, again := k.waiting[m.Topic]
	k.mu.Unlock()
	if !again {
		known, err := k.b.st.Has(retainedKey(m.Topic))
		old.fresh = err == nil && !known
	}
	h := held{fresh: old.fresh}
	if len(m.Payload) > 0 {
		h.m = m.Clone()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.waiting) == 0 {
		k.since = k.b.o.Now()
	}
	k.bytes += h.memory(m.Topic)
	if old, ok := k.waiting[m.Topic]; ok {
		k.bytes -= old.memory(m.Topic)
	}
	k.waiting[m.Topic] = h
	if k.bytes > maxHeld && !k.urgent {
		k.urgent = true
		k.b.do(func() {
			if err := k.flush(); err != nil {
				k.b.o.Log("mqtt: retained messages were not written: %v", err)
			}
		})
	}
	return true
}

func (h held) memory(topic string) int {
	if h.m == nil {
		return 64 + len(topic)
	}
	return 64 + h.m.memory()
}

// put writes a retained message of QoS 1 or 2 with its batch; one without a
// payload removes the topic's.
func (k *keeper) put(batch *store.Batch, m *Message) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if h, ok := k.waiting[m.Topic]; ok {
		k.bytes -= h.memory(m.Topic)
		delete(k.waiting, m.Topic)
	}
	key := retainedKey(m.Topic)
	if len(m.Payload) == 0 {
		m = nil
	}
	k.write(batch, m, key)
}

// tick writes what has waited long enough.
func (k *keeper) tick(now time.Time) error {
	k.mu.Lock()
	due := len(k.waiting) > 0 && now.Sub(k.since) >= time.Duration(k.b.limits.RetainedSeconds)*time.Second
	k.mu.Unlock()
	if !due {
		return nil
	}
	return k.flush()
}

// flush writes what waits. The rows go with the next batch that is synced.
func (k *keeper) flush() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.urgent = false
	if len(k.waiting) == 0 {
		return nil
	}
	batch := k.b.st.NewBatch()
	for topic, h := range k.waiting {
		k.write(batch, h.m, retainedKey(topic))
	}
	if err := k.b.st.Commit(batch); err != nil {
		batch.Drop()
		return err
	}
	clear(k.waiting)
	k.bytes = 0
	return nil
}

// write puts one row into a batch, nil as its deletion. It needs mu.
func (k *keeper) write(batch *store.Batch, m *Message, key []byte) {
	if old, ok, err := k.b.st.Get(nil, key); err == nil && ok {
		k.count--
		k.size -= int64(len(key) + len(old))
	}
	if m == nil {
		batch.Delete(key)
		return
	}
	row := appendMessage(nil, m)
	k.count++
	k.size += int64(len(key) + len(row))
	batch.Set(key, row)
}

// Retained gives the retained message of a topic; nil where there is none.
func (b *Broker) Retained(topic string) (*Message, error) {
	b.keep.mu.Lock()
	h, ok := b.keep.waiting[topic]
	b.keep.mu.Unlock()
	if ok {
		if h.m == nil {
			return nil, nil
		}
		return h.m.Clone(), nil
	}
	row, ok, err := b.st.Get(nil, retainedKey(topic))
	if err != nil || !ok {
		return nil, err
	}
	return readMessage(topic, row)
}

// replay is the retained messages that a new subscription is still to be given.
// They are read piece by piece as the client takes them.
type replay struct {
	u     *subscription
	begun bool
	fresh []string // topics that were in memory alone at the beginning
	at    []byte   // where on disk it goes on

	found []*Message // read and not given yet
	done  bool       // these are the last
}

const (
	replayMessages = 32
	replayBytes    = 64 << 10
	replayRows     = 4096 // looked at in one go
)

// piece reads the next messages of a replay; over says that there are no more.
func (k *keeper) piece(r *replay) (found []*Message, over bool, err error) {
	if len(r.found) > 0 || r.done {
		found, r.found = r.found, nil
		return found, r.done, nil
	}
	if !r.begun {
		r.begin(k)
	}
	size := 0
	full := func() bool { return len(found) >= replayMessages || size >= replayBytes }
	now := k.b.o.Now()
	take := func(m *Message) {
		if m != nil && !m.expired(now) {
			found = append(found, m)
			size += m.memory()
		}
	}
	for len(r.fresh) > 0 && !full() {
		m, err := k.b.Retained(r.fresh[0])
		if err != nil {
			return nil, false, err
		}
		r.fresh = r.fresh[1:]
		take(m)
	}
	if full() {
		return found, false, nil
	}
	over = true
	rows := 0
	end := store.After(retainedKey(plainPrefix(r.u.filter)))
	err = k.b.st.Scan(r.at, end, func(key, val []byte) (bool, error) {
		if rows++; full() || rows > replayRows {
			over, r.at = false, bytes.Clone(key)
			return false, nil
		}
		topic := string(key[1:])
		if !Match(r.u.filter, topic) {
			return true, nil
		}
		k.mu.Lock()
		h, newer := k.waiting[topic]
		k.mu.Unlock()
		if newer {
			if h.m != nil {
				take(h.m.Clone())
			}
			return true, nil
		}
		m, err := readMessage(topic, val)
		if err != nil {
			return false, err
		}
		take(m)
		return true, nil
	})
	return found, over, err
}

func (r *replay) begin(k *keeper) {
	r.begun = true
	r.at = retainedKey(plainPrefix(r.u.filter))
	k.mu.Lock()
	defer k.mu.Unlock()
	for topic, h := range k.waiting {
		if h.fresh && h.m != nil && Match(r.u.filter, topic) {
			r.fresh = append(r.fresh, topic)
		}
	}
}
