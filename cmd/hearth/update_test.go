package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"hearth/engine"
	"hearth/engine/fault"
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
