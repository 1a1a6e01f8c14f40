package room

import (
	"crypto/sha256"
	"encoding/binary"

	"hearth/engine/mxid"
	"hearth/engine/snapshot"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// append writes everything that was staged into one batch. It is the only way
// an event reaches the disk. It runs under the log's lock, so what is dear was
// done while staging.
func (w *Writer) append(tx *stream.Tx) error {
	before := w.l.head.Load()
	room := uint32(w.head.Room)
	var buf, diff []byte
	replied := map[mxid.EventID]Key{}
	servers := serverCounts{r: w.r, room: w.head.Room}
	if err := w.appendCloses(tx); err != nil {
		return err
	}
	for i := range w.staged {
		s := &w.staged[i]
		for _, n := range s.snaps {
			snapshot.Put(tx.Batch, room, n.ref.Num, n.parent, n.delta, n.set)
		}
		sender, err := w.r.names.Number(store.Users, string(s.ev.Sender))
		if err != nil {
			return err
		}
		if s.outcome == Accepted {
			s.ev.At = Key{Pos: tx.Next(), Fill: liveFill}
			diff = appendDiff(diff[:0], s.changes...)
			w.head.Last = tx.Put(&stream.Entry{
				Kind: stream.RoomEvent, Flags: s.entryFlags(), Room: room, User: sender, Event: uint64(s.ev.Num), Diff: diff,
			})
		}
		buf = w.appendRows(tx, s, buf)
		if s.placed() {
			w.appendRelation(tx, s, sender, replied)
		}
		if s.told != nil {
			buf = w.appendOutside(tx, s, buf)
			continue
		}
		for _, m := range s.members {
			buf = m.appendRows(tx, w.head.Room, s.ev.At.Pos, buf)
			if err := servers.count(tx, m, s.ev.At.Pos); err != nil {
				return err
			}
			if m.local {
				tx.Wake(m.user)
			}
			if m.local && s.first {
				tx.Delete(invitationKey(nil, w.head.Room, m.user))
			}
		}
	}
	servers.put(tx)
	var kbuf [5]byte
	tx.Set(roomKey(kbuf[:0], w.head.Room), w.head.appendTo(buf[:0]))
	tx.Wake(w.head.Local...)
	if before != nil && len(before.Local) > len(w.head.Local) {
		tx.Wake(before.Local...)
	}
	return nil
}

// entryFlags are what the log's entry says of an event.
func (s *staged) entryFlags() (flags uint8) {
	if s.ev.IsState {
		flags |= stream.FlagState
	}
	if s.ev.Flags&flagLocal != 0 {
		flags |= stream.FlagLocal
	}
	if s.relay {
		flags |= stream.FlagRelay
	}
	for _, m := range s.members {
		if m.local && m.new == Join && m.old != Join {
			flags |= stream.FlagArrival
		}
	}
	return flags
}

// appendRows writes the rows of one event; buf is scratch.
func (w *Writer) appendRows(tx *stream.Tx, s *staged, buf []byte) []byte {
	e := s.ev
	var kbuf [300]byte
	num := binary.AppendUvarint(make([]byte, 0, 10), uint64(e.Num))
	tx.Set(eventNumberKey(kbuf[:0], e.ID), num)
	if s.placed() {
		tx.Set(timelineKey(kbuf[:0], w.head.Room, e.At), num)
		w.appendHole(tx, s)
	}
	buf = append(e.appendHeader(buf[:0]), s.packed...)
	tx.Set(bodyKey(kbuf[:0], e.IsState, e.Num), buf)
	for _, r := range s.redacts {
		gone := *r.target
		gone.Flags |= flagRedacted
		gone.RedactedBy = e.Num
		buf = append(gone.appendHeader(buf[:0]), r.hollow...)
		tx.Set(bodyKey(kbuf[:0], gone.IsState, gone.Num), buf)
		w.appendUnrelation(tx, &r.unrel)
	}
	for _, id := range s.awaits {
		tx.Set(store.U64(awaitedPrefix(kbuf[:0], id), uint64(e.Num)), nil)
	}
	if e.TxnDevice != 0 {
		day := w.r.day()
		key := txnKey(kbuf[:0], day, w.head.ID, e.Type, e.Redacts, Txn{e.TxnDevice, e.Txn})
		tx.Set(key, num)
		w.r.txns.add(key)
		if w.r.txnDay.Swap(day) != day && day > 1 {
			// The first of a day drops what is older than yesterday's.
			tx.DeleteRange(store.Transaction.Prefix(), store.U32(store.Transaction.Prefix(), day-1))
		}
	}
	return buf
}

// awaitedPrefix begins the rows of the events that point at one that is not
// here: they are settled when it comes.
func awaitedPrefix(dst []byte, id mxid.EventID) []byte {
	return appendID(store.Awaited.Key(dst), id)
}

// relationPrefix begins the rows of what relates to an event. They are keyed
// by its id, so they may be there before it is.
func relationPrefix(dst []byte, room Num, target mxid.EventID) []byte {
	return appendID(store.U32(store.Relation.Key(dst), uint32(room)), target)
}

// day counts days since 1970. A transaction is kept through the day after its
// own, so at least 24 hours; one range deletion a day ends the older ones.
func (r *Rooms) day() uint32 { return uint32(r.opts.Now().Unix() / 86400) }

// txnKey names a client's transaction in a room. Spec: client-server,
// transaction identifiers: their scope is the device and the path, in which the
// target of a redaction stands.
func txnKey(dst []byte, day uint32, room mxid.RoomID, typ string, target mxid.EventID, txn Txn) []byte {
	var buf [1280]byte
	path := append(append(append(append(append(buf[:0], room...), 0), typ...), 0), txn.ID...)
	if target != "" {
		path = append(append(path, 0), target...)
	}
	sum := sha256.Sum256(path)
	return append(store.U64(store.U32(store.Transaction.Key(dst), day), txn.Device), sum[:16]...)
}

// Change is one difference an event made to its room's current state.
type Change struct {
	Key uint32   // store.StateKeys number
	Old EventNum // 0: the key was not there
	New EventNum // 0: the key is gone
}

func appendDiff(dst []byte, changes ...Change) []byte {
	for _, c := range changes {
		dst = binary.AppendUvarint(dst, uint64(c.Key))
		dst = binary.AppendUvarint(dst, uint64(c.Old))
		dst = binary.AppendUvarint(dst, uint64(c.New))
	}
	return dst
}

// Changes calls f for the differences in an entry's Diff.
func Changes(diff []byte, f func(Change)) error {
	d := decoder{src: diff}
	for len(d.src) > 0 {
		f(Change{uint32(d.uint()), EventNum(d.uint()), EventNum(d.uint())})
	}
	return d.err("state difference")
}
