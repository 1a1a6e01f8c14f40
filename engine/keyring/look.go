package keyring

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
)

// flight is one question to a server, which all who want its keys wait for.
type flight struct {
	done chan struct{} // closed when got and err are set
	got  *answer
	err  error
}

// try is how a server has answered lately.
type try struct {
	failures int
	next     int64 // milliseconds before which it is not asked again
}

const (
	maxTries = 4096

	// A server that answered is not asked again at once for a key that it does
	// not have: the id of a key is whatever the sender of an event likes.
	afterAnswer = 10 * 1000
	firstPause  = 10 * 1000
	lastPause   = 3600 * 1000
	// A request tells that its server is there, so it is believed to be sooner.
	requestPause = 10 * 1000
)

var errAsked = errors.New("its keys were asked for a moment ago")

// purpose is what keys are looked for.
type purpose struct {
	places chan struct{} // one is held while a server is asked
	pause  int64         // milliseconds that a failure counts at most
}

func (k *Keys) forRequest() purpose { return purpose{k.single, requestPause} }
func (k *Keys) forEvents() purpose  { return purpose{k.many, lastPause} }

// start begins to ask a server, or joins those who do. It waits for a place.
func (k *Keys) start(ctx context.Context, server mxid.Server, p purpose) (*flight, error) {
	if f := k.under(server); f != nil {
		return f, nil
	}
	select {
	case p.places <- struct{}{}:
	case <-ctx.Done():
		return nil, fault.E(fault.Remote, "keyring", "the keys of %s were not asked for in time", server)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.mayAsk(server, p.pause)
	if f := k.flights[server]; f != nil || err != nil {
		<-p.places
		return f, err
	}
	f := &flight{done: make(chan struct{})}
	k.flights[server] = f
	k.running.Go(func() {
		f.got, f.err = k.fetch(server)
		k.landed(server, f.err)
		<-p.places
		close(f.done)
	})
	return f, nil
}

// under finds a question that is under way.
func (k *Keys) under(server mxid.Server) *flight {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.flights[server]
}

// mayAsk says whether it is time to ask a server. The caller holds mu.
func (k *Keys) mayAsk(server mxid.Server, pause int64) error {
	if k.ctx.Err() != nil || k.o.Fetch == nil {
		return fault.E(fault.Remote, "keyring", "the keys of %s cannot be asked for", server)
	}
	t := k.tries[server]
	if t == nil {
		return nil
	}
	next := t.next
	if t.failures > 0 {
		next = min(next, t.next-backoff(t.failures)+pause)
	}
	if k.now() < next {
		return fault.E(fault.Remote, "keyring", "%s: %w", server, errAsked)
	}
	return nil
}

// backoff is how many milliseconds a server is left alone.
func backoff(failures int) int64 { return min(int64(firstPause)<<min(failures-1, 12), lastPause) }

// landed notes how a question ended. The table of tries is bounded: what is
// forgotten costs one question more.
func (k *Keys) landed(server mxid.Server, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.flights, server)
	if k.ctx.Err() != nil {
		return
	}
	t := k.tries[server]
	if t == nil {
		for other := range k.tries {
			if len(k.tries) < maxTries {
				break
			}
			delete(k.tries, other)
		}
		t = &try{}
		k.tries[server] = t
	}
	if err == nil {
		t.failures, t.next = 0, k.now()+afterAnswer
		return
	}
	t.failures++
	t.next = k.now() + backoff(t.failures)
}

// fetch asks a server for its keys and stores them.
func (k *Keys) fetch(server mxid.Server) (*answer, error) {
	ctx, cancel := context.WithTimeout(k.ctx, k.o.Time)
	defer cancel()
	raw, err := k.o.Fetch(ctx, server)
	if err != nil {
		return nil, fault.E(fault.Remote, "keyring", "the keys of %s cannot be had: %w", server, err)
	}
	a, err := parseAnswer(raw, server, k.now())
	if err != nil {
		return nil, fault.E(fault.Remote, "keyring", "what %s publishes as its keys is of no use: %w", server, err)
	}
	a.direct = true
	k.store(a)
	return a, nil
}

// store keeps answers; where the disk does not take them they serve once.
func (k *Keys) store(answers ...*answer) {
	if err := k.keep(answers); err != nil && !fault.Is(err, fault.Full) {
		k.o.Log("keys of other servers are not stored: %v", err)
	}
}

// wait gives what a question came to.
func (f *flight) wait(ctx context.Context) (*answer, error) {
	select {
	case <-f.done:
		return f.got, f.err
	case <-ctx.Done():
		return nil, fault.E(fault.Remote, "keyring", "keys were not had in time")
	}
}

// want is a key that is looked for: valid at a time, in milliseconds. At 0 any
// time will do.
type want struct {
	id string
	at int64
}

// need is what is looked for of one server, and what is known.
type need struct {
	server mxid.Server
	wants  []want
	set    keySet
	err    error // why no more is known
}

// missing lists what is not known yet. A time further ahead than any key is
// believed cannot be reached by asking.
func (n *need) missing(now int64) (list []want) {
	for _, w := range n.wants {
		have := slices.ContainsFunc(n.set, func(k key) bool { return k.id == w.id && (k.expired != 0 || k.until >= w.at) })
		if !have && w.at <= now+believed {
			list = append(list, w)
		}
	}
	return list
}

// batchFrom is from how many servers on notaries are asked first: one question
// in place of that many, and big rooms are full of servers that are gone.
const batchFrom = 8

// complete finds the keys that are missing. Where they cannot be had, need.err
// says why.
func (k *Keys) complete(ctx context.Context, needs []*need, p purpose) {
	for _, n := range needs {
		n.set, n.err = k.known(n.server)
	}
	open := k.lacking(needs)
	if len(open) == 0 {
		return
	}
	if len(open) < batchFrom {
		k.askEach(ctx, open, p)
		k.askNotaries(ctx, k.lacking(open))
		return
	}
	ctx, cancel := context.WithTimeout(ctx, k.o.LongTime)
	defer cancel()
	k.askNotaries(ctx, open)
	k.askEach(ctx, k.lacking(open), p)
}

// lacking are the needs that are not met.
func (k *Keys) lacking(needs []*need) (list []*need) {
	now := k.now()
	for _, n := range needs {
		if len(n.missing(now)) > 0 {
			list = append(list, n)
		}
	}
	return list
}

// askEach asks the servers themselves, as many at once as there are places.
func (k *Keys) askEach(ctx context.Context, needs []*need, p purpose) {
	flights := make([]*flight, len(needs))
	for i, n := range needs {
		if flights[i], n.err = k.start(ctx, n.server, p); n.err == nil {
			continue
		}
		// Perhaps somebody else has asked since the set was read.
		if set, err := k.known(n.server); err == nil {
			n.set = set
		}
	}
	for i, n := range needs {
		if flights[i] == nil {
			continue
		}
		var a *answer
		if a, n.err = flights[i].wait(ctx); n.err == nil {
			n.set.merge(a)
		}
	}
}

// askNotaries asks the notaries for all that is missing, until nothing is.
func (k *Keys) askNotaries(ctx context.Context, needs []*need) {
	if k.o.Ask == nil {
		return
	}
	for _, notary := range k.o.Notaries {
		for rest := needs; len(rest) > 0; {
			part := rest[:min(len(rest), notaryServers)]
			rest = rest[len(part):]
			if err := k.askNotary(ctx, notary, part); err != nil {
				k.o.Log("the notary %s: %v", notary, err)
				break
			}
		}
		if needs = k.lacking(needs); len(needs) == 0 {
			return
		}
	}
}

// notaryServers is about how many servers one question names: their objects
// have to go into one answer.
const notaryServers = 256

// askNotary asks one notary, and keeps what it says.
func (k *Keys) askNotary(ctx context.Context, notary mxid.Server, needs []*need) error {
	got, err := k.consult(ctx, notary, needs)
	if err != nil {
		return err
	}
	of := map[mxid.Server]*need{}
	for _, n := range needs {
		of[n.server] = n
	}
	k.take(of, got)
	return nil
}

// consult asks a server for the keys of others. Its answers count where it has
// signed them too.
func (k *Keys) consult(ctx context.Context, notary mxid.Server, needs []*need) (got []*answer, err error) {
	ids, err := k.notaryKeys(ctx, notary)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*k.o.Time)
	defer cancel()
	now := k.now()
	raw, err := k.o.Ask(ctx, notary, appendQuery(nil, needs, now))
	if err != nil {
		return nil, err
	}
	of := map[mxid.Server]bool{}
	for _, n := range needs {
		of[n.server] = true
	}
	err = parseBatch(raw, func(server mxid.Server, obj []byte) {
		if !of[server] || !signedBy(obj, notary, ids, now) {
			return
		}
		if a, err := parseAnswer(slices.Clone(obj), server, now); err == nil {
			got = append(got, a)
		}
	})
	return got, err
}

// take puts answers where they were missing, the older ones first, and stores
// them: one of each server in a batch.
func (k *Keys) take(of map[mxid.Server]*need, got []*answer) {
	slices.SortStableFunc(got, func(a, b *answer) int { return int(min(max(a.until-b.until, -1), 1)) })
	for round := int64(0); len(got) > 0; round++ {
		var now, later []*answer
		seen := map[mxid.Server]bool{}
		for _, a := range got {
			if seen[a.server] {
				later = append(later, a)
				continue
			}
			seen[a.server] = true
			a.at += round // the time is the key of its row
			of[a.server].set.merge(a)
			now = append(now, a)
		}
		k.store(now...)
		if got = later; round == 4 {
			return
		}
	}
}

// notaryKeys are the keys of a notary, asked for where they are not known.
func (k *Keys) notaryKeys(ctx context.Context, notary mxid.Server) (keySet, error) {
	n := &need{server: notary}
	if n.set, n.err = k.known(notary); n.err != nil {
		return nil, n.err
	}
	now := k.now()
	if !slices.ContainsFunc(n.set, func(k key) bool { return k.inUse(now) }) {
		k.askEach(ctx, []*need{n}, k.forRequest())
	}
	return n.set, n.err
}

// signedBy says whether an object bears a signature by a key that its signer
// has in use.
func signedBy(obj []byte, signer mxid.Server, set keySet, now int64) bool {
	for i, sig := range event.Signatures(obj, string(signer)) {
		if i == maxSigners {
			return false
		}
		for _, k := range set.of(sig.KeyID) {
			if k.inUse(now) && event.VerifyJSON(obj, string(signer), k.id, k.pub[:]) == nil {
				return true
			}
		}
	}
	return false
}

// appendQuery is the question to a notary. Spec: server-server, POST
// /_matrix/key/v2/query.
func appendQuery(dst []byte, needs []*need, now int64) []byte {
	dst = append(dst, `{"server_keys":{`...)
	for i, n := range needs {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(cjson.AppendString(dst, n.server), `:{`...)
		for j, w := range n.missing(now) {
			if j > 0 {
				dst = append(dst, ',')
			}
			dst = append(cjson.AppendString(dst, w.id), `:{"minimum_valid_until_ts":`...)
			dst = append(strconv.AppendInt(dst, w.at, 10), '}')
		}
		dst = append(dst, '}')
	}
	return append(dst, `}}`...)
}
