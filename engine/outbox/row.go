package outbox

import (
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"time"
	"unicode/utf8"

	"hearth/engine/fault"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// row is a destination that is not in step.
type row struct {
	From     stream.Pos // it has everything up to here
	Upto     stream.Pos // bound of the delivery that failed, which is tried again as it was; 0: none did
	Failures int
	Next     int64 // milliseconds at which it is tried; also in the key of its index row
	Since    int64 // milliseconds of the first failure
	Error    string
}

const (
	rowForm  = 1
	maxError = 200
)

func (r *row) appendTo(dst []byte) []byte {
	dst = append(dst, rowForm)
	for _, v := range [...]uint64{uint64(r.From), uint64(r.Upto), uint64(r.Failures), uint64(r.Next), uint64(r.Since)} {
		dst = binary.AppendUvarint(dst, v)
	}
	return append(dst, r.Error...)
}

func (r *row) parse(src []byte) error {
	if len(src) == 0 || src[0] != rowForm {
		return fault.E(fault.Corrupt, "outbox", "a row of unknown form")
	}
	src = src[1:]
	var nums [5]uint64
	for i := range nums {
		v, n := binary.Uvarint(src)
		if n <= 0 {
			return fault.E(fault.Corrupt, "outbox", "a cut row")
		}
		nums[i], src = v, src[n:]
	}
	r.From, r.Upto, r.Failures = stream.Pos(nums[0]), stream.Pos(nums[1]), int(nums[2])
	r.Next, r.Since, r.Error = int64(nums[3]), int64(nums[4]), string(src)
	return nil
}

func (r *row) state(dest string) *State {
	s := &State{Dest: dest, From: r.From, Failures: r.Failures, Next: time.UnixMilli(r.Next), Error: r.Error}
	if r.Since != 0 {
		s.Since = time.UnixMilli(r.Since)
	}
	return s
}

// note keeps an error's text, cut to a bound.
func (r *row) note(err error) {
	s := strings.ToValidUTF8(err.Error(), "?")
	for len(s) > maxError {
		_, n := utf8.DecodeLastRuneInString(s[:maxError+1])
		s = s[:maxError+1-n]
	}
	r.Error = s
}

func (o *Options) defaults() {
	if o.Workers == 0 {
		o.Workers = 4
	}
	if o.First == 0 {
		o.First = 10 * time.Second
	}
	if o.Most == 0 {
		o.Most = time.Hour
	}
	if o.Time == 0 {
		o.Time = time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Float64
	}
}

// cursor is the name of the shared cursor.
func (o *Options) cursor() string { return "outbox/" + o.Name }

func (o *Options) prefix(t store.Table) []byte { return append(append(t.Prefix(), o.Name...), 0) }

func (o *Options) rowKey(dest string) []byte { return append(o.prefix(store.Outbox), dest...) }

func (o *Options) dueKey(at int64, dest string) []byte {
	return append(store.U64(o.prefix(store.OutboxDue), uint64(at)), dest...)
}

// row reads the row of a destination.
func (o *Options) row(st *store.Store, dest string) (r row, ok bool, err error) {
	val, ok, err := st.Get(nil, o.rowKey(dest))
	if err != nil || !ok {
		return r, false, err
	}
	return r, true, r.parse(val)
}

// put writes a row; old is when the one before it was due, 0 where there is none.
func (o *Options) put(b *store.Batch, dest string, r *row, old int64) {
	if old != 0 && old != r.Next {
		b.Delete(o.dueKey(old, dest))
	}
	b.Set(o.rowKey(dest), r.appendTo(nil))
	if old != r.Next {
		b.Set(o.dueKey(r.Next, dest), nil)
	}
}

func (o *Options) drop(b *store.Batch, dest string, r *row) {
	b.Delete(o.rowKey(dest))
	b.Delete(o.dueKey(r.Next, dest))
}

// each calls f for the rows behind the one of a destination, in order.
func (o *Options) each(st *store.Store, after string, f func(dest string, r *row) (more bool)) error {
	prefix := o.prefix(store.Outbox)
	lower := prefix
	if after != "" {
		lower = append(o.rowKey(after), 0)
	}
	return st.Scan(lower, store.After(prefix), func(key, val []byte) (bool, error) {
		var r row
		if err := r.parse(val); err != nil {
			return false, err
		}
		return f(string(key[len(prefix):]), &r), nil
	})
}

// due calls f for the destinations that have rows, the next due first.
func (o *Options) due(st *store.Store, f func(at int64, dest string) (more bool)) error {
	prefix := o.prefix(store.OutboxDue)
	return st.ScanPrefix(prefix, func(key, _ []byte) (bool, error) {
		if len(key) < len(prefix)+8 {
			return false, fault.E(fault.Corrupt, "outbox", "a key of %d bytes", len(key))
		}
		return f(int64(binary.BigEndian.Uint64(key[len(prefix):])), string(key[len(prefix)+8:])), nil
	})
}
