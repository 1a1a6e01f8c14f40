package room

import (
	"encoding/base64"
	"encoding/binary"
	"sync/atomic"

	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/snapshot"
	"hearth/engine/store"
	"hearth/engine/stream"
)

func roomKey(dst []byte, room Num) []byte { return store.U32(store.RoomRow.Key(dst), uint32(room)) }

// appendTo encodes a head as the room's row.
func (h *Head) appendTo(dst []byte) []byte {
	dst = append(dst, 1, byte(len(h.Version.ID)))
	dst = append(dst, h.Version.ID...)
	for _, v := range [...]uint64{uint64(h.snap.Num), uint64(h.snap.Depth), uint64(h.lastSnap), uint64(h.Joined),
		uint64(h.Invited), uint64(h.Last), uint64(len(h.ext))} {
		dst = binary.AppendUvarint(dst, v)
	}
	for _, x := range h.ext {
		dst = binary.AppendUvarint(dst, uint64(x.num))
		dst = binary.AppendUvarint(dst, uint64(x.depth))
		dst = appendID(dst, x.id)
	}
	if h.rest != 0 { // few rooms have one, and older rows none
		dst = binary.AppendUvarint(dst, uint64(h.rest))
	}
	return dst
}

func (h *Head) parse(src []byte) error {
	d := decoder{src: src}
	if d.byte() != 1 {
		return fault.E(fault.Corrupt, "room", "a room row of unknown form")
	}
	if h.Version = event.LookupVersion(string(d.bytes(int(d.byte())))); h.Version == nil {
		return fault.E(fault.Corrupt, "room", "a room of unknown version")
	}
	h.snap = snapshot.Ref{Num: snapshot.Num(d.uint()), Depth: uint32(d.uint())}
	h.lastSnap = snapshot.Num(d.uint())
	h.Joined, h.Invited, h.Last = int(d.uint()), int(d.uint()), stream.Pos(d.uint())
	n := d.uint()
	for range min(n, uint64(len(src))) {
		x := extremity{num: EventNum(d.uint()), depth: int64(d.uint())}
		x.id = d.id(h.Version)
		h.ext = append(h.ext, x)
	}
	if len(d.src) > 0 {
		h.rest = snapshot.Num(d.uint())
	}
	return d.err("room row")
}

// decoder reads the fields of a row; the first that is cut off is remembered.
type decoder struct {
	src []byte
	cut bool
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.src)
	if n <= 0 {
		d.cut, d.src = true, nil
		return 0
	}
	d.src = d.src[n:]
	return v
}

func (d *decoder) byte() byte {
	if b := d.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) bytes(n int) []byte {
	if n > len(d.src) {
		d.cut, d.src = true, nil
		return nil
	}
	b := d.src[:n:n]
	d.src = d.src[n:]
	return b
}

func (d *decoder) err(what string) error {
	if d.cut {
		return fault.E(fault.Corrupt, "room", "a cut %s", what)
	}
	return nil
}

// hashLen is the length of an event id that is a hash, as kept.
const hashLen = 32

// appendID encodes an event id: a length, then 32 hash bytes or the text.
func appendID(dst []byte, id mxid.EventID) []byte {
	n := len(dst)
	dst = appendRawID(append(dst, 0), id)
	dst[n] = byte(len(dst) - n - 1)
	return dst
}

// appendRawID appends the hash an id stands for, or the id itself where it is
// none. Both alphabets of base64 lead to the same bytes.
func appendRawID(dst []byte, id mxid.EventID) []byte {
	if len(id) == 44 && id[0] == '$' {
		var buf [43]byte
		copy(buf[:], id[1:])
		for i, c := range buf {
			switch c {
			case '+':
				buf[i] = '-'
			case '/':
				buf[i] = '_'
			}
		}
		var hash [hashLen]byte
		if n, err := base64.RawURLEncoding.Strict().Decode(hash[:], buf[:]); err == nil && n == hashLen {
			return append(dst, hash[:]...)
		}
	}
	return append(dst, id...)
}

// id decodes what appendID wrote, in the alphabet of the room version.
func (d *decoder) id(v *event.Version) mxid.EventID {
	raw := d.bytes(int(d.byte()))
	if len(raw) != hashLen || v.IDs == event.IDInEvent {
		return mxid.EventID(raw)
	}
	var buf [44]byte
	buf[0] = '$'
	enc := base64.RawURLEncoding
	if v.IDs == event.IDHash {
		enc = base64.RawStdEncoding
	}
	enc.Encode(buf[1:], raw)
	return mxid.EventID(buf[:])
}

func eventNumberKey(dst []byte, id mxid.EventID) []byte {
	return appendRawID(store.EventNumber.Key(dst), id)
}

// Flags of a stored event.
const (
	flagState    uint8 = 1 << iota // a state event; its body lies in StateBody
	flagLocal                      // made on this hub
	flagRedacted                   // its body has been redacted
	flagRejected                   // its own auth events refuse it: it authorises nothing and no state holds it
	flagDenied                     // the state before it refuses it: it authorises nothing
	flagSoft                       // the room's present refused it: no extremity, not shown, but part of the graph
	flagOutlier                    // its state is not known; it has no place in the graph
	flagUnjudged                   // an outlier that was taken without its auth events: see Outside
)

// Event is a stored event with what the hub knows about it. Shared and never
// written to.
type Event struct {
	*event.Event
	Num        EventNum
	In         Num // the room
	Flags      uint8
	At         Key          // its place in the timeline; zero where it has none
	Before     snapshot.Num // state before it
	After      snapshot.Num // state after it; the same as Before for what is no state event
	Replaces   EventNum     // the state event it took the place of; 0 where none
	RedactedBy EventNum     // the redaction that emptied it; 0 where none
	TxnDevice  uint64       // device that sent it with Txn; 0 where none
	Txn        string       // told to that device alone

	links *atomic.Uint32 // whether something relates to it; see Rooms.linked
}

// Redacted says whether the event's content was removed.
func (e *Event) Redacted() bool { return e.Flags&flagRedacted != 0 }

// Rejected says whether the auth rules refused the event, by its auth events or
// by the state before it: it is kept only to be known. Spec: server-server,
// rejection.
func (e *Event) Rejected() bool { return e.Flags&(flagRejected|flagDenied) != 0 }

// SoftFailed says whether the room's present refused the event when it came: it
// is part of the graph, and neither shown nor built upon. Spec: server-server,
// soft failure.
func (e *Event) SoftFailed() bool { return e.Flags&flagSoft != 0 }

// Outlier says whether the event has no place in the graph: it is part of a
// state or of an auth chain, and the state at it is not known.
func (e *Event) Outlier() bool { return e.Flags&flagOutlier != 0 }

// Local says whether the event was made on this hub.
func (e *Event) Local() bool { return e.Flags&flagLocal != 0 }

func bodyKey(dst []byte, state bool, num EventNum) []byte {
	t := store.OtherBody
	if state {
		t = store.StateBody
	}
	return store.U64(t.Key(dst), uint64(num))
}

// appendHeader encodes what stands before the compressed JSON of a body row.
func (e *Event) appendHeader(dst []byte) []byte {
	dst = append(dst, 1, e.Flags)
	for _, v := range [...]uint64{uint64(e.In), uint64(e.At.Pos), uint64(liveFill - e.At.Fill), uint64(e.Before),
		uint64(e.After), uint64(e.Replaces), uint64(e.RedactedBy), e.TxnDevice} {
		dst = binary.AppendUvarint(dst, v)
	}
	dst = append(dst, byte(len(e.Txn)))
	dst = append(dst, e.Txn...)
	return appendID(dst, e.ID)
}

// parseHeader decodes a header up to the event id, whose alphabet is the
// room's version's, and gives the decoder at the id.
func (e *Event) parseHeader(src []byte) (decoder, error) {
	d := decoder{src: src}
	if d.byte() != 1 {
		return d, fault.E(fault.Corrupt, "room", "an event row of unknown form")
	}
	e.Flags = d.byte()
	e.In, e.At.Pos, e.At.Fill = Num(d.uint()), stream.Pos(d.uint()), liveFill-uint16(d.uint())
	e.Before, e.After = snapshot.Num(d.uint()), snapshot.Num(d.uint())
	e.Replaces, e.RedactedBy, e.TxnDevice = EventNum(d.uint()), EventNum(d.uint()), d.uint()
	e.Txn = string(d.bytes(int(d.byte())))
	return d, d.err("event row")
}
