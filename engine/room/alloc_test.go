//go:build !race

package room

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A message costs a fixed number of allocations: the event itself (3), what the
// writer stages, and the batch. The race detector has some of its own.
func TestSendAllocates(t *testing.T) {
	h := openHub(t, vfs.NewMem())
	defer h.close()
	room := h.create("12", "@a:hub", "public")
	d := text("@a:hub", "temperature 21.5")
	const budget = 32
	if n := testing.AllocsPerRun(200, func() {
		if _, err := h.Send(room, &d); err != nil {
			t.Fatal(err)
		}
	}); n > budget {
		t.Errorf("a message takes %.0f allocations, %d are allowed", n, budget)
	}
}
