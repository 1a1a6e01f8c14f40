package mqtt

import (
	"encoding/binary"
	"strings"
	"time"

	"hearth/engine/store"
)

// willGrace is how long after the hub's start the last will of somebody who was
// connected when it stopped waits at least: all come back at once, and are not
// to be reported dead before they had the time.
const willGrace = 60 * time.Second

// load reads all sessions. Those who were connected when the hub stopped left
// when it starts.
func (b *Broker) load() error {
	nums := map[uint32]*session{}
	now := b.o.Now()
	var stale []uint32
	err := b.st.ScanPrefix(store.ThingSession.Prefix(), func(key, val []byte) (bool, error) {
		num := binary.BigEndian.Uint32(key[1:])
		b.nextNum = num + 1
		r, err := readSession(val)
		if err != nil {
			return false, err
		}
		if old := b.sessions[r.key]; old != nil { // the later one took its place
			stale = append(stale, old.num)
			delete(nums, old.num)
		}
		s := b.restore(num, r, now)
		if nums[num] = s; s.dead {
			stale = append(stale, num)
			delete(nums, num)
			delete(b.sessions, s.key)
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	if err := b.loadRows(nums); err != nil {
		return err
	}
	for _, s := range nums {
		b.due[s] = struct{}{}
		for _, u := range s.subs {
			b.tree.add(u)
		}
		b.subs.Add(int64(len(s.subs)))
	}
	if b.st.ReadOnly() {
		return nil
	}
	for _, num := range stale {
		if err := b.removeRows(num); err != nil {
			return err
		}
	}
	return b.sweep(nums)
}

// restore makes a session of its row.
func (b *Broker) restore(num uint32, r *sessionRow, now time.Time) *session {
	name, client, _ := strings.Cut(r.key, "\x00")
	b.serial++
	s := &session{
		b: b, key: r.key, id: Identity{Name: name, Token: r.token}, client: client, serial: b.serial, num: num, kept: true,
		version: r.version, expiry: r.expiry, left: since(r.left), will: r.will, willWait: r.willWait, sent: r.sent,
	}
	connected := r.left == 0
	if connected {
		s.left, s.sent = now, neverSent
	}
	if s.will != nil {
		s.will.From, s.will.ClientID = s.id, client
		s.willDue = s.left.Add(time.Duration(r.willWait) * time.Second)
		if grace := now.Add(willGrace); s.willDue.Before(grace) {
			s.willDue = grace
		}
	}
	s.dead = s.expired(now) || r.expiry == 0
	b.sessions[r.key] = s
	return s
}

// neverSent marks a session of which is not known how much it was sent.
const neverSent = ^uint64(0)

// loadRows reads the subscriptions, marks and counts of the sessions.
func (b *Broker) loadRows(nums map[uint32]*session) error {
	err := b.st.ScanPrefix(store.ThingFilter.Prefix(), func(key, val []byte) (bool, error) {
		s := nums[binary.BigEndian.Uint32(key[1:])]
		if s == nil {
			return true, nil
		}
		u, err := readFilter(string(key[5:]), val)
		if err != nil {
			return false, err
		}
		u.s = s
		s.subs = append(s.subs, u)
		return true, nil
	})
	if err != nil {
		return err
	}
	err = b.st.ScanPrefix(store.ThingReceived.Prefix(), func(key, _ []byte) (bool, error) {
		if s := nums[binary.BigEndian.Uint32(key[1:])]; s != nil {
			if s.received == nil {
				s.received = map[uint16]byte{}
			}
			s.received[binary.BigEndian.Uint16(key[5:])] = answered
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	return b.loadQueues(nums)
}

func (b *Broker) loadQueues(nums map[uint32]*session) error {
	err := b.st.ScanPrefix(store.ThingQueue.Prefix(), func(key, val []byte) (bool, error) {
		s := nums[binary.BigEndian.Uint32(key[1:])]
		if s == nil {
			return true, nil
		}
		e, err := readEntry(val)
		if err != nil {
			return false, err
		}
		if e.body != 0 {
			b.bodies.add(e.body, 1)
		}
		seq, size := seqOf(key), int64(len(val)+32)
		if s.count == 0 {
			s.loaded = seq
		}
		s.count++
		s.onDisk += size
		s.next = seq + 1
		b.queued.Add(size)
		return true, nil
	})
	if err != nil {
		return err
	}
	for _, s := range nums {
		s.next = max(s.next, firstSeq)
		s.ready = s.next
		if s.count == 0 {
			s.loaded = s.next
		}
		if s.sent == neverSent {
			s.sent = s.next
		}
		if s.next < s.sent { // all that was sent is acknowledged; ids go on behind it
			s.next, s.ready = s.sent, s.sent
			if s.count == 0 {
				s.loaded = s.sent
			}
		}
		s.dupBelow = s.sent
	}
	return nil
}

// sweep removes rows that belong to no session: of those that were never kept,
// and shared messages that no queue has any more.
func (b *Broker) sweep(nums map[uint32]*session) error {
	orphans := map[uint32]bool{}
	for _, t := range []store.Table{store.ThingQueue, store.ThingFilter, store.ThingReceived} {
		err := b.st.ScanPrefix(t.Prefix(), func(key, _ []byte) (bool, error) {
			if num := binary.BigEndian.Uint32(key[1:]); nums[num] == nil {
				orphans[num] = true
				if num < firstSpill {
					b.nextNum = max(b.nextNum, num+1)
				}
			}
			return true, nil
		})
		if err != nil {
			return err
		}
	}
	batch := b.st.NewBatch()
	batch.Frees()
	for num := range orphans {
		for _, t := range []store.Table{store.ThingQueue, store.ThingFilter, store.ThingReceived} {
			prefix := store.U32(t.Key(nil), num)
			batch.DeleteRange(prefix, store.After(prefix))
		}
	}
	err := b.st.ScanPrefix(store.ThingMessage.Prefix(), func(key, _ []byte) (bool, error) {
		num := binary.BigEndian.Uint64(key[1:])
		b.bodies.last = max(b.bodies.last, num)
		if !b.bodies.has(num) {
			batch.Delete(key)
		}
		return true, nil
	})
	if err != nil {
		batch.Drop()
		return err
	}
	if batch.Empty() {
		batch.Drop()
		return nil
	}
	return b.st.Apply(batch)
}
