package store

import (
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// walFS fills each new log file with zeros instead of only reserving its
// blocks. A sync into reserved blocks has to change the file system's own
// tables, which costs a journal write and a second flush for every lone event;
// a sync into written blocks is the data alone. Pebble reuses log files once
// some were flushed, so a store pays for this a few times after its start.
type walFS struct{ vfs.FS }

func (w *walFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := w.FS.Create(name, category)
	if err != nil || !strings.HasSuffix(name, ".log") {
		return f, err
	}
	return &walFile{f}, nil
}

func (w *walFS) Unwrap() vfs.FS { return w.FS }

type walFile struct{ vfs.File }

var zeros [64 << 10]byte

// Preallocate writes zeros over the range. It is a hint: what cannot be
// written now (a full disk) is written, or refused, with the data itself.
func (f *walFile) Preallocate(offset, length int64) error {
	for length > 0 {
		n := min(length, int64(len(zeros)))
		if _, err := f.WriteAt(zeros[:n], offset); err != nil {
			return f.File.Preallocate(offset, length)
		}
		offset, length = offset+n, length-n
	}
	return nil
}
