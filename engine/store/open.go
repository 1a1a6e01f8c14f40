package store

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/fault"
)

// Open opens the database in opts.Dir, or makes it. A store that another
// process has open, one of a newer format and a damaged one are refused. Damage
// is of kind Corrupt, see Recover; of a disk that cannot be written Unwritable
// tells, and the store may be opened read-only.
func Open(opts Options) (*Store, error) {
	if opts.FS == nil {
		opts.FS = vfs.Default
	}
	if !opts.ReadOnly {
		if err := takeSalvaged(opts.FS, opts.Dir); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		if err := makeDir(opts.FS, opts.Dir); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		// Under the lock: a store that another process writes to looks damaged.
		lock, err := pebble.LockDirectory(opts.Dir, opts.FS)
		if err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		if err := errors.Join(checkDamage(&opts), lock.Close()); err != nil {
			return nil, err
		}
	}
	return open(opts)
}

// open is Open without the looks that are for damage.
func open(opts Options) (*Store, error) {
	s := &Store{dir: opts.Dir, fs: opts.FS, readOnly: opts.ReadOnly}
	if s.fs == nil {
		s.fs = vfs.Default
	}
	if opts.CacheBytes == 0 {
		opts.CacheBytes = defaultCache
	}
	if opts.MemTable == 0 {
		opts.MemTable = defaultMemTable
	}
	opts.FS = s.fs
	if err := opts.settle(); err != nil {
		return nil, err
	}
	s.die = logger{opts: opts}.Fatalf
	s.gate = newGate()
	s.space = watch(s.fs, &opts, s.gate)
	if err := s.space.roomToOpen(); err != nil {
		return nil, err
	}
	// Pebble takes the memtable's bytes off its cache; they have a share of their own.
	s.cache = pebble.NewCache(opts.CacheBytes + int64(opts.MemTable))
	if err := s.openPebble(opts); err != nil {
		s.space.end()
		s.cache.Unref()
		return nil, err
	}
	if err := s.checkFormat(opts); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// openPebble opens the database. What Pebble cannot go on from while it opens
// (it could not write its manifest) ends the process when it is open; here it is
// an error, so that the store can be opened read-only instead. What Pebble was
// doing stands still then, and never wakes up.
func (s *Store) openPebble(opts Options) error {
	type result struct {
		db  *pebble.DB
		err error
	}
	opened := make(chan result, 1)
	last := &lastWords{said: make(chan string, 1)}
	s.last = last
	lock := &lockFS{FS: s.fs, readOnly: opts.ReadOnly}
	o := s.tuning(opts, lock, last)
	go func() {
		db, err := pebble.Open(opts.Dir, o)
		opened <- result{db, err}
	}()
	select {
	case r := <-opened:
		last.open()
		if r.err != nil {
			return fmt.Errorf("store: %w", damage(r.err))
		}
		s.db = r.db
		return nil
	case text := <-last.said:
		err := lock.release()
		if s.marked.Load() {
			return fault.E(fault.Corrupt, "store.Open", "the store is damaged: %s", text)
		}
		return &deadError{text, err}
	}
}

// deadError is what Pebble said last.
type deadError struct {
	text string
	err  error
}

func (e *deadError) Error() string { return "store: " + e.text }
func (e *deadError) Unwrap() error { return e.err }

// Unwritable says whether an error of Open comes from a disk that can perhaps
// still be read: its file system was made read-only, it fails, or it is full.
func Unwritable(err error) bool {
	var dead *deadError
	return errors.As(err, &dead) || fault.Is(err, fault.Full) || errors.Is(err, syscall.EROFS) ||
		errors.Is(err, syscall.EIO) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// lastWords takes what Pebble says when it cannot go on.
type lastWords struct {
	mu     sync.Mutex
	opened bool
	said   chan string
}

func (l *lastWords) open() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opened = true
}

// hear keeps a goroutine of Pebble's for ever while the database is being
// opened; afterwards it returns.
func (l *lastWords) hear(text string) {
	l.mu.Lock()
	opened := l.opened
	l.mu.Unlock()
	if opened {
		return
	}
	select {
	case l.said <- text:
	default: // somebody else said it first
	}
	select {}
}

// lockFS remembers the lock of the folder, to let go of it where Pebble does
// not, and lets a disk be read whose lock file cannot be written: nobody can be
// writing to it either.
type lockFS struct {
	vfs.FS
	readOnly bool
	mu       sync.Mutex
	held     io.Closer
}

func (l *lockFS) Lock(name string) (io.Closer, error) {
	held, err := l.FS.Lock(name)
	if err != nil && l.readOnly && Unwritable(err) {
		return noLock{}, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = held
	return held, err
}

func (l *lockFS) release() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		return nil
	}
	return l.held.Close()
}

func (l *lockFS) Unwrap() vfs.FS { return l.FS }

type noLock struct{}

func (noLock) Close() error { return nil }
