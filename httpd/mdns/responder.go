package mdns

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Bounds of what others can make the hub do.
const (
	maxQuestions = 16
	maxRecords   = 64  // that are looked at, of one packet
	maxPackets   = 200 // a second, that are read
	maxAnswers   = 30  // a second, that are sent
	answerEvery  = time.Second
)

// Times of getting a name. Spec: RFC 6762, 8.
const (
	probeEvery    = 250 * time.Millisecond
	probes        = 3
	announceEvery = time.Second
	announcements = 2
	lookEvery     = 15 * time.Second // at the interfaces
	loserWaits    = time.Second
	manyConflicts = 10 // then each try waits
	manyWait      = 30 * time.Second
)

// Options are what the hub wants to be found as.
type Options struct {
	Name       string // of the host; empty: the system's
	Services   []Service
	Interfaces func() ([]Interface, error)      // nil: all on which others can be
	Log        func(format string, args ...any) // nil: dropped
}

// Interface is a way to a local network.
type Interface struct {
	Index    int
	Prefixes []netip.Prefix // the hub's addresses there, with their networks
}

func (i *Interface) addrs() (list []netip.Addr) {
	for _, p := range i.Prefixes {
		list = append(list, p.Addr())
	}
	return list
}

// near says whether an address is on the same link.
func (i *Interface) near(a netip.Addr) bool {
	return a.IsLinkLocalUnicast() || slices.ContainsFunc(i.Prefixes, func(p netip.Prefix) bool { return p.Masked().Contains(a) })
}

// Responder answers until it is closed.
type Responder struct {
	o    Options
	send func(ifi int, to netip.AddrPort, packet []byte) // to the group where to is zero
	stop chan struct{}
	all  sync.WaitGroup
	end  func() error
	seed maphash.Seed

	mu        sync.Mutex
	zone      zone
	base      string // label without what tells it from others
	conflicts int
	ready     bool // the name is the hub's
	lost      bool // while asking for the name somebody showed to have it, or to have the better claim
	taken     bool // and has it
	ifaces    []Interface
	told      map[string]time.Time // when a record went out, by interface and key
	ours      [64]uint64           // sums of the packets that went out last
	next      int
	packets   bucket
	answered  bucket
	wake      chan struct{}
}

// bucket lets so many through in a second.
type bucket struct {
	from time.Time
	n    int
}

func (b *bucket) take(now time.Time, most int) bool {
	if now.Sub(b.from) >= time.Second {
		b.from, b.n = now, 0
	}
	b.n++
	return b.n <= most
}

func newResponder(o Options) *Responder {
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	name := label(o.Name)
	if name == "" {
		system, _ := os.Hostname()
		if name = label(system); name == "" || name == "localhost" {
			name = "hearth"
		}
	}
	return &Responder{
		o: o, stop: make(chan struct{}), wake: make(chan struct{}, 1), seed: maphash.MakeSeed(), base: name,
		zone: zone{name, o.Services}, told: map[string]time.Time{}, end: func() error { return nil },
	}
}

// Name is what the hub is found as, with .local behind it. It changes when
// somebody else has it.
func (r *Responder) Name() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.TrimSuffix(r.zone.host(), ".")
}

// pause waits; false: the responder ends.
func (r *Responder) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-r.stop:
		return false
	case <-t.C:
		return true
	}
}

// run gets the name and keeps it.
func (r *Responder) run() {
	for {
		if !r.claim() || !r.announce() {
			return
		}
		r.o.Log("mdns: the hub is found as %s", r.Name())
		select {
		case <-r.stop:
			return
		case <-r.wake: // a conflict, or another interface
		}
	}
}

// claim asks whether somebody has the name, until one is found that nobody has.
func (r *Responder) claim() bool {
	r.mu.Lock()
	r.ready = false
	r.mu.Unlock()
	if !r.pause(rand.N(probeEvery)) {
		return false
	}
	for {
		r.mu.Lock()
		r.lost, r.taken = false, false
		r.mu.Unlock()
		for range probes {
			r.probe()
			if !r.pause(probeEvery) {
				return false
			}
		}
		r.mu.Lock()
		lost, taken := r.lost, r.taken
		wait := loserWaits
		switch {
		case taken:
			r.conflicts++
			r.zone.label = fmt.Sprintf("%s-%d", r.base, r.conflicts+1)
			if wait = 0; r.conflicts > manyConflicts {
				wait = manyWait
			}
		case !lost:
			r.ready = true
		}
		r.mu.Unlock()
		if !lost && !taken {
			return true
		}
		if !r.pause(wait) {
			return false
		}
	}
}

// probe asks all links for the name, and says what the hub would answer.
func (r *Responder) probe() {
	r.mu.Lock()
	z, ifaces := r.zone, r.ifaces
	r.mu.Unlock()
	questions := []dnsmessage.Question{{Name: mustName(z.host()), Type: dnsmessage.TypeALL, Class: classINET}}
	var claims []record
	for _, s := range z.services {
		questions = append(questions, dnsmessage.Question{Name: mustName(z.instance(s)), Type: dnsmessage.TypeALL, Class: classINET})
		claims = append(claims, z.srv(s))
	}
	for _, i := range ifaces {
		packet, err := pack(dnsmessage.Header{}, questions, [3][]record{1: append(z.addresses(i.addrs()), claims...)}, false)
		if err == nil {
			r.out(i.Index, netip.AddrPort{}, packet)
		}
	}
}

// announce tells all links, twice.
func (r *Responder) announce() bool {
	for n := range announcements {
		if n > 0 && !r.pause(announceEvery) {
			return false
		}
		r.tellAll(false)
	}
	return true
}

// tellAll sends every record; over ends their time.
func (r *Responder) tellAll(over bool) {
	r.mu.Lock()
	z, ifaces := r.zone, r.ifaces
	r.mu.Unlock()
	for _, i := range ifaces {
		list := z.all(i.addrs())
		for n := range list {
			if over {
				list[n].ttl = 0
			}
		}
		packet, err := pack(dnsmessage.Header{Response: true, Authoritative: true}, nil, [3][]record{list}, false)
		if err == nil {
			r.out(i.Index, netip.AddrPort{}, packet)
		}
	}
}

// out sends a packet, and remembers it: what is sent to the group comes back.
func (r *Responder) out(ifi int, to netip.AddrPort, packet []byte) {
	r.mu.Lock()
	r.ours[r.next] = maphash.Bytes(r.seed, packet)
	r.next = (r.next + 1) % len(r.ours)
	r.mu.Unlock()
	r.send(ifi, to, packet)
}

// rouse has run look at what has changed.
func (r *Responder) rouse() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// look sees which interfaces there are; changed says that they are others.
func (r *Responder) look() (list []Interface, changed bool, err error) {
	if list, err = r.o.Interfaces(); err != nil {
		return nil, false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	changed = !slices.EqualFunc(list, r.ifaces, func(a, b Interface) bool { return a.Index == b.Index && slices.Equal(a.Prefixes, b.Prefixes) })
	r.ifaces = list
	return list, changed, nil
}

// Close says goodbye, and ends.
func (r *Responder) Close() error {
	close(r.stop)
	r.mu.Lock()
	ready := r.ready
	r.mu.Unlock()
	if ready {
		r.tellAll(true)
	}
	err := r.end()
	r.all.Wait()
	return err
}
