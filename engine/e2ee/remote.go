package e2ee

import (
	"encoding/binary"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/fields"
	"hearth/engine/mxid"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// What the hub knows of the keys of other servers' users lies in the same rows as
// the keys of its own: a device elsewhere has the number that no device here is
// given, the user's zeroth. A row beside them says how far the list is known, and
// whether it may be relied on.

// Remote is how well a user's devices elsewhere are known.
type Remote struct {
	Stream int64 // the other server's name for the last change that is in
	Stale  bool  // something was missed: it has to be fetched anew
}

// maxFetched bounds the devices of a user elsewhere.
const maxFetched = 2000

func remoteNum(user uint32) uint64 { return uint64(user) << 32 }

func remoteKey(user uint32) []byte { return store.U32(store.RemoteList.Prefix(), user) }

func (l *Remote) append(dst []byte) []byte {
	var stale uint64
	if l.Stale {
		stale = 1
	}
	return binary.AppendVarint(binary.AppendUvarint(dst, stale), l.Stream)
}

// Remote says how well a user's devices are known; ok is false where nothing is.
func (r *Records) Remote(user uint32) (l Remote, ok bool, err error) {
	row, ok, err := r.st.Get(nil, remoteKey(user))
	if err != nil || !ok {
		return l, false, err
	}
	d := fields.Open(row)
	l.Stale = d.Uint() != 0
	l.Stream = d.Int()
	return l, true, rowErr(&d, "a list of devices elsewhere")
}

// Stale calls f for the users whose lists have to be fetched anew.
func (r *Records) Stale(f func(user uint32)) error {
	return r.each(store.RemoteList, func(key, row []byte) error {
		if d := fields.Open(row); len(key) == 4 && d.Uint() != 0 {
			f(binary.BigEndian.Uint32(key))
		}
		return nil
	})
}

// RemoteDevices lists a user's devices elsewhere that have keys.
func (r *Records) RemoteDevices(user uint32) (list []Device, err error) {
	err = r.st.ScanPrefix(store.U32(store.DeviceKeys.Prefix(), user), func(key, row []byte) (bool, error) {
		d := fields.Open(row)
		num := d.Uint()
		objectOf(&d)
		name := string(d.Bytes())
		if num == remoteNum(user) {
			list = append(list, Device{ID: string(key[5:]), Num: num, Name: name})
		}
		return true, rowErr(&d, "a device's keys")
	})
	return list, err
}

// RemoteDevice is what another server says of one device.
type RemoteDevice struct {
	ID   string
	name string
	keys *object // nil: it has none, or is gone
}

// ParseRemoteDevice checks a device in structure. Nil keys are those of one that
// has none any more.
func ParseRemoteDevice(user mxid.UserID, id, name string, keys []byte) (d RemoteDevice, err error) {
	if id == "" || len(id) > maxID {
		return d, fault.E(fault.BadJSON, "e2ee.Remote", "a device's id has at most %d bytes", maxID)
	}
	d = RemoteDevice{ID: id, name: name[:min(len(name), maxID)]}
	if keys != nil {
		d.keys, err = parseDeviceKeys(keys, &Owner{UserID: user, Device: id})
	}
	return d, err
}

// Fetched is all that another server says of the keys of a user of its own.
type Fetched struct {
	Stream  int64
	devices []RemoteDevice
	cross   *CrossKeys
}

// ParseFetched reads the answer to GET /user/devices/{userId}. Devices whose keys
// are of a wrong form are left out. Spec: server-server, device management.
func ParseFetched(user mxid.UserID, body []byte) (*Fetched, error) {
	const op = "e2ee.Remote"
	if id, _ := cjson.LookupString(body, "user_id"); id != string(user) {
		return nil, fault.E(fault.Remote, op, "the answer is about another user")
	}
	f := &Fetched{}
	if val, ok := cjson.Lookup(body, "stream_id"); ok {
		f.Stream, _ = cjson.Int(val)
	}
	list, _ := cjson.Lookup(body, "devices")
	n := 0
	if err := cjson.Array(list, func(val []byte) bool {
		id, _ := cjson.LookupString(val, "device_id")
		name, _ := cjson.LookupString(val, "device_display_name")
		keys, ok := cjson.Lookup(val, "keys")
		if d, err := ParseRemoteDevice(user, id, name, keys); ok && err == nil && d.keys != nil {
			f.devices = append(f.devices, d)
		}
		n++
		return n <= maxFetched
	}); err != nil || n > maxFetched {
		return nil, fault.E(fault.Remote, op, "devices is no list, or one of more than %d", maxFetched)
	}
	f.cross = RemoteCross(user, body)
	return f, nil
}

// RemoteCross reads the cross-signing keys that another server tells of, as master_key
// and self_signing_key. Such as are of a wrong form are left out.
func RemoteCross(user mxid.UserID, body []byte) *CrossKeys {
	c := &CrossKeys{user: user}
	for _, u := range [...]Usage{Master, SelfSigning} {
		if raw, ok := member(body, u.String()+"_key"); ok {
			if k, err := parseCrossKey(raw, user, u); err == nil {
				c.keys[u] = k
			}
		}
	}
	return c
}

// told writes that the keys of a user elsewhere changed, for the users here who are
// in wake.
func (r *Records) told(tx *stream.Tx, user uint32, wake []uint32) error {
	pos := tx.Put(&stream.Entry{Kind: stream.Devices, User: user})
	tx.Wake(wake...)
	return r.MarkChanged(tx, user, pos)
}

// PutRemote writes what was fetched in the place of what was known.
func (r *Records) PutRemote(user uint32, f *Fetched, wake []uint32) error {
	r.remote.Lock()
	p, err := r.log.Begin(func(tx *stream.Tx) error {
		have := map[string]bool{}
		for i := range f.devices {
			have[f.devices[i].ID] = true
			if err := r.putRemoteDevice(tx, user, &f.devices[i]); err != nil {
				return err
			}
		}
		old, err := r.RemoteDevices(user)
		if err != nil {
			return err
		}
		for i := range old {
			if !have[old[i].ID] {
				tx.Delete(deviceKeysKey(user, old[i].ID))
				dropSignatures(tx.Batch, user, old[i].ID)
			}
		}
		if err := r.putRemoteCross(tx, user, f.cross, true); err != nil {
			return err
		}
		l := Remote{Stream: f.Stream}
		tx.Set(remoteKey(user), l.append(fields.New()))
		return r.told(tx, user, wake)
	})
	r.remote.Unlock()
	if err != nil {
		return err
	}
	return p.Wait()
}

func (r *Records) putRemoteDevice(tx *stream.Tx, user uint32, d *RemoteDevice) error {
	key := deviceKeysKey(user, d.ID)
	if d.keys == nil {
		tx.Delete(key)
		dropSignatures(tx.Batch, user, d.ID)
		return nil
	}
	row := d.keys.append(binary.AppendUvarint(fields.New(), remoteNum(user)))
	tx.Set(key, fields.AppendText(row, d.name))
	return nil
}

// putRemoteCross writes cross-signing keys; all says that those which are not there
// are gone.
func (r *Records) putRemoteCross(tx *stream.Tx, user uint32, c *CrossKeys, all bool) error {
	for _, u := range [...]Usage{Master, SelfSigning} {
		old, err := r.crossKey(user, u)
		if err != nil {
			return err
		}
		k := c.keys[u]
		if k == nil && !all {
			continue
		}
		if old != nil && (k == nil || old.id != k.id) {
			dropSignatures(tx.Batch, user, old.id)
		}
		if k == nil {
			tx.Delete(crossKeyKey(user, u))
		} else {
			tx.Set(crossKeyKey(user, u), k.append(fields.AppendText(fields.New(), k.id)))
		}
	}
	return nil
}

// Heard takes in what another server tells of one change: of device d, which the
// server names stream and which follows the changes in prev. stale says that
// something before it was missed, so that the list has to be fetched anew.
func (r *Records) Heard(user uint32, d *RemoteDevice, streamID int64, prev []int64, wake []uint32) (stale bool, err error) {
	r.remote.Lock()
	p, err := r.log.Begin(func(tx *stream.Tx) error {
		l, known, err := r.Remote(user)
		if err != nil {
			return err
		}
		follows := false
		for _, id := range prev {
			follows = follows || id == l.Stream
		}
		switch {
		case !known: // it is fetched when somebody asks
		case !l.Stale && l.Stream == streamID:
			return nil // it came before
		case l.Stale || !follows:
			stale = true
			l.Stale = true
			tx.Set(remoteKey(user), l.append(fields.New()))
		default:
			full, err := r.remoteFull(user, d)
			if err != nil {
				return err
			}
			l.Stream = streamID
			if full { // the whole list says which of them there are
				stale, l.Stale = true, true
			} else if err := r.putRemoteDevice(tx, user, d); err != nil {
				return err
			}
			tx.Set(remoteKey(user), l.append(fields.New()))
		}
		return r.told(tx, user, wake)
	})
	r.remote.Unlock()
	if err != nil {
		return false, err
	}
	return stale, p.Wait()
}

// remoteFull says whether a device is one more than a user elsewhere may have.
func (r *Records) remoteFull(user uint32, d *RemoteDevice) (bool, error) {
	if d.keys == nil {
		return false, nil
	}
	if has, err := r.st.Has(deviceKeysKey(user, d.ID)); has || err != nil {
		return false, err
	}
	n := 0
	err := r.st.ScanPrefix(store.U32(store.DeviceKeys.Prefix(), user), func(_, _ []byte) (bool, error) {
		n++
		return n < maxFetched, nil
	})
	return n >= maxFetched, err
}

// HeardCross takes in cross-signing keys that another server tells of.
func (r *Records) HeardCross(user uint32, c *CrossKeys, wake []uint32) error {
	r.remote.Lock()
	p, err := r.log.Begin(func(tx *stream.Tx) error {
		if _, known, err := r.Remote(user); err != nil {
			return err
		} else if known {
			if err := r.putRemoteCross(tx, user, c, false); err != nil {
				return err
			}
		}
		return r.told(tx, user, wake)
	})
	r.remote.Unlock()
	if err != nil {
		return err
	}
	return p.Wait()
}

// MarkStale notes that a user's list may not be relied on any more.
func (r *Records) MarkStale(user uint32) error {
	r.remote.Lock()
	defer r.remote.Unlock()
	l, known, err := r.Remote(user)
	if err != nil || !known || l.Stale {
		return err
	}
	l.Stale = true
	b := r.st.NewBatch()
	b.Set(remoteKey(user), l.append(fields.New()))
	return r.st.Apply(b)
}

// DropRemote forgets the keys of a user elsewhere, of whose changes the hub is not
// told any more. Signatures that users here made on them stay.
func (r *Records) DropRemote(user uint32) error {
	r.remote.Lock()
	defer r.remote.Unlock()
	_, known, err := r.Remote(user)
	if err != nil || !known {
		return err
	}
	b := r.st.NewBatch()
	b.Frees()
	b.Delete(remoteKey(user))
	for _, t := range [...]store.Table{store.DeviceKeys, store.CrossKey} {
		prefix := store.U32(t.Prefix(), user)
		b.DeleteRange(prefix, store.After(prefix))
	}
	return r.st.Apply(b)
}
