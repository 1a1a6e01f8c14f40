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

// A file that was filled once is a log again and again, also in the next run.
func TestLogFilesAreReused(t *testing.T) {
	files := &zeroFS{FS: vfs.Default}
	dir := filepath.Join(t.TempDir(), "db")
	val := strings.Repeat("v", 64<<10)
	for run := range 3 {
		s, err := Open(Options{Dir: dir, FS: files, MemTable: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		files.zeros.Store(0)
		for i := range 100 { // 6 MiB through tables of one
			b := s.NewBatch()
			b.Set(U64(Log.Key(nil), uint64(i)), fmt.Append(nil, run, i, val))
			if err := s.Commit(b); err != nil {
				t.Fatal(err)
			}
		}
		if n := files.zeros.Load(); run > 0 && n > 1<<20 {
			t.Errorf("run %d filled %d bytes", run, n)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	names, err := files.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	spares := 0
	for _, name := range names {
		if strings.HasPrefix(name, sparePrefix) {
			spares++
		}
	}
	if spares > maxSpares {
		t.Errorf("%d spares", spares)
	}
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
