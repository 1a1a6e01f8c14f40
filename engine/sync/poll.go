package sync

import (
	"sync"
	"time"

	"hearth/engine/stream"
)

// Poll is a request that waits for news: what it asks, and where it is told.
type Poll struct {
	s      *Sync
	req    *Request      // of /sync
	slide  *SlideRequest // or of sliding sync
	since  token
	done   func(body []byte, err error)
	parked *stream.Parked
	timer  *time.Timer

	mu      sync.Mutex
	busy    bool // a goroutine looks for news
	again   bool // news came meanwhile
	expired bool // the time is over: whatever there is, is the answer
	over    bool
}

// Wait parks a request that Now had nothing for. done is called once, on
// a goroutine of its own, when there is news, when the time is over, or when
// the hub stops; the body is valid during the call.
func (s *Sync) Wait(req *Request, done func(body []byte, err error)) {
	own := *req
	own.Since, own.parked = "", true
	p := &Poll{s: s, req: &own, done: done, busy: true, since: req.seen}
	p.park(req.User, req.Timeout)
}

// park begins the wait of a poll that is busy: nobody else looks until everything
// is in place.
func (p *Poll) park(user uint32, timeout time.Duration) {
	s := p.s
	s.mu.Lock()
	p.expired = p.expired || s.closed
	s.polls[p] = struct{}{}
	s.mu.Unlock()
	p.parked = s.log.Park(user, p.wake)
	p.timer = time.AfterFunc(timeout, p.expire)
	p.mu.Lock()
	quiet := !p.again && !p.expired && s.log.Tip() == p.since.pos && s.eph.Stamp() == p.since.stamp
	if quiet {
		p.busy = false
	}
	p.mu.Unlock()
	if !quiet {
		p.look() // something came between Now and Park
	}
}

// wake has the poll look again. It is called under a lock of the log.
func (p *Poll) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.over:
	case p.busy:
		p.again = true
	default:
		p.busy = true
		p.s.crew.Go(p.look)
	}
}

func (p *Poll) expire() {
	p.mu.Lock()
	p.expired = true
	p.mu.Unlock()
	p.wake()
}

// look looks for news until there is none left, and ends the poll where there
// is some. It runs on one goroutine at a time.
func (p *Poll) look() {
	for {
		p.mu.Lock()
		p.again = false
		expired := p.expired
		p.mu.Unlock()
		if p.answer(expired) {
			return
		}
		p.mu.Lock()
		p.busy = p.again || p.expired
		more := p.busy
		p.mu.Unlock()
		if !more {
			return
		}
	}
}

// answer ends the poll where there is news, or the time is over.
func (p *Poll) answer(expired bool) (ended bool) {
	if p.slide != nil {
		return p.slideAgain(expired)
	}
	a, err := p.s.answer(p.req, p.since, true, 0)
	if err != nil {
		p.end(nil, err)
		return true
	}
	if a.news || expired {
		p.end(a.dst, nil)
		p.s.Done(a.dst)
		return true
	}
	p.s.Done(a.dst)
	p.since = a.next // there was nothing up to here
	return false
}

func (p *Poll) end(body []byte, err error) {
	p.mu.Lock()
	p.over = true
	p.mu.Unlock()
	p.parked.Leave()
	p.timer.Stop()
	p.s.mu.Lock()
	delete(p.s.polls, p)
	if p.s.closed && len(p.s.polls) == 0 {
		p.s.empty.Broadcast()
	}
	p.s.mu.Unlock()
	p.done(body, err)
}

// Close answers everybody who waits, now and from now on at once. It returns
// when none of them needs the records any more.
func (s *Sync) Close() {
	s.mu.Lock()
	if !s.closed {
		close(s.over)
	}
	s.closed = true
	polls := make([]*Poll, 0, len(s.polls))
	for p := range s.polls {
		polls = append(polls, p)
	}
	s.mu.Unlock()
	for _, p := range polls {
		p.expire()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.polls) > 0 {
		s.empty.Wait()
	}
}

// Waiting counts the polls, for metrics.
func (s *Sync) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.polls)
}
