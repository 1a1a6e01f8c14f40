package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hearth/engine"
	"hearth/engine/account"
	"hearth/engine/room"
)

func TestHistoryOf(t *testing.T) {
	now := time.Date(2026, 5, 31, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]engine.History{
		"90d":                  {Time: now.Add(-90 * 24 * time.Hour).UnixMilli()},
		"2w":                   {Time: now.Add(-14 * 24 * time.Hour).UnixMilli()},
		"2026-01-31":           {Time: time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC).UnixMilli()},
		"2026-01-31T12:00:00Z": {Time: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC).UnixMilli()},
		"$event":               {Event: "$event"},
		"":                     {},
		"90":                   {},
		"-5d":                  {},
		"yesterday":            {},
		"$":                    {},
	} {
		got, err := historyOf(text, now)
		if got != want || (err == nil) != (want != engine.History{}) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

// A room's history is removed while the hub runs and when it does not, and the hub is
// sound afterwards, as is a backup of it.
func TestPurgeHistory(t *testing.T) {
	dir, away := t.TempDir(), t.TempDir()
	want := func(code int, word string, args ...string) {
		t.Helper()
		var o, e bytes.Buffer
		args = append(args, "--data-dir", dir)
		got := run(args, streams{in: strings.NewReader(""), out: &o, err: &e, env: func(string) string { return "" }})
		if out := o.String() + e.String(); got != code || !strings.Contains(out, word) {
			t.Errorf("%q: %d %s", args, got, out)
		}
	}
	h := launch(t, nil, "--data-dir", dir, "--server-name", "hub.test", "--retention", "90d")
	e := h.hub.engine
	if _, err := e.Accounts.Create(account.NewUser{Localpart: "ann", Password: "correct horse"}); err != nil {
		t.Fatal(err)
	}
	id, err := e.CreateRoom(&engine.NewRoom{Creator: "@ann:hub.test", Alias: "here"})
	if err != nil {
		t.Fatal(err)
	}
	num, err := e.Rooms.Find(id)
	if err != nil {
		t.Fatal(err)
	}
	if keep, err := e.KeepsFor(num); err != nil || keep != 90*24*time.Hour {
		t.Error(keep, err)
	}
	say := func(age time.Duration) string {
		one, err := e.Rooms.Send(num, &room.Draft{Type: "m.room.message", Sender: "@ann:hub.test", Time: time.Now().Add(-age).UnixMilli(),
			Content: fmt.Appendf(nil, `{"body":"%v old"}`, age)})
		if err != nil {
			t.Fatal(err)
		}
		return string(one)
	}
	for range 30 {
		say(50 * 24 * time.Hour)
	}
	for range 5 {
		say(20 * 24 * time.Hour)
	}
	last := say(0)
	want(exitUsage, "--before", "history", "purge", "#here:hub.test")
	want(exitUsage, "no age", "history", "purge", "#here:hub.test", "--before", "long ago")
	want(exitUsage, "purge with a room", "history", "purge")
	want(exitLocal, "not", "history", "purge", "#nowhere:hub.test", "--before", "90d")
	want(exitDone, "0 events are gone", "history", "purge", "#here:hub.test", "--before", "90d")
	want(exitDone, "30 events are gone", "history", "purge", "#here:hub.test", "--before", "30d")
	h.stop()
	want(exitDone, "5 events are gone", "history", "purge", string(id), "--before", last)
	want(exitDone, "all agrees", "verify")
	want(exitDone, "is backed up", "backup", filepath.Join(away, "b"))
	dir = filepath.Join(away, "back")
	want(exitDone, "as it was", "restore", filepath.Join(away, "b"))
	want(exitDone, "all agrees", "verify")
}
