package e2ee

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// Message is a to-device message for one device.
type Message struct {
	User    uint32
	Device  uint64
	Content []byte // a JSON object
}

// Sent is what the messages of one request have in common.
type Sent struct {
	Sender mxid.UserID
	Type   string
	Device uint64 // the sender's device; 0 where there is no transaction
	Txn    string
}

// waiting is how much waits for a device. It is kept in memory, so that a
// device for which nothing waits costs no reads.
type waiting struct{ count, bytes int }

func (w waiting) over() bool { return w.count > maxQueue || w.bytes > maxQueueBytes }

func toDeviceKey(device uint64, pos stream.Pos) []byte {
	return store.U64(store.U64(store.ToDevice.Prefix(), device), uint64(pos))
}

// upTo is the end of a range of messages that holds that of pos.
func upTo(device uint64, pos stream.Pos) []byte {
	return append(toDeviceKey(device, pos), 0)
}

// size finds how much waits for a device. It needs queue.
func (r *Records) size(device uint64) (waiting, error) {
	if w, ok := r.waiting[device]; ok {
		return w, nil
	}
	var w waiting
	err := r.st.ScanPrefix(store.U64(store.ToDevice.Prefix(), device), func(_, row []byte) (bool, error) {
		w.count++
		w.bytes += len(row)
		return true, nil
	})
	if err != nil {
		return w, err
	}
	evict(r.waiting)
	r.waiting[device] = w
	return w, nil
}

// day counts days since 1970; see room: a transaction is kept through the day
// after its own.
func (r *Records) day() uint32 { return uint32(r.now().Unix() / 86400) }

func txnKey(day uint32, s *Sent) []byte {
	sum := sha256.Sum256(append(append([]byte(s.Type), 0), s.Txn...))
	key := store.U64(store.U32(store.ToDeviceTxn.Prefix(), day), s.Device)
	return append(key, sum[:16]...)
}

// Send puts messages into the devices' queues, of several for one device the
// first, and parcels into those of other servers, and returns when they are on
// disk. The same transaction sends once. Of a full queue
// the oldest messages go: who was away so long has new keys to ask for anyway, and
// is reached again. Spec: client-server, PUT /sendToDevice.
func (r *Records) Send(s *Sent, list []Message, away ...Parcel) error {
	const op = "e2ee.Send"
	if s.Type == "" || len(s.Type) > maxID {
		return fault.E(fault.Invalid, op, "a message needs a type of at most %d bytes", maxID)
	}
	for i := range list {
		if len(list[i].Content) > maxMessage {
			return fault.E(fault.TooLarge, op, "a message has at most %d bytes", maxMessage)
		}
	}
	slices.SortStableFunc(list, func(a, b Message) int { return cmp.Compare(a.Device, b.Device) })
	list = slices.CompactFunc(list, func(a, b Message) bool { return a.Device == b.Device })
	p, err := r.send(s, list, away)
	if err != nil {
		return err
	}
	if err := p.Wait(); err != nil {
		return err
	}
	// A transaction that was found may be one whose batch is still on its way.
	r.log.WaitTip(p.Pos)
	return nil
}

func (r *Records) send(s *Sent, list []Message, away []Parcel) (stream.Pending, error) {
	r.queue.Lock()
	defer r.queue.Unlock()
	for i := range list {
		if _, err := r.size(list[i].Device); err != nil {
			return stream.Pending{}, err
		}
	}
	p, err := r.log.Begin(func(tx *stream.Tx) error {
		if done, err := r.begin(tx, s); done || err != nil {
			return err
		}
		var pos stream.Pos
		var users []uint32
		var row []byte
		for i := range list {
			m := &list[i]
			if i == 0 || list[i-1].User != m.User { // a device's number begins with its user's
				pos = tx.Put(&stream.Entry{Kind: stream.ToDevice, User: m.User})
				users = append(users, m.User)
			}
			row = append(append(row[:0], `{"content":`...), m.Content...)
			row = cjson.AppendString(append(row, `,"sender":`...), s.Sender)
			row = append(cjson.AppendString(append(row, `,"type":`...), s.Type), '}')
			if err := r.put(tx, m.Device, pos, row); err != nil {
				return err
			}
		}
		for i := range away {
			if err := r.putAway(tx, s, &away[i]); err != nil {
				return err
			}
		}
		tx.Wake(users...)
		return nil
	})
	if err != nil {
		clear(r.away)
		clear(r.waiting)
	}
	return p, err
}

// begin notes the transaction; done says that it was known.
func (r *Records) begin(tx *stream.Tx, s *Sent) (done bool, err error) {
	if s.Device == 0 {
		return false, nil
	}
	day := r.day()
	for _, d := range [...]uint32{day, day - 1} {
		if done, err := r.st.Has(txnKey(d, s)); done || err != nil {
			return done, err
		}
	}
	tx.Set(txnKey(day, s), nil)
	if r.txnDay.Swap(day) != day && day > 1 {
		// The first of a day drops what is older than yesterday's.
		tx.DeleteRange(store.ToDeviceTxn.Prefix(), store.U32(store.ToDeviceTxn.Prefix(), day-1))
	}
	return false, nil
}

// put adds a message to a queue. It needs queue.
func (r *Records) put(tx *stream.Tx, device uint64, pos stream.Pos, row []byte) error {
	tx.Set(toDeviceKey(device, pos), row)
	w, err := r.size(device)
	if err != nil {
		return err
	}
	w.count++
	w.bytes += len(row)
	if w.over() {
		err = r.st.ScanPrefix(store.U64(store.ToDevice.Prefix(), device), func(key, old []byte) (bool, error) {
			tx.Delete(key)
			w.count--
			w.bytes -= len(old)
			return w.over(), nil
		})
	}
	r.waiting[device] = w
	return err
}

// MaxTold is the most messages that one answer tells of a queue. Spec:
// client-server, send-to-device messaging: 100 messages are recommended.
const MaxTold = 100

// maxToldBytes is the same in bytes.
const maxToldBytes = 1 << 20

// AppendMessages appends the messages that came for a device after the one
// position and not after the other, oldest first and separated by commas. last is
// the position of the last of them, after where there are none; more says that others wait.
func (r *Records) AppendMessages(dst []byte, device uint64, after, upto stream.Pos) (out []byte, last stream.Pos, more bool, err error) {
	last = after
	r.queue.Lock()
	w, err := r.size(device)
	r.queue.Unlock()
	if err != nil || w.count == 0 || upto <= after {
		return dst, last, false, err
	}
	n, begin := 0, len(dst)
	err = r.st.Scan(toDeviceKey(device, after+1), upTo(device, upto), func(key, row []byte) (bool, error) {
		if n == MaxTold || n > 0 && len(dst)-begin+len(row) > maxToldBytes {
			more = true
			return false, nil
		}
		if n > 0 {
			dst = append(dst, ',')
		}
		n++
		dst = append(dst, row...)
		last = stream.Pos(binary.BigEndian.Uint64(key[9:]))
		return true, nil
	})
	return dst, last, more, err
}

// EachMessage calls f for the messages that wait for a device up to a position,
// oldest first, each with its own, until f returns false. It is for who hands them
// on one by one. What f is given is valid during the call only.
func (r *Records) EachMessage(device uint64, upto stream.Pos, f func(at stream.Pos, msg []byte) (more bool)) error {
	r.queue.Lock()
	w, err := r.size(device)
	r.queue.Unlock()
	if err != nil || w.count == 0 {
		return err
	}
	return r.st.Scan(toDeviceKey(device, 0), upTo(device, upto), func(key, row []byte) (bool, error) {
		return f(stream.Pos(binary.BigEndian.Uint64(key[9:])), row), nil
	})
}

// Acknowledge deletes the messages up to a position, which a device has proved to
// have by asking for what comes after. The deletion need not be on disk at once:
// whoever comes with that position is not told of them again.
func (r *Records) Acknowledge(device uint64, upto stream.Pos) error {
	r.queue.Lock()
	defer r.queue.Unlock()
	w, err := r.size(device)
	if err != nil || w.count == 0 || upto == 0 {
		return err
	}
	b := r.st.NewBatch()
	err = r.st.Scan(toDeviceKey(device, 0), upTo(device, upto), func(key, row []byte) (bool, error) {
		b.Delete(key)
		w.count--
		w.bytes -= len(row)
		return true, nil
	})
	if err != nil || b.Empty() {
		b.Drop()
		return err
	}
	b.Frees()
	if err := r.st.Apply(b); err != nil {
		delete(r.waiting, device)
		if fault.Is(err, fault.Full) {
			return nil // a disk that can only be read: they stay, and are not told again
		}
		return err
	}
	r.waiting[device] = w
	return nil
}
