package boot

import (
	"context"
	"fmt"
	"io"
	"log"
	"slices"
	"time"

	"hearth/firmware/console"
)

// aloneTime is how long a box waits for an address before it complains.
const aloneTime = time.Minute

// Announce shows on the console where the hub is and, while nobody owns it, its claim code, whenever one of them
// changes, until ctx ends. said tells what the hub says of itself. Addresses come one after another: what is shown has held
// for a moment. A box that nobody gives an address says so, once.
func Announce(ctx context.Context, w io.Writer, said func() (port, claim string)) {
	same := func(a, b console.Hub) bool {
		return a.Port == b.Port && a.Claim == b.Claim && slices.Equal(a.Addresses, b.Addresses)
	}
	var shown, before console.Hub
	alone := time.Now().Add(aloneTime)
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
		switch {
		case len(now.Addresses) > 0:
			alone = time.Time{}
		case !alone.IsZero() && time.Now().After(alone):
			alone = time.Time{}
			fmt.Fprintf(w, "\n  This hub has no address. Is the cable in, or are the name and the password of the Wi-Fi right?\n")
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(2 * time.Second):
		}
	}
}
