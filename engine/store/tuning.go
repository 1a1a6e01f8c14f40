package store

import (
	"bytes"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
)

// format is Pebble's on-disk format. It is pinned: a newer Hearth moves it on
// only after it was found healthy, so that the one before can still read the
// store after a rollback.
const format = pebble.FormatValueSeparation

// tuning makes Pebble's options. Each departure from the defaults has its
// reason: a small computer with a card for a disk wears out by bytes written
// and has little memory.
func (s *Store) tuning(opts Options, files FS, last *lastWords) *pebble.Options {
	o := &pebble.Options{
		FS:                 newWalFS(s.space.wrap(files), opts.Dir),
		Cache:              s.cache,
		ReadOnly:           opts.ReadOnly,
		FormatMajorVersion: opts.files,

		// One large memtable writes a third less than a quarter of it: rows
		// that are overwritten (room rows, cursors) die before they are flushed.
		MemTableSize:                uint64(opts.MemTable),
		MemTableStopWritesThreshold: 3,
		WALMinSyncInterval:          s.lingering,
		MaxManifestFileSize:         1 << 20,
		MaxOpenFiles:                64,

		// Flushed files span every table, so a compaction rewrites rows that
		// never change, event bodies above all. More runs in L0 before one
		// begins (the threshold counts each twice), and files cut where
		// spanPolicy says, let bodies sink by moving their files instead.
		L0CompactionThreshold:      16,
		L0CompactionFileThreshold:  64,
		L0StopWritesThreshold:      48,
		LBaseMaxBytes:              16 << 20,
		CompactionConcurrencyRange: func() (int, int) { return 1, 1 },
		Logger:                     logger{opts, last},
		EventListener:              s.listen(last),
	}
	o.Experimental.SpanPolicyFunc = spanPolicy
	o.Experimental.CompactionScheduler = s.gate
	for i := range o.Levels {
		l := &o.Levels[i]
		l.BlockSize = 8 << 10
		l.IndexBlockSize = 32 << 10
		l.FilterPolicy = bloom.FilterPolicy(10)
	}
	for i := range o.TargetFileSizes {
		o.TargetFileSizes[i] = 4 << 20
	}
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionFastest })
	return o
}

// spanPolicy cuts flushed and compacted files before and after the bodies of
// message events: these are written once in the order of their numbers, so
// their files never overlap and are moved down, not rewritten. State events are
// few and lie with what comes before: a start after a power cut writes, and
// syncs, one file for each stretch.
func spanPolicy(start []byte) (pebble.SpanPolicy, []byte, error) {
	for _, cut := range [...]Table{OtherBody, RoomRow} {
		if end := []byte{byte(cut)}; bytes.Compare(start, end) < 0 {
			return pebble.SpanPolicy{}, end, nil
		}
	}
	return pebble.SpanPolicy{}, nil, nil
}

// logger hands Pebble's words on: its news is dropped, its errors and its
// last words are the owner's to read.
type logger struct {
	opts Options
	last *lastWords // nil where the database is open
}

func (l logger) Infof(string, ...any) {}

func (l logger) Errorf(format string, args ...any) {
	if l.opts.Log != nil {
		l.opts.Log("store: "+format, args...)
	}
}

func (l logger) Fatalf(format string, args ...any) {
	if l.last != nil {
		l.last.hear(fmt.Sprintf(format, args...))
	}
	if l.opts.Fatal != nil {
		l.opts.Fatal("store: "+format, args...)
	}
	// Pebble relies on this call to end the goroutine's world: after a failed
	// log write nothing may be acknowledged any more.
	panic("store: the disk refused a write")
}
