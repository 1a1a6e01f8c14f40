package thing

import (
	"net/netip"
	"sync"
	"time"

	"hearth/engine/fault"
)

// What a thing was let in with because it had knocked with it, a person thought up:
// it can be guessed, if somebody may try as often as they like. Wrong ones are
// counted by thing and address, so that nobody keeps a thing out who is not where it
// is. The hub's own secrets need no counting.
type guesses struct {
	mu  sync.Mutex
	all map[guess]tries
}

// guess is whose secret is tried from where; the zero guess is not counted.
type guess struct {
	name string
	from netip.Prefix
}

type tries struct {
	wrong int
	since time.Time
}

const (
	maxWrong   = 10 // in a time of
	wrongFor   = time.Minute
	maxGuesses = 4096
)

func (t *Thing) guess(from netip.Addr) guess {
	if len(t.Salt) == 0 {
		return guess{}
	}
	from, bits := from.Unmap().WithZone(""), 32
	if from.Is6() {
		bits = 64 // a host has as many addresses in there as it wants
	}
	p, _ := from.Prefix(bits) // of no address the zero one
	return guess{t.Name, p}
}

// admit refuses who was wrong too often.
func (g *guesses) admit(who guess, now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	one, ok := g.all[who]
	if left := wrongFor - now.Sub(one.since); ok && one.wrong >= maxWrong && left > 0 && left <= wrongFor {
		return fault.Wait("thing.Authenticate", left)
	}
	return nil
}

// wrong counts a wrong secret.
func (g *guesses) wrong(who guess, now time.Time) {
	if who.name == "" {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	one := g.all[who]
	if age := now.Sub(one.since); age < 0 || age >= wrongFor {
		one = tries{since: now}
	}
	one.wrong++
	if g.all == nil || len(g.all) >= maxGuesses { // nobody mistypes that much: begin anew
		g.all = map[guess]tries{}
	}
	g.all[who] = one
}
