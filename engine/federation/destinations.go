package federation

import (
	"errors"
	"slices"
	"strings"
	"time"

	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/outbox"
	"hearth/engine/room"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// Destination is where another server stands with what this hub has for it, for
// people to see.
type Destination struct {
	Server   mxid.Server
	From     uint64 // it has everything up to this position of the log
	Behind   uint64 // entries of the log that it has not been brought; some are not for it
	Failures int    // in a row
	Since    time.Time
	Next     time.Time // the next try; zero where it is in step
	Error    string    // the last one
}

func (f *Federation) destination(s *outbox.State) Destination {
	return Destination{Server: mxid.Server(s.Dest), From: uint64(s.From), Behind: uint64(f.Log.Tip() - min(s.From, f.Log.Tip())),
		Failures: s.Failures, Since: s.Since, Next: s.Next, Error: s.Error}
}

// Destinations lists the servers that share a room with somebody here, and those
// that are waited for, by name.
func (f *Federation) Destinations() (list []Destination, err error) {
	if f.sender == nil {
		return nil, nil
	}
	waiting := map[mxid.Server]bool{}
	if err := f.sender.box.Each(func(s *outbox.State) bool {
		waiting[mxid.Server(s.Dest)] = true
		list = append(list, f.destination(s))
		return true
	}); err != nil {
		return nil, err
	}
	for num := uint32(1); num <= f.Names.Count(store.Servers); num++ {
		name, err := f.Names.Name(store.Servers, num)
		if err != nil {
			return nil, err
		}
		server := mxid.Server(name)
		if waiting[server] {
			continue
		}
		there := false
		if err := f.Rooms.RoomsWith(server, func(_ room.Num, _, to stream.Pos) bool {
			there = to == 0
			return !there
		}); err != nil {
			return nil, err
		}
		if there {
			list = append(list, Destination{Server: server, From: uint64(f.sender.box.Told())})
		}
	}
	slices.SortFunc(list, func(a, b Destination) int { return strings.Compare(string(a.Server), string(b.Server)) })
	return list, nil
}

// Destination is where one server stands. NotFound for one that shares no room with
// anybody here and is not waited for.
func (f *Federation) Destination(server mxid.Server) (Destination, error) {
	list, err := f.Destinations()
	if err != nil {
		return Destination{}, err
	}
	for _, d := range list {
		if d.Server == server {
			return d, nil
		}
	}
	return Destination{}, fault.E(fault.NotFound, "federation.Destination", "nothing is known of this server")
}

// Retry has a server tried now that is waited for.
func (f *Federation) Retry(server mxid.Server) error {
	if f.sender == nil {
		return nil
	}
	return f.sender.box.Alive(string(server))
}

// Owes says whether a server in a room has not been brought all that happened
// there while somebody here was in it.
func (f *Federation) Owes(num room.Num) (owes bool, err error) {
	if f.sender == nil {
		return false, nil
	}
	h, err := f.Rooms.Head(num)
	if err != nil {
		return false, err
	}
	others := false
	if err := f.Rooms.Servers(num, func(mxid.Server, stream.Pos) bool {
		others = true
		return false
	}); err != nil || !others {
		return false, err
	}
	if f.sender.box.Told() < h.Last {
		return true, nil
	}
	// First those at work: one that fails has its row before it is none of them.
	for _, dest := range f.sender.box.Awake(h.Last) {
		if owes, err = f.Rooms.ServerAt(num, mxid.Server(dest), h.Last); owes || err != nil {
			return owes, err
		}
	}
	var failed error
	err = f.sender.box.Each(func(s *outbox.State) bool {
		if s.From < h.Last {
			owes, failed = f.Rooms.ServerAt(num, mxid.Server(s.Dest), h.Last)
		}
		return !owes && failed == nil
	})
	return owes, errors.Join(err, failed)
}

// Brought is the position up to which the servers in a room have been brought
// everything, as far as it is for them; the tip where there are none.
func (f *Federation) Brought(num room.Num) (upto stream.Pos, err error) {
	upto = f.Log.Tip()
	if f.sender == nil {
		return upto, nil
	}
	others := map[mxid.Server]bool{}
	if err := f.Rooms.Servers(num, func(server mxid.Server, _ stream.Pos) bool {
		others[server] = true
		return true
	}); err != nil || len(others) == 0 {
		return upto, err
	}
	upto = f.sender.box.Told()
	err = f.sender.box.Each(func(s *outbox.State) bool {
		if others[mxid.Server(s.Dest)] {
			upto = min(upto, s.From)
		}
		return true
	})
	return upto, err
}

// RoomsOf lists the rooms that a server is in with somebody here.
func (f *Federation) RoomsOf(server mxid.Server) (list []mxid.RoomID, err error) {
	var nums []room.Num
	if err := f.Rooms.RoomsWith(server, func(num room.Num, _, to stream.Pos) bool {
		if to == 0 {
			nums = append(nums, num)
		}
		return true
	}); err != nil {
		return nil, err
	}
	for _, num := range nums {
		id, err := f.Rooms.RoomID(num)
		if err != nil {
			return nil, err
		}
		list = append(list, id)
	}
	return list, nil
}
