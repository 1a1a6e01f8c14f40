package main

import (
	"strings"
	"testing"
	"time"

	"hearth/engine/federation"
)

func TestPrintServers(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	var b strings.Builder
	printServers(&b, []federation.Destination{
		{Server: "a.example", From: 7},
		{Server: "b.example", Behind: 12, Failures: 3, Since: now.Add(-time.Hour), Next: now.Add(90 * time.Second), Error: "no route"},
	}, now)
	const want = "a.example                                in step\n" +
		"b.example                                12 behind, not reached 3 times since 2026-05-01T11:00:00Z, next try in 1m30s: no route\n"
	if b.String() != want {
		t.Errorf("%q", b.String())
	}
	b.Reset()
	if printServers(&b, nil, now); !strings.Contains(b.String(), "no other server") {
		t.Errorf("%q", b.String())
	}
}
