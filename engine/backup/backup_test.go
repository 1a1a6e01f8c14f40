package backup_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hearth/engine/backup"
	"hearth/engine/fault"
	"hearth/engine/store"
)

// folder is a data folder with a store, a key and two files of media.
type folder struct {
	t   *testing.T
	dir string
	st  *store.Store
}

func newFolder(t *testing.T) *folder {
	t.Helper()
	f := &folder{t: t, dir: t.TempDir()}
	for name, text := range map[string]string{
		"signing.key": "ed25519 a seed", "control.new": "half", "acme/cert": "certificate", "media/ab/abcd": "one", "media/ab/abcd.32x32c": "two",
		"media/new/half": "half",
	} {
		f.ok(os.MkdirAll(filepath.Dir(filepath.Join(f.dir, name)), 0o700))
		f.ok(os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o600))
	}
	st, err := store.Open(store.Options{Dir: filepath.Join(f.dir, "store")})
	f.ok(err)
	f.st = st
	t.Cleanup(func() { f.ok(st.Close()) })
	f.put("before")
	return f
}

func (f *folder) ok(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *folder) put(name string) {
	b := f.st.NewBatch()
	b.SetMeta(name, []byte("x"))
	b.Set(store.OneTimeKey.Key(nil), []byte("key"))
	b.Set(store.Token.Key(nil), []byte("token"))
	f.ok(f.st.Commit(b))
}

func (f *folder) write(ctx context.Context, dest string, media bool) (*backup.Note, error) {
	return backup.Write(ctx, f.st, dest, backup.Options{Dir: f.dir, Server: "hub.test", Media: media, Now: time.Now})
}

func TestRoundTrip(t *testing.T) {
	for _, logOut := range []bool{false, true} {
		f := newFolder(t)
		dest, back := filepath.Join(t.TempDir(), "b"), filepath.Join(t.TempDir(), "deep", "data")
		note, err := f.write(t.Context(), dest, true)
		f.ok(err)
		if note.Files != 2 || note.Bytes != 6 || note.Server != "hub.test" {
			t.Errorf("%+v", note)
		}
		f.put("after") // the backup is not told
		if _, absent, err := backup.Restore(t.Context(), dest, back, backup.Restoring{LogOut: logOut}); err != nil || absent != 0 {
			t.Fatal(absent, err)
		}
		for name, text := range map[string]string{"signing.key": "ed25519 a seed", "acme/cert": "certificate", "media/ab/abcd": "one", "control.new": "", "media/new/half": ""} {
			if got, _ := os.ReadFile(filepath.Join(back, name)); string(got) != text {
				t.Errorf("%s holds %q", name, got)
			}
		}
		st, err := store.Open(store.Options{Dir: filepath.Join(back, "store")})
		f.ok(err)
		_, before, err := st.Meta("before")
		f.ok(err)
		_, after, err := st.Meta("after")
		f.ok(err)
		keys, err := st.Has(store.OneTimeKey.Key(nil))
		f.ok(err)
		tokens, err := st.Has(store.Token.Key(nil))
		f.ok(err)
		if !before || after || keys || tokens == logOut {
			t.Errorf("before %v, after %v, one-time keys %v, tokens %v", before, after, keys, tokens)
		}
		was, err := f.st.Incarnation()
		f.ok(err)
		if is, err := st.Incarnation(); err != nil || is == was {
			t.Errorf("the incarnation is %d as before, %v", is, err)
		}
		f.ok(st.Close())
		if names, _ := filepath.Glob(f.dir + "/*.tmp"); len(names) > 0 {
			t.Errorf("left in the data folder: %s", names)
		}
	}
}

// Nothing is written over, and what is no whole backup is not taken for one.
func TestRefusals(t *testing.T) {
	f := newFolder(t)
	dest := filepath.Join(t.TempDir(), "b")
	_, err := f.write(t.Context(), dest, false)
	f.ok(err)
	refused := func(what string, err error, word string) {
		t.Helper()
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err = f.write(t.Context(), dest, false)
	refused("into a backup", err, "not empty")
	_, err = f.write(t.Context(), filepath.Join(dest, "backup.json"), false)
	refused("into a file", err, "cannot become")
	restore := func(from, dir string) (int, error) {
		_, absent, err := backup.Restore(t.Context(), from, dir, backup.Restoring{})
		return absent, err
	}
	_, err = restore(dest, f.dir)
	refused("over a hub", err, "there is a hub")
	_, err = restore(t.TempDir(), filepath.Join(t.TempDir(), "data"))
	refused("of nothing", err, "no backup")
	other := t.TempDir()
	f.ok(os.WriteFile(filepath.Join(other, "signing.key"), []byte("ed25519 b other"), 0o600))
	_, err = restore(dest, other)
	refused("over another key", err, "another signing.key")

	back := t.TempDir()
	f.ok(os.WriteFile(filepath.Join(back, "signing.key"), []byte("ed25519 a seed"), 0o600)) // a restore that was cut short
	f.ok(os.MkdirAll(filepath.Join(back, "restore.tmp", "junk"), 0o700))
	if absent, err := restore(dest, back); err != nil || absent != 2 {
		t.Errorf("%d files are absent, %v", absent, err)
	}
	f.ok(os.WriteFile(filepath.Join(dest, "media.list"), []byte("../../etc/passwd 1\n"), 0o600))
	if _, err := restore(dest, filepath.Join(t.TempDir(), "data")); !fault.Is(err, fault.Corrupt) {
		t.Error(err)
	}
}

// A backup that ends early leaves nothing, in a folder that was there or not.
func TestCutShort(t *testing.T) {
	f := newFolder(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, dest := range []string{filepath.Join(t.TempDir(), "b"), t.TempDir()} {
		if _, err := f.write(ctx, dest, true); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if names, _ := filepath.Glob(dest + "/*"); len(names) > 0 {
			t.Errorf("left: %s", names)
		}
	}
	if names, _ := filepath.Glob(f.dir + "/*.tmp"); len(names) > 0 {
		t.Errorf("left in the data folder: %s", names)
	}
	_, err := f.write(t.Context(), filepath.Join(t.TempDir(), "b"), true)
	f.ok(err)
}
