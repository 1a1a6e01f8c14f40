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
// changes, until ctx ends. said tells what the hub says of itself.
func Announce(ctx context.Context, w io.Writer, said func() (port, claim string)) {
	var last console.Hub
	for {
		now := console.Hub{Addresses: Addresses()}
		now.Port, now.Claim = said()
		if len(now.Addresses) > 0 && (now.Claim != last.Claim || now.Port != last.Port || !slices.Equal(now.Addresses, last.Addresses)) {
			last = now
			if err := now.Show(w); err != nil {
				log.Printf("showing where the hub is: %v", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}
