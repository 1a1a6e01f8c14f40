package ephemeral

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strconv"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// ReceiptType says who is told of a receipt.
type ReceiptType uint8

// The types. They are on disk. m.fully_read is no receipt but account data of
// the room. Spec: client-server, receipts.
const (
	Read        ReceiptType = 1 // m.read: told to the room
	ReadPrivate ReceiptType = 2 // m.read.private: told to the user alone
)

// ParseReceiptType reads a type as paths spell it.
func ParseReceiptType(s string) (ReceiptType, bool) {
	switch s {
	case "m.read":
		return Read, true
	case "m.read.private":
		return ReadPrivate, true
	}
	return 0, false
}

func (t ReceiptType) String() string {
	if t == ReadPrivate {
		return "m.read.private"
	}
	return "m.read"
}

// Main is the thread of what is in no thread. Spec: client-server, threaded
// read receipts.
const Main = "main"

// Receipt says that a user has read a room, or one thread of it, up to an event.
type Receipt struct {
	Room, User uint32
	Type       ReceiptType
	Thread     string // empty: unthreaded; Main; or the id of the thread's root
	Event      mxid.EventID
	At         stream.Pos // the event's place in the timeline; 0 where it is not known
	Time       int64      // milliseconds since 1970
	Pos        stream.Pos // position of the last change
}

const maxThread = 255 // an event id

func receiptKey(r *Receipt) []byte {
	key := store.U32(store.U32(store.Receipt.Prefix(), r.Room), r.User)
	return append(append(key, byte(r.Type)), r.Thread...)
}

func receiptAtKey(room uint32, pos stream.Pos) []byte {
	return store.U64(store.U32(store.ReceiptAt.Prefix(), room), uint64(pos))
}

// PutReceipt moves a user's receipt, unless it stands there already or further
// on. The caller has tx.Wake told who is to know: the room's members for Read,
// the user alone for ReadPrivate.
func (r *Records) PutReceipt(tx *stream.Tx, rc *Receipt) (changed bool, err error) {
	if len(rc.Thread) > maxThread || len(rc.Event) > maxThread {
		return false, fault.E(fault.Invalid, "ephemeral.PutReceipt", "an event id has at most %d bytes", maxThread)
	}
	key := receiptKey(rc)
	val, ok, err := r.st.Get(nil, key)
	if err != nil {
		return false, err
	}
	if ok {
		old := Receipt{Room: rc.Room}
		if err := old.parse(val); err != nil {
			return false, err
		}
		if old.Event == rc.Event || old.At != 0 && rc.At != 0 && rc.At <= old.At {
			return false, nil
		}
		tx.Delete(receiptAtKey(rc.Room, old.Pos))
	}
	rc.Pos = tx.Put(&stream.Entry{Kind: stream.Receipt, Room: rc.Room, User: rc.User})
	r.moved.Store(uint64(rc.Pos)) // under the log's lock, so in order
	val = store.U64(val[:0], uint64(rc.Pos))
	val = binary.AppendUvarint(val, uint64(rc.At))
	val = binary.AppendUvarint(val, uint64(rc.Time))
	tx.Set(key, append(val, rc.Event...))
	at := append(store.U32(nil, rc.User), byte(rc.Type))
	tx.Set(receiptAtKey(rc.Room, rc.Pos), append(at, rc.Thread...))
	return true, nil
}

func (r *Receipt) parse(val []byte) error {
	if len(val) < 8 {
		return fault.E(fault.Corrupt, "ephemeral", "a receipt is cut")
	}
	r.Pos, val = stream.Pos(binary.BigEndian.Uint64(val)), val[8:]
	at, n := binary.Uvarint(val)
	if n <= 0 {
		return fault.E(fault.Corrupt, "ephemeral", "a receipt is cut")
	}
	time, m := binary.Uvarint(val[n:])
	if m <= 0 {
		return fault.E(fault.Corrupt, "ephemeral", "a receipt is cut")
	}
	r.At, r.Time, r.Event = stream.Pos(at), int64(time), mxid.EventID(val[n+m:])
	return nil
}

// DropRoom removes all receipts of a room, and whoever types there.
func (r *Records) DropRoom(b *store.Batch, room uint32) {
	for _, t := range [...]store.Table{store.Receipt, store.ReceiptAt} {
		prefix := store.U32(t.Prefix(), room)
		b.DeleteRange(prefix, store.After(prefix))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.typing, room)
}

// Moved says whether any receipt may have changed after a position of this
// process's life: it spares who has looked since to look again. It says so early,
// before the change can be seen.
func (r *Records) Moved(after stream.Pos) bool { return stream.Pos(r.moved.Load()) > after }

// ReceiptsOf calls f for all receipts of a user in a room.
func (r *Records) ReceiptsOf(room, user uint32, f func(rc *Receipt)) error {
	prefix := store.U32(store.U32(store.Receipt.Prefix(), room), user)
	return r.st.ScanPrefix(prefix, func(key, val []byte) (bool, error) {
		rc := Receipt{Room: room, User: user}
		if len(key) < 10 {
			return false, fault.E(fault.Corrupt, "ephemeral", "a receipt's key is cut")
		}
		rc.Type, rc.Thread = ReceiptType(key[9]), string(key[10:])
		if err := rc.parse(val); err != nil {
			return false, err
		}
		f(&rc)
		return true, nil
	})
}

// Reader is whom receipts are told: private ones only those of the reader.
type Reader struct {
	User   uint32
	Speaks func(user uint32) bool // whose private receipts are told too; nil: nobody's
}

func (r *Reader) sees(rc *Receipt) bool {
	return rc.Type != ReadPrivate || rc.User == r.User || r.Speaks != nil && r.Speaks(rc.User)
}

// ReceiptsSince calls f for the receipts of a room that a reader may be told and
// that last changed after the one position and not after the other, the newest
// first. Who is told up to upto finds those that moved on since in the next step.
func (r *Records) ReceiptsSince(room uint32, reader Reader, after, upto stream.Pos, f func(rc *Receipt) (more bool)) error {
	return r.st.ScanBack(receiptAtKey(room, after+1), receiptAtKey(room, upto+1), func(key, val []byte) (bool, error) {
		if len(val) < 5 || len(key) != 13 {
			return false, fault.E(fault.Corrupt, "ephemeral", "a row of receipts is cut")
		}
		rc := Receipt{Room: room, User: binary.BigEndian.Uint32(val), Type: ReceiptType(val[4]), Thread: string(val[5:])}
		if !reader.sees(&rc) {
			return true, nil
		}
		row, ok, err := r.st.Get(nil, receiptKey(&rc))
		if err != nil || !ok {
			return true, err
		}
		if err := rc.parse(row); err != nil {
			return false, err
		}
		if rc.Pos != stream.Pos(binary.BigEndian.Uint64(key[5:])) {
			return true, nil // moved on since the scan began
		}
		return f(&rc), nil
	})
}

// maxTold bounds the receipts of one answer about one room: the newest are told.
const maxTold = 4096

// AppendReceipts appends the m.receipt event of a room with what ReceiptsSince
// gives; told is false, and nothing is appended, where that is nothing.
// Spec: client-server, m.receipt.
func (r *Records) AppendReceipts(dst []byte, room uint32, reader Reader, after, upto stream.Pos) (out []byte, told bool, err error) {
	var list []Receipt
	if err := r.ReceiptsSince(room, reader, after, upto, func(rc *Receipt) bool {
		list = append(list, *rc)
		return len(list) < maxTold
	}); err != nil || len(list) == 0 {
		return dst, false, err
	}
	// By event, type and user, as they are nested. Where a user has read up to one
	// event both with a thread and without, only the latter can be said.
	slices.SortFunc(list, func(a, b Receipt) int {
		return cmp.Or(cmp.Compare(a.Event, b.Event), cmp.Compare(a.Type, b.Type), cmp.Compare(a.User, b.User), cmp.Compare(a.Thread, b.Thread))
	})
	list = slices.CompactFunc(list, func(a, b Receipt) bool { return a.Event == b.Event && a.Type == b.Type && a.User == b.User })
	dst = append(dst, `{"content":{`...)
	for i := range list {
		rc := &list[i]
		newEvent := i == 0 || list[i-1].Event != rc.Event
		newType := newEvent || list[i-1].Type != rc.Type
		switch {
		case i == 0:
		case newEvent:
			dst = append(dst, `}},`...)
		case newType:
			dst = append(dst, `},`...)
		default:
			dst = append(dst, ',')
		}
		if newEvent {
			dst = append(cjson.AppendString(dst, rc.Event), `:{`...)
		}
		if newType {
			dst = append(cjson.AppendString(dst, rc.Type.String()), `:{`...)
		}
		id, err := r.names.Name(store.Users, rc.User)
		if err != nil {
			return dst, false, err
		}
		dst = append(cjson.AppendString(dst, id), `:{`...)
		if rc.Thread != "" {
			dst = append(cjson.AppendString(append(dst, `"thread_id":`...), rc.Thread), ',')
		}
		dst = append(strconv.AppendInt(append(dst, `"ts":`...), rc.Time, 10), '}')
	}
	return append(dst, `}}},"type":"m.receipt"}`...), true, nil
}
