package wire

import (
	"net/netip"
	"sync"
	"time"

	"hearth/engine/fault"
)

// allowance is the memory for the long bodies of all requests together, so that
// many long ones at once cannot take the hub's memory. A body counts as far as it has
// come, not as it was announced, and what one address holds leaves something for the
// others: nobody has to prove who they are before their body is read.
type allowance struct {
	mu   sync.Mutex
	held int64
	by   map[[16]byte]int64
}

const (
	// bodyStep is by how much a body grows in memory at least.
	bodyStep = 64 << 10
	// bodyTime is how long a body may take that is held whole.
	bodyTime = 2 * time.Minute
	// leftForOthers is what one address does not get of the allowance, or a quarter of
	// it where that is less.
	leftForOthers = 2 << 20
)

func (a *allowance) take(who netip.Addr, n, most int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.held+n > most {
		return false
	}
	if alike(who) {
		key := Network(who)
		if a.by[key]+n > most-min(leftForOthers, most/4) {
			return false
		}
		if a.by == nil {
			a.by = map[[16]byte]int64{}
		}
		a.by[key] += n
	}
	a.held += n
	return true
}

func (a *allowance) give(who netip.Addr, n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held -= n
	if !alike(who) {
		return
	}
	key := Network(who)
	if a.by[key] -= n; a.by[key] <= 0 {
		delete(a.by, key)
	}
}

// alike says whether an address tells who asks: behind a proxy that does not tell,
// all have one.
func alike(who netip.Addr) bool { return who.IsValid() && !who.IsLoopback() }

// hold takes room for some of a long body.
func (r *Req) hold(n int64) error {
	if r.held == 0 {
		r.holder = r.Remote()
	}
	if !r.mux.bodies.take(r.holder, n, r.mux.maxBodies) {
		return fault.Wait("wire.Body", retryWhenBusy)
	}
	r.held += n
	return nil
}
