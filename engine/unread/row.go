package unread

import (
	"encoding/binary"
	"slices"

	"hearth/engine/ephemeral"
	"hearth/engine/mxid"
	"hearth/engine/stream"
)

// row is what one user has not read of one room.
type row struct {
	pos     stream.Pos // looked through up to here; 0: never
	out     bool       // the user was out of the room there
	threads []mxid.EventID
	notes   []note     // oldest first
	heard   stream.Pos // the user's receipts are known up to here; 0 for a row just read
	behind  int        // events looked through since the row was written down
}

// note is one unread notification.
type note struct {
	pos       stream.Pos
	thread    uint16 // 0: in no thread; else index in threads, plus one
	highlight bool
	call      bool // the event is a call
}

const (
	rowForm  = 2
	oldForm  = 1 // its notes have no mark of calls
	flagOut  = 1
	maxNames = 255 // bytes of an event id
)

func (r *row) appendTo(dst []byte) []byte {
	r.compact()
	flags := byte(0)
	if r.out {
		flags = flagOut
	}
	dst = binary.AppendUvarint(append(dst, rowForm, flags), uint64(r.pos))
	dst = binary.AppendUvarint(dst, uint64(len(r.threads)))
	for _, id := range r.threads {
		dst = append(append(dst, byte(len(id))), id...)
	}
	last := stream.Pos(0)
	for _, n := range r.notes {
		dst = binary.AppendUvarint(dst, uint64(n.pos-last))
		mark := uint64(n.thread) << 2
		if n.highlight {
			mark |= 1
		}
		if n.call {
			mark |= 2
		}
		dst, last = binary.AppendUvarint(dst, mark), n.pos
	}
	return dst
}

// parse says whether the row could be read.
func (r *row) parse(src []byte) bool {
	if len(src) < 2 || src[0] != rowForm && src[0] != oldForm {
		return false
	}
	old := src[0] == oldForm
	r.out, src = src[1]&flagOut != 0, src[2:]
	ok := true
	num := func() uint64 {
		v, n := binary.Uvarint(src)
		if n <= 0 {
			ok, src = false, nil
			return 0
		}
		src = src[n:]
		return v
	}
	r.pos = stream.Pos(num())
	for range min(num(), maxThreads) {
		if len(src) == 0 || len(src) < 1+int(src[0]) {
			return false
		}
		r.threads = append(r.threads, mxid.EventID(src[1:1+int(src[0])]))
		src = src[1+int(src[0]):]
	}
	pos := stream.Pos(0)
	for ok && len(src) > 0 {
		pos += stream.Pos(num())
		mark := num()
		if old {
			mark = mark&^1<<1 | mark&1
		}
		if mark>>2 > uint64(len(r.threads)) {
			return false
		}
		r.notes = append(r.notes, note{pos, uint16(mark >> 2), mark&1 != 0, mark&2 != 0})
	}
	return ok
}

// compact forgets the threads that have no unread notification.
func (r *row) compact() {
	used := make([]uint16, len(r.threads)+1)
	for _, n := range r.notes {
		used[n.thread] = 1
	}
	kept := r.threads[:0:0]
	for i, id := range r.threads {
		if used[i+1] != 0 {
			kept = append(kept, id)
			used[i+1] = uint16(len(kept))
		}
	}
	used[0] = 0
	for i := range r.notes {
		r.notes[i].thread = used[r.notes[i].thread]
	}
	r.threads = kept
}

// thread gives the number of a thread, 0 for no thread, making one where
// needed. It may renumber.
func (r *row) thread(root mxid.EventID, make bool) (num uint16, ok bool) {
	if root == "" {
		return 0, true
	}
	if i := slices.Index(r.threads, root); i >= 0 {
		return uint16(i + 1), true
	}
	if !make || len(root) > maxNames {
		return 0, false
	}
	if len(r.threads) >= maxThreads {
		if r.compact(); len(r.threads) >= maxThreads {
			return 0, true
		}
	}
	r.threads = append(r.threads, root)
	return uint16(len(r.threads)), true
}

func (r *row) add(n note) {
	if len(r.notes) >= maxNotes {
		r.notes = slices.Delete(r.notes, 0, len(r.notes)-maxNotes+1)
	}
	r.notes = append(r.notes, n)
}

// clear takes off the list what a thread has up to a position.
func (r *row) clear(root mxid.EventID, upto stream.Pos) {
	num, ok := r.thread(root, false)
	if !ok {
		return
	}
	r.notes = slices.DeleteFunc(r.notes, func(n note) bool { return n.thread == num && n.pos <= upto })
}

// read takes off the list what a receipt says is read. Spec: client-server,
// threaded read receipts.
func (r *row) read(rc *ephemeral.Receipt) {
	switch {
	case rc.At == 0 || len(r.notes) == 0 || rc.At < r.notes[0].pos:
	case rc.Thread == "":
		r.notes = slices.DeleteFunc(r.notes, func(n note) bool { return n.pos <= rc.At })
	case rc.Thread == ephemeral.Main:
		r.clear("", rc.At)
	default:
		r.clear(mxid.EventID(rc.Thread), rc.At)
	}
}

func (c *Counts) count(n note) {
	c.Notify++
	if n.highlight {
		c.Highlight++
	}
}

func (r *row) tally() Tally {
	var t Tally
	var threads []Thread
	for _, n := range r.notes {
		t.All.count(n)
		if n.call {
			t.Calls++
		}
		if n.thread == 0 {
			t.Main.count(n)
			continue
		}
		if threads == nil {
			threads = make([]Thread, len(r.threads))
		}
		threads[n.thread-1].count(n)
	}
	for i := range threads {
		if threads[i].Notify > 0 {
			threads[i].Root = r.threads[i]
			t.Threads = append(t.Threads, threads[i])
		}
	}
	return t
}
