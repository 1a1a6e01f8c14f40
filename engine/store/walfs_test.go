package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The data folder of a process that died without closing anything opens, with
// everything that was committed: log files are longer than what is in them.
func TestFilledLogsReplay(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(Options{Dir: filepath.Join(dir, "db")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const rows = 300
	val := strings.Repeat("v", 3000) // several logs and stretches
	for i := range rows {
		b := s.NewBatch()
		b.Set(U64(Log.Key(nil), uint64(i)), fmt.Append(nil, i, val))
		if err := s.Commit(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(dir, "copy"), os.DirFS(filepath.Join(dir, "db"))); err != nil {
		t.Fatal(err)
	}
	c, err := Open(Options{Dir: filepath.Join(dir, "copy")})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	n := 0
	if err := c.ScanPrefix(Log.Prefix(), func(_, v []byte) (bool, error) {
		if string(v) != fmt.Sprint(n, val) {
			t.Fatalf("row %d is damaged", n)
		}
		n++
		return true, nil
	}); err != nil || n != rows {
		t.Fatal(n, err)
	}
}

// A file that was filled once is a log again, also in the next run, and is filled
// only where it becomes longer than it was.
func TestLogFilesAreReused(t *testing.T) {
	files := &zeroFS{FS: vfs.Default}
	dir := t.TempDir()
	w := newWalFS(files, dir)
	path := func(n int) string { return filepath.Join(dir, fmt.Sprintf("%06d.log", n)) }
	write := func(n, bytes int) {
		t.Helper()
		f, err := w.Create(path(n), "pebble-wal")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(make([]byte, bytes)); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	filled := func(want int64) {
		t.Helper()
		if got := files.zeros.Swap(0); got != want*stretch {
			t.Errorf("%d stretches were filled, not %d", got/stretch, want)
		}
	}
	for n := range 4 {
		write(n, stretch+1)
	}
	filled(8)
	for n := range 4 {
		if err := w.Remove(path(n)); err != nil {
			t.Fatal(err)
		}
	}
	names, err := files.List(dir)
	if err != nil || len(names) != maxSpares || !strings.HasPrefix(names[0], sparePrefix) {
		t.Fatal(names, err)
	}
	w = newWalFS(files, dir) // the next run
	write(10, 2*stretch)
	filled(0)
	write(11, 2*stretch+1)
	filled(1)
	write(12, 1) // there is no other spare
	filled(1)
}

// zeroFS counts what logs are filled with.
type zeroFS struct {
	vfs.FS
	zeros atomic.Int64
}

func (z *zeroFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := z.FS.Create(name, c)
	return &zeroFile{f, z}, err
}

func (z *zeroFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := z.FS.ReuseForWrite(old, name, c)
	return &zeroFile{f, z}, err
}

type zeroFile struct {
	vfs.File
	z *zeroFS
}

func (f *zeroFile) WriteAt(p []byte, at int64) (int, error) {
	f.z.zeros.Add(int64(len(p)))
	return f.File.WriteAt(p, at)
}
