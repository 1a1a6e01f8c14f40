package engine

import (
	"context"
	"slices"
	"time"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/e2ee"
	"hearth/engine/fault"
	"hearth/engine/federation"
	"hearth/engine/mxid"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// owner is the device of a session.
func owner(s *account.Session) e2ee.Owner {
	return e2ee.Owner{User: s.User, UserID: s.UserID, Device: s.Device, Num: s.DeviceNum}
}

// UploadKeys stores the keys that a device uploads, and tells those who share a
// room with its user where they changed. Spec: client-server, POST /keys/upload.
func (e *Engine) UploadKeys(s *account.Session, body []byte) error {
	up, err := e2ee.ParseUpload(owner(s), body)
	if err != nil {
		return err
	}
	changed, err := e.E2EE.Changes(up)
	if err != nil {
		return err
	}
	if !changed {
		return e.E2EE.Upload(up, nil) // the usual one: it holds up nobody
	}
	defer e.Accounts.Hold(s.User)()
	// "Servers MUST not allow devices to have the same IDs as cross-signing keys":
	// a login may have asked for such an id before there was the key.
	if is, err := e.E2EE.IsCrossKey(s.User, s.Device); err != nil {
		return err
	} else if is {
		return fault.E(fault.Forbidden, "engine.UploadKeys", "the device's id is that of a cross-signing key")
	}
	sharers, err := e.Sharers(s.User)
	if err != nil {
		return err
	}
	return e.E2EE.Upload(up, sharers)
}

// ClaimAnyKeys is ClaimKeys for a user of this hub, who claims keys of anybody's
// devices. failed are the servers that did not answer in time.
func (e *Engine) ClaimAnyKeys(list []e2ee.Claim, limit time.Duration) (failed map[mxid.Server]fault.Kind, err error) {
	if err := e.ClaimKeys(list); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(list, func(c e2ee.Claim) bool { return c.User.Server() != e.Server }) {
		return nil, nil
	}
	ctx, cancel := e.untilStop()
	defer cancel()
	return e.Federation.ClaimKeys(ctx, list, limit), nil
}

// ClaimKeys takes one-time keys of devices of this hub. Claims for users of
// other servers are left as they are.
// Spec: client-server, POST /keys/claim; server-server, POST /user/keys/claim.
func (e *Engine) ClaimKeys(list []e2ee.Claim) error {
	var users []uint32
	for i := range list {
		c := &list[i]
		if c.User.Server() != e.Server {
			continue
		}
		user, err := e.Accounts.Find(c.User)
		if err != nil {
			return err
		}
		if user == 0 {
			continue
		}
		d, err := e.Accounts.Device(user, c.Device)
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return err
		}
		c.Num = d.Num
		users = append(users, user)
	}
	if err := e.E2EE.Claim(list); err != nil {
		return err
	}
	return e.AppServices.Claimed(users)
}

// queried is a user whose keys somebody asks for.
type queried struct {
	num  uint32 // 0: another server tells, and the records do not have them
	id   mxid.UserID
	away bool // of another server
}

// AppendKeys appends what an asker may see of the keys of this hub's users, as
// the members device_keys, master_keys, self_signing_keys and user_signing_keys
// of an object, without its braces. Asker 0 is another server, which is not told
// of the last of them. Queries for users of other servers are passed over.
// Spec: client-server, POST /keys/query; server-server, POST /user/keys/query.
func (e *Engine) AppendKeys(dst []byte, asker uint32, list []e2ee.Query) ([]byte, error) {
	return e.appendKeys(dst, asker, list, &federation.KeyAnswers{})
}

// QueryKeys is AppendKeys for a user of this hub who asks for anybody's keys. failed
// are the servers that did not answer in time.
func (e *Engine) QueryKeys(dst []byte, asker uint32, list []e2ee.Query, limit time.Duration) (out []byte, failed map[mxid.Server]fault.Kind, err error) {
	if !slices.ContainsFunc(list, func(q e2ee.Query) bool { return q.User.Server() != e.Server }) {
		dst, err = e.AppendKeys(dst, asker, list)
		return dst, nil, err
	}
	ctx, cancel := e.untilStop()
	defer cancel()
	answers, err := e.Federation.QueryKeys(ctx, list, limit)
	if err != nil {
		return dst, nil, err
	}
	dst, err = e.appendKeys(dst, asker, list, answers)
	return dst, answers.Failed, err
}

// untilStop is a context that ends with the engine.
func (e *Engine) untilStop() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		select {
		case <-e.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

func (e *Engine) appendKeys(dst []byte, asker uint32, list []e2ee.Query, answers *federation.KeyAnswers) ([]byte, error) {
	var users []queried
	dst = append(dst, `"device_keys":{`...)
	for i := range list {
		q := &list[i]
		u := queried{id: q.User, away: q.User.Server() != e.Server}
		var err error
		if u.num = answers.Known[q.User]; !u.away {
			u.num, err = e.Accounts.Find(q.User)
		}
		if err != nil {
			return dst, err
		}
		told := answers.Of("device_keys", q.User)
		if u.num == 0 && told == nil {
			// Of its own users the hub knows that there is none: clients go on asking
			// for who is left out, and somebody who is nobody may well be invited.
			if _, err := mxid.ParseUser(string(q.User)); err != nil || u.away {
				continue
			}
		}
		if len(users) > 0 {
			dst = append(dst, ',')
		}
		users = append(users, u)
		dst = append(cjson.AppendString(dst, q.User), ':')
		if u.num == 0 {
			dst = appendTold(dst, q.User, told)
		} else if dst, err = e.appendDevices(dst, u, q); err != nil {
			return dst, err
		}
	}
	dst = append(dst, '}')
	for _, u := range [...]struct {
		usage e2ee.Usage
		name  string
	}{{e2ee.Master, "master_keys"}, {e2ee.SelfSigning, "self_signing_keys"}, {e2ee.UserSigning, "user_signing_keys"}} {
		if u.usage == e2ee.UserSigning && asker == 0 {
			break
		}
		var err error
		dst = append(append(append(dst, `,"`...), u.name...), `":{`...)
		told := func(id mxid.UserID) []byte { return answers.Of(u.name, id) }
		if dst, err = e.appendCross(dst, asker, u.usage, users, told); err != nil {
			return dst, err
		}
		dst = append(dst, '}')
	}
	return dst, nil
}

func (e *Engine) appendDevices(dst []byte, u queried, q *e2ee.Query) ([]byte, error) {
	var all []e2ee.Device
	if u.away {
		var err error
		if all, err = e.E2EE.RemoteDevices(u.num); err != nil {
			return dst, err
		}
	} else {
		devices, err := e.Accounts.Devices(u.num)
		if err != nil {
			return dst, err
		}
		for i := range devices {
			all = append(all, e2ee.Device{ID: devices[i].ID, Num: devices[i].Num, Name: devices[i].Name})
		}
	}
	if len(q.Devices) > 0 {
		all = slices.DeleteFunc(all, func(d e2ee.Device) bool { return !slices.Contains(q.Devices, d.ID) })
	}
	return e.E2EE.AppendDeviceKeys(dst, u.num, q.User, all)
}

// appendTold appends what another server says of a user's devices, but for those
// that are of a wrong form or not the user's.
func appendTold(dst []byte, id mxid.UserID, told []byte) []byte {
	dst = append(dst, '{')
	first := true
	_ = cjson.Object(told, func(device, keys []byte) bool { // the answer was checked
		if _, err := e2ee.ParseRemoteDevice(id, string(device), "", keys); err != nil {
			return true
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(append(cjson.AppendString(dst, string(device)), ':'), keys...)
		return true
	})
	return append(dst, '}')
}

// appendCross appends the cross-signing keys of one usage, by user.
func (e *Engine) appendCross(dst []byte, asker uint32, usage e2ee.Usage, users []queried, told func(id mxid.UserID) []byte) ([]byte, error) {
	first := true
	for _, u := range users {
		before := len(dst)
		if !first {
			dst = append(dst, ',')
		}
		dst = append(cjson.AppendString(dst, u.id), ':')
		if u.num == 0 {
			key := told(u.id)
			if key == nil || usage == e2ee.UserSigning {
				dst = dst[:before]
				continue
			}
			dst, first = append(dst, key...), false
			continue
		}
		out, ok, err := e.E2EE.AppendCrossKey(dst, u.num, u.id, asker, usage)
		if err != nil {
			return dst, err
		}
		if dst = out; !ok {
			dst = dst[:before]
			continue
		}
		first = false
	}
	return dst, nil
}

// UploadCrossKeys stores a user's cross-signing keys. proved says that the user
// has just proved who they are; see e2ee.NeedsProof.
// Spec: client-server, POST /keys/device_signing/upload.
func (e *Engine) UploadCrossKeys(s *account.Session, keys *e2ee.CrossKeys, proved bool) error {
	const op = "engine.UploadCrossKeys"
	defer e.Accounts.Hold(s.User)()
	needs, err := e.E2EE.NeedsProof(s.User, keys)
	if err != nil {
		return err
	}
	if needs && !proved {
		return fault.E(fault.Forbidden, op, "the keys have changed meanwhile")
	}
	for _, id := range keys.IDs() {
		_, err := e.Accounts.Device(s.User, id)
		if err == nil {
			return fault.E(fault.Forbidden, op, "a device has the key's id")
		}
		if !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	changed, err := e.E2EE.CheckCrossKeys(s.User, keys)
	if err != nil || !changed {
		return err
	}
	sharers, err := e.Sharers(s.User)
	if err != nil {
		return err
	}
	_, err = e.log.Commit(func(tx *stream.Tx) error {
		if err := e.E2EE.PutCrossKeys(tx, s.User, keys); err != nil {
			return err
		}
		return e.tellKeys(tx, s.User, sharers, &e2ee.Changed{Cross: true})
	})
	return err
}

// UploadSignatures stores signatures that a user made on keys, and says which of
// them were not taken. Spec: client-server, POST /keys/signatures/upload.
func (e *Engine) UploadSignatures(s *account.Session, list []e2ee.Signed) ([]e2ee.SignFailure, error) {
	defer e.Accounts.Hold(s.User)()
	made, err := e.E2EE.CheckSignatures(s.User, s.UserID, list)
	if err != nil || !made.Any() {
		return failed(made), err
	}
	sharers := []uint32{s.User}
	if made.Own.Any() {
		if sharers, err = e.Sharers(s.User); err != nil {
			return nil, err
		}
	}
	_, err = e.log.Commit(func(tx *stream.Tx) error {
		e.E2EE.PutSignatures(tx, made, tx.Next())
		if made.Own.Any() {
			return e.tellKeys(tx, s.User, sharers, &made.Own)
		}
		tx.Put(&stream.Entry{Kind: stream.Devices, User: s.User})
		tx.Wake(sharers...)
		return nil
	})
	return made.Failed, err
}

func failed(s *e2ee.Signatures) []e2ee.SignFailure {
	if s == nil {
		return nil
	}
	return s.Failed
}

// SendToDevice sends messages, by user and device, from a device of this hub;
// the device * stands for all of a user's. Who is not known is passed over; what is
// for users of other servers waits until those servers have it.
// Spec: client-server, PUT /sendToDevice.
func (e *Engine) SendToDevice(s *account.Session, typ, txn string, messages []byte) error {
	const op = "engine.SendToDevice"
	if cjson.KindOf(messages) != cjson.ObjectKind {
		return fault.E(fault.BadJSON, op, "messages must be an object")
	}
	var list []e2ee.Message
	var away []e2ee.Parcel
	// Of equal names one stays: what goes to others is put together anew.
	messages, err := cjson.Canonical(nil, messages, false)
	if err != nil {
		return fault.E(fault.BadJSON, op, "%w", err)
	}
	bad := func() bool {
		err = fault.E(fault.BadJSON, op, "messages must be an object of objects of contents")
		return false
	}
	_ = cjson.Object(messages, func(key, devices []byte) bool { // the body was checked to be JSON
		if cjson.KindOf(devices) != cjson.ObjectKind {
			return bad()
		}
		var have []account.Device
		var user, server uint32
		if user, have, err = e.devicesOf(mxid.UserID(key)); err == nil {
			server, err = e.otherServer(mxid.UserID(key))
		}
		if err != nil {
			return false
		}
		_ = cjson.Object(devices, func(id, content []byte) bool {
			if cjson.KindOf(content) != cjson.ObjectKind {
				return bad()
			}
			if server != 0 {
				away = e2ee.Pack(away, server, string(key), string(id), content)
			}
			for i := range have {
				if string(id) == "*" || string(id) == have[i].ID {
					list = append(list, e2ee.Message{User: user, Device: have[i].Num, Content: content})
				}
			}
			return true
		})
		return err == nil
	})
	if err != nil {
		return err
	}
	return e.E2EE.Send(&e2ee.Sent{Sender: s.UserID, Type: typ, Device: s.DeviceNum, Txn: txn}, list, away...)
}

// otherServer gives the number of the server of a user of another one that the hub
// speaks with; 0 for anybody else.
func (e *Engine) otherServer(id mxid.UserID) (uint32, error) {
	if id.Server() == e.Server || !e.Federation.Reaches(id.Server()) {
		return 0, nil
	}
	if _, err := mxid.ParseUser(string(id)); err != nil {
		return 0, nil
	}
	return e.names.Number(store.Servers, string(id.Server()))
}

// devicesOf lists the devices of a user of this hub; none where there is no such
// user here.
func (e *Engine) devicesOf(id mxid.UserID) (user uint32, list []account.Device, err error) {
	if id.Server() != e.Server {
		return 0, nil, nil
	}
	if user, err = e.Accounts.Find(id); err != nil || user == 0 {
		return 0, nil, err
	}
	list, err = e.Accounts.Devices(user)
	return user, list, err
}

// AppendToDevice appends the messages that wait for a device and came after a
// position, separated by commas. last is the position to go on from.
func (e *Engine) AppendToDevice(dst []byte, device, after uint64) (out []byte, last uint64, err error) {
	dst, pos, _, err := e.E2EE.AppendMessages(dst, device, stream.Pos(after), e.log.Tip())
	return dst, uint64(pos), err
}
