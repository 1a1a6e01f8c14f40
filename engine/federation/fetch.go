package federation

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"sync"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/stream"
)

// Bounds of what is asked of other servers.
const (
	askTime     = 20 * time.Second
	maxAnswer   = 6 << 20  // events of one answer
	maxState    = 32 << 20 // a whole state
	stateTime   = time.Minute
	maxIDs      = 100_000 // ids of a state with its auth chain
	maxSources  = 4       // servers that are asked for one thing
	maxAtOnce   = 8       // requests for single events under way
	maxSingle   = 400     // events that are asked for one by one
	maxAuthStep = 10      // rounds of auth events of auth events
)

const apiV1 = "/_matrix/federation/v1/"

func pathOf(parts ...string) string {
	path := apiV1 + parts[0]
	for _, p := range parts[1:] {
		path += "/" + url.PathEscape(p)
	}
	return path
}

// source is whom to ask about a room, and the room.
type source struct {
	f    *Federation
	h    *room.Head
	from []mxid.Server // in the order in which they are asked
	by   []mxid.Server // who is asked for the keys of those who are gone; nil: from
}

// sourceOf lists the servers to ask about a room: the one that spoke first, then
// some that are in the room.
func (f *Federation) sourceOf(h *room.Head, first mxid.Server) (*source, error) {
	s := &source{f: f, h: h}
	add := func(server mxid.Server) bool {
		for _, has := range s.from {
			if has == server {
				return true
			}
		}
		if server != f.server && server != "" && f.Allowed(server) {
			s.from = append(s.from, server)
		}
		return len(s.from) < maxSources
	}
	add(first)
	err := f.Rooms.Servers(h.Room, func(server mxid.Server, _ stream.Pos) bool { return add(server) })
	return s, err
}

// get asks a server for an object.
func (s *source) get(ctx context.Context, server mxid.Server, path string, most int64) ([]byte, error) {
	return s.f.do(ctx, &Request{Dest: server, Method: "GET", Path: path, MaxAnswer: most, Time: askTime})
}

// events reads, bounds and verifies the events of a list; those that are not of
// the room, or not good, are left out.
func (s *source) events(ctx context.Context, body []byte, most int, names ...string) []*event.Event {
	return s.eventsBy(ctx, event.Receive, body, most, names...)
}

// eventsBy is events with another way to read one.
func (s *source) eventsBy(ctx context.Context, read func(*event.Version, []byte) (*event.Event, bool, error), body []byte, most int, names ...string) []*event.Event {
	var list []*event.Event
	seen := map[mxid.EventID]bool{}
	for _, name := range names {
		val, _ := cjson.Lookup(body, name)
		_ = cjson.Array(val, func(raw []byte) bool {
			if e, _, err := read(s.h.Version, raw); err == nil && e.Room == s.h.ID && !seen[e.ID] {
				seen[e.ID] = true
				list = append(list, e)
			}
			return len(list) < most
		}) // what is no list holds nothing
	}
	return s.verified(ctx, list)
}

func (s *source) verified(ctx context.Context, list []*event.Event) []*event.Event {
	if len(list) == 0 {
		return nil
	}
	witnesses := s.by
	if witnesses == nil {
		witnesses = s.from
	}
	good := list[:0]
	for i, err := range s.f.o.VerifyPast(ctx, s.h.Version, list, witnesses) {
		if err == nil {
			good = append(good, list[i])
		}
	}
	return good
}

// missing asks for what comes before some events, down to others that are here.
// Spec: server-server, POST /get_missing_events/{roomId}.
func (s *source) missing(ctx context.Context, server mxid.Server, earliest, latest []mxid.EventID) ([]*event.Event, error) {
	body := cjson.AppendStrings([]byte(`{"earliest_events":`), earliest)
	body = cjson.AppendStrings(append(body, `,"latest_events":`...), latest)
	body = strconv.AppendInt(append(body, `,"limit":`...), gapLimit, 10)
	body = append(body, `,"min_depth":0}`...)
	answer, err := s.f.do(ctx, &Request{Dest: server, Method: "POST", Path: pathOf("get_missing_events", string(s.h.ID)), Body: body,
		MaxAnswer: maxAnswer, Time: askTime})
	if err != nil {
		return nil, err
	}
	return s.events(ctx, answer, gapLimit, "events"), nil
}

// backfill asks for events and what comes before them, newest first.
// Spec: server-server, GET /backfill/{roomId}.
func (s *source) backfill(ctx context.Context, server mxid.Server, at []mxid.EventID, limit int) ([]*event.Event, error) {
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	for _, id := range at {
		q.Add("v", string(id))
	}
	answer, err := s.get(ctx, server, pathOf("backfill", string(s.h.ID))+"?"+q.Encode(), maxAnswer)
	if err != nil {
		return nil, err
	}
	return s.eventsBy(ctx, event.ReceivePast, answer, limit, "pdus"), nil
}

// one asks a server for one event. Spec: server-server, GET /event/{eventId}.
func (s *source) one(ctx context.Context, server mxid.Server, id mxid.EventID) (*event.Event, error) {
	answer, err := s.get(ctx, server, pathOf("event", string(id)), 0)
	if err != nil {
		return nil, err
	}
	val, _ := cjson.Lookup(answer, "pdus")
	var e *event.Event
	_ = cjson.Array(val, func(raw []byte) bool {
		e, _, err = event.Receive(s.h.Version, raw)
		return false
	}) // what is no list holds nothing
	if e == nil || err != nil || e.ID != id || e.Room != s.h.ID {
		return nil, fault.E(fault.NotFound, "federation.event", "%s gave another event than %s", server, id)
	}
	return e, nil
}

// single fetches events by their ids, each from the first server that has it,
// and gives those that came and are good. The error is of the last that did not.
func (s *source) single(ctx context.Context, ids []mxid.EventID) ([]*event.Event, error) {
	ids = ids[:min(len(ids), maxSingle)]
	got := make([]*event.Event, len(ids))
	errs := make([]error, len(ids))
	var work sync.WaitGroup
	gate := make(chan struct{}, maxAtOnce)
	for i, id := range ids {
		gate <- struct{}{}
		work.Go(func() {
			defer func() { <-gate }()
			for _, server := range s.from {
				if got[i], errs[i] = s.one(ctx, server, id); got[i] != nil || ctx.Err() != nil {
					return
				}
			}
		})
	}
	work.Wait()
	var list []*event.Event
	var last error
	for i, e := range got {
		if e != nil {
			list = append(list, e)
		} else {
			last = worse(last, errs[i])
		}
	}
	return s.verified(ctx, list), last
}

// worse keeps the error that says most: a server that answered has spoken, one
// that did not may be asked again.
func worse(a, b error) error {
	if b == nil || a != nil && fault.Is(a, fault.Remote) {
		return a
	}
	return b
}

// ids asks for the state before an event and its auth chain, as ids.
// Spec: server-server, GET /state_ids/{roomId}.
func (s *source) ids(ctx context.Context, server mxid.Server, at mxid.EventID) (state, chain []mxid.EventID, err error) {
	answer, err := s.get(ctx, server, pathOf("state_ids", string(s.h.ID))+"?event_id="+url.QueryEscape(string(at)), maxAnswer)
	if err != nil {
		return nil, nil, err
	}
	read := func(name string) (list []mxid.EventID, err error) {
		val, _ := cjson.Lookup(answer, name)
		bad := cjson.Array(val, func(v []byte) bool {
			text, _ := cjson.String(v)
			id, e := mxid.ParseEvent(text)
			if e != nil {
				err = e
			}
			list = append(list, id)
			return err == nil && len(list) <= maxIDs
		})
		if bad != nil || err != nil || len(list) > maxIDs {
			err = fault.E(fault.NotFound, "federation.stateIDs", "%s gave no state", server)
		}
		return list, err
	}
	if state, err = read("pdu_ids"); err != nil {
		return nil, nil, err
	}
	chain, err = read("auth_chain_ids")
	return state, chain, err
}

// stateBefore has another server tell the state before an event, and sees to it
// that all of its events are here, as outliers at least. The answer of one that
// cannot give them is worth nothing.
func (s *source) stateBefore(ctx context.Context, at mxid.EventID) (state []mxid.EventID, err error) {
	err = fault.E(fault.NotFound, "federation.state", "no server gives the state before %s", at)
	for _, server := range s.from {
		ids, e := s.stateFrom(ctx, server, at)
		if e == nil {
			return ids, nil
		}
		if err = worse(err, e); ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

func (s *source) stateFrom(ctx context.Context, server mxid.Server, at mxid.EventID) ([]mxid.EventID, error) {
	state, chain, err := s.ids(ctx, server, at)
	if err != nil {
		return nil, err
	}
	if len(state) == 0 {
		return nil, fault.E(fault.NotFound, "federation.state", "%s gave an empty state", server)
	}
	lacks, err := s.absent(append(append(make([]mxid.EventID, 0, len(state)+len(chain)), state...), chain...))
	if err != nil || len(lacks) == 0 {
		return state, err
	}
	// Much that lacks comes by one request, a little by many small ones.
	if len(lacks) > maxSingle || len(lacks) > 10 && len(lacks)*10 > len(state)+len(chain) {
		if err := s.whole(ctx, server, at); err != nil && ctx.Err() != nil {
			return nil, err
		}
		if lacks, err = s.absent(lacks); err != nil {
			return nil, err
		}
	}
	got, last := s.single(ctx, lacks)
	if err := s.keep(got); err != nil {
		return nil, err
	}
	if lacks, err = s.absent(state); err != nil {
		return nil, err
	}
	if len(lacks) > 0 {
		return nil, fault.E(kindOf(last), "federation.state", "%d events of the state before %s are not to be had", len(lacks), at)
	}
	return state, nil
}

// kindOf is the kind of an error that is passed on: only Remote is tried again.
func kindOf(err error) fault.Kind {
	if fault.Is(err, fault.Remote) {
		return fault.Remote
	}
	return fault.NotFound
}

// whole fetches a state with its auth chain in one answer, and keeps its events as
// those of a join: an answer of that size is not held in memory.
// Spec: server-server, GET /state/{roomId}.
func (s *source) whole(ctx context.Context, server mxid.Server, at mxid.EventID) (err error) {
	ctx, cancel := context.WithTimeout(ctx, stateTime)
	defer cancel()
	r := &Request{Dest: server, Method: "GET", Path: pathOf("state", string(s.h.ID)) + "?event_id=" + url.QueryEscape(string(at)), Time: stateTime}
	a, err := s.f.open(ctx, r)
	if err != nil {
		return err
	}
	defer func() { _ = a.Body.Close() }() // it was read, or is of no use
	if a.Status/100 != 2 {
		return refusal(r, a.Status, nil)
	}
	sp := s.f.newSpool(s.h.Version, s.h.ID, server)
	defer func() { err = errors.Join(err, sp.close()) }()
	in := newElements(a.Body, maxState)
	if err := in.object(func(key string) error {
		if key != "auth_chain" && key != "pdus" {
			return in.skip()
		}
		return in.list(func(raw []byte) error { return sp.add(ctx, raw, key == "pdus") })
	}); err != nil {
		return err
	}
	if err := sp.verify(ctx); err != nil {
		return err
	}
	return sp.keepAll(s.h.Room)
}

// absent picks the events that are not here at all.
func (s *source) absent(ids []mxid.EventID) (list []mxid.EventID, err error) {
	seen := map[mxid.EventID]bool{}
	for _, id := range ids {
		if seen[id] {
			continue
		}
		seen[id] = true
		_, err := s.f.Rooms.Lookup(id)
		if fault.Is(err, fault.NotFound) {
			list = append(list, id)
		} else if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// authOf fetches what authorises an event: by the one request for its auth chain
// where that is answered, what still lacks one by one.
// Spec: server-server, GET /event_auth/{roomId}/{eventId}.
func (s *source) authOf(ctx context.Context, e *event.Event) error {
	lacks, err := s.absent(e.Auth)
	if err != nil || len(lacks) == 0 {
		return err
	}
	for _, server := range s.from[:min(len(s.from), 2)] {
		answer, err := s.get(ctx, server, pathOf("event_auth", string(s.h.ID), string(e.ID)), maxAnswer)
		if err != nil {
			continue
		}
		if err := s.keep(s.events(ctx, answer, maxIDs, "auth_chain")); err != nil {
			return err
		}
		if lacks, err = s.absent(e.Auth); err != nil || len(lacks) == 0 {
			return err
		}
	}
	var last error
	have := map[mxid.EventID]*event.Event{}
	for range maxAuthStep {
		var got []*event.Event
		if got, last = s.single(ctx, lacks); len(got) == 0 {
			break
		}
		var next []mxid.EventID
		for _, a := range got {
			have[a.ID] = a
		}
		for _, a := range got {
			for _, id := range a.Auth {
				if have[id] == nil {
					next = append(next, id)
				}
			}
		}
		if lacks, err = s.absent(next); err != nil {
			return err
		}
		if len(lacks) == 0 || len(have) > maxSingle {
			break
		}
	}
	list := make([]*event.Event, 0, len(have))
	for _, a := range have {
		list = append(list, a)
	}
	if err := s.keep(list); err != nil {
		return err
	}
	return last
}

// keepBatch is how many outliers go into one batch.
const keepBatch = 100

// keep brings events to the disk as outliers, those that authorise others first.
// One whose own auth events are not here is left out.
func (s *source) keep(events []*event.Event) error {
	list := inOrder(events, func(e *event.Event) []mxid.EventID { return e.Auth })
	for len(list) > 0 {
		n := min(len(list), keepBatch)
		if err := s.keepSome(list[:n]); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

func (s *source) keepSome(list []*event.Event) error {
	w, err := s.f.Rooms.Write(s.h.Room)
	if err != nil {
		return err
	}
	defer w.End()
	changed := false
	for _, e := range list {
		outcome, _, err := w.Keep(e)
		if err != nil && ours(err) {
			return err
		}
		changed = changed || err == nil && outcome != room.Known && outcome != room.Missing
	}
	if !changed {
		return nil
	}
	p, err := w.Commit(nil)
	if err != nil {
		return err
	}
	return p.Wait()
}

// nearPath is the target of a question for the event nearest to a time.
func nearPath(id mxid.RoomID, ts int64, back bool) string {
	dir := "f"
	if back {
		dir = "b"
	}
	return pathOf("timestamp_to_event", string(id)) + "?dir=" + dir + "&ts=" + strconv.FormatInt(ts, 10)
}
