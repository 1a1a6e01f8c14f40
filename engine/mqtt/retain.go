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
	order   uint64          // of the last message that was retained or held
	count   int             // on disk
	by      map[string]int  // of these, by who published them
	size    int64
	urgent  bool // a flush is under way because waiting was full

	// under has the rows that are in the committer's batch and cannot be read
	// yet; the zero row for one that is deleted.
	under   map[string]retained
	recount bool // a batch failed with rows that were counted

	sweeping sweeping
}

// retained is what is counted of a topic's row on disk.
type retained struct {
	size int64 // 0: there is none
	from string
}

// held is a retained value of QoS 0 that is not on disk yet.
type held struct {
	m     *Message // nil: the topic is to have none
	fresh bool     // the topic has none on disk
	order uint64
}

const maxHeld = 1 << 20 // bytes of waiting

func retainedKey(topic string) []byte { return append(store.Retained.Key(nil), topic...) }

func openKeeper(b *Broker) (*keeper, error) {
	k := &keeper{b: b, waiting: map[string]held{}, under: map[string]retained{}, by: map[string]int{}}
	return k, k.countAll()
}

// countAll counts what is on disk, and looks when the first of it expires.
func (k *keeper) countAll() error {
	k.count, k.size, k.recount = 0, 0, false
	clear(k.by)
	return k.b.st.ScanPrefix(store.Retained.Prefix(), func(key, val []byte) (bool, error) {
		m, err := readMessage(string(key[1:]), val)
		if err != nil {
			return false, err
		}
		k.counted(retained{int64(len(key) + len(val)), m.From.Name}, 1)
		k.sweeping.expect(m.Expires)
		return true, nil
	})
}

// admit says whether there is room for a retained message.
func (k *keeper) admit(m *Message) bool {
	if len(m.Payload) == 0 {
		return true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	need, all, most := int64(m.memory()), k.size+int64(k.bytes), k.b.limits.Retained
	n, fits := k.count+len(k.waiting), all+need <= k.b.limits.RetainedBytes
	if n < most/2 && fits {
		return true
	}
	var old int64 // a new value takes the old one's place, and room where it is longer
	if h, ok := k.waiting[m.Topic]; ok {
		old = int64(h.memory(m.Topic))
	} else if row, err := k.onDisk(retainedKey(m.Topic)); err == nil && row.size > 0 {
		old = row.size + rowMemory
	}
	if old > 0 {
		return need <= old || all+need-old <= k.b.limits.RetainedBytes
	}
	return n < most && fits && (m.From.Name == "" || k.by[m.From.Name] < max(1, most/shareOfOne))
}

// rowMemory is how much more a message counts for in memory than as a row.
const rowMemory = 160

// number gives a message its place among those that are retained, for put.
func (k *keeper) number() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.order++
	return k.order
}

// onDisk is a topic's row, be it on its way. It needs mu.
func (k *keeper) onDisk(key []byte) (retained, error) {
	if row, ok := k.under[string(key[1:])]; ok {
		return row, nil
	}
	row, ok, err := k.b.st.Get(nil, key)
	if err != nil || !ok {
		return retained{}, err
	}
	return retained{int64(len(key) + len(row)), senderOf(row)}, nil
}

// counted counts n rows more, 1 or -1. It needs mu.
func (k *keeper) counted(row retained, n int) {
	k.count += n
	k.size += int64(n) * row.size
	if k.by[row.from] += n; k.by[row.from] <= 0 {
		delete(k.by, row.from)
	}
}

// hold takes a retained value of QoS 0, and says whether there was room.
func (k *keeper) hold(m *Message) bool {
	if !k.admit(m) {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.order++
	h := held{order: k.order}
	if old, again := k.waiting[m.Topic]; again {
		h.fresh = old.fresh
		k.bytes -= old.memory(m.Topic)
	} else {
		row, err := k.onDisk(retainedKey(m.Topic))
		h.fresh = err == nil && row.size == 0
	}
	if len(m.Payload) > 0 {
		h.m = m.Clone()
	}
	if len(k.waiting) == 0 {
		k.since = k.b.o.Now()
	}
	k.bytes += h.memory(m.Topic)
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

// put writes a retained message of QoS 1 or 2 with the committer's batch; one
// without a payload removes the topic's. A value of QoS 0 that came after it
// stays the topic's last.
func (k *keeper) put(batch *store.Batch, m *Message, order uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := retainedKey(m.Topic)
	row := k.row(batch, m, key)
	k.under[m.Topic] = row
	h, ok := k.waiting[m.Topic]
	switch {
	case ok && h.order > order:
		h.fresh = row.size == 0
		k.waiting[m.Topic] = h
	case ok:
		k.bytes -= h.memory(m.Topic)
		delete(k.waiting, m.Topic)
	}
}

// started says that the committer's batch can be read now, or failed.
func (k *keeper) started(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.recount = k.recount || err != nil && len(k.under) > 0
	clear(k.under)
}

// tick writes what has waited long enough, and sweeps.
func (k *keeper) tick(now time.Time) error {
	k.mu.Lock()
	due := len(k.waiting) > 0 && now.Sub(k.since) >= time.Duration(k.b.limits.RetainedSeconds)*time.Second
	var err error
	if k.recount {
		err = k.countAll()
	}
	k.mu.Unlock()
	if err == nil && due {
		err = k.flush()
	}
	if err == nil {
		err = k.sweep(now)
	}
	return err
}

// WriteRetained writes the retained values that wait, without a sync: they reach
// the disk with the next batch of anybody that is synced.
func (b *Broker) WriteRetained() error { return b.keep.write(b.st.Apply) }

// flush brings what waits to the disk.
func (k *keeper) flush() error { return k.write(k.b.st.Commit) }

// write writes what waits in one batch, which commit takes. Topics that are in the
// committer's batch wait for the next time: that batch could come behind this one.
func (k *keeper) write(commit func(*store.Batch) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.urgent = false
	batch := k.b.st.NewBatch()
	var written []string
	for topic, h := range k.waiting {
		if _, busy := k.under[topic]; busy {
			continue
		}
		k.row(batch, h.m, retainedKey(topic))
		written = append(written, topic)
	}
	if len(written) == 0 {
		batch.Drop()
		return nil
	}
	if err := commit(batch); err != nil {
		batch.Drop()
		k.recount = true
		return err
	}
	for _, topic := range written {
		k.bytes -= k.waiting[topic].memory(topic)
		delete(k.waiting, topic)
	}
	k.since = k.b.o.Now()
	return nil
}

// row puts one row into a batch, nil or a message without a payload as its
// deletion, and says what it is now. It needs mu.
func (k *keeper) row(batch *store.Batch, m *Message, key []byte) retained {
	if old, err := k.onDisk(key); err == nil && old.size > 0 {
		k.counted(old, -1)
	}
	if m == nil || len(m.Payload) == 0 {
		batch.Delete(key)
		return retained{}
	}
	text := appendMessage(nil, m)
	row := retained{int64(len(key) + len(text)), m.From.Name}
	k.counted(row, 1)
	k.sweeping.expect(m.Expires)
	batch.Set(key, text)
	return row
}

// sweeping is where the removal of expired messages stands. It goes through all
// rows, a piece with each tick, from when the first of them expires.
type sweeping struct {
	due  time.Time // when the first expires; zero: none does
	at   []byte    // where it goes on; nil: it is not under way
	next time.Time // due after this time through
}

// sweepRows are looked at in one piece.
const sweepRows = 1024

// expect takes note of a message's end.
func (w *sweeping) expect(expires time.Time) {
	if expires.IsZero() {
		return
	}
	for _, t := range []*time.Time{&w.due, &w.next} {
		if t.IsZero() || expires.Before(*t) {
			*t = expires
		}
	}
}

// sweep removes a piece of what has expired from the disk. A topic that has a
// newer value on its way is let be.
func (k *keeper) sweep(now time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	w := &k.sweeping
	if w.at == nil {
		if w.due.IsZero() || now.Before(w.due) {
			return nil
		}
		w.at, w.next = store.Retained.Prefix(), time.Time{}
	}
	batch := k.b.st.NewBatch()
	batch.Frees()
	rows := 0
	var on []byte
	err := k.b.st.Scan(w.at, store.After(store.Retained.Prefix()), func(key, val []byte) (bool, error) {
		if rows++; rows > sweepRows {
			on = bytes.Clone(key)
			return false, nil
		}
		topic := string(key[1:])
		m, err := readMessage(topic, val)
		if err != nil {
			return false, err
		}
		_, held := k.waiting[topic]
		if _, busy := k.under[topic]; busy || held || !m.expired(now) {
			w.expect(m.Expires)
			return true, nil
		}
		k.row(batch, nil, bytes.Clone(key))
		return true, nil
	})
	if err == nil && !batch.Empty() {
		if err = k.b.st.Apply(batch); err == nil {
			batch = nil
		}
	}
	if batch != nil {
		batch.Drop()
	}
	if err != nil {
		k.recount = true
		return err
	}
	if w.at = on; on == nil {
		w.due = w.next
	}
	return nil
}

// Retained gives the retained message of a topic; nil where there is none, or
// its time is over.
func (b *Broker) Retained(topic string) (*Message, error) {
	b.keep.mu.Lock()
	h, ok := b.keep.waiting[topic]
	b.keep.mu.Unlock()
	if ok {
		if h.m == nil || h.m.expired(b.o.Now()) {
			return nil, nil
		}
		return h.m.Clone(), nil
	}
	row, ok, err := b.st.Get(nil, retainedKey(topic))
	if err != nil || !ok {
		return nil, err
	}
	m, err := readMessage(topic, row)
	if err != nil || m.expired(b.o.Now()) {
		return nil, err
	}
	return m, nil
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
