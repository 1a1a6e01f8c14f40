package federation

import (
	"context"
	"encoding/base64"
	"strconv"
	"sync"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// A room may have a policy server, which looks at each event before it is sent
// and signs what it does not advise against. Nobody holds the room while it is
// asked.

// policyTime bounds one question. A policy server that is away keeps a room's
// people from speaking, as the room wants it, but must not keep them waiting.
const policyTime = 10 * time.Second

// Policed is an event of a room as it may be sent there: signed by the room's
// policy server, where there is one.
//
// Errors: what the policy server answers (Forbidden, Limit), Remote where it does
// not. Spec: server-server, asking for a policy server signature on an event.
func (f *Federation) Policed(ctx context.Context, num room.Num, e *event.Event) (*event.Event, error) {
	h, err := f.Rooms.Head(num)
	if err != nil {
		return nil, err
	}
	p, err := f.Rooms.Policy(h)
	if err != nil || p.Passes(e) {
		return e, err
	}
	return f.askPolicy(ctx, p, e)
}

// askPolicy asks for the signature. Spec: server-server, POST /_matrix/policy/v1/sign.
func (f *Federation) askPolicy(ctx context.Context, p *room.Policy, e *event.Event) (*event.Event, error) {
	const op = "federation.Policed"
	if p.Via == f.server {
		return nil, fault.E(fault.Forbidden, op, "the room names this hub as its policy server, and it is none")
	}
	answer, err := f.do(ctx, &Request{Dest: p.Via, Method: "POST", Path: "/_matrix/policy/v1/sign", Body: e.JSON, Time: policyTime})
	if r := refused(err); r != nil && r.Errcode == "M_LIMIT_EXCEEDED" {
		val, _ := cjson.Lookup(r.Body, "retry_after_ms")
		ms, _ := cjson.Int(val)
		return nil, fault.Wait(op, time.Duration(min(max(ms, 1000), time.Hour.Milliseconds()))*time.Millisecond)
	}
	if err != nil {
		return nil, asTold(err)
	}
	val, _ := cjson.LookupPath(answer, string(p.Via), room.PolicyKey)
	text, _ := cjson.String(val)
	sig, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil || len(sig) == 0 {
		return nil, fault.E(fault.Forbidden, op, "the policy server %s did not sign the event", p.Via)
	}
	signed, err := e.WithSignature(p.Via, room.PolicyKey, sig)
	if err != nil {
		return nil, err
	}
	if !p.Passes(signed) {
		return nil, fault.E(fault.Forbidden, op, "the policy server %s signed by another key than the room has of it", p.Via)
	}
	return signed, nil
}

// unpoliced picks the events of a room that its policy server has not signed and
// that are not here: they are put aside until it was asked.
func (f *Federation) unpoliced(h *room.Head, events []*event.Event) (map[mxid.EventID]bool, error) {
	p, err := f.Rooms.Policy(h)
	if err != nil || p == nil {
		return nil, err
	}
	list := map[mxid.EventID]bool{}
	for _, e := range events {
		if p.Passes(e) {
			continue
		}
		if old, err := f.Rooms.Lookup(e.ID); err == nil && !old.Outlier() {
			continue
		}
		list[e.ID] = true
	}
	return list, nil
}

// maxPoliced is how many events that came with one another are asked about. The
// rest counts as advised against.
const maxPoliced = 100

// A policy server that does not answer is asked again by and by, and what it has
// not signed waits for that, but a room must not stand still for its sake: after
// policyPatience events count as advised against, until it answers.
const (
	policyPatience = 2 * time.Minute
	policyPause    = 15 * time.Second // so often it is asked meanwhile
	maxSilent      = 512
)

// silence is since when the policy servers of rooms have not answered.
type silence struct {
	mu sync.Mutex
	of map[room.Num]hush
}

type hush struct{ since, asked time.Time }

// ask says whether it is time to ask the policy server of a room.
func (s *silence) ask(num room.Num, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, ok := s.of[num]
	return !ok || now.Sub(was.asked) >= policyPause
}

// heard notes that it has answered.
func (s *silence) heard(num room.Num) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.of, num)
}

// patient says whether events still wait for it, and where it was asked just now
// notes that it did not answer.
func (s *silence) patient(num room.Num, asked bool, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, ok := s.of[num]
	if !ok {
		was.since = now
	}
	if asked {
		was.asked = now
	}
	if s.of == nil || len(s.of) >= maxSilent {
		s.of = map[room.Num]hush{} // what is forgotten costs some patience more
	}
	s.of[num] = was
	return now.Sub(was.since) < policyPatience
}

// undecided says whether a policy server has not said what it thinks.
func undecided(err error) bool {
	r := refused(err)
	return err != nil && !reached(err) || fault.Is(err, fault.Limit) || r != nil && r.Status >= 500
}

// police asks the policy server about what was fetched, as far as it has not
// signed that; what it does not sign is noted. An error of kind Remote says that it
// did not answer and is to be asked again.
func (g *gap) police(ctx context.Context) error {
	h, err := g.f.Rooms.Head(g.h.Room)
	if err != nil {
		return err
	}
	p, err := g.f.Rooms.Policy(h)
	if err != nil || p == nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*policyTime)
	defer cancel()
	var work sync.WaitGroup
	var mu sync.Mutex
	gate := make(chan struct{}, maxAtOnce)
	signed := map[mxid.EventID]*event.Event{}
	var silent error
	asks, answers := g.f.in.silence.ask(h.Room, g.f.o.Now()), false
	for id, e := range g.have {
		if _, done := g.policed[id]; done || p.Passes(e) {
			continue
		}
		g.policed[id] = false
		if len(g.policed) > maxPoliced {
			continue
		}
		if !asks {
			silent = fault.E(fault.Remote, "federation.police", "it was asked a moment ago")
			continue
		}
		gate <- struct{}{}
		work.Go(func() {
			defer func() { <-gate }()
			s, err := g.f.askPolicy(ctx, p, e)
			mu.Lock()
			defer mu.Unlock()
			answers = answers || !undecided(err)
			switch {
			case err == nil:
				signed[id] = s
			case undecided(err):
				silent = err
			default:
				g.f.o.Log("federation: the policy server of %s advises against %s: %v", e.Room, strconv.Quote(string(id)), err)
			}
		})
	}
	work.Wait()
	for id, e := range signed {
		g.have[id], g.policed[id] = e, true
	}
	if answers {
		g.f.in.silence.heard(h.Room)
	} else if silent != nil && g.f.in.silence.patient(h.Room, asks, g.f.o.Now()) {
		return fault.E(fault.Remote, "federation.police", "the policy server %s does not answer: %w", p.Via, silent)
	}
	return nil
}
