package wire

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"hearth/engine/fault"
)

// rate is one class's bucket: burst at once, then one more after each refill.
type rate struct {
	burst  int
	refill time.Duration
}

// rates are generous to things that publish and mean to those who guess.
var rates = [numClasses]rate{
	Login:    {10, 3 * time.Second},
	Register: {10, 10 * time.Second},
	Send:     {300, 20 * time.Millisecond},
	Create:   {60, time.Second},
	Read:     {120, 50 * time.Millisecond},
}

// The limiter remembers at most ways*sets askers, in 64 KiB, whoever they are.
const (
	sets = 512
	ways = 8
)

// bucket is one asker in one class, in the form of a clock: the time at which
// the bucket will be full again. That is all a token bucket needs to know.
type bucket struct {
	key  uint64 // hash of the asker and class; 0 is free
	full int64  // nanoseconds
}

// Limits is the rate limiter of all routes: a token bucket for each asker and
// class in a table of fixed size. In a full set the bucket that is nearest to
// being full is forgotten, which gives its owner the least.
type Limits struct {
	now  func() time.Time
	seed maphash.Seed
	mu   [16]sync.Mutex // by set
	set  [sets][ways]bucket
}

// NewLimits makes a limiter. A nil now is time.Now.
func NewLimits(now func() time.Time) *Limits {
	if now == nil {
		now = time.Now
	}
	return &Limits{now: now, seed: maphash.MakeSeed()}
}

// Spend counts the request as one of a class, for a handler that tells of the
// limit in its own words: its route is Free.
func (r *Req) Spend(class Class) error { return r.mux.limits.take(r, class) }

// take counts one request.
func (l *Limits) take(r *Req, class Class) error {
	if r.Session.Unlimited {
		return nil
	}
	if l == nil || class == Free {
		return nil
	}
	var h maphash.Hash
	h.SetSeed(l.seed)
	_ = h.WriteByte(byte(class)) // a maphash takes everything
	if r.LoggedIn {
		_, _ = h.WriteString(string(r.Session.UserID))
	} else {
		addr := Network(r.Remote())
		_, _ = h.Write(addr[:])
	}
	if wait := l.spend(h.Sum64()|1, rates[class]); wait > 0 {
		return fault.Wait("wire.Limits", wait)
	}
	return nil
}

// Network is what an address counts as: an IPv6 network is one asker, since
// whoever has one address of it has them all.
func Network(a netip.Addr) [16]byte {
	if a.Is6() && !a.Is4In6() {
		if p, err := a.Prefix(64); err == nil {
			a = p.Addr()
		}
	}
	return a.As16()
}

// spend takes one token and gives 0, or the wait until there is one.
func (l *Limits) spend(key uint64, rt rate) time.Duration {
	i := key % sets
	mu := &l.mu[i%uint64(len(l.mu))]
	mu.Lock()
	defer mu.Unlock()
	now := l.now().UnixNano()
	b := &l.set[i][0]
	for j := range l.set[i] {
		c := &l.set[i][j]
		if c.key == key {
			b = c
			break
		}
		if c.full < b.full {
			b = c
		}
	}
	if b.key != key {
		*b = bucket{key: key, full: now}
	}
	full := max(b.full, now) + int64(rt.refill)
	if wait := full - now - int64(rt.burst)*int64(rt.refill); wait > 0 {
		return time.Duration(wait)
	}
	b.full = full
	return 0
}
