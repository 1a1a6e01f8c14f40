package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hearth/engine"
	"hearth/engine/account"
)

// A hub is backed up while it runs and when it does not, and what is restored is
// the hub it was.
func TestBackupAndRestore(t *testing.T) {
	dir, away := t.TempDir(), t.TempDir()
	command := func(args ...string) (string, int) {
		var o, e bytes.Buffer
		code := run(args, streams{in: strings.NewReader(""), out: &o, err: &e, env: func(string) string { return "" }})
		return o.String() + e.String(), code
	}
	want := func(code int, word string, args ...string) {
		t.Helper()
		if out, got := command(args...); got != code || !strings.Contains(out, word) {
			t.Errorf("%q: %d %s", args, got, out)
		}
	}
	h := launch(t, nil, "--data-dir", dir, "--server-name", "hub.test")
	e := h.hub.engine
	if _, err := e.Accounts.Create(account.NewUser{Localpart: "ann", Password: "correct horse"}); err != nil {
		t.Fatal(err)
	}
	id, err := e.CreateRoom(&engine.NewRoom{Creator: "@ann:hub.test"})
	if err != nil {
		t.Fatal(err)
	}
	live, still, back := filepath.Join(away, "live"), filepath.Join(away, "still"), filepath.Join(away, "back")
	want(exitDone, "hub.test is backed up", "backup", live, "--data-dir", dir)
	want(exitLocal, "not empty", "backup", live, "--data-dir", dir)
	want(exitLocal, "is running", "restore", live, "--data-dir", dir)
	h.stop()
	want(exitDone, "0 files of media listed", "backup", "--no-media", still, "--data-dir", dir)
	want(exitLocal, "there is a hub", "restore", live, "--data-dir", dir)
	want(exitLocal, "no hub", "backup", filepath.Join(away, "x"), "--data-dir", filepath.Join(away, "none"))
	want(exitUsage, "one folder", "backup", "--data-dir", dir)
	want(exitDone, "hearth restore", "restore", "--help")
	for _, from := range []string{live, still} {
		want(exitDone, "holds hub.test as it was", "restore", from, "--data-dir", back)
		want(exitDone, "all agrees", "verify", "--data-dir", back)
		r, err := engine.Open(engine.Options{Dir: back})
		if err != nil {
			t.Fatal(err)
		}
		if num, err := r.Accounts.Find("@ann:hub.test"); err != nil || num == 0 {
			t.Error("ann is gone", err)
		}
		if room, err := r.Rooms.Find(id); err != nil || room == 0 {
			t.Error("the room is gone", err)
		}
		if r.OwnKeys().Current[0].KeyID != e.OwnKeys().Current[0].KeyID {
			t.Error("it has another key")
		}
		if _, err := r.CreateRoom(&engine.NewRoom{Creator: "@ann:hub.test"}); err != nil {
			t.Error(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(back); err != nil {
			t.Fatal(err)
		}
	}
}
