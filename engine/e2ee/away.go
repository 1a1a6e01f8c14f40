package e2ee

import (
	"encoding/binary"

	"hearth/engine/cjson"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// Messages for devices of other servers wait by server, until it has them. Each row
// is one message of the sender's, for as many devices there as fit.

// Parcel is messages for devices of one other server.
type Parcel struct {
	Server   uint32 // its number
	Messages []byte // JSON: contents by user and device
}

// The most that waits for one server. Of a full queue the oldest go, as with
// devices here.
const (
	maxAway      = 32 << 10
	maxAwayBytes = 32 << 20
	// maxPacked is the size from which a parcel is not added to. Spec: server-server,
	// EDUs: at most 65,536 bytes, of which one message may take most.
	maxPacked = 16 << 10
)

// Pack adds a message for a device of another server to the parcels of one request.
// Those for one user follow each other, and no other user comes between.
func Pack(list []Parcel, server uint32, user, device string, content []byte) []Parcel {
	var p *Parcel
	for i := len(list) - 1; i >= 0 && p == nil; i-- { // the last of the server
		if list[i].Server == server {
			p = &list[i]
		}
	}
	if p == nil || len(p.Messages)+len(content) > maxPacked {
		list = append(list, Parcel{Server: server})
		p = &list[len(list)-1]
	}
	if last, ok := cjson.Lookup(orEmpty(p.Messages), user); ok && len(last) > 2 {
		// It is the last one's: only its two braces stand behind.
		p.Messages = append(p.Messages[:len(p.Messages)-2], ',')
	} else {
		if p.Messages == nil {
			p.Messages = []byte{'{'}
		} else {
			p.Messages[len(p.Messages)-1] = ','
		}
		p.Messages = append(cjson.AppendString(p.Messages, user), ':', '{')
	}
	p.Messages = append(append(cjson.AppendString(p.Messages, device), ':'), content...)
	p.Messages = append(p.Messages, '}', '}')
	return list
}

func orEmpty(obj []byte) []byte {
	if obj == nil {
		return []byte(`{}`)
	}
	return obj
}

func awayKey(server uint32, pos stream.Pos) []byte {
	return store.U64(store.U32(store.AwayMessage.Prefix(), server), uint64(pos))
}

// awaySize finds how much waits for a server. It needs queue.
func (r *Records) awaySize(server uint32) (waiting, error) {
	if w, ok := r.away[server]; ok {
		return w, nil
	}
	var w waiting
	err := r.st.ScanPrefix(store.U32(store.AwayMessage.Prefix(), server), func(_, row []byte) (bool, error) {
		w.count++
		w.bytes += len(row)
		return true, nil
	})
	if err == nil {
		r.away[server] = w
	}
	return w, err
}

// putAway adds a parcel to the queue of its server. It needs queue.
func (r *Records) putAway(tx *stream.Tx, s *Sent, p *Parcel) error {
	w, err := r.awaySize(p.Server)
	if err != nil {
		return err
	}
	pos := tx.Put(&stream.Entry{Kind: stream.ToDevice, Event: uint64(p.Server)})
	row := append(append([]byte(`"messages":`), p.Messages...), `,"sender":`...)
	row = cjson.AppendString(row, s.Sender)
	row = append(cjson.AppendString(append(row, `,"type":`...), s.Type), '}')
	tx.Set(awayKey(p.Server, pos), row)
	w.count++
	w.bytes += len(row)
	over := func() bool { return w.count > maxAway || w.bytes > maxAwayBytes }
	if over() {
		err = r.st.ScanPrefix(store.U32(store.AwayMessage.Prefix(), p.Server), func(key, old []byte) (bool, error) {
			tx.Delete(key)
			w.count--
			w.bytes -= len(old)
			return over(), nil
		})
	}
	r.away[p.Server] = w
	return err
}

// Away gives what a message for another server says: the members of an object but
// for message_id, with which it begins, and the closing brace. ok is false where
// it is not there any more.
func (r *Records) Away(server uint32, pos stream.Pos) (members []byte, ok bool, err error) {
	return r.st.Get(nil, awayKey(server, pos))
}

// Arrived deletes the messages up to a position, which a server has taken. That need
// not be on disk at once: they have ids by which the other side knows them again.
func (r *Records) Arrived(server uint32, upto stream.Pos) error {
	r.queue.Lock()
	defer r.queue.Unlock()
	w, err := r.awaySize(server)
	if err != nil || w.count == 0 {
		return err
	}
	b := r.st.NewBatch()
	err = r.st.Scan(awayKey(server, 0), append(awayKey(server, upto), 0), func(key, row []byte) (bool, error) {
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
		delete(r.away, server)
		return err
	}
	r.away[server] = w
	return nil
}

// verifyAway reads the queues of other servers.
func (r *Records) verifyAway(bad func(format string, args ...any)) error {
	tip := uint64(r.log.Tip())
	return r.each(store.AwayMessage, func(key, row []byte) error {
		if len(key) != 12 {
			bad("a message for another server of key %x", key)
		} else if pos := binary.BigEndian.Uint64(key[4:]); pos == 0 || pos > tip {
			bad("a message for server %x is at %d, the log ends at %d", key[:4], pos, tip)
		} else if cjson.Check(append([]byte{'{'}, row...)) != nil {
			bad("a message for server %x at %d is no JSON", key[:4], pos)
		}
		return nil
	})
}
