package store

import (
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// walFS fills new log files with zeros, a stretch ahead of what is written,
// instead of only reserving their blocks. A sync into reserved blocks has to
// change the file system's own tables, which costs a journal write and a second
// flush for every lone event; a sync into written blocks is the data alone.
//
// Zeros are bytes written too, so that files which have been filled once are
// written over for as long as they can be. Pebble reuses its log files while it
// runs, and forgets them when it starts: what it would delete then is kept, as a
// spare for the next log. What an old log holds cannot be taken for the new one's,
// because each chunk names its log.
type walFS struct {
	vfs.FS
	dir string

	mu     sync.Mutex
	spares []string // paths
}

// stretch is how far ahead a log file is filled: one journal write for so many
// bytes, and no more than that written in vain when the log is left behind.
const stretch = 256 << 10

var zeros [stretch]byte

const (
	sparePrefix = "spare-"
	maxSpares   = 2
	maxSpare    = 16 << 20 // bytes of one; a log that a huge batch made larger goes
)

// newWalFS finds the spares that the last run left.
func newWalFS(files FS, dir string) *walFS {
	w := &walFS{FS: files, dir: files.PathJoin(dir)} // as Pebble writes it: clean
	names, err := files.List(dir)
	if err != nil {
		return w // there is no folder yet, or whoever opens the store hears of it
	}
	for _, name := range names {
		if strings.HasPrefix(name, sparePrefix) {
			w.spares = append(w.spares, files.PathJoin(dir, name))
		}
	}
	return w
}

func (w *walFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if !isLog(w.PathBase(name)) {
		return w.FS.Create(name, category)
	}
	w.mu.Lock()
	var spare string
	if n := len(w.spares); n > 0 {
		spare, w.spares = w.spares[n-1], w.spares[:n-1]
	}
	w.mu.Unlock()
	if spare != "" {
		if f, err := w.ReuseForWrite(spare, name, category); err == nil {
			return f, nil
		}
	}
	f, err := w.FS.Create(name, category)
	return ahead(f, err)
}

func (w *walFS) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := w.FS.ReuseForWrite(old, name, category)
	if !isLog(w.PathBase(name)) {
		return f, err
	}
	return ahead(f, err)
}

// Remove keeps a log file as a spare, where there are not enough of them. It is
// in the way of nothing: to Pebble it is a name that it does not know.
func (w *walFS) Remove(name string) error {
	base := w.PathBase(name)
	if w.PathDir(name) != w.dir || !isLog(base) {
		return w.FS.Remove(name)
	}
	spare := w.PathJoin(w.dir, sparePrefix+strings.TrimSuffix(base, ".log"))
	w.mu.Lock()
	defer w.mu.Unlock()
	info, err := w.Stat(name)
	if err != nil || info.Size() > maxSpare || len(w.spares) >= maxSpares || slices.Contains(w.spares, spare) {
		return w.FS.Remove(name)
	}
	if err := w.Rename(name, spare); err != nil {
		return w.FS.Remove(name)
	}
	w.spares = append(w.spares, spare)
	return nil
}

func (w *walFS) Unwrap() vfs.FS { return w.FS }

// ahead wraps a log file that was opened to be written from its beginning.
func ahead(f vfs.File, err error) (vfs.File, error) {
	if err != nil || f.Fd() == vfs.InvalidFd {
		return f, err
	}
	w := &walFile{File: f}
	if info, err := f.Stat(); err == nil {
		w.filled = info.Size()
	}
	return w, nil
}

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
