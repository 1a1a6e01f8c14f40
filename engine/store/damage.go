package store

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/record"

	"hearth/engine/fault"
)

// damage gives an error of opening the kind Corrupt where it says that files of
// the database are damaged or gone, and leaves others as they are.
func damage(err error) error {
	if err == nil || Unwritable(err) {
		return err
	}
	text := err.Error()
	if pebble.IsCorruptionError(err) || record.IsInvalidRecord(err) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, pebble.ErrDBNotPristine) ||
		strings.Contains(text, "object size mismatch") {
		return corrupt("%w", err)
	}
	return err
}

// corrupt is an error that Recover is the answer to.
func corrupt(format string, args ...any) error {
	return fault.E(fault.Corrupt, "store.Open", "the store is damaged: "+format, args...)
}

// checkDamage refuses a store that was found damaged while it was in use, or
// whose manifest or last log has lost something.
func checkDamage(opts *Options) error {
	mark, err := ReadFile(opts.FS, opts.FS.PathJoin(opts.Dir, damageMark))
	switch {
	case err == nil:
		return corrupt("%s was found to be damaged", strings.TrimSpace(string(mark)))
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("store: %w", err)
	}
	if err := checkManifest(opts.FS, opts.Dir); err != nil {
		return err
	}
	return checkLastLog(opts.FS, opts.Dir)
}

// damageMark lies in the store's folder from when a damaged file was met until
// the store was recovered. Its text names the file.
const damageMark = "damaged"

// listen has Pebble tell what goes wrong behind a caller's back.
func (s *Store) listen(last *lastWords) *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) { s.background(err, last) },
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			s.damaged(info.Path, info.Details)
		},
	}
}

// background takes the error of a flush or a compaction. Pebble tries both
// again at once and for ever, which no disk gets better by: the process ends,
// and the next one finds out whether the disk can be written. A full disk
// is waited for instead, see space.go.
func (s *Store) background(err error, last *lastWords) {
	if errors.Is(err, pebble.ErrCancelledCompaction) {
		return
	}
	s.notice(err)
	last.hear(err.Error())
	if errors.Is(err, syscall.ENOSPC) {
		return
	}
	s.die("the disk failed: %v", err)
}

// notice looks at an error of reading: a table that the disk cannot read is as
// good as damaged.
func (s *Store) notice(err error) {
	var read *fs.PathError
	if errors.As(err, &read) && read.Op == "read" && errors.Is(err, syscall.EIO) && strings.HasSuffix(read.Path, ".sst") {
		s.damaged(read.Path, err)
	}
}

// damaged marks the folder, so that the next start recovers the store, and ends
// the process: until then every read that needs the file would fail.
func (s *Store) damaged(path string, err error) {
	if s.readOnly || !s.marked.CompareAndSwap(false, true) {
		return
	}
	name := s.fs.PathBase(path)
	if werr := WriteFile(s.fs, s.fs.PathJoin(s.dir, damageMark), []byte(name+"\n")); werr != nil {
		err = errors.Join(err, werr)
	}
	s.last.hear(err.Error())
	s.die("the file %s is damaged; the next start saves what can be read of it: %v", path, err)
}
