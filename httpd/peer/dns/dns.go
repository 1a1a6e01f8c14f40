// Package dns finds addresses and services for the hub's own requests to other
// servers.
//
// A room of a thousand servers asks for a thousand names within a minute, over
// and over, and the resolver of a home router drowns in that; so this package
// keeps answers for as long as they may be kept, negative ones too, asks each
// question once however many wait for it, and has only so many under way. It
// takes the name servers of resolv.conf, and what the hosts file names it never
// asks anybody about. Where the network's servers are away it goes on with an
// answer that has run out, because a hub's link comes and goes and addresses
// rarely change meanwhile (RFC 8767).
//
// It refuses to apply search domains, because a server name is always whole, and
// to recurse by itself: it believes the name servers it was told to ask. It does
// not speak mDNS, so that hubs that find each other as NAME.local need a router
// that answers for such names, or a line in the hosts file. Where resolv.conf
// names nobody it asks the way that Go's standard library does, and still keeps
// and bounds.
package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Options are what a resolver is made with.
type Options struct {
	Conf, Hosts string           // files; empty: /etc/resolv.conf and /etc/hosts
	Bytes       int              // of answers that are kept; 0: 512 KiB
	Questions   int              // under way at once; 0: 32
	Now         func() time.Time // nil: time.Now
	Port        uint16           // where the name servers listen; 0: 53
}

// Bounds of one look-up.
const (
	lookTime   = 12 * time.Second // for one question with all its tries
	firstTry   = 2 * time.Second  // for one server; the second round waits twice as long
	rounds     = 2
	sibling    = 300 * time.Millisecond // for the other family, once one has answered
	queueTime  = 30 * time.Second       // for a turn to ask
	maxFlights = 2048                   // questions that wait for their turn, and those that are asked
	maxChain   = 8                      // names that stand for each other
	maxNames   = 253                    // bytes of a name
)

// How long answers are kept.
const (
	leastKept = 30 * time.Second
	mostKept  = 6 * time.Hour
	noneKept  = time.Minute // nothing there, and nobody said for how long
	noneMost  = 10 * time.Minute
	failKept  = 5 * time.Second // nobody could say
	staleMost = 24 * time.Hour  // an answer that has run out, while nobody can say
)

// ErrNone is what look-ups wrap where the network says that there is nothing of
// the kind: asking again soon is of no use. Other errors pass.
var ErrNone = errors.New("dns: nothing by that name")

// errBusy says nothing about the name, and is not kept.
var errBusy = errors.New("dns: too many look-ups under way")

// Target is where a service is: a host name, and its port.
type Target struct {
	Host string
	Port uint16
}

// Resolver answers questions. All methods may be called at the same time.
type Resolver struct {
	o     Options
	conf  watched // resolv.conf
	hosts watched
	slots chan struct{}
	good  atomic.Uint32 // the name server that answered last, by its place in the list

	mu      sync.Mutex
	kept    cache
	flights map[question]*flight
}

// question is what is asked: a name in small letters without the last dot, and a
// type of record.
type question struct {
	name string
	kind dnsmessage.Type
}

// flight is a question under way, which several may wait for.
type flight struct {
	done chan struct{}
	a    *answer
	err  error
}

// New makes a resolver that knows nothing yet.
func New(o Options) *Resolver {
	if o.Conf == "" {
		o.Conf = "/etc/resolv.conf"
	}
	if o.Hosts == "" {
		o.Hosts = "/etc/hosts"
	}
	if o.Bytes == 0 {
		o.Bytes = 512 << 10
	}
	if o.Questions == 0 {
		o.Questions = 32
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Port == 0 {
		o.Port = 53
	}
	return &Resolver{
		o: o, conf: watched{path: o.Conf}, hosts: watched{path: o.Hosts},
		slots: make(chan struct{}, o.Questions), kept: cache{most: o.Bytes}, flights: map[question]*flight{},
	}
}

// Addrs gives the addresses of a host, at least one. A literal is its own
// address, and the hosts file has the last word on the names in it.
func (r *Resolver) Addrs(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	name, err := plain(host)
	if err != nil {
		return nil, err
	}
	if found := inHosts(r.hosts.read(r.o.Now()), name); len(found) > 0 {
		return found, nil
	}
	if loopback(name) {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, nil
	}
	return r.families(ctx, name)
}

// loopback says whether a name is this machine's by its form. Spec: RFC 6761, 6.3.
func loopback(name string) bool { return name == "localhost" || strings.HasSuffix(name, ".localhost") }

// Local says whether a host is known without asking anybody: it is an address,
// or the hosts file has it.
func (r *Resolver) Local(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	name, err := plain(host)
	return err == nil && (loopback(name) || len(inHosts(r.hosts.read(r.o.Now()), name)) > 0)
}

// families asks for both kinds of address at once. Who has some does not wait
// long for the other: many a router never answers for IPv6.
func (r *Resolver) families(ctx context.Context, name string) ([]netip.Addr, error) {
	type result struct {
		a   *answer
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result, 2)
	for _, kind := range []dnsmessage.Type{dnsmessage.TypeAAAA, dnsmessage.TypeA} {
		go func() {
			a, err := r.find(ctx, question{name, kind})
			results <- result{a, err}
		}()
	}
	var all []netip.Addr
	var failed error
	var late <-chan time.Time
	for range 2 {
		select {
		case got := <-results:
			if got.err != nil {
				failed = got.err
				continue
			}
			all = append(all, got.a.addrs...)
		case <-late:
			return all, nil
		}
		if len(all) > 0 && late == nil {
			t := time.NewTimer(sibling)
			defer t.Stop()
			late = t.C
		}
	}
	switch {
	case len(all) > 0:
		return all, nil
	case failed != nil:
		return nil, failed
	}
	return nil, fmt.Errorf("%w: %s has no address", ErrNone, name)
}

// Targets gives where a service is (_matrix-fed._tcp.example.org), in the order
// in which to try. It is empty where the name says that there is none.
func (r *Resolver) Targets(ctx context.Context, service string) ([]Target, error) {
	name, err := plain(service)
	if err != nil {
		return nil, err
	}
	a, err := r.find(ctx, question{name, dnsmessage.TypeSRV})
	switch {
	case err != nil:
		return nil, err
	case len(a.services) == 0:
		return nil, fmt.Errorf("%w: no service %s", ErrNone, name)
	}
	return order(a.services), nil
}

// plain gives a name as it is asked for.
func plain(host string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if name == "" || len(name) > maxNames {
		return "", fmt.Errorf("%w: not a host name", ErrNone)
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return "", fmt.Errorf("%w: not a host name", ErrNone)
		}
	}
	return name, nil
}

// find gives the answer to one question, kept or new. An answer without records
// says that there are none.
func (r *Resolver) find(ctx context.Context, q question) (*answer, error) {
	r.mu.Lock()
	if e := r.kept.get(q); e != nil && r.o.Now().Before(e.until) {
		r.mu.Unlock()
		return e.a, e.err
	}
	f := r.flights[q]
	if f == nil {
		if len(r.flights) >= maxFlights {
			r.mu.Unlock()
			return nil, errBusy
		}
		f = &flight{done: make(chan struct{})}
		r.flights[q] = f
		go r.fly(q, f) // it ends by itself: others may wait for it when this caller no longer does
	}
	r.mu.Unlock()
	select {
	case <-f.done:
		return f.a, f.err
	case <-ctx.Done():
		return nil, fmt.Errorf("dns: no answer about %s: %w", q.name, context.Cause(ctx))
	}
}

// fly asks, keeps what came of it and tells those who wait.
func (r *Resolver) fly(q question, f *flight) {
	turn := time.NewTimer(queueTime)
	defer turn.Stop()
	select {
	case r.slots <- struct{}{}:
	case <-turn.C:
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.flights, q)
		f.err = errBusy
		close(f.done)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookTime)
	defer cancel()
	f.a, f.err = r.resolve(ctx, q)
	<-r.slots
	now := r.o.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	defer close(f.done)
	delete(r.flights, q)
	if f.err == nil {
		r.kept.put(q, entry{a: f.a, until: now.Add(f.a.ttl), stale: now.Add(f.a.ttl + staleMost)})
		return
	}
	old := r.kept.get(q)
	if old == nil || old.a == nil || !now.Before(old.stale) {
		r.kept.put(q, entry{err: f.err, until: now.Add(failKept)})
		return
	}
	f.a, f.err = old.a, nil
	old.until = now.Add(failKept)
}

// resolve asks, and goes on at the name that another one stands for where the
// name server did not do that itself.
func (r *Resolver) resolve(ctx context.Context, q question) (*answer, error) {
	ttl := mostKept
	for range maxChain {
		a, err := r.ask(ctx, q)
		if err != nil {
			return nil, err
		}
		ttl = min(ttl, a.ttl)
		if a.next == "" {
			a.ttl = ttl
			return a, nil
		}
		q.name = a.next
	}
	return nil, fmt.Errorf("dns: %s: too many names that stand for another", q.name)
}

// ask asks the name servers until one gives an answer.
func (r *Resolver) ask(ctx context.Context, q question) (*answer, error) {
	servers := nameServers(r.conf.read(r.o.Now()), r.o.Port)
	if len(servers) == 0 {
		return system(ctx, q)
	}
	var last error
	for round := range rounds {
		begin := int(r.good.Load())
		for i := range servers {
			at := (begin + i) % len(servers)
			a, err := ask(ctx, servers[at], q, firstTry<<round)
			if err == nil {
				r.good.Store(uint32(at))
				return a, nil
			}
			last = fmt.Errorf("dns: %s did not say where %s is: %w", servers[at].Addr(), q.name, err)
			if ctx.Err() != nil {
				return nil, last
			}
		}
	}
	return nil, last
}

// system asks by the standard library, which knows of no time to keep.
func system(ctx context.Context, q question) (*answer, error) {
	a := &answer{ttl: noneKept}
	var err error
	switch q.kind {
	case dnsmessage.TypeSRV:
		var found []*net.SRV
		_, found, err = net.DefaultResolver.LookupSRV(ctx, "", "", q.name+".")
		for _, s := range found[:min(len(found), maxRecords)] {
			a.services = append(a.services, service{Target{strings.TrimSuffix(s.Target, "."), s.Port}, s.Priority, s.Weight})
		}
	case dnsmessage.TypeA:
		a.addrs, err = net.DefaultResolver.LookupNetIP(ctx, "ip4", q.name+".")
	default:
		a.addrs, err = net.DefaultResolver.LookupNetIP(ctx, "ip6", q.name+".")
	}
	for i := range a.addrs {
		a.addrs[i] = a.addrs[i].Unmap()
	}
	var none *net.DNSError
	if errors.As(err, &none) && none.IsNotFound {
		return &answer{ttl: noneKept}, nil
	}
	return a, err
}
