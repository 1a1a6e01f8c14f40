package account

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/fields"
	"hearth/engine/oauth"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// Device is one Matrix device of a user.
type Device struct {
	ID       string
	Num      uint64 // the hub's number for it; never given again
	Name     string // display name; empty: none
	SeenFrom netip.Addr
	Seen     time.Time // within the hour; zero where it never was
	now      pair      // its tokens
	next     pair      // those that take their place when first used; see Refresh

	// Of a device that signed in by OAuth: the client_id, how its scope was spelt,
	// and what all its refresh tokens have in common.
	Client string
	forms  uint8
	family tokenHash
}

// dropTokens ends the device's tokens.
func (d *Device) dropTokens(b *store.Batch) {
	d.now.drop(b)
	d.next.drop(b)
	if d.family != (tokenHash{}) {
		b.Delete(tokenKey(&d.family))
		d.family = tokenHash{}
	}
}

// Scope is what the device was granted by OAuth.
func (d *Device) Scope() oauth.Scope { return oauth.Scope{Device: d.ID, Forms: d.forms} }

// deviceNum makes the number of a user's n-th device.
func deviceNum(user uint32, n uint64) uint64 { return uint64(user)<<32 | n&0xffffffff }

func (d *Device) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, d.Num)
	dst = fields.AppendText(dst, d.Name)
	var seen uint64
	if !d.Seen.IsZero() {
		seen = uint64(d.Seen.UnixMilli())
	}
	dst = binary.AppendUvarint(dst, seen)
	dst = fields.AppendText(dst, string(d.SeenFrom.AsSlice()))
	for _, h := range [...]*tokenHash{&d.now.access, &d.now.refresh, &d.next.access, &d.next.refresh} {
		if *h == (tokenHash{}) {
			dst = fields.AppendText(dst, "")
		} else {
			dst = fields.AppendText(dst, string(h[:]))
		}
	}
	if d.Client != "" {
		dst = fields.AppendText(dst, d.Client)
		dst = binary.AppendUvarint(dst, uint64(d.forms))
		dst = fields.AppendText(dst, d.family[:])
	}
	return dst
}

func parseDevice(id string, row []byte) (Device, error) {
	r := fields.Open(row)
	d := Device{ID: id, Num: r.Uint(), Name: r.Text()}
	if seen := r.Uint(); seen != 0 {
		d.Seen = time.UnixMilli(int64(seen))
	}
	d.SeenFrom, _ = netip.AddrFromSlice(r.Bytes())
	for _, h := range [...]*tokenHash{&d.now.access, &d.now.refresh, &d.next.access, &d.next.refresh} {
		copy(h[:], r.Bytes())
	}
	d.Client, d.forms = r.Text(), uint8(r.Uint())
	copy(d.family[:], r.Bytes())
	return d, rowErr(&r, "a device")
}

// has says whether a token of the kind is one of the device's.
func (d *Device) has(kind uint64, h tokenHash) bool {
	if kind == tokenFamily {
		return d.family == h
	}
	if kind == tokenRefresh {
		return d.now.refresh == h || d.next.refresh == h
	}
	return kind == tokenAccess && (d.now.access == h || d.next.access == h)
}

func deviceKey(user uint32, id string) []byte {
	return append(store.U32(store.Device.Prefix(), user), id...)
}

func setDevice(b *store.Batch, user uint32, d *Device) {
	b.Set(deviceKey(user, d.ID), d.append(fields.New()))
}

// Devices lists a user's devices in the order of their ids.
func (a *Accounts) Devices(user uint32) ([]Device, error) {
	var list []Device
	err := a.st.ScanPrefix(deviceKey(user, ""), func(key, val []byte) (bool, error) {
		d, err := parseDevice(string(key[5:]), val)
		list = append(list, d)
		return true, err
	})
	return list, err
}

// device reads one device; ok is false where there is none.
func (a *Accounts) device(user uint32, id string) (d Device, ok bool, err error) {
	if len(id) > maxDeviceID {
		return d, false, nil
	}
	val, ok, err := a.st.Get(nil, deviceKey(user, id))
	if err != nil || !ok {
		return d, false, err
	}
	d, err = parseDevice(id, val)
	return d, err == nil, err
}

// Device reads one device.
func (a *Accounts) Device(user uint32, id string) (Device, error) {
	d, ok, err := a.device(user, id)
	if err == nil && !ok {
		err = fault.E(fault.NotFound, "account.Device", "there is no such device")
	}
	return d, err
}

// PutDevice makes a device that nobody is logged in as. There must be none of
// that id, or one that the same batch drops. The caller holds the user.
func (a *Accounts) PutDevice(tx *stream.Tx, user uint32, id, name string) (Device, error) {
	const op = "account.PutDevice"
	if err := checkText(op, "the device id", id, maxDeviceID); err != nil {
		return Device{}, err
	}
	if err := checkText(op, "the display name", name, maxDeviceName); err != nil {
		return Device{}, err
	}
	if err := a.roomForDevice(user); err != nil {
		return Device{}, err
	}
	row, err := a.mustRow(op, user)
	if err != nil {
		return Device{}, err
	}
	row.devices++
	setUserRow(tx.Batch, user, &row)
	d := Device{ID: id, Num: deviceNum(user, row.devices), Name: name}
	setDevice(tx.Batch, user, &d)
	return d, nil
}

// RenameDevice gives a device another display name. The caller holds the user.
func (a *Accounts) RenameDevice(tx *stream.Tx, user uint32, id, name string) error {
	const op = "account.RenameDevice"
	if err := checkText(op, "the display name", name, maxDeviceName); err != nil {
		return err
	}
	d, err := a.Device(user, id)
	if err != nil {
		return err
	}
	d.Name = name
	setDevice(tx.Batch, user, &d)
	tx.Put(&stream.Entry{Kind: stream.Devices, User: user})
	return nil
}

// DropDevices deletes those devices of a user that gone picks, and their
// tokens and pushers. The caller holds the user, and calls Purge when the batch is applied.
func (a *Accounts) DropDevices(tx *stream.Tx, user uint32, gone func(d *Device) bool) error {
	list, err := a.Devices(user)
	if err != nil {
		return err
	}
	var ended []uint64
	for i := range list {
		d := &list[i]
		if !gone(d) {
			continue
		}
		ended = append(ended, d.Num)
		tx.Delete(deviceKey(user, d.ID))
		d.dropTokens(tx.Batch)
	}
	if len(ended) > 0 {
		if err := a.dropPushersOf(tx, user, func(device uint64) bool { return slices.Contains(ended, device) }); err != nil {
			return err
		}
		tx.Frees()
		tx.Put(&stream.Entry{Kind: stream.Devices, User: user})
		a.tickets.drop(user, loginTicket) // asked for by a session that may be one of these
		tx.Wake(user)                     // its parked requests learn that their token is gone
	}
	return nil
}

// DeleteDevices deletes the devices that gone picks.
func (a *Accounts) DeleteDevices(user uint32, gone func(d *Device) bool) error {
	defer a.Hold(user)()
	defer a.Purge(user)
	_, err := a.log.Commit(func(tx *stream.Tx) error { return a.DropDevices(tx, user, gone) })
	return err
}

// newDeviceID makes an id that people can read out: ten capital letters.
func newDeviceID() (string, error) {
	var b [10]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("account: %w", err)
	}
	for i, c := range b {
		b[i] = 'A' + c%26 // the first letters come a little oftener, which an id can bear
	}
	return string(b[:]), nil
}

// AppendWhois appends where a user's devices were last seen.
// Spec: client-server, GET /admin/whois/{userId}.
func (a *Accounts) AppendWhois(dst []byte, user uint32) ([]byte, error) {
	list, err := a.Devices(user)
	if err != nil {
		return dst, err
	}
	id, err := a.names.Name(store.Users, user)
	dst = append(dst, `{"devices":{`...)
	first := true
	for i := range list {
		d := &list[i]
		if !d.SeenFrom.IsValid() {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(cjson.AppendString(dst, d.ID), `:{"sessions":[{"connections":[{"ip":`...)
		dst = cjson.AppendString(dst, d.SeenFrom.String())
		dst = strconv.AppendInt(append(dst, `,"last_seen":`...), d.Seen.UnixMilli(), 10)
		dst = append(dst, `}]}]}`...)
	}
	dst = cjson.AppendString(append(dst, `},"user_id":`...), id)
	return append(dst, '}'), err
}
