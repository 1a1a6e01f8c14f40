package store

import (
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"hearth/engine/fault"
)

// failing makes a file system whose writing operations fail with an error while
// on is set.
func failing(files vfs.FS, on *atomic.Bool, with error, ops func(op errorfs.Op) bool) vfs.FS {
	return errorfs.Wrap(files, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if on.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && op.Kind != errorfs.OpFileClose && ops(op) {
			return with
		}
		return nil
	}))
}

// put commits a row.
func put(s *Store, n int) error {
	b := s.NewBatch()
	b.Set(U64(Log.Key(nil), uint64(n)), fmt.Append(nil, n))
	return s.Commit(b)
}

// rows counts what put wrote.
func rows(t *testing.T, s *Store) (n int) {
	t.Helper()
	if err := s.ScanPrefix(Log.Prefix(), func(_, val []byte) (bool, error) { n++; return true, nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

// A log that cannot be written ends the process, and nothing is acknowledged.
func TestLogErrorEndsTheProcess(t *testing.T) {
	for _, kind := range []errorfs.OpKind{errorfs.OpFileWrite, errorfs.OpFileSyncData} {
		var on atomic.Bool
		files := failing(vfs.NewMem(), &on, syscall.EIO, func(op errorfs.Op) bool { return op.Kind == kind && strings.HasSuffix(op.Path, ".log") })
		died := make(chan string, 8)
		s, err := Open(Options{Dir: "db", FS: files, Fatal: func(format string, args ...any) {
			died <- fmt.Sprintf(format, args...)
			runtime.Goexit()
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := put(s, 1); err != nil {
			t.Fatal(err)
		}
		on.Store(true)
		acknowledged := make(chan error, 1)
		go func() {
			defer close(acknowledged)
			acknowledged <- put(s, 2)
		}()
		if err, ok := <-acknowledged; ok {
			t.Fatalf("a commit returned %v on a log that cannot be written", err)
		}
		if text := <-died; !strings.Contains(text, "input/output error") {
			t.Errorf("the last words are %q", text)
		}
	}
}

// A disk that refuses every write still opens to be read, whatever it says, and
// whenever in the opening it says it. Writing is refused then.
func TestUnwritableDiskOpensReadOnly(t *testing.T) {
	mem := vfs.NewMem()
	s := openTest(t, mem)
	const many = 100
	for n := range many {
		if err := put(s, n); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, with := range []error{syscall.EROFS, syscall.EIO, syscall.ENOSPC} {
		for _, first := range []string{"LOCK", ".sst", ".log", "MANIFEST", ""} {
			var on atomic.Bool
			on.Store(true)
			files := failing(clone(t, mem), &on, with, func(op errorfs.Op) bool { return strings.Contains(op.Path, first) })
			_, err := Open(Options{Dir: "db", FS: files})
			if err == nil || !Unwritable(err) {
				t.Fatalf("%v of %q: %v", with, first, err)
			}
			s, err := Open(Options{Dir: "db", FS: files, ReadOnly: true})
			if err != nil {
				t.Fatalf("%v of %q, read-only: %v", with, first, err)
			}
			if n := rows(t, s); n != many {
				t.Errorf("%d rows of %d can be read", n, many)
			}
			if err := put(s, 1); !fault.Is(err, fault.Full) {
				t.Errorf("writing: %v", err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// clone copies the folder db to a new memory disk.
func clone(t *testing.T, from vfs.FS) *vfs.MemFS {
	t.Helper()
	to := vfs.NewMem()
	if ok, err := vfs.Clone(from, to, "db", "db", vfs.CloneSync); !ok || err != nil {
		t.Fatal(ok, err)
	}
	return to
}
