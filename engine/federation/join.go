package federation

import (
	"context"
	"io"
	"net/url"
	"time"

	"hearth/engine/auth"
	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// joinTime bounds one server's answer to a join: a large room's state takes a
// while over a slow link, and its signatures need the keys of many servers.
const joinTime = 10 * time.Minute

// Join brings a user of this hub into a room that the hub is not in, by the
// servers of c.Via one after the other. Its state goes to the disk as it comes;
// when Join returns, the room is here as one of ours.
//
// Errors: those of the other servers as they stand for clients (Forbidden,
// UnableToAuthorise, UnableToGrant, IncompatibleRoom, NotFound); NotFound where no
// server is known; Remote where none answers.
// Spec: server-server, joining rooms.
func (f *Federation) Join(ctx context.Context, c *Change) (num room.Num, err error) {
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	return num, f.each(ctx, c, func(server mxid.Server) error {
		num, err = f.joinBy(ctx, server, c)
		return err
	})
}

func (f *Federation) joinBy(ctx context.Context, server mxid.Server, c *Change) (room.Num, error) {
	t, err := f.make(ctx, server, "join", c, nil)
	if err != nil {
		return 0, err
	}
	e, err := f.complete(t, c)
	if err != nil {
		return 0, err
	}
	num, err := f.Rooms.Outline(t.v, c.Room)
	if err != nil {
		return 0, err
	}
	s := f.newSpool(t.v, c.Room, server)
	defer func() {
		if err := s.close(); err != nil {
			f.o.Log("federation: what was kept of a join: %v", err)
		}
	}()
	answered, err := f.sendJoin(ctx, server, e, s)
	if err != nil {
		return 0, err
	}
	if e, err = f.countersigned(ctx, t, e, answered); err != nil {
		return 0, err
	}
	return num, f.settle(ctx, num, e, s)
}

// sendJoin gives the completed event to the server, and reads the room's state
// into the spool. It gives the event as the server has it, where it tells.
// Spec: server-server, PUT /send_join/{roomId}/{eventId}, v2 and v1.
func (f *Federation) sendJoin(ctx context.Context, server mxid.Server, e *event.Event, s *spool) (answered []byte, err error) {
	path := "send_join/" + url.PathEscape(string(e.Room)) + "/" + url.PathEscape(string(e.ID))
	for _, version := range [...]string{"v2/", "v1/"} {
		r := &Request{Dest: server, Method: "PUT", Path: "/_matrix/federation/" + version + path, Body: e.JSON, Time: joinTime}
		a, err := f.open(ctx, r)
		if err != nil {
			return nil, err
		}
		if a.Status/100 == 2 {
			answered, err = readJoin(ctx, a.Body, s, version == "v1/")
			if cerr := a.Body.Close(); err == nil {
				err = cerr
			}
			if err != nil && !ours(err) {
				err = fault.E(fault.Remote, "federation.sendJoin", "the answer of %s cannot be used: %w", server, err)
			}
			return answered, err
		}
		body, err := io.ReadAll(io.LimitReader(a.Body, maxErrorBody))
		if cerr := a.Body.Close(); err != nil || cerr != nil {
			return nil, fault.E(fault.Remote, "federation.sendJoin", "%s broke off", server)
		}
		if err = refusal(r, a.Status, body); version == "v1/" || !unknownEndpoint(err) {
			return nil, asTold(err)
		}
	}
	return nil, nil
}

const maxErrorBody = 64 << 10

// unknownEndpoint says whether a server refused because it does not know what it
// was asked for.
func unknownEndpoint(err error) bool {
	r := refused(err)
	return r != nil && (r.Status == 404 || r.Status == 405 || r.Status == 400) && (r.Errcode == "M_UNRECOGNIZED" || r.Errcode == "")
}

// readJoin reads the answer to a join; old is the form with a list around it.
func readJoin(ctx context.Context, body io.Reader, s *spool, old bool) (answered []byte, err error) {
	in := newElements(body, maxSpool)
	if old {
		for range 2 { // the opening bracket and the status
			if _, err := in.token(); err != nil {
				return nil, err
			}
		}
	}
	err = in.object(func(key string) error {
		switch key {
		case "state", "auth_chain":
			return in.list(func(raw []byte) error { return s.add(ctx, raw, key == "state") })
		case "event":
			var err error
			answered, err = in.value()
			return err
		}
		return in.skip()
	})
	if err != nil {
		return nil, err
	}
	if err := s.verify(ctx); err != nil {
		return nil, err
	}
	return answered, s.recall(ctx)
}

// countersigned is the join as it is to be kept: with the other server's
// signature, where a voucher of its lets the user in.
func (f *Federation) countersigned(ctx context.Context, t *template, e *event.Event, answered []byte) (*event.Event, error) {
	via, needed := auth.AuthorisedVia(e)
	if !needed || via.Server() == f.server {
		return e, nil
	}
	signed, _, err := event.Receive(t.v, answered)
	if err != nil || signed.ID != e.ID {
		return nil, fault.E(fault.Remote, "federation.Join", "the join came back as another event")
	}
	if err := f.o.VerifyEvents(ctx, t.v, []*event.Event{signed})[0]; err != nil {
		return nil, fault.E(fault.Remote, "federation.Join", "the join came back without the voucher's signature: %w", err)
	}
	return signed, nil
}

// settle brings what was spooled into the room, and then the join itself.
func (f *Federation) settle(ctx context.Context, num room.Num, e *event.Event, s *spool) error {
	h, err := f.Rooms.Head(num)
	if err != nil {
		return err
	}
	if err := s.fetch(ctx, h, e); err != nil {
		return err
	}
	if err := s.begins(); err != nil {
		return err
	}
	if err := s.keepAll(num); err != nil {
		return err
	}
	return s.enter(num, e)
}

// keepAll brings what was spooled to the disk as outliers, each behind those that
// authorise it.
func (s *spool) keepAll(num room.Num) error {
	list := s.order()
	for len(list) > 0 {
		n := min(len(list), keepBatch)
		if err := s.keep(num, list[:n]); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// fetch asks for the events that authorise others and did not come along.
func (s *spool) fetch(ctx context.Context, h *room.Head, e *event.Event) error {
	for _, id := range e.Auth {
		if _, err := s.at(id); err != nil {
			return err
		}
	}
	src := &source{f: s.f, h: h, from: []mxid.Server{s.from}, by: s.witnesses()}
	for range maxAuthStep {
		lacks, err := src.absent(s.lacks())
		if err != nil || len(lacks) == 0 {
			return err
		}
		got, _ := src.single(ctx, lacks) // what does not come is done without
		if len(got) == 0 {
			return nil
		}
		for _, e := range got {
			if err := s.add(ctx, e.JSON, false); err != nil {
				return err
			}
		}
		if err := s.verify(ctx); err != nil {
			return err
		}
		if err := s.recall(ctx); err != nil {
			return err
		}
	}
	return nil
}

// begins refuses a room without a beginning, or one of another version than was
// said. Spec: server-server, joining rooms.
func (s *spool) begins() error {
	const op = "federation.Join"
	if s.create < 0 || !s.list[s.create].state {
		return fault.E(fault.Remote, op, "the state that came has no create event")
	}
	create, err := s.read(s.create)
	if err != nil {
		return err
	}
	version, ok := cjson.LookupString(create.Content, "room_version")
	if !ok {
		version = "1"
	}
	if version != s.v.ID {
		return fault.E(fault.Remote, op, "the room was said to be of version %s and is of %q", s.v.ID, version)
	}
	return nil
}

// keep brings some events to the disk as outliers. Those that others authorise
// which are not here are left out.
func (s *spool) keep(num room.Num, list []int32) error {
	w, err := s.f.Rooms.Write(num)
	if err != nil {
		return err
	}
	defer w.End()
	changed := false
	for _, i := range list {
		e, err := s.read(i)
		if err != nil {
			return err
		}
		outcome, _, err := w.Keep(e)
		if err != nil && ours(err) {
			return err
		}
		changed = changed || err == nil && outcome != room.Known && outcome != room.Missing
	}
	if !changed {
		return nil
	}
	_, err = w.Commit(nil) // the join is what is waited for
	return err
}

// enter accepts the join on the state that was kept.
func (s *spool) enter(num room.Num, e *event.Event) error {
	w, err := s.f.Rooms.Write(num)
	if err != nil {
		return err
	}
	defer w.End()
	ids := make([]mxid.EventID, 0, len(s.list))
	for i := range s.list {
		p := &s.list[i]
		if !p.state || p.len == 0 {
			continue
		}
		if _, err := s.f.Rooms.Lookup(p.id); fault.Is(err, fault.NotFound) {
			continue // it was left out
		} else if err != nil {
			return err
		}
		ids = append(ids, p.id)
	}
	if len(w.Head().Local) == 0 {
		w.Anew()
	}
	outcome, gap, err := w.Accept(e, ids)
	if err != nil {
		return err
	}
	if outcome != room.Accepted && outcome != room.Known {
		return fault.E(fault.Forbidden, "federation.Join", "by the state that came the join is not allowed (%d events lack)", len(gap.Auth))
	}
	if outcome == room.Known {
		return nil
	}
	pending, err := w.Commit(nil)
	if err != nil {
		return err
	}
	return pending.Wait()
}
