package wire

import (
	"sync/atomic"
	"time"

	"hearth/engine/fault"
)

// Gate lets a few at a time do heavy work, a few more wait for a moment, and
// sends the rest away with a time to come again. A small computer that takes on
// all that is asked of it finishes nothing.
type Gate struct {
	at      chan struct{}
	waiting atomic.Int32
	wait    time.Duration
	most    int32
}

// NewGate makes a gate for n at work and most waiting, each for at most wait.
func NewGate(n, most int, wait time.Duration) *Gate {
	return &Gate{at: make(chan struct{}, n), most: int32(most), wait: wait}
}

// Enter returns nil when the caller may work; Leave has to follow.
func (g *Gate) Enter(done <-chan struct{}) error {
	select {
	case g.at <- struct{}{}:
		return nil
	default:
	}
	defer g.waiting.Add(-1)
	if g.waiting.Add(1) > g.most {
		return fault.Wait("wire.Gate", g.wait)
	}
	t := time.NewTimer(g.wait)
	defer t.Stop()
	select {
	case g.at <- struct{}{}:
		return nil
	case <-t.C:
		return fault.Wait("wire.Gate", g.wait)
	case <-done:
		return fault.E(fault.Busy, "wire.Gate", "the hub is stopping")
	}
}

// Leave lets the next one in.
func (g *Gate) Leave() { <-g.at }
