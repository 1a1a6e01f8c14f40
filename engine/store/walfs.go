package store

import (
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// walFS fills new log files with zeros, a stretch ahead of what is written,
// instead of only reserving their blocks. A sync into reserved blocks has to
// change the file system's own tables, which costs a journal write and a second
// flush for every lone event; a sync into written blocks is the data alone.
// Pebble reuses log files once some were flushed, and then nothing is filled.
type walFS struct{ vfs.FS }

// stretch is how far ahead a log file is filled: one journal write for so many
// bytes, and no more than that written in vain when the log is left behind.
const stretch = 256 << 10

var zeros [stretch]byte

func (w *walFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := w.FS.Create(name, category)
	if err != nil || !strings.HasSuffix(name, ".log") || f.Fd() == vfs.InvalidFd {
		return f, err
	}
	return &walFile{File: f}, nil
}

func (w *walFS) Unwrap() vfs.FS { return w.FS }

type walFile struct {
	vfs.File
	end    int64 // bytes written
	filled int64 // bytes that are on the disk as data or zeros
}

func (f *walFile) Write(p []byte) (int, error) {
	for need := f.end + int64(len(p)); f.filled < need; {
		// A disk with no room for zeros may have room for the data, and says so if not.
		if _, err := f.WriteAt(zeros[:], f.filled); err != nil {
			break
		}
		f.filled += stretch
	}
	n, err := f.File.Write(p)
	f.end += int64(n)
	return n, err
}

// Preallocate does nothing: it would reserve blocks that have to be written
// again.
func (f *walFile) Preallocate(int64, int64) error { return nil }
