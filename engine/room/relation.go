package room

import (
	"bytes"
	"encoding/binary"

	"hearth/engine/fault"
	"hearth/engine/mxid"
)

// Related calls f for the events of a room that relate to an event, in order of
// arrival, until f returns false. What relates may not be visible to everybody.
// Spec: client-server, m.relates_to.
func (r *Rooms) Related(room Num, target mxid.EventID, f func(num EventNum, relType, typ string) (more bool, err error)) error {
	prefix := relationPrefix(nil, room, target)
	return r.st.ScanPrefix(prefix, func(key, val []byte) (bool, error) {
		relType, typ, ok := bytes.Cut(val, []byte{0})
		if len(key) != len(prefix)+8 || !ok {
			return false, fault.E(fault.Corrupt, "room", "a relation row of unknown form")
		}
		return f(EventNum(binary.BigEndian.Uint64(key[len(prefix):])), string(relType), string(typ))
	})
}
