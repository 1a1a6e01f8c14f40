package event

import "hearth/engine/mxid"

// Event is one persistent event (PDU) as it is kept: parsed once, never changed.
// Byte slices alias JSON; nobody writes to them.
type Event struct {
	Version *Version
	ID      mxid.EventID
	Room    mxid.RoomID // in version 12 a create event's is derived from its id
	Type    string
	Sender  mxid.UserID

	StateKey string // meaningful where IsState
	IsState  bool

	Time    int64 // origin_server_ts, milliseconds since 1970
	Depth   int64
	Prev    []mxid.EventID
	Auth    []mxid.EventID
	Redacts mxid.EventID // target of an m.room.redaction, wherever the version keeps it

	Content []byte // canonical JSON object
	JSON    []byte // the whole event, canonical, with hashes and signatures, without unsigned; event_id only in versions 1 and 2
}

// Is says whether the event is a state event of the type with the state key.
func (e *Event) Is(typ, stateKey string) bool {
	return e.IsState && e.Type == typ && e.StateKey == stateKey
}
