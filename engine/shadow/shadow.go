// Package shadow keeps the last state of things: by thing and topic what the
// thing reported, what somebody desires of it, and a version that rises with each
// change. It lies outside of rooms: state events used as a store of last values
// are never purged, and fill the disk.
//
// A report that changes nothing writes nothing. What came without a promise
// (QoS 0) is in memory for a while and written with others; what came with one
// goes into the batch that its sender is acknowledged with. It refuses to know
// rooms and the broker; package bridge shows changes to both.
package shadow

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"sync"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/store"
)

// Bounds of the record.
const (
	MaxValue   = 32 << 10 // bytes of what is reported, and of what is desired
	maxShadows = 20_000
	maxCached  = 1024
)

// State is one shadow. Shared and never written to.
type State struct {
	Thing    string
	Topic    string
	Version  uint64
	At       int64  // of the last change, milliseconds since 1970
	Reported []byte // JSON; nil: nothing yet
	Desired  []byte // JSON; nil: nothing
}

// Delta is what is desired and not reported: the members of Desired that differ,
// or all of it where one of the two is no object. nil: nothing.
func (s *State) Delta() []byte {
	if s.Desired == nil {
		return nil
	}
	return delta(s.Desired, s.Reported)
}

// Append writes the shadow as JSON.
func (s *State) Append(dst []byte) []byte {
	dst = cjson.AppendString(append(dst, `{"thing":`...), s.Thing)
	dst = cjson.AppendString(append(dst, `,"topic":`...), s.Topic)
	dst = append(dst, `,"version":`...)
	dst = appendInt(dst, int64(s.Version))
	dst = appendInt(append(dst, `,"at":`...), s.At)
	for _, part := range [...]struct {
		name string
		val  []byte
	}{{"reported", s.Reported}, {"desired", s.Desired}, {"delta", s.Delta()}} {
		if part.val != nil {
			dst = append(append(append(append(dst, `,"`...), part.name...), `":`...), part.val...)
		}
	}
	return append(dst, '}')
}

// Shadows is the open record. All methods may be called at the same time.
type Shadows struct {
	st  *store.Store
	now func() int64

	mu    sync.Mutex
	count int
	cache map[string]*State
	dirty map[string]*State // reported without a promise and not written
}

// Open counts the shadows. now gives milliseconds since 1970.
func Open(st *store.Store, now func() int64) (*Shadows, error) {
	s := &Shadows{st: st, now: now, cache: map[string]*State{}, dirty: map[string]*State{}}
	err := st.ScanPrefix(store.Shadow.Prefix(), func(_, _ []byte) (bool, error) {
		s.count++
		return true, nil
	})
	return s, err
}

func keyOf(thing, topic string) string { return thing + "\x00" + topic }

func rowKey(key string) []byte { return append(store.Shadow.Prefix(), key...) }

func (s *State) row() []byte {
	row := binary.AppendUvarint([]byte{1}, s.Version)
	row = binary.AppendUvarint(row, uint64(s.At))
	for _, part := range [...][]byte{s.Reported, s.Desired} {
		row = append(binary.AppendUvarint(row, uint64(len(part))), part...)
	}
	return row
}

func parse(key string, row []byte) (*State, error) {
	bad := fault.E(fault.Corrupt, "shadow", "the row of a shadow cannot be read")
	s := &State{}
	var ok bool
	if s.Thing, s.Topic, ok = strings.Cut(key, "\x00"); !ok || len(row) == 0 || row[0] != 1 {
		return nil, bad
	}
	row = row[1:]
	num := func() uint64 {
		v, n := binary.Uvarint(row)
		if n <= 0 {
			ok = false
			return 0
		}
		row = row[n:]
		return v
	}
	s.Version, s.At = num(), int64(num())
	for _, part := range [...]*[]byte{&s.Reported, &s.Desired} {
		n := num()
		if !ok || n > uint64(len(row)) {
			return nil, bad
		}
		if n > 0 {
			*part = slices.Clone(row[:n])
		}
		row = row[n:]
	}
	return s, nil
}

// get reads a shadow; nil where there is none. It needs mu.
func (s *Shadows) get(key string) (*State, error) {
	if one := s.dirty[key]; one != nil {
		return one, nil
	}
	if one, ok := s.cache[key]; ok {
		return one, nil
	}
	row, ok, err := s.st.Get(nil, rowKey(key))
	if err != nil || !ok {
		return nil, err
	}
	one, err := parse(key, row)
	if err == nil {
		s.remember(key, one)
	}
	return one, err
}

// remember keeps a shadow; a full cache is emptied by half at random. It needs mu.
func (s *Shadows) remember(key string, one *State) {
	if len(s.cache) >= maxCached {
		drop := maxCached / 2
		for k := range s.cache {
			if drop--; drop < 0 {
				break
			}
			delete(s.cache, k)
		}
	}
	s.cache[key] = one
}

// Get reads a shadow. Errors: NotFound.
func (s *Shadows) Get(thing, topic string) (*State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one, err := s.get(keyOf(thing, topic))
	if err == nil && one == nil {
		err = fault.E(fault.NotFound, "shadow.Get", "%s has no shadow on %s", thing, topic)
	}
	return one, err
}

// List calls f for the shadows of a thing, in order of topic, or for those of all
// where thing is empty, until f returns false.
func (s *Shadows) List(thing string, f func(one *State) (more bool)) error {
	if err := s.Flush(); err != nil && !fault.Is(err, fault.Full) {
		return err
	}
	prefix := store.Shadow.Prefix()
	if thing != "" {
		prefix = append(append(prefix, thing...), 0)
	}
	return s.st.ScanPrefix(prefix, func(key, val []byte) (bool, error) {
		one, err := parse(string(key[1:]), val)
		return err == nil && f(one), err
	})
}

// check refuses what is no JSON, or too much of it, and gives it without white space
// around.
func check(op string, val []byte) ([]byte, error) {
	if len(val) > MaxValue {
		return nil, fault.E(fault.TooLarge, op, "a shadow holds at most %d bytes", MaxValue)
	}
	if err := cjson.Check(val); err != nil {
		return nil, fault.E(fault.NotJSON, op, "%w", err)
	}
	return bytes.TrimSpace(val), nil
}

// Report notes what a thing says it is. A payload that is no JSON is noted as the
// text that it is. changed says whether that is news. With promise the caller
// writes the shadow (Put) into the batch that the thing is acknowledged with;
// without it is written some time later.
//
// Errors: TooLarge; Limit where there are too many shadows.
func (s *Shadows) Report(thing, topic string, payload []byte, promise bool) (one *State, changed bool, err error) {
	const op = "shadow.Report"
	val, err := check(op, payload)
	if fault.Is(err, fault.NotJSON) {
		val, err = cjson.AppendString(nil, string(payload)), nil
	}
	if err != nil {
		return nil, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := keyOf(thing, topic)
	old, err := s.get(key)
	if err != nil {
		return nil, false, err
	}
	if old != nil && bytes.Equal(old.Reported, val) {
		wait := s.dirty[key] != nil && promise // the same was said before, and is not on disk
		if wait {
			delete(s.dirty, key)
		}
		return old, wait, nil
	}
	next, err := s.next(op, old, thing, topic)
	if err != nil {
		return nil, false, err
	}
	next.Reported = slices.Clone(val)
	if promise {
		delete(s.dirty, key)
	} else {
		s.dirty[key] = next
	}
	s.remember(key, next)
	return next, true, nil
}

// next begins the version behind old. It needs mu.
func (s *Shadows) next(op string, old *State, thing, topic string) (*State, error) {
	next := State{Thing: thing, Topic: topic}
	if old != nil {
		next = *old
	} else if s.count >= maxShadows {
		return nil, fault.E(fault.Limit, op, "the hub keeps at most %d shadows", maxShadows)
	} else {
		s.count++
	}
	next.Version++
	next.At = s.now()
	return &next, nil
}

// Put writes a shadow into a batch.
func (s *Shadows) Put(b *store.Batch, one *State) {
	b.Set(rowKey(keyOf(one.Thing, one.Topic)), one.row())
}

// Desire merges a patch into what is desired of a thing: members of objects one
// by one, null takes one away (RFC 7396); what is no object replaces all. Where
// version is not 0 it has to be the shadow's.
//
// Errors: NotJSON, TooLarge, Limit; BadState where the version is another.
func (s *Shadows) Desire(thing, topic string, patch []byte, version uint64) (*State, error) {
	const op = "shadow.Desire"
	patch, err := check(op, patch)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := keyOf(thing, topic)
	old, err := s.get(key)
	if err != nil {
		return nil, err
	}
	have := uint64(0)
	var before []byte
	if old != nil {
		have, before = old.Version, old.Desired
	}
	if version != 0 && version != have {
		return nil, fault.E(fault.BadState, op, "the shadow has version %d", have)
	}
	merged := merge(before, patch)
	if len(merged) > MaxValue {
		return nil, fault.E(fault.TooLarge, op, "a shadow holds at most %d bytes", MaxValue)
	}
	if bytes.Equal(merged, before) && old != nil {
		return old, nil
	}
	next, err := s.next(op, old, thing, topic)
	if err != nil {
		return nil, err
	}
	next.Desired = merged
	b := s.st.NewBatch()
	s.Put(b, next)
	if err := s.st.Commit(b); err != nil {
		return nil, err
	}
	delete(s.dirty, key)
	s.remember(key, next)
	return next, nil
}

// Delete deletes a shadow. Errors: NotFound.
func (s *Shadows) Delete(thing, topic string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := keyOf(thing, topic)
	one, err := s.get(key)
	if err != nil {
		return err
	}
	if one == nil {
		return fault.E(fault.NotFound, "shadow.Delete", "%s has no shadow on %s", thing, topic)
	}
	b := s.st.NewBatch()
	b.Frees()
	b.Delete(rowKey(key))
	if err := s.st.Commit(b); err != nil {
		return err
	}
	delete(s.dirty, key)
	delete(s.cache, key)
	s.count--
	return nil
}

// Flush writes what was reported without a promise.
func (s *Shadows) Flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.dirty) == 0 {
		return nil
	}
	b := s.st.NewBatch()
	for _, one := range s.dirty {
		s.Put(b, one)
	}
	if err := s.st.Apply(b); err != nil {
		return err
	}
	clear(s.dirty)
	return nil
}

// Verify reads all rows and tells bad of those that cannot be read.
func (s *Shadows) Verify(bad func(format string, args ...any)) error {
	return s.st.ScanPrefix(store.Shadow.Prefix(), func(key, val []byte) (bool, error) {
		if _, err := parse(string(key[1:]), val); err != nil {
			bad("shadow %q: %v", key[1:], err)
		}
		return true, nil
	})
}
