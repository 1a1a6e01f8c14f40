package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"hearth/engine/fault"
)

const (
	flushed = 2000 // rows of the test store that lie in tables
	logged  = 400  // rows that lie in its log alone
)

// value is what row n of the test store holds.
func value(n int) []byte {
	rng := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)})
	val := make([]byte, 400)
	rng.Read(val)
	return val
}

// damagedStore makes a store with rows in tables and in the log, some of them
// deleted, one by one and as a range, and a token.
func damagedStore(t *testing.T) *vfs.MemFS {
	t.Helper()
	files := vfs.NewMem()
	s, err := Open(Options{Dir: "data/db", FS: files, MemTable: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	commit := func(f func(b *Batch)) {
		b := s.NewBatch()
		f(b)
		if err := s.Commit(b); err != nil {
			t.Fatal(err)
		}
	}
	for n := range flushed + logged {
		if n == flushed {
			commit(func(b *Batch) {
				b.DeleteRange(U64(OtherBody.Key(nil), 100), U64(OtherBody.Key(nil), 200))
				for n := range 50 {
					b.Delete(U64(OtherBody.Key(nil), uint64(n)))
				}
			})
			if err := s.Settle(); err != nil {
				t.Fatal(err)
			}
		}
		commit(func(b *Batch) {
			b.Set(U64(OtherBody.Key(nil), uint64(n)), value(n))
			b.Set(U64(Log.Key(nil), uint64(n)), nil)
		})
	}
	names, err := OpenNames(s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := names.Number(Users, "@a:hub"); err != nil {
		t.Fatal(err)
	}
	commit(func(b *Batch) { b.Set(append(Token.Prefix(), "token"...), []byte("row")) })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return files
}

// expected says whether row n of the test store is there when nothing is lost.
func expected(n int) bool { return n >= 50 && (n < 100 || n >= 200) }

// find gives the names of the folder's files with the suffix, the largest first.
func find(t *testing.T, files vfs.FS, with string) []string {
	t.Helper()
	list, err := files.List("data/db")
	if err != nil {
		t.Fatal(err)
	}
	list = slices.DeleteFunc(list, func(name string) bool { return !strings.Contains(name, with) })
	size := func(name string) int64 {
		info, err := files.Stat("data/db/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	if with == ".log" { // the one in use is the last
		slices.Sort(list)
		slices.Reverse(list)
		return list
	}
	slices.SortFunc(list, func(a, b string) int { return int(size(b) - size(a)) })
	return list
}

// edit changes a file's bytes.
func edit(t *testing.T, files vfs.FS, name string, f func(text []byte) []byte) {
	t.Helper()
	in, err := files.Open("data/db/" + name)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(in)
	if err := errors.Join(err, in.Close()); err != nil {
		t.Fatal(err)
	}
	out, err := files.Create("data/db/"+name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = out.Write(f(text))
	if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
		t.Fatal(err)
	}
}

func flip(at int) func(text []byte) []byte {
	return func(text []byte) []byte {
		text[at] ^= 0xff
		return text
	}
}

// recovered opens the store as the engine does, and counts the expected rows
// that are gone. All that are there must be right, and none may have come back.
func recovered(t *testing.T, files vfs.FS) (missing int, report *Findings) {
	t.Helper()
	opts := Options{Dir: "data/db", FS: files, MemTable: 256 << 10}
	s, err := Open(opts)
	if fault.Is(err, fault.Corrupt) {
		if report, err = Recover(opts); err != nil {
			t.Fatalf("recovery: %v", err)
		}
		s, err = Open(opts)
	}
	if err != nil {
		t.Fatalf("after the recovery: %v", err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	for n := range flushed + logged {
		val, ok, err := s.Get(nil, U64(OtherBody.Key(nil), uint64(n)))
		switch {
		case err != nil:
			t.Fatal(err)
		case !ok && expected(n):
			missing++
		case ok && !expected(n):
			t.Fatalf("row %d has come back", n)
		case ok && !bytes.Equal(val, value(n)):
			t.Fatalf("row %d is wrong", n)
		}
	}
	return missing, report
}

// lossIsWritten holds a recovered store to what has to follow from a loss.
func lossIsWritten(t *testing.T, files vfs.FS, before uint64) {
	t.Helper()
	s, err := Open(Options{Dir: "data/db", FS: files})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if inc, err := s.Incarnation(); err != nil || inc == before {
		t.Error("the incarnation is the old one", err)
	}
	if ok, err := s.Has(append(Token.Prefix(), "token"...)); ok || err != nil {
		t.Error("a token is alive", err)
	}
	if pos, err := s.Floor(FloorPos); err != nil || pos < jump {
		t.Error("positions do not jump", pos, err)
	}
	names, err := OpenNames(s)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := names.Number(Users, "@new:hub"); err != nil || n <= jump {
		t.Error("names do not jump", n, err)
	}
	list, err := files.List("data")
	if err != nil || !slices.ContainsFunc(list, func(name string) bool { return strings.HasPrefix(name, "recovered-") }) ||
		!slices.ContainsFunc(list, func(name string) bool { return strings.HasPrefix(name, "db.damaged-") }) {
		t.Error("the report or the damaged files are not there", list, err)
	}
}

func incarnation(t *testing.T, files vfs.FS) uint64 {
	t.Helper()
	s, err := Open(Options{Dir: "data/db", FS: files, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	inc, err := s.Incarnation()
	if err != nil {
		t.Fatal(err)
	}
	return inc
}

// Each kind of damage: what is lost is what the damage is in, and it is named.
func TestRecover(t *testing.T) {
	const all = flushed + logged
	for _, c := range []struct {
		name    string
		damage  func(t *testing.T, files vfs.FS) (file string)
		atMost  int // rows that may be lost
		atLeast int
		names   string // what the report names where it is not the file
	}{
		{"nothing", func(*testing.T, vfs.FS) string { return "" }, 0, 0, ""},
		{"log, middle", func(t *testing.T, files vfs.FS) string {
			name := find(t, files, ".log")[0]
			edit(t, files, name, flip(3*logBlock/2))
			return name
		}, logged, logged / 2, ""},
		{"log, last block", func(t *testing.T, files vfs.FS) string {
			logs, err := readLogs(files, "data/db")
			if err != nil {
				t.Fatal(err)
			}
			st, err := readLog(logs[len(logs)-1], nil)
			if err != nil || st.damaged {
				t.Fatal(st, err)
			}
			edit(t, files, st.name, flip(int(st.good)-5000))
			return st.name
		}, 20, 1, ""},
		{"table gone", func(t *testing.T, files vfs.FS) string {
			name := find(t, files, ".sst")[0]
			if err := files.Remove("data/db/" + name); err != nil {
				t.Fatal(err)
			}
			return name
		}, flushed, 100, ""},
		{"table cut", func(t *testing.T, files vfs.FS) string {
			name := find(t, files, ".sst")[0]
			edit(t, files, name, func(text []byte) []byte { return text[:len(text)-100] })
			return name
		}, flushed, 100, ""},
		{"manifest", func(t *testing.T, files vfs.FS) string {
			name := find(t, files, "MANIFEST-")[0]
			edit(t, files, name, flip(60))
			return name
		}, 0, 0, "manifest"},
		{"manifest gone", func(t *testing.T, files vfs.FS) string {
			if err := files.Remove("data/db/" + find(t, files, "MANIFEST-")[0]); err != nil {
				t.Fatal(err)
			}
			return ""
		}, 0, 0, "manifest"},
		{"options", func(t *testing.T, files vfs.FS) string {
			name := find(t, files, "OPTIONS-")[0]
			edit(t, files, name, func([]byte) []byte { return []byte("[Nonsense") })
			return name
		}, 0, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := damagedStore(t)
			before := incarnation(t, files)
			file := c.damage(t, files)
			missing, report := recovered(t, files)
			if missing > c.atMost || missing < c.atLeast {
				t.Errorf("%d rows of %d are lost", missing, all)
			}
			if c.name == "nothing" {
				if report != nil {
					t.Error("there was nothing to recover")
				}
				return
			}
			if report == nil {
				t.Fatal("the damage was not noticed")
			}
			t.Log(report.Text())
			if c.names != "" {
				file = c.names
			}
			if !strings.Contains(report.Text(), file) {
				t.Errorf("the report does not name %s", file)
			}
			if c.name != "options" {
				lossIsWritten(t, files, before)
			} else if incarnation(t, files) != before {
				t.Error("nothing was lost, and the incarnation is new")
			}
		})
	}
}

// A damaged block is met while the store is in use: the process ends, and the
// next start saves the rest of the table.
func TestRecoverBlock(t *testing.T) {
	files := damagedStore(t)
	before := incarnation(t, files)
	name := find(t, files, ".sst")[0]
	edit(t, files, name, flip(100_000))
	died := make(chan string, 8)
	s, err := Open(Options{Dir: "data/db", FS: files, MemTable: 256 << 10, Fatal: func(format string, args ...any) {
		died <- fmt.Sprintf(format, args...)
		runtime.Goexit()
	}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.ScanPrefix(OtherBody.Prefix(), func(_, _ []byte) (bool, error) { return true, nil })
	}()
	<-done
	if text := <-died; !strings.Contains(text, name) {
		t.Errorf("the last words do not name %s: %s", name, text)
	}
	// The process ended there: its folder is copied, since its lock lives on.
	left := vfs.NewMem()
	if _, err := vfs.Clone(files, left, "data", "data"); err != nil {
		t.Fatal(err)
	}
	missing, report := recovered(t, left)
	if missing == 0 || missing > 60 {
		t.Errorf("%d rows are lost with one block", missing)
	}
	t.Log(report.Text())
	if !strings.Contains(report.Text(), name) {
		t.Errorf("the report does not name %s", name)
	}
	lossIsWritten(t, left, before)
}

// The power fails at every sync of a recovery: the next start ends it.
func TestPowerCutWhileRecovering(t *testing.T) {
	for kind, at := range map[string]int{".log": 3 * logBlock / 2, ".sst": 100_000, "MANIFEST-": 60} {
		source := damagedStore(t)
		edit(t, source, find(t, source, kind)[0], flip(at))
		crashable := vfs.NewCrashableMem()
		if _, err := vfs.Clone(source, crashable, "data", "data", vfs.CloneSync); err != nil {
			t.Fatal(err)
		}
		root, err := crashable.OpenDir("")
		if err != nil || root.Sync() != nil || root.Close() != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex // files are deleted in the background
		var left []*vfs.MemFS
		cuts := 0
		files := errorfs.Wrap(crashable, errorfs.InjectorFunc(func(op errorfs.Op) error {
			switch op.Kind {
			case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpRename, errorfs.OpRemove:
				mu.Lock()
				defer mu.Unlock()
				if cuts++; len(left) > 8 && cuts%11 != 0 && op.Kind != errorfs.OpRename {
					return nil // a table takes many syncs, which are all alike
				}
				left = append(left, crashable.CrashClone(vfs.CrashCloneCfg{}))
			}
			return nil
		}))
		opts := Options{Dir: "data/db", FS: files, MemTable: 256 << 10}
		if kind == ".sst" {
			if err := WriteFile(crashable, "data/db/"+damageMark, []byte("some.sst\n")); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Recover(opts); err != nil {
			t.Fatal(err)
		}
		want, _ := recovered(t, files)
		t.Logf("%s: %d cuts, %d rows lost", kind, len(left), want)
		for i, files := range left {
			missing, _ := recovered(t, files)
			if missing != want {
				t.Errorf("%s, cut %d: %d rows are lost, without the cut %d", kind, i, missing, want)
			}
			lossIsWritten(t, files, 0)
		}
	}
}

// The same on the real disk, where folders are renamed and locked in earnest.
func TestRecoverOnDisk(t *testing.T) {
	dir := t.TempDir()
	if _, err := vfs.Clone(damagedStore(t), vfs.Default, "data", dir+"/data"); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for _, kind := range []string{".log", ".sst"} {
		before := incarnation(t, vfs.Default)
		name := find(t, vfs.Default, kind)[0]
		if kind == ".sst" {
			if err := vfs.Default.Remove("data/db/" + name); err != nil {
				t.Fatal(err)
			}
		} else {
			edit(t, vfs.Default, name, flip(3*logBlock/2))
		}
		missing, report := recovered(t, vfs.Default)
		if missing == 0 || report == nil || !strings.Contains(report.Text(), name) {
			t.Errorf("%d rows are lost with %s: %v", missing, name, report)
		}
		lossIsWritten(t, vfs.Default, before)
	}
}
