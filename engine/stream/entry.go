package stream

import (
	"encoding/binary"

	"hearth/engine/fault"
)

// Kind says what an entry tells its readers.
type Kind uint8

// The kinds of entry. They are on disk: numbers are never used anew.
const (
	RoomEvent   Kind = 1 // an event joined a room's graph: Room, Event, User (sender), Diff
	AccountData Kind = 2 // User's account data changed; Room where it is of a room
	Receipt     Kind = 3 // User's receipt in Room moved
	Devices     Kind = 4 // User's devices or their keys changed
	ToDevice    Kind = 5 // a message waits for a device of User; where User is 0, for the server Event
	Account     Kind = 6 // User's account changed: made, deactivated, profile
	Local       Kind = 7 // something of User's own in Room changed that is no event: forgotten
	Standing    Kind = 8 // User's standing in Room, in which the hub is not, is that of Event, which has no place in the graph
)

// Flags of an entry.
const (
	FlagState   uint8 = 1 << iota // the event is a state event
	FlagLocal                     // it was made on this hub
	FlagRelay                     // another server made it and this hub let it in: the hub passes it on to the others
	FlagArrival                   // by it a user of this hub came into the room
)

// Entry is one line of the log. Numbers are the store's interned ones.
type Entry struct {
	Kind  Kind
	Flags uint8
	Room  uint32
	User  uint32
	Event uint64

	// Diff is the difference the entry made to its room's current state, in the
	// encoding of package room; empty where it made none. Valid only during the
	// call that hands the entry out.
	Diff []byte
}

func (e *Entry) appendTo(dst []byte) []byte {
	dst = append(dst, byte(e.Kind), e.Flags)
	dst = binary.AppendUvarint(dst, uint64(e.Room))
	dst = binary.AppendUvarint(dst, uint64(e.User))
	dst = binary.AppendUvarint(dst, e.Event)
	return append(dst, e.Diff...)
}

func (e *Entry) parse(src []byte) error {
	if len(src) < 2 {
		return fault.E(fault.Corrupt, "stream", "an entry of %d bytes", len(src))
	}
	e.Kind, e.Flags, src = Kind(src[0]), src[1], src[2:]
	var nums [3]uint64
	for i := range nums {
		v, n := binary.Uvarint(src)
		if n <= 0 {
			return fault.E(fault.Corrupt, "stream", "a cut entry")
		}
		nums[i], src = v, src[n:]
	}
	e.Room, e.User, e.Event, e.Diff = uint32(nums[0]), uint32(nums[1]), nums[2], src
	return nil
}
