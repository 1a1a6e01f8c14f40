package federation

import (
	"testing"

	"hearth/engine/stream"
)

// A room is alone until something in it changes, also when that comes while it is
// being looked at.
func TestAlone(t *testing.T) {
	var s sender
	said := &stream.Entry{Kind: stream.RoomEvent, Flags: stream.FlagLocal, Room: 5, Event: 1}
	joined := &stream.Entry{Kind: stream.RoomEvent, Flags: stream.FlagLocal, Room: 5, Event: 2, Diff: []byte{1}}
	if !s.mine(said) {
		t.Error("a room that is not known is taken to be alone")
	}
	s.alone.add(5, s.alone.stamp())
	if s.mine(said) {
		t.Error("an event of a room that is alone wakes the sender")
	}
	if !s.mine(joined) || !s.mine(said) {
		t.Error("a room is alone after somebody came")
	}
	at := s.alone.stamp()
	s.mine(joined)
	s.alone.add(5, at)
	if !s.mine(said) {
		t.Error("somebody came while it was looked who is there")
	}
}
