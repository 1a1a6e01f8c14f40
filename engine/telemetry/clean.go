package telemetry

import (
	"encoding/binary"
	"maps"
	"slices"

	"hearth/engine/store"
)

// Clean drops the days that are too old, the oldest of them while all take too
// much, and of the rest what a topic keeps for less long. Each day of all topics
// is one deletion.
func (l *Log) Clean() error {
	if l.st.ReadOnly() {
		return nil
	}
	today := dayOf(l.o.Now().UnixMilli())
	l.mu.Lock()
	days := slices.Sorted(maps.Keys(l.days))
	total := int64(0)
	for _, n := range l.days {
		total += n
	}
	l.mu.Unlock()
	b := l.st.NewBatch()
	var gone []uint32
	for _, day := range days {
		if int(today)-int(day) <= l.o.Days && total <= l.o.Bytes {
			continue
		}
		prefix := store.U32(store.Chunk.Prefix(), day)
		b.DeleteRange(prefix, store.After(prefix))
		gone = append(gone, day)
		l.mu.Lock()
		total -= l.days[day]
		l.mu.Unlock()
	}
	l.cleanTopics(b, today, days)
	if b.Empty() {
		b.Drop()
		return l.dropTopics(len(gone) > 0)
	}
	b.Frees()
	if err := l.st.Commit(b); err != nil {
		return err
	}
	l.mu.Lock()
	for _, day := range gone {
		delete(l.days, day)
	}
	l.mu.Unlock()
	return l.dropTopics(len(gone) > 0)
}

// cleanTopics drops the days of topics that are kept for less long than all.
func (l *Log) cleanTopics(b *store.Batch, today uint32, days []uint32) {
	if l.keep == nil {
		return
	}
	for _, topic := range l.names.all() {
		keep := l.keep(topic)
		if keep <= 0 || keep >= l.o.Days {
			continue
		}
		num := l.names.find(topic)
		for _, day := range days {
			prefix := topicKey(day, num)
			if int(today)-int(day) > keep && l.has(prefix) {
				b.DeleteRange(prefix, store.After(prefix))
			}
		}
	}
}

// has says whether there is a row with the prefix.
func (l *Log) has(prefix []byte) (found bool) {
	_ = l.st.ScanPrefix(prefix, func(_, _ []byte) (bool, error) { // what cannot be read is not deleted either
		found = true
		return false, nil
	})
	return found
}

// dropTopics forgets topics of which nothing is left, where something may have gone.
func (l *Log) dropTopics(some bool) error {
	if !some {
		return nil
	}
	alive := map[uint32]bool{}
	next := store.Chunk.Prefix()
	for next != nil { // one look for each topic and day
		var at []byte
		err := l.st.Scan(next, store.After(store.Chunk.Prefix()), func(key, _ []byte) (bool, error) {
			if len(key) < 9 {
				return false, corrupt()
			}
			at = slices.Clone(key[:9])
			alive[binary.BigEndian.Uint32(key[5:])] = true
			return false, nil
		})
		if err != nil {
			return err
		}
		if at == nil {
			break
		}
		next = store.After(at)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, topic := range l.names.all() {
		if num := l.names.find(topic); alive[num] || l.open[num] != nil {
			continue
		}
		if err := l.names.drop(topic); err != nil {
			return err
		}
	}
	return nil
}

// Bytes is about what all samples take on disk.
func (l *Log) Bytes() (n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, day := range l.days {
		n += day
	}
	return n
}
