package stream

import "slices"

// Parked is one request that waits for news of a user. It costs a few dozen
// bytes, and neither a channel nor a goroutine.
type Parked struct {
	l    *Log
	user uint32
	wake func()
}

// Park registers a waiter for the user: wake is called at each piece of news,
// several may be told as one. It runs under a lock of the log, so it must not
// block nor call the log: it sends to a buffered channel or starts a goroutine.
// Park first and then look for news, so that none falls in between. Leave has
// to follow.
func (l *Log) Park(user uint32, wake func()) *Parked {
	p := &Parked{l: l, user: user, wake: wake}
	l.wakeMu.Lock()
	l.parked[user] = append(l.parked[user], p)
	l.wakeMu.Unlock()
	return p
}

// Leave ends the wait. wake may still be running when it returns.
func (p *Parked) Leave() {
	p.l.wakeMu.Lock()
	defer p.l.wakeMu.Unlock()
	list := p.l.parked[p.user]
	i := slices.Index(list, p)
	if i < 0 {
		return
	}
	if len(list) == 1 {
		delete(p.l.parked, p.user)
		return
	}
	p.l.parked[p.user] = slices.Delete(list, i, i+1)
}

// Wake tells the parked requests of the users to look again now: for what is
// in no log entry (typing, presence).
func (l *Log) Wake(users ...uint32) {
	l.wakeMu.Lock()
	defer l.wakeMu.Unlock()
	l.tell(users)
}

// tell needs wakeMu.
func (l *Log) tell(users []uint32) {
	for _, u := range users {
		for _, p := range l.parked[u] {
			p.wake()
		}
	}
}

// Parked counts the waiting requests, for metrics.
func (l *Log) Parked() int {
	l.wakeMu.Lock()
	defer l.wakeMu.Unlock()
	n := 0
	for _, list := range l.parked {
		n += len(list)
	}
	return n
}
