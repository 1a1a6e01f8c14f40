package mqtt

import "strings"

// What all clients share is not for one of them to use up: where half of it is
// taken, nobody gets more of it who has a tenth.
const shareOfOne = 10

// crowded says whether there is no room for one session more of an identity. It
// needs mu.
func (b *Broker) crowded(name string) bool {
	n, all := len(b.sessions), b.limits.Sessions
	if n < all/2 || n >= all {
		return n >= all
	}
	mine := 0
	for key := range b.sessions {
		if owner, _, _ := strings.Cut(key, "\x00"); owner == name {
			mine++
		}
	}
	return mine >= max(1, all/shareOfOne)
}

// subscribed says whether an identity has subscriptions enough.
func (b *Broker) subscribed(name string) bool {
	all := b.limits.AllSubs
	if b.subs.Load() < int64(all/2) {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	mine := 0
	for key, s := range b.sessions {
		if owner, _, _ := strings.Cut(key, "\x00"); owner == name {
			s.mu.Lock()
			mine += len(s.subs)
			s.mu.Unlock()
		}
	}
	return mine >= max(1, all/shareOfOne)
}

// endHeaviest makes room where all queues together have outgrown their limit: of
// the identity for which most waits, the session that holds most of it ends.
func (b *Broker) endHeaviest() {
	b.mu.Lock()
	if b.queued.Load() <= b.limits.AllQueues {
		b.mu.Unlock()
		return
	}
	type heap struct {
		bytes int64
		heavy *session
		most  int64
	}
	heaps := map[string]*heap{}
	var worst *heap
	for key, s := range b.sessions {
		s.mu.Lock()
		n := s.onDisk
		s.mu.Unlock()
		if n == 0 {
			continue
		}
		name, _, _ := strings.Cut(key, "\x00")
		h := heaps[name]
		if h == nil {
			h = &heap{}
			heaps[name] = h
		}
		if h.bytes += n; n > h.most {
			h.heavy, h.most = s, n
		}
		if worst == nil || h.bytes > worst.bytes {
			worst = h
		}
	}
	b.mu.Unlock()
	if worst != nil {
		b.endHeavy(worst.heavy)
	}
}
