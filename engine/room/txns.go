package room

import (
	"encoding/binary"
	"sync"

	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
)

// txnFilter remembers, with few errors and only to the safe side, which
// transactions there may be rows of. Nearly all transactions are new, and to
// learn that from the store takes a look into every run of it: a fifth of the
// cost of sending. It is one Bloom filter for each of two days.
//
// After a start it knows nothing. The rows that are there are read a few at a
// time, with each transaction asked for, and until all were the store is asked.
type txnFilter struct {
	st *store.Store

	mu    sync.Mutex
	days  [2]txnDay
	ready bool
	next  []byte // the first row that has not been read
}

type txnDay struct {
	day  uint32
	bits []uint64
}

const (
	txnWords = 1 << 14 // 128 KiB a day: one error in fifty at 100,000 transactions
	txnProbe = 4
	txnStep  = 64 // rows read at a time
)

// knows says whether there may be a row with this key, which begins with a day.
func (f *txnFilter) knows(key []byte) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ready {
		if err := f.catchUp(); err != nil || !f.ready {
			return true
		}
	}
	for i := range f.days {
		if d := &f.days[i]; d.day == dayOf(key) && d.bits != nil {
			return d.has(key)
		}
	}
	return false
}

// add remembers a row that is being written.
func (f *txnFilter) add(key []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.set(key)
}

func (f *txnFilter) set(key []byte) {
	day := dayOf(key)
	at := &f.days[day%2]
	switch {
	case at.day == day && at.bits != nil:
	case at.day > day && at.bits != nil:
		return // of a day that is past, and whose rows are being dropped
	default:
		*at = txnDay{day, make([]uint64, txnWords)}
	}
	at.each(key, func(word *uint64, bit uint64) bool {
		*word |= bit
		return true
	})
}

// catchUp reads some of the rows that were there at the start.
func (f *txnFilter) catchUp() error {
	prefix := store.Transaction.Prefix()
	if f.next == nil {
		f.next = prefix
	}
	n := 0
	f.ready = true
	return f.st.Scan(f.next, store.After(prefix), func(key, _ []byte) (bool, error) {
		if n++; n > txnStep {
			f.next, f.ready = append([]byte(nil), key...), false
			return false, nil
		}
		f.set(key)
		return true, nil
	})
}

// dayOf reads the day a key begins with.
func dayOf(key []byte) uint32 { return binary.BigEndian.Uint32(key[1:]) }

func (d *txnDay) has(key []byte) bool {
	found := true
	d.each(key, func(word *uint64, bit uint64) bool {
		found = *word&bit != 0
		return found
	})
	return found
}

// each gives the bits of a key, which ends in a hash.
func (d *txnDay) each(key []byte, f func(word *uint64, bit uint64) (more bool)) {
	hash := key[len(key)-16:]
	a, b := binary.LittleEndian.Uint64(hash), binary.LittleEndian.Uint64(hash[8:])|1
	for range txnProbe {
		at := a % (txnWords * 64)
		if !f(&d.bits[at/64], 1<<(at%64)) {
			return
		}
		a += b
	}
}

// sent finds the event of a transaction; nil where it is new.
func (r *Rooms) sent(room mxid.RoomID, d *Draft) (*Event, error) {
	day := r.day()
	for _, day := range [...]uint32{day, day - 1} {
		var kbuf [32]byte
		var vbuf [16]byte
		key := txnKey(kbuf[:0], day, room, d.Type, d.Redacts, d.Txn)
		if !r.txns.knows(key) {
			continue
		}
		val, ok, err := r.st.Get(vbuf[:0], key)
		if err != nil {
			return nil, err
		}
		if num, n := binary.Uvarint(val); ok && n > 0 {
			e, err := r.Event(EventNum(num))
			if fault.Is(err, fault.NotFound) {
				continue // its room's history was removed
			}
			return e, err
		}
	}
	return nil, nil
}
