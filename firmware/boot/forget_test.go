package boot

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReset asks a box that has settings for both kinds of reset.
func TestReset(t *testing.T) {
	file, data := filepath.Join(t.TempDir(), SettingsFile), t.TempDir()
	keep := func(text string) *Settings {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		s, done, err := Keep(file, data, nil)
		if err != nil || done != says([]byte(text)) {
			t.Fatalf("taken %v: %v", done, err)
		}
		if kept, err := os.ReadFile(filepath.Join(data, SettingsFile)); err != nil || bytes.Contains(kept, []byte("box_reset")) {
			t.Errorf("kept %s, %v", kept, err)
		}
		return s
	}
	hub := func() bool {
		_, err := os.Stat(filepath.Join(data, HubFolder, "store"))
		return err == nil
	}
	first := keep("server_name = \"hub.example\"\nlog_level = \"debug\"\n")
	if err := os.MkdirAll(filepath.Join(data, HubFolder, "store"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("server_name = \"other.example\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if s, done, err := Keep(file, data, nil); err != nil || done || s.Wrong == nil || !bytes.Equal(s.Hub, first.Hub) {
		t.Errorf("a hub that is there was given another name: %+v, taken %v, %v", s, done, err)
	}
	if err := os.WriteFile(filepath.Join(data, "clock"), []byte("2026-01-01T00:00:00Z"), 0o600); err != nil {
		t.Fatal(err)
	}
	owner := keep("# a remark\r\n  box_reset = \"owner\" # now\r\n")
	if owner.Reset != ResetOwner || !hub() || owner.Hostname != first.Hostname || !bytes.Equal(owner.Hub, first.Hub) {
		t.Errorf("a lost password: %+v, %s", owner, owner.Hub)
	}
	if after := keep("# blank\n"); after.Reset != "" || !bytes.Equal(after.Hub, first.Hub) {
		t.Errorf("the start after that: %+v, %s", after, after.Hub)
	}
	for _, round := range []string{"reset", "reset again"} {
		factory := keep("box_reset = \"factory\"\nlog_level = \"warn\"\n")
		if factory.Reset != ResetFactory || hub() || strings.Contains(string(factory.Hub), "hub.example") || factory.Hostname == first.Hostname || !strings.Contains(string(factory.Hub), "warn") {
			t.Errorf("%s: %+v, %s", round, factory, factory.Hub)
		}
		if err := os.MkdirAll(filepath.Join(data, forgotten, "store"), 0o700); err != nil { // as where the power was cut
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(data, "clock")); err != nil {
		t.Errorf("a reset forgot the time: %v", err)
	}
	if err := os.WriteFile(file, []byte("box_reset = \"all\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if s, done, err := Keep(file, data, nil); err != nil || done || s.Wrong == nil {
		t.Errorf("a reset that there is none of: %+v, taken %v, %v", s, done, err)
	}
}

// TestLost: a card that was mended and has no hub is no new card.
func TestLost(t *testing.T) {
	data := t.TempDir()
	ok := func(what string, want bool) {
		t.Helper()
		if err := Lost(data, false); (err == nil) != want {
			t.Errorf("%s: %v", what, err)
		}
	}
	make := func(name string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(data, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	make(lostFiles)
	ok("a new card", true)
	make(lostFiles + "/#12")
	ok("a hub in pieces", false)
	make(HubFolder + "/store")
	ok("a hub beside pieces", true)
	if err := Forget(data); err != nil {
		t.Fatal(err)
	}
	ok("a new begin", true)
	if Lost(data, true) == nil {
		t.Error("what was just mended, and could not be noted, is taken for a new card")
	}
	if err := KeepCheck(data, []byte("root directory recreated")); err != nil {
		t.Fatal(err)
	}
	ok("a hub that left nothing", false)
}
