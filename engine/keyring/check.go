package keyring

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/edkey"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
)

// maxWants bounds the keys of one server that are asked for at once: an event
// can bear signatures by keys of any name.
const maxWants = 16

// slice is how many events are checked at once, which bounds the memory for the
// texts that were signed.
const slice = 1024

// VerifyEvents checks the signatures that events of one room have to bear, and
// gives an error for each that does not hold: BadSignature where it is wrong,
// Remote where a key could not be had, and another try may do. Keys that are
// missing are asked for first, all at once; that takes no longer than
// Options.LongTime.
//
// Signatures by keys that nobody knows, or that were not valid at the time of
// the event, are passed over. All others have to hold, and there has to be one of
// each server that must sign. Spec: server-server, Validating hashes and
// signatures on received events; rooms v5, signing key validity period.
func (k *Keys) VerifyEvents(ctx context.Context, v *event.Version, events []*event.Event) []error {
	errs := make([]error, len(events))
	of := map[mxid.Server]*need{}
	for _, e := range events {
		for _, server := range e.Signers() {
			n := of[server]
			if n == nil {
				n = &need{server: server}
				of[server] = n
			}
			n.add(e, v)
		}
	}
	k.completeAll(ctx, of)
	// Those of one server come together, so that its keys' tables serve for all.
	order := make([]int, len(events))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(events[a].Sender.Server(), events[b].Sender.Server()) })
	for len(order) > 0 {
		n := min(len(order), slice)
		k.verifySlice(of, v, events, order[:n], errs)
		order = order[n:]
	}
	return errs
}

// add puts what an event needs to what is looked for.
func (n *need) add(e *event.Event, v *event.Version) {
	for _, sig := range event.Signatures(e.JSON, string(n.server)) {
		w := want{id: sig.KeyID}
		if v.KeyValidity {
			w.at = e.Time
		}
		i := slices.IndexFunc(n.wants, func(w want) bool { return w.id == sig.KeyID })
		switch {
		case i >= 0:
			n.wants[i].at = max(n.wants[i].at, w.at)
		case len(n.wants) < maxWants && goodKeyID(sig.KeyID):
			n.wants = append(n.wants, w)
		}
	}
}

// completeAll finds the keys of all servers; our own are at hand.
func (k *Keys) completeAll(ctx context.Context, of map[mxid.Server]*need) {
	list := make([]*need, 0, len(of))
	for server, n := range of {
		if server == k.o.Server {
			n.set = k.own.Load().ownSet()
			continue
		}
		list = append(list, n)
	}
	k.complete(ctx, list, k.forEvents())
}

// check is one signature to check; claims are the checks of which one has to
// hold.
type check struct {
	pub  [32]byte
	text []byte
	sig  []byte
	ok   bool
}

type claim struct {
	event    int
	server   mxid.Server
	keyID    string
	from, to int // of the checks
}

// docket is the checks that some events need.
type docket struct {
	event  int // whose signatures are added
	checks []check
	claims []claim
}

// add puts signatures by one server on the docket; ok is false where none of
// them is by a key that counts.
func (d *docket) add(n *need, sigs []event.Signature, text []byte, counts func(*key) bool) (ok bool) {
	for _, sig := range sigs {
		c := claim{event: d.event, server: n.server, keyID: sig.KeyID, from: len(d.checks)}
		for _, key := range n.set.of(sig.KeyID) {
			if counts(key) {
				d.checks = append(d.checks, check{pub: key.pub, text: text, sig: sig.Sig})
			}
		}
		if c.to = len(d.checks); c.to > c.from {
			d.claims = append(d.claims, c)
			ok = true
		}
	}
	return ok
}

// verifySlice judges the events that which names.
func (k *Keys) verifySlice(of map[mxid.Server]*need, v *event.Version, events []*event.Event, which []int, errs []error) {
	var d docket
	for _, i := range which {
		e := events[i]
		text := e.SigningBytes(nil)
		d.event = i
		counts := func(key *key) bool { return !v.KeyValidity || key.validAt(e.Time) }
		for _, server := range e.Signers() {
			n := of[server]
			if !d.add(n, event.Signatures(e.JSON, string(server)), text, counts) && errs[i] == nil {
				errs[i] = n.unknown("keyring.VerifyEvents")
			}
		}
	}
	k.settle(&d, func(i int, err error) {
		if errs[i] == nil {
			errs[i] = err
		}
	})
}

// settle checks what is on the docket and tells bad of each signature that does
// not fit.
func (k *Keys) settle(d *docket, bad func(event int, err error)) {
	k.verifyAll(d.checks)
	for _, c := range d.claims {
		if !slices.ContainsFunc(d.checks[c.from:c.to], func(c check) bool { return c.ok }) {
			bad(c.event, fault.E(fault.BadSignature, "keyring", "the signature of %s by %s does not fit", c.server, c.keyID))
		}
	}
}

// unknown is the error where no key of a server serves.
func (n *need) unknown(op string) error {
	if len(n.wants) == 0 {
		return fault.E(fault.BadSignature, op, "%s has not signed it", n.server)
	}
	if n.err != nil {
		return fault.E(fault.Remote, op, "no key of %s serves, and another cannot be had: %w", n.server, n.err)
	}
	return fault.E(fault.BadSignature, op, "%s has signed it with no key of its own that was valid then", n.server)
}

// parallelFrom is from how many checks on more than one processor is used.
const parallelFrom = 64

// verifyAll checks signatures, those by one key together.
func (k *Keys) verifyAll(checks []check) {
	byKey := map[[32]byte][]int{}
	for i := range checks {
		byKey[checks[i].pub] = append(byKey[checks[i].pub], i)
	}
	one := func(pub [32]byte, of []int) {
		sigs := make([]edkey.Signature, len(of))
		for i, at := range of {
			sigs[i] = edkey.Signature{Text: checks[at].text, Sig: checks[at].sig}
		}
		k.checker.Verify(&pub, sigs)
		for i, at := range of {
			checks[at].ok = sigs[i].OK
		}
	}
	if len(checks) < parallelFrom {
		for pub, of := range byKey {
			one(pub, of)
		}
		return
	}
	var workers sync.WaitGroup
	next := make(chan [32]byte)
	for range min(runtime.GOMAXPROCS(0), len(byKey)) {
		workers.Go(func() {
			for pub := range next {
				one(pub, byKey[pub])
			}
		})
	}
	for pub := range byKey {
		next <- pub
	}
	close(next)
	workers.Wait()
}

// VerifyJSON checks that a server has signed an object with a key that it has
// in use at a time: a retired one does not do. It is for what is said now, such
// as a request, and not for events. Errors: BadSignature, or Remote where the key
// could not be had.
func (k *Keys) VerifyJSON(ctx context.Context, server mxid.Server, obj []byte, at time.Time) error {
	const op = "keyring.VerifyJSON"
	if err := cjson.Check(obj); err != nil {
		return fault.E(fault.BadSignature, op, "what %s has signed is not JSON: %w", server, err)
	}
	n := &need{server: server}
	sigs := event.Signatures(obj, string(server))
	sigs = sigs[:min(len(sigs), maxWants)]
	for _, sig := range sigs {
		if goodKeyID(sig.KeyID) {
			n.wants = append(n.wants, want{id: sig.KeyID, at: at.UnixMilli()})
		}
	}
	if server == k.o.Server {
		n.set = k.own.Load().ownSet()
	} else {
		k.complete(ctx, []*need{n}, k.forRequest())
	}
	text, err := event.SigningText(obj)
	if err != nil {
		return fault.E(fault.BadSignature, op, "what %s has signed has no canonical form: %w", server, err)
	}
	var d docket
	if !d.add(n, sigs, text, func(key *key) bool { return key.inUse(at.UnixMilli()) }) {
		return n.unknown(op)
	}
	k.settle(&d, func(_ int, bad error) { err = bad })
	return err
}
