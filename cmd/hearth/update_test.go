package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"hearth/engine"
	"hearth/engine/fault"
	"hearth/firmware/update"
)

// TestStoreForm holds together what the hub reads and what images say of it.
func TestStoreForm(t *testing.T) {
	text, err := os.ReadFile("../hearth-image/image/root.go")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^const storeForm = (\d+)$`).FindSubmatch(text)
	if m == nil || string(m[1]) != strconv.Itoa(engine.StoreFormat) {
		t.Errorf("the hub reads stores up to format %d, images say %s", engine.StoreFormat, m)
	}
}

// TestBring: an archive is taken in bounds, and nothing is left of one that is not.
func TestBring(t *testing.T) {
	path := filepath.Join(t.TempDir(), "incoming")
	if err := bring(strings.NewReader("an archive"), path); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "an archive" {
		t.Errorf("%q, %v", b, err)
	}
	err := bring(endless{}, path)
	if !fault.Is(err, fault.TooLarge) && !fault.Is(err, fault.Full) {
		t.Errorf("an archive without end: %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("what was refused is still there")
	}
}

// endless is a body without end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestUpdateUsage: what is said of a hub that runs on no box, and of wrong usage.
func TestUpdateUsage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	h := launch(t, nil, "--data-dir="+dir, "--server-name", "hub.test")
	manage("correct horse\n", "add", "alice", "--admin", "--data-dir="+dir)
	status, token := login(t, h, "alice", "correct horse")
	if status != 200 {
		t.Fatal(status)
	}
	if got := ask(run, "", nil, "update", "--server", h.url, "--token", token); got.code != exitRefused || !strings.Contains(got.err, "does not run on a box") {
		t.Errorf("a hub on no box: %+v", got)
	}
	if got := ask(run, "", nil, "update", "--token", "x", "a", "b"); got.code != exitUsage {
		t.Errorf("two files: %+v", got)
	}
}

// TestPull: a box fetches what is newer and signed, and nothing else.
func TestPull(t *testing.T) {
	dir := t.TempDir()
	public, secret, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(dir, "keys")
	if err := os.WriteFile(keys, []byte(base64.StdEncoding.EncodeToString(public)), 0o600); err != nil {
		t.Fatal(err)
	}
	archive := func(key ed25519.PrivateKey) string {
		m := &update.Manifest{Release: update.Release{Board: "virt", Version: "2", Sequence: 20, Store: 1}, Parts: []update.Part{{Name: update.PartRoot, Size: 1, Packed: 9, SHA256: strings.Repeat("00", 32)}}}
		head, err := update.Header(m, key)
		if err != nil {
			t.Fatal(err)
		}
		return string(head) + "the parts"
	}
	good, served := archive(secret), ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, served) }))
	defer server.Close()
	for _, c := range []struct {
		what, served, want string
		than               int64
		code               int
	}{
		{"newer", good + "and more that is not asked for", good, 19, exitDone},
		{"the same", good, "", 20, exitNone},
		{"a stranger's", archive(stranger), "", 19, exitLocal},
		{"no archive", "<html>", "", 19, exitLocal},
	} {
		served = c.served
		u := &updater{what: server.URL, fetch: filepath.Join(dir, "incoming"), than: c.than}
		err := u.pull(t.Context(), keys)
		code := exitDone
		var f *failure
		if errors.As(err, &f) {
			code = f.code
		} else if err != nil {
			code = exitLocal
		}
		if got, _ := os.ReadFile(u.fetch); code != c.code || string(got) != c.want {
			t.Errorf("%s: %v, %q", c.what, err, got)
		}
		os.Remove(u.fetch)
	}
}
