package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestKeyCommands(t *testing.T) {
	dir := t.TempDir()
	keys := func(code int, args ...string) string {
		t.Helper()
		var o, e bytes.Buffer
		got := run(append([]string{"key"}, args...), streams{in: strings.NewReader(""), out: &o, err: &e, env: func(string) string { return "" }})
		if got != code {
			t.Errorf("%q: code %d, %s%s", args, got, o.String(), e.String())
		}
		return o.String() + e.String()
	}
	if out := keys(1, "list", "--data-dir", dir); !strings.Contains(out, "no signing keys") {
		t.Error(out)
	}
	h := launch(t, nil, "--data-dir", dir)
	first := keys(0, "list", "--data-dir", dir)
	if strings.Count(first, "\n") != 1 || !strings.HasPrefix(first, "ed25519:") || !strings.Contains(first, "in use") {
		t.Error(first)
	}
	if out := keys(1, "rotate", "--data-dir", dir); !strings.Contains(out, "running") {
		t.Error(out)
	}
	h.stop()
	out := keys(0, "rotate", "--data-dir", dir)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	id, _, _ := strings.Cut(first, " ")
	if len(lines) != 2 || strings.HasPrefix(lines[0], id) || !strings.HasPrefix(lines[1], id) || !strings.Contains(lines[1], "retired 2") {
		t.Error(out)
	}
	if again := keys(0, "list", "--data-dir", dir); again != out {
		t.Errorf("%s\n%s", out, again)
	}
	h = launch(t, nil, "--data-dir", dir) // it starts with the new one
	h.stop()
	for _, args := range [][]string{{}, {"turn"}, {"list", "x"}, {"list", "--admin"}} {
		keys(2, args...)
	}
	if out := keys(0, "--help"); !strings.HasPrefix(out, "hearth key list") {
		t.Error(out)
	}
}
