package e2ee

import (
	"encoding/binary"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/fields"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// Dehydrated is a device that nobody is logged in as: it takes room keys while
// the user has no other device, which a later one reads with its secret. A user
// has one at most. It is MSC3814, which clients use before it is specified.
type Dehydrated struct {
	ID   string
	Num  uint64
	Data []byte // JSON object: the device's private keys, encrypted by the client
}

func dehydratedKey(user uint32) []byte { return store.U32(store.Dehydrated.Prefix(), user) }

func (r *Records) dehydrated(user uint32) (d Dehydrated, ok bool, err error) {
	row, ok, err := r.st.Get(nil, dehydratedKey(user))
	if err != nil || !ok {
		return d, false, err
	}
	p := fields.Open(row)
	d.Num, d.ID, d.Data = p.Uint(), string(p.Bytes()), p.Bytes()
	return d, true, rowErr(&p, "a dehydrated device")
}

// Dehydrated reads a user's dehydrated device. NotFound where there is none.
func (r *Records) Dehydrated(user uint32) (Dehydrated, error) {
	d, ok, err := r.dehydrated(user)
	if err == nil && !ok {
		err = fault.E(fault.NotFound, "e2ee.Dehydrated", "there is no dehydrated device")
	}
	return d, err
}

// ParseDehydrated reads id and data of a dehydrated device from an upload, the
// keys of which are for ParseUpload.
func ParseDehydrated(body []byte) (d Dehydrated, err error) {
	const op = "e2ee.Dehydrated"
	if d.ID, err = mustString(op, body, "device_id"); err != nil {
		return d, err
	}
	data, ok := cjson.Lookup(body, "device_data")
	if !ok || cjson.KindOf(data) != cjson.ObjectKind {
		return d, fault.E(fault.BadJSON, op, "device_data must be an object")
	}
	if d.ID == "" || len(d.ID) > maxID || len(data) > maxDehydrated {
		return d, fault.E(fault.Invalid, op, "device_id needs up to %d bytes, device_data has at most %d", maxID, maxDehydrated)
	}
	d.Data = data
	return d, nil
}

// PutDehydrated makes a device the user's dehydrated one. The caller has dropped
// the one before.
func (r *Records) PutDehydrated(tx *stream.Tx, user uint32, d *Dehydrated) {
	row := binary.AppendUvarint(fields.New(), d.Num)
	tx.Set(dehydratedKey(user), fields.AppendText(fields.AppendText(row, d.ID), d.Data))
}
