package federation

import (
	"context"
	"strconv"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// Bounds of a transaction. Spec: server-server, transactions.
const (
	maxPDUs = 50
	maxEDUs = 100
	// enough is the size from which a transaction is not added to: it and the next
	// one are in memory for each server that is being delivered to.
	enough = 256 << 10
)

// slice is what one transaction brings: all there is for a server in a stretch of
// the log. It is cut by positions alone, so that the same stretch gives the same
// slice, and its id names both ends: who was sent it before and did not tell us
// finds the same under the same name.
type slice struct {
	id         string
	from, upto stream.Pos
	pdus       []byte // with commas between
	edus       []byte
	numPDUs    int
	numEDUs    int
}

func (sl *slice) empty() bool { return sl.numPDUs+sl.numEDUs == 0 }

func (sl *slice) full() bool {
	return sl.numPDUs == maxPDUs || sl.numEDUs == maxEDUs || len(sl.pdus)+len(sl.edus) >= enough
}

func (sl *slice) addPDU(json []byte) {
	if sl.numPDUs++; sl.numPDUs > 1 {
		sl.pdus = append(sl.pdus, ',')
	}
	sl.pdus = append(sl.pdus, json...)
}

// body is a transaction as it is sent. Its members are in canonical order.
func (s *sender) body(sl *slice) []byte {
	dst := make([]byte, 0, len(sl.pdus)+len(sl.edus)+256)
	dst = append(append(append(dst, `{"edus":[`...), sl.edus...), `],"origin":`...)
	dst = append(cjson.AppendString(dst, s.server), `,"origin_server_ts":`...)
	dst = append(strconv.AppendInt(dst, s.o.Now().UnixMilli(), 10), `,"pdus":[`...)
	return append(append(dst, sl.pdus...), ']', '}')
}

// refused logs what a server did not take.
func (s *sender) refused(dest mxid.Server, answer []byte) {
	pdus, ok := cjson.Lookup(answer, "pdus")
	if !ok {
		return
	}
	left := 3
	_ = cjson.Object(pdus, func(id, val []byte) bool { // the answer was checked
		if text, bad := cjson.LookupString(val, "error"); bad && text != "" {
			left--
			s.o.Log("federation: %s did not take %.64q: %.200q", dest, id, text)
		}
		return left > 0
	})
}

// stretch is a part of the log during which a server was in a room; to is 0 while
// it is.
type stretch struct{ from, to stream.Pos }

// route is what a delivery knows of its destination.
type route struct {
	*sender
	dest  mxid.Server
	num   uint32 // of the name
	rooms map[room.Num][]stretch
	only  map[room.Num]stream.Pos // where set, the one event of each room that is brought
	tag   string                  // of the ids of the transactions then
}

func (s *sender) route(dest mxid.Server) (*route, error) {
	num, err := s.Names.Find(store.Servers, string(dest))
	if err != nil {
		return nil, err
	}
	r := &route{sender: s, dest: dest, num: num, rooms: map[room.Num][]stretch{}}
	return r, s.Rooms.RoomsWith(dest, func(num room.Num, from, to stream.Pos) bool {
		r.rooms[num] = append(r.rooms[num], stretch{from, to})
		return true
	})
}

// was says whether the server was in the room at a position, the events that
// brought and removed it included.
func (r *route) was(num room.Num, pos stream.Pos) bool {
	for _, st := range r.rooms[num] {
		if pos >= st.from && (st.to == 0 || pos <= st.to) {
			return true
		}
	}
	return false
}

// is says whether the server is in the room now.
func (r *route) is(num room.Num) bool {
	list := r.rooms[num]
	return len(list) > 0 && list[len(list)-1].to == 0
}

// deliver brings a server what there is for it; see outbox.Deliver. While one
// transaction is under way the next is made.
func (s *sender) deliver(ctx context.Context, dest string, from, upto stream.Pos) (acked stream.Pos, err error) {
	server := mxid.Server(dest)
	acked, err = s.bring(ctx, server, from, upto)
	if ctx.Err() == nil || acked > from {
		s.note(server, err)
	}
	return acked, err
}

func (s *sender) bring(ctx context.Context, server mxid.Server, from, upto stream.Pos) (acked stream.Pos, err error) {
	if !s.Allowed(server) {
		return upto, nil // the owner has changed their mind
	}
	r, err := s.route(server)
	if err != nil {
		return from, err
	}
	if err := r.shorten(from, upto); err != nil {
		return from, err
	}
	until := time.Now().Add(turn)
	acked = from
	next, err := r.cut(from, upto)
	for err == nil {
		sl := next
		made := make(chan error, 1)
		more := sl.upto < upto && time.Now().Before(until)
		if more {
			go func() {
				var err error
				next, err = r.cut(sl.upto, upto)
				made <- err
			}()
		} else {
			made <- nil
		}
		var sent error
		if !sl.empty() {
			sent = s.send(ctx, server, sl)
		}
		err = <-made
		if sent != nil {
			return acked, sent
		}
		acked = sl.upto
		if err := s.E2EE.Arrived(r.num, acked); err != nil {
			return acked, err
		}
		if !more {
			return acked, nil
		}
	}
	return acked, err
}

// shorten has a server that missed more than the owner allows for brought the
// newest event of each room only: the rest it asks for, where anybody wants it.
func (r *route) shorten(from, upto stream.Pos) error {
	limit := r.o.Catchup
	if limit == 0 {
		limit = DefaultCatchup
	}
	if uint64(upto-from) <= uint64(limit) {
		return nil
	}
	newest := map[room.Num]stream.Pos{}
	n := 0
	err := r.Log.Read(from, upto, func(pos stream.Pos, e *stream.Entry) bool {
		if e.Kind == stream.RoomEvent && e.Flags&brought != 0 && r.was(room.Num(e.Room), pos) {
			n++
			newest[room.Num(e.Room)] = pos
		}
		return true
	})
	if err == nil && n > limit {
		r.only, r.tag = newest, "n"+strconv.FormatUint(uint64(upto), 36)
		r.o.Log("federation: %s missed %d events and is told the newest of %d rooms", r.dest, n, len(newest))
	}
	return err
}

// DefaultCatchup is how many events of ours a server that was away is brought in
// order where the owner says nothing else.
const DefaultCatchup = 50_000

// candidate is an entry that may be for the server.
type candidate struct {
	pos stream.Pos
	stream.Entry
	outside bool // the server was not in the room: it is for it only where it ends an invite or a knock
}

// cut makes the slice that begins behind a position.
func (r *route) cut(from, upto stream.Pos) (*slice, error) {
	sl := &slice{from: from, upto: upto}
	for at := from; at < upto && !sl.full(); {
		list, end, err := r.look(at, upto)
		if err != nil {
			return nil, err
		}
		at, sl.upto = end, end
		for i := range list {
			if err := r.add(sl, &list[i]); err != nil {
				return nil, err
			}
			if sl.full() && i+1 < len(list) {
				at, sl.upto = list[i].pos, list[i].pos
				break
			}
		}
	}
	sl.id = r.epoch + r.tag + strconv.FormatUint(uint64(sl.from), 36) + "-" + strconv.FormatUint(uint64(sl.upto), 36)
	return sl, nil
}

// look lists the next entries that may be for the server, and gives up to where
// there are no others.
func (r *route) look(from, upto stream.Pos) (list []candidate, end stream.Pos, err error) {
	end = upto
	err = r.Log.Read(from, upto, func(pos stream.Pos, e *stream.Entry) bool {
		if !concerns(e) {
			return true
		}
		c := candidate{pos: pos, Entry: *e}
		switch e.Kind {
		case stream.ToDevice:
			if e.Event != uint64(r.num) {
				return true
			}
		case stream.Receipt:
			if !r.is(room.Num(e.Room)) {
				return true
			}
		case stream.RoomEvent:
			num := room.Num(e.Room)
			if c.outside = !r.was(num, pos); c.outside && len(e.Diff) == 0 {
				return true
			}
			if only, ok := r.only[num]; r.only != nil && !c.outside && (!ok || only != pos) {
				c.Flags &^= brought
			}
			if c.Flags&(brought|stream.FlagArrival) == 0 {
				return true
			}
		}
		c.Diff = append([]byte(nil), e.Diff...)
		list = append(list, c)
		if len(list) == maxPDUs {
			end = pos
			return false
		}
		return true
	})
	return list, end, err
}

// add puts an entry into the slice, if it is for the server.
func (r *route) add(sl *slice, c *candidate) error {
	switch c.Kind {
	case stream.RoomEvent:
		if c.Flags&brought != 0 {
			if err := r.addEvent(sl, c); err != nil {
				return err
			}
		}
		if c.Flags&stream.FlagArrival != 0 {
			return r.addArrival(sl, c)
		}
	case stream.Receipt:
		return r.addReceipt(sl, c)
	case stream.Devices:
		return r.addDevices(sl, c)
	case stream.ToDevice:
		return r.addToDevice(sl, c)
	}
	return nil
}

func (r *route) addEvent(sl *slice, c *candidate) error {
	e, err := r.Rooms.Event(room.EventNum(c.Event))
	if fault.Is(err, fault.NotFound) {
		return nil // aged since
	}
	if err != nil {
		return err
	}
	if c.outside {
		its := false
		if m := room.MembershipOf(e.Content); e.Type != "m.room.member" || m != room.Leave && m != room.Ban {
			return nil
		}
		if err := r.departed(c.Diff, func(server mxid.Server) { its = its || server == r.dest }); err != nil || !its {
			return err
		}
	}
	if c.Flags&stream.FlagRelay != 0 && e.Sender.Server() == r.dest {
		return nil // it made it
	}
	sl.addPDU(e.JSON)
	return nil
}
