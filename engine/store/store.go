// Package store is Hearth's disk: one Pebble database, its keyspaces, batches,
// ranges and format version. It knows no Matrix; rows are encoded by the
// packages that own them (keyspace.go lists all of them).
//
// Only this package imports Pebble. Durability is the caller's to ask for:
// Commit returns when the batch is on disk, Start when it is visible to
// readers but perhaps not yet on disk (package stream keeps such rows from
// leaving the process), Apply never waits and is for rows that the next
// synced batch carries with it, since the log on disk keeps its order.
package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// FS is the seam between the store and the disk: the real one, or a
// crashable or failing one in tests.
type FS = vfs.FS

// Options are what a store is opened with. The zero value of a size takes a
// small default.
type Options struct {
	Dir        string
	FS         FS                               // nil: the real disk
	CacheBytes int64                            // Pebble's block cache
	MemTable   int                              // bytes of one memtable; at most two are alive
	ReadOnly   bool                             // nothing is written, not even the replay of the log
	KeepFormat bool                             // leave an older store as it is, see Format: the version before may have to read it again
	Ballast    bool                             // keep a file to let go of when the disk is full: 64 MiB, or 5% of the disk
	Log        func(format string, args ...any) // lines worth an owner's eye; nil drops them
	Fatal      func(format string, args ...any) // the store cannot go on (the disk refused a write); must not return

	forms forms                     // none: the program's
	files pebble.FormatMajorVersion // 0: the program's
}

const (
	defaultCache    = 4 << 20
	defaultMemTable = 4 << 20
)

// Store is an open database. All methods may be called at the same time.
type Store struct {
	db       *pebble.DB
	cache    *pebble.Cache
	fs       FS
	dir      string
	waiting  atomic.Int32 // commits that wait for the disk now
	space    *headroom    // nil: free space is not watched
	gate     *gate
	readOnly bool
	format   uint64
	marked   atomic.Bool                      // a damaged file was met
	die      func(format string, args ...any) // ends the process
	last     *lastWords
}

// ReadOnly says whether the store was opened to be read only. Then all batches
// are refused, with an error of kind Full.
func (s *Store) ReadOnly() bool { return s.readOnly }

// Close waits for running compactions and closes the database.
func (s *Store) Close() error {
	s.space.end()
	err := s.db.Close()
	s.cache.Unref()
	return err
}

// Get appends the value of key to dst. ok is false where there is no such key.
func (s *Store) Get(dst, key []byte) (val []byte, ok bool, err error) {
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return dst, false, nil
	}
	if err != nil {
		s.notice(err)
		return dst, false, fmt.Errorf("store: get: %w", err)
	}
	dst = append(dst, v...)
	return dst, true, closer.Close()
}

// Has says whether the key is there.
func (s *Store) Has(key []byte) (bool, error) {
	_, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("store: get: %w", err)
	}
	return true, closer.Close()
}

// Scan calls f for each key in [lower, upper) in order until f returns false.
// A nil upper means no bound. Key and value are valid during the call only.
func (s *Store) Scan(lower, upper []byte, f func(key, val []byte) (more bool, err error)) error {
	return s.scan(lower, upper, false, f)
}

// ScanBack is Scan from the last key to the first.
func (s *Store) ScanBack(lower, upper []byte, f func(key, val []byte) (more bool, err error)) error {
	return s.scan(lower, upper, true, f)
}

func (s *Store) scan(lower, upper []byte, back bool, f func(key, val []byte) (bool, error)) (err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return fmt.Errorf("store: scan: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	first, next := it.First, it.Next
	if back {
		first, next = it.Last, it.Prev
	}
	for ok := first(); ok; ok = next() {
		val, err := it.ValueAndErr()
		if err != nil {
			s.notice(err)
			return fmt.Errorf("store: scan: %w", err)
		}
		if more, err := f(it.Key(), val); !more || err != nil {
			return err
		}
	}
	s.notice(it.Error())
	return it.Error()
}

// ScanPrefix is Scan over all keys that begin with prefix.
func (s *Store) ScanPrefix(prefix []byte, f func(key, val []byte) (more bool, err error)) error {
	return s.scan(prefix, After(prefix), false, f)
}

// Last gives a copy of the last key in [lower, upper); nil where there is none.
func (s *Store) Last(lower, upper []byte) (key []byte, err error) {
	err = s.ScanBack(lower, upper, func(k, _ []byte) (bool, error) {
		key = append([]byte(nil), k...)
		return false, nil
	})
	return key, err
}

// Batch is a set of changes that reach the disk together or not at all.
type Batch struct {
	b     *pebble.Batch
	s     *Store
	frees bool
	spans []span // ranges it deletes
}

type span struct{ lower, upper []byte }

// NewBatch begins a batch. It is given back by Commit, Apply or Wait, or by
// Drop where none of them is reached.
func (s *Store) NewBatch() *Batch { return &Batch{b: s.db.NewBatch(), s: s} }

// Set puts a row. Both slices are copied.
func (b *Batch) Set(key, val []byte) {
	if err := b.b.Set(key, val, nil); err != nil {
		panic("store: set in a finished batch: " + err.Error())
	}
}

// Delete removes a row.
func (b *Batch) Delete(key []byte) {
	if err := b.b.Delete(key, nil); err != nil {
		panic("store: delete in a finished batch: " + err.Error())
	}
}

// DeleteRange removes all rows in [lower, upper).
func (b *Batch) DeleteRange(lower, upper []byte) {
	if err := b.b.DeleteRange(lower, upper, nil); err != nil {
		panic("store: delete range in a finished batch: " + err.Error())
	}
	b.spans = append(b.spans, span{bytes.Clone(lower), bytes.Clone(upper)})
}

// Frees says that the batch is there to free space, so it is let through when
// the disk is full.
func (b *Batch) Frees() { b.frees = true }

// Bytes is the size of the batch.
func (b *Batch) Bytes() int { return b.b.Len() }

// Empty says whether the batch changes nothing.
func (b *Batch) Empty() bool { return b.b.Empty() }

// Drop gives up a batch that was not committed.
func (b *Batch) Drop() { _ = b.b.Close() } // closing an uncommitted batch only frees memory

// Commit applies the batch and returns when it is on disk.
func (s *Store) Commit(b *Batch) error {
	if err := s.Start(b); err != nil {
		return err
	}
	return b.Wait()
}

// Start applies the batch and returns at once: readers see it, the disk may
// not have it yet. Batches reach the disk in the order of their Starts. Wait
// has to follow.
//
// On a full disk the error is of kind Full, for all but batches that free space.
func (s *Store) Start(b *Batch) error {
	if err := s.admit(b); err != nil {
		return err
	}
	s.waiting.Add(1)
	if err := s.db.ApplyNoSyncWait(b.b, pebble.Sync); err != nil {
		s.waiting.Add(-1)
		return fmt.Errorf("store: commit: %w", err)
	}
	return nil
}

// Wait returns when a started batch is on disk, and ends the batch.
func (b *Batch) Wait() error {
	err := b.b.SyncWait()
	b.s.waiting.Add(-1)
	if err != nil {
		// The batch is seen by readers and may or may not be on disk; nothing
		// after it may be acknowledged, and trying the sync again tells nothing.
		b.s.die("the log cannot be written: %v", err)
	}
	if cerr := b.b.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("store: commit: %w", err)
	}
	if b.frees {
		b.s.reclaim(b.spans)
	}
	return nil
}

// Apply applies the batch without ever waiting for the disk. It survives a
// power cut if any batch committed after it does.
func (s *Store) Apply(b *Batch) error {
	if err := s.admit(b); err != nil {
		return err
	}
	if err := s.db.Apply(b.b, pebble.NoSync); err != nil {
		return fmt.Errorf("store: apply: %w", err)
	}
	return b.b.Close()
}

// lingering is how long the log writer may wait for company before it syncs:
// a millisecond while several commits wait, not at all for a lone one, whose
// sender would only be kept waiting.
func (s *Store) lingering() time.Duration {
	if s.waiting.Load() > 1 {
		return time.Millisecond
	}
	return 0
}

// Backup writes a consistent copy of the database into dir, which must not
// exist, while it goes on. Tables are shared with the copy by hard links where
// the file system has them.
func (s *Store) Backup(dir string) error {
	return s.db.Checkpoint(dir, pebble.WithFlushedWAL())
}

// Metrics writes Pebble's own report, for people.
func (s *Store) Metrics(w io.Writer) {
	fmt.Fprintln(w, s.db.Metrics().String())
}

// Settle flushes the memtable and compacts everything, for measurements and tests.
func (s *Store) Settle() error {
	if err := s.db.Flush(); err != nil {
		return err
	}
	return s.db.Compact(context.Background(), []byte{0}, []byte{0xff}, false)
}
