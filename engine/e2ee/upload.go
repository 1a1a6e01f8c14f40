package e2ee

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/fields"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// Upload is what one device uploads at once. Spec: client-server, POST
// /keys/upload.
type Upload struct {
	Owner
	keys     *object // nil: none
	oneTime  []oneTime
	fallback []oneTime
}

// oneTime is a one-time or fallback key.
type oneTime struct {
	name string // "algorithm:id"
	json []byte // canonical
}

func (k *oneTime) algorithm() string { return k.name[:strings.IndexByte(k.name, ':')] }
func (k *oneTime) id() string        { return k.name[strings.IndexByte(k.name, ':')+1:] }

// ParseUpload checks an upload in structure. body has been checked to be JSON.
func ParseUpload(owner Owner, body []byte) (*Upload, error) {
	u := &Upload{Owner: owner}
	var err error
	if raw, ok := member(body, "device_keys"); ok {
		if u.keys, err = parseDeviceKeys(raw, &owner); err != nil {
			return nil, err
		}
	}
	if raw, ok := member(body, "one_time_keys"); ok {
		if u.oneTime, err = parseOneTime(raw); err != nil {
			return nil, err
		}
	}
	raw, ok := member(body, "fallback_keys")
	if !ok { // clients of before the specification had them; the stable name wins
		raw, ok = member(body, "org.matrix.msc2732.fallback_keys")
	}
	if ok {
		if u.fallback, err = parseOneTime(raw); err != nil {
			return nil, err
		}
	}
	for i := 1; i < len(u.fallback); i++ {
		if u.fallback[i].algorithm() == u.fallback[i-1].algorithm() {
			return nil, fault.E(fault.Invalid, "e2ee.Upload", "there is at most one fallback key for an algorithm")
		}
	}
	return u, nil
}

// member looks up a member; null counts as absent.
func member(obj []byte, key string) ([]byte, bool) {
	val, ok := cjson.Lookup(obj, key)
	return val, ok && cjson.KindOf(val) != cjson.NullKind
}

// parseOneTime reads an object of one-time keys, in the order of their names.
func parseOneTime(raw []byte) ([]oneTime, error) {
	const op = "e2ee.Upload"
	if cjson.KindOf(raw) != cjson.ObjectKind {
		return nil, fault.E(fault.BadJSON, op, "one-time keys must be an object")
	}
	raw, err := cjson.Canonical(nil, raw, false)
	if err != nil {
		return nil, fault.E(fault.BadJSON, op, "%w", err)
	}
	var list []oneTime
	good := eachIn(raw, func(key, val []byte) bool {
		colon := bytes.IndexByte(key, ':')
		kind := cjson.KindOf(val)
		if colon < 1 || colon == len(key)-1 || len(key) > maxID || len(val) > maxOneTimeKey ||
			kind != cjson.StringKind && kind != cjson.ObjectKind || len(list) == maxOneTime {
			return false
		}
		list = append(list, oneTime{string(key), val})
		return true
	})
	if !good {
		return nil, fault.E(fault.BadJSON, op,
			"one-time keys are at most %d objects or strings of at most %d bytes, named algorithm:id", maxOneTime, maxOneTimeKey)
	}
	slices.SortFunc(list, func(a, b oneTime) int { return cmp.Compare(a.name, b.name) })
	return list, nil
}

func deviceKeysKey(user uint32, id string) []byte {
	return append(store.U32(store.DeviceKeys.Prefix(), user), id...)
}

// deviceKeys is the identity keys of a device.
type deviceKeys struct {
	num uint64
	object
}

func (r *Records) deviceKeys(user uint32, id string) (k deviceKeys, ok bool, err error) {
	if len(id) > maxID {
		return k, false, nil
	}
	row, ok, err := r.st.Get(nil, deviceKeysKey(user, id))
	if err != nil || !ok {
		return k, false, err
	}
	d := fields.Open(row)
	k.num, k.object = d.Uint(), objectOf(&d)
	return k, true, rowErr(&d, "a device's keys")
}

// HasKeys says whether a device has keys, so that others see it.
func (r *Records) HasKeys(user uint32, id string) (bool, error) {
	_, ok, err := r.deviceKeys(user, id)
	return ok, err
}

// Changes says whether the upload changes what others see of the device: then
// they have to be woken.
func (r *Records) Changes(u *Upload) (bool, error) {
	if u.keys == nil {
		return false, nil
	}
	old, ok, err := r.deviceKeys(u.User, u.Device)
	if err != nil || !ok {
		return !ok, err
	}
	return old.num != u.Num || !bytes.Equal(old.core, u.keys.core) || !bytes.Equal(old.sigs, u.keys.sigs), nil
}

// Upload stores what a device uploads. Where that Changes what others see, the
// change is told in the log and the users in wake are woken.
func (r *Records) Upload(u *Upload, wake []uint32) error {
	changed, err := r.Changes(u)
	if err != nil {
		return err
	}
	done, err := r.upload(u, wake, changed)
	if err != nil {
		return err
	}
	return done()
}

// upload applies the change; done waits for the disk, without the lock.
func (r *Records) upload(u *Upload, wake []uint32, changed bool) (done func() error, err error) {
	r.keys.Lock()
	defer r.keys.Unlock()
	after, fresh, err := r.place(u)
	if err != nil {
		return nil, err
	}
	if changed {
		p, err := r.log.Begin(func(tx *stream.Tx) error {
			if err := r.putDevice(tx, u); err != nil {
				return err
			}
			putOneTime(tx.Batch, u.Num, fresh, after.next)
			putFallback(tx.Batch, u.Num, u.fallback)
			tx.Wake(wake...)
			return r.Tell(tx, u.User, &Changed{Devices: []string{u.Device}})
		})
		if err != nil {
			return nil, err
		}
		r.remember(u.Num, after, len(fresh))
		return p.Wait, nil
	}
	b := r.st.NewBatch()
	putOneTime(b, u.Num, fresh, after.next)
	putFallback(b, u.Num, u.fallback)
	if b.Empty() {
		b.Drop()
		r.remember(u.Num, after, 0)
		return func() error { return nil }, nil
	}
	if err := r.st.Start(b); err != nil {
		return nil, err
	}
	r.remember(u.Num, after, len(fresh))
	return b.Wait, nil
}

// Put writes an upload of a device that is made in the same batch. The caller
// calls Tell.
func (r *Records) Put(tx *stream.Tx, u *Upload) error {
	if u.keys != nil {
		if err := r.putDevice(tx, u); err != nil {
			return err
		}
	}
	putOneTime(tx.Batch, u.Num, u.oneTime, 0)
	putFallback(tx.Batch, u.Num, u.fallback)
	return nil
}

// HasKeys says whether identity keys are in the upload.
func (u *Upload) HasKeys() bool { return u.keys != nil }

// putDevice writes the identity keys. Other keys than before lose the
// signatures that were made on those.
func (r *Records) putDevice(tx *stream.Tx, u *Upload) error {
	old, ok, err := r.deviceKeys(u.User, u.Device)
	if err != nil {
		return err
	}
	if ok && !bytes.Equal(old.core, u.keys.core) {
		dropSignatures(tx.Batch, u.User, u.Device)
	}
	row := binary.AppendUvarint(fields.New(), u.Num)
	tx.Set(deviceKeysKey(u.User, u.Device), u.keys.append(row))
	return nil
}

// remember keeps the supply after an upload of n new keys. It needs keys.
func (r *Records) remember(device uint64, after *supply, n int) {
	after.next += uint64(n)
	evict(r.supply)
	r.supply[device] = after
}
