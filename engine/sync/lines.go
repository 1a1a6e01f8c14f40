package sync

import (
	"hearth/engine/room"
	"hearth/engine/stream"
)

// line is what an answer looks at of an entry.
type line struct {
	pos        stream.Pos
	event      room.EventNum
	room, user uint32
	kind       stream.Kind
	state      bool // it changed its room's state
}

// readLog appends the lines of the entries behind after, up to upto.
func readLog(dst []line, log *stream.Log, after, upto stream.Pos) ([]line, error) {
	err := log.Read(after, upto, func(pos stream.Pos, e *stream.Entry) bool {
		dst = append(dst, line{pos, room.EventNum(e.Event), e.Room, e.User, e.Kind, len(e.Diff) > 0})
		return true
	})
	return dst, err
}
