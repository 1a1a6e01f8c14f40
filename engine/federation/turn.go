package federation

import (
	"context"
	"sync"
	"time"

	"hearth/engine/fault"
	"hearth/engine/mxid"
)

// turns lets one transaction of an origin be worked on at a time, and few in
// all: what a server sends is in order, and a server that sends much at once
// gains nothing by it. What waits for other servers, as the keys of an event's
// sender, is no work: it would hold up all for who names servers that are slow to
// answer. It remembers the last answer to each origin, so that a
// transaction which is sent again, because its answer was lost, is not done again.
type turns struct {
	mu      sync.Mutex
	origins map[mxid.Server]*caller
	all     chan struct{} // a place for each that is worked on
	slow    chan struct{} // a place for each that is made to wait
}

// caller is one origin that sends.
type caller struct {
	busy   chan struct{} // holds one token while a transaction is worked on
	users  int           // that hold or wait; guarded by turns.mu
	id     string        // the last transaction that was answered
	answer []byte

	// What its EDUs may still cost, and when that was so; guarded by turns.mu.
	purse float64
	at    time.Time
}

const (
	maxReceiving = 8    // transactions worked on at once
	maxQueued    = 3    // transactions of one origin under way or waiting
	maxOrigins   = 1024 // origins whose last answer is remembered
)

// EDUs cost nothing to make and leave rows behind, or questions to ask, so each
// origin has a purse for them. It fills with eduRate a second up to eduBurst. One
// EDU costs one, and one more for each KiB: a busy server of large rooms spends
// some twenty a second, one that was away brings three thousand at once.
//
// Who has spent it is slowed down first, since there are servers that stay away for
// minutes when they are refused, and then with all that people say. Refused is who
// would have to wait long, or sends much at once, and who comes when many wait.
const (
	eduRate  = 100
	eduBurst = 3000
	slowTime = 5 * time.Second
	slowMost = 256 << 10 // bytes of a transaction
	maxSlow  = 32
)

func newTurns() *turns {
	return &turns{origins: map[mxid.Server]*caller{}, all: make(chan struct{}, maxReceiving), slow: make(chan struct{}, maxSlow)}
}

// enter waits for the origin's turn. leave has to follow where err is nil.
// Error: Limit where too many of this origin wait.
func (t *turns) enter(ctx context.Context, origin mxid.Server) (*caller, error) {
	t.mu.Lock()
	one := t.origins[origin]
	if one == nil {
		t.evict()
		one = &caller{busy: make(chan struct{}, 1), purse: eduBurst}
		t.origins[origin] = one
	}
	if one.users >= maxQueued {
		t.mu.Unlock()
		err := fault.E(fault.Limit, "federation.Receive", "send one transaction at a time")
		if e, ok := err.(*fault.Error); ok {
			e.Retry = time.Second
		}
		return nil, err
	}
	one.users++
	t.mu.Unlock()
	select {
	case one.busy <- struct{}{}:
		return one, nil
	case <-ctx.Done():
		t.mu.Lock()
		one.users--
		t.mu.Unlock()
		return nil, fault.E(fault.Busy, "federation.Receive", "the hub is at work: %w", ctx.Err())
	}
}

func (t *turns) leave(one *caller) {
	<-one.busy
	t.mu.Lock()
	defer t.mu.Unlock()
	one.users--
}

// work waits until there is a place to work on a transaction; done has to follow
// where err is nil.
func (t *turns) work(ctx context.Context) (done func(), err error) {
	select {
	case t.all <- struct{}{}:
		return func() { <-t.all }, nil
	case <-ctx.Done():
		return nil, fault.E(fault.Busy, "federation.Receive", "the hub is at work: %w", ctx.Err())
	}
}

// pay takes what EDUs cost out of the origin's purse. Where that is empty it takes
// nothing, and says when there will be something in it: a transaction is paid for as
// a whole or not taken, so that nothing of it is done twice. It may leave a debt.
func (t *turns) pay(one *caller, edus []edu, now time.Time) (wait time.Duration) {
	cost := 0.0
	for _, e := range edus {
		cost += 1 + float64(len(e.content))/1024
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if since := now.Sub(one.at); !one.at.IsZero() && since > 0 {
		one.purse = min(one.purse+since.Seconds()*eduRate, eduBurst)
	}
	one.at = now
	if cost > 0 && one.purse <= 0 {
		return time.Duration((1 - one.purse) / eduRate * float64(time.Second))
	}
	one.purse -= cost
	return 0
}

// linger waits where the wait is short and few do; it says whether it did.
func (t *turns) linger(ctx context.Context, wait time.Duration) bool {
	if wait > slowTime {
		return false
	}
	select {
	case t.slow <- struct{}{}:
	default:
		return false
	}
	defer func() { <-t.slow }()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// evict makes place for one more origin. Map order is random enough: to forget
// an answer costs the work of one transaction. Who owes something is kept while
// there is anybody else.
func (t *turns) evict() {
	if len(t.origins) < maxOrigins {
		return
	}
	var owes mxid.Server
	for origin, one := range t.origins {
		switch {
		case one.users > 0:
		case one.purse > 0:
			delete(t.origins, origin)
			return
		default:
			owes = origin
		}
	}
	delete(t.origins, owes)
}
