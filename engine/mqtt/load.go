package mqtt

import (
	"slices"

	"hearth/engine/fields"
	"hearth/engine/store"
)

const (
	loadMessages = 64
	loadBytes    = 64 << 10
)

// loadMore reads on in a session's queue on disk, or in the retained messages
// that it is owed. One call at a time for each session; see session.loading.
func (b *Broker) loadMore(s *session) {
	s.mu.Lock()
	link, from, to, num := s.link, s.loaded, s.ready, s.num
	var r *replay
	if from >= to && len(s.replays) > 0 {
		r = s.replays[0]
	}
	s.mu.Unlock()
	var err error
	switch {
	case from < to:
		var got []queued
		var upTo uint64
		got, upTo, err = b.readQueue(num, from, to)
		s.loadedRows(link, from, upTo, got)
	case r != nil:
		var got []*Message
		var done bool
		got, done, err = b.keep.piece(r)
		s.replayed(link, r, got, done)
	default:
		s.mu.Lock()
		s.loading = false
		s.mu.Unlock()
	}
	if err != nil {
		b.o.Log("mqtt: the queue of %s cannot be read: %v", s.client, err)
		if link != nil {
			link.Close(Unspecified, "")
		}
	}
}

// readQueue reads messages with sequence numbers from on, up to but without to.
// upTo is the number that it came to.
func (b *Broker) readQueue(num uint32, from, to uint64) (got []queued, upTo uint64, err error) {
	size := 0
	upTo = to
	err = b.st.Scan(queueKey(num, from), queueKey(num, to), func(key, val []byte) (bool, error) {
		seq := seqOf(key)
		if len(got) >= loadMessages || size > loadBytes {
			upTo = seq
			return false, nil
		}
		e, err := readEntry(val)
		if err != nil {
			return false, err
		}
		q := queued{seq: seq, body: e.body, size: int32(len(val) + 32), qos: e.qos, retain: e.retain, ids: slices.Clone(e.ids)}
		if q.over = e.released; !q.over {
			if q.m, err = b.message(&e); err != nil {
				return false, err
			}
			size += q.m.memory()
		}
		got = append(got, q)
		return true, nil
	})
	return got, upTo, err
}

func seqOf(key []byte) (seq uint64) {
	for _, c := range key[len(key)-8:] {
		seq = seq<<8 | uint64(c)
	}
	return seq
}

// loadedRows takes what readQueue found, unless the client has gone meanwhile.
func (s *session) loadedRows(link *Link, from, upTo uint64, got []queued) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loading = false
	if s.link != link || s.dead || s.loaded != from || upTo < from {
		s.pump()
		return
	}
	for _, q := range got {
		if q.m != nil && !s.judge(q.m.Topic) {
			s.forget(q.seq, q.body, q.size)
			continue
		}
		s.hold(q)
	}
	s.loaded = upTo
	s.pump()
}

// replayed takes retained messages for a new subscription.
func (s *session) replayed(link *Link, r *replay, got []*Message, done bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loading = false
	if s.link != link || s.dead || len(s.replays) == 0 || s.replays[0] != r || link == nil {
		s.pump()
		return
	}
	if s.loaded != s.next {
		// Something is being committed and has its number already; what was read
		// comes behind it.
		r.found, r.done = got, done
		return
	}
	batch := s.b.st.NewBatch()
	for _, m := range got {
		if !s.judge(m.Topic) {
			continue
		}
		q := queued{m: m, qos: min(r.u.qos, m.QoS), retain: true}
		if r.u.id != 0 {
			q.ids = []uint32{r.u.id}
		}
		if q.qos > 0 {
			q.seq = s.next
			s.next++
			s.loaded++
			s.ready++
			s.replayRow(batch, &q)
		}
		s.hold(q)
	}
	if done {
		s.replays = s.replays[1:]
		r.u.replay = false
		if s.kept {
			batch.Set(filterKey(s.num, r.u.name()), appendFilter(nil, r.u))
		}
	}
	if err := s.apply(batch); err != nil {
		s.b.o.Log("mqtt: retained messages for %s: %v", s.client, err)
	}
	s.pump()
}

// replayRow writes the row of a retained message for a session that is kept. It
// needs mu.
func (s *session) replayRow(batch *store.Batch, q *queued) {
	if !s.kept {
		return
	}
	row := appendEntry(nil, entry{qos: q.qos, retain: true, ids: q.ids, inline: appendMessage(fields.AppendText(nil, q.m.Topic), q.m)})
	q.size = int32(len(row) + 32)
	s.onDisk += int64(q.size)
	s.count++
	s.b.queued.Add(int64(q.size))
	batch.Set(queueKey(s.num, q.seq), row)
}

// apply writes without waiting for the disk.
func (s *session) apply(batch *store.Batch) error {
	if batch.Empty() {
		batch.Drop()
		return nil
	}
	err := s.b.st.Apply(batch)
	if err != nil {
		batch.Drop()
	}
	return err
}
