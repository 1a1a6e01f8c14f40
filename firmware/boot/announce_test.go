package boot

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"testing/synctest"
)

// TestAlone: a box without an address says so once; one that has some, as the machine that tests may, shows them and does not.
func TestAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithTimeout(t.Context(), 10*aloneTime)
		defer end()
		var screen bytes.Buffer
		Announce(ctx, &screen, func() (port, claim string) { return "8008", "" })
		complaints := 0
		if len(Addresses()) == 0 {
			complaints = 1
		}
		if got := screen.String(); strings.Count(got, "no address") != complaints || strings.Count(got, "This hub is at") != len(Addresses()) {
			t.Errorf("with the addresses %v it shows %s", Addresses(), got)
		}
	})
}
