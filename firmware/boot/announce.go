package boot

import (
	"context"
	"io"
	"log"
	"slices"
	"time"

	"hearth/firmware/console"
)

// Announce shows on the console where the hub is and, while nobody owns it, its claim code, whenever one of them
// changes, until ctx ends. said tells what the hub says of itself. Addresses come one after another: what is shown has held
// for a moment.
func Announce(ctx context.Context, w io.Writer, said func() (port, claim string)) {
	same := func(a, b console.Hub) bool {
		return a.Port == b.Port && a.Claim == b.Claim && slices.Equal(a.Addresses, b.Addresses)
	}
	var shown, before console.Hub
	for {
		now := console.Hub{Addresses: Addresses()}
		now.Port, now.Claim = said()
		settled := same(now, before)
		before = now
		if len(now.Addresses) > 0 && settled && !same(now, shown) {
			shown = now
			if err := now.Show(w); err != nil {
				log.Printf("showing where the hub is: %v", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(2 * time.Second):
		}
	}
}
