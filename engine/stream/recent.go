package stream

import "sync"

// recent keeps the newest entries in memory. Most readers are a few entries
// behind: each of a room's clients reads the same one, and an iterator over the
// store for it costs more than all the rest of reading.
type recent struct {
	mu   sync.RWMutex
	ring [keepRecent]recentEntry // by position modulo its length
	last Pos
	from Pos // positions from here to last are in the ring
}

// keepRecent is how many entries are kept; one takes some forty bytes.
const keepRecent = 256

type recentEntry struct {
	pos Pos
	row []byte
}

// add keeps entries, which follow each other and what was added before.
func (r *recent) add(put []recentEntry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range put {
		r.ring[e.pos%keepRecent] = e
		if r.from == 0 {
			r.from = e.pos
		}
		r.last = e.pos
	}
	if r.last >= keepRecent {
		r.from = max(r.from, r.last-keepRecent+1)
	}
}

// between appends the entries after one position up to another; ok is false
// where not all of them are here.
func (r *recent) between(dst []recentEntry, after, upto Pos) (rows []recentEntry, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.from == 0 || after+1 < r.from || upto > r.last {
		return dst, false
	}
	for pos := after + 1; pos <= upto; pos++ {
		dst = append(dst, r.ring[pos%keepRecent])
	}
	return dst, true
}
