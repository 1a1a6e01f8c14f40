package e2ee

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strconv"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/fields"
	"hearth/engine/store"
)

// SessionKey is the key of one megolm session in a backup.
type SessionKey struct {
	Room, Session string
	verified      bool
	first         uint64
	forwarded     uint64
	data          []byte // JSON object
}

func sessionPrefix(user, version uint32) []byte {
	return store.U32(store.U32(store.BackupKey.Prefix(), user), version)
}

func roomPrefix(user, version uint32, room string) []byte {
	return appendShort(sessionPrefix(user, version), room)
}

func sessionKey(user, version uint32, room, session string) []byte {
	return append(roomPrefix(user, version, room), session...)
}

// ParseSessionKey checks one key. Spec: client-server, KeyBackupData.
func ParseSessionKey(room, session string, raw []byte) (SessionKey, error) {
	const op = "e2ee.SessionKey"
	k := SessionKey{Room: room, Session: session}
	if room == "" || session == "" || len(room) > maxRoomID || len(session) > maxSession {
		return k, fault.E(fault.Invalid, op, "room and session ids have at most %d bytes", maxRoomID)
	}
	if cjson.KindOf(raw) != cjson.ObjectKind {
		return k, fault.E(fault.BadJSON, op, "a key must be an object")
	}
	if len(raw) > maxKeyData {
		return k, fault.E(fault.TooLarge, op, "a key has at most %d bytes", maxKeyData)
	}
	for _, f := range [...]struct {
		name string
		to   *uint64
	}{{"first_message_index", &k.first}, {"forwarded_count", &k.forwarded}} {
		val, _ := cjson.Lookup(raw, f.name)
		n, ok := cjson.IntLenient(val)
		if !ok || n < 0 {
			return k, fault.E(fault.BadJSON, op, "%s must be a whole number", f.name)
		}
		*f.to = uint64(n)
	}
	val, _ := cjson.Lookup(raw, "is_verified")
	var ok bool
	if k.verified, ok = cjson.Bool(val); !ok {
		return k, fault.E(fault.BadJSON, op, "is_verified must be true or false")
	}
	if k.data, ok = cjson.Lookup(raw, "session_data"); !ok || cjson.KindOf(k.data) != cjson.ObjectKind {
		return k, fault.E(fault.BadJSON, op, "session_data must be an object")
	}
	return k, nil
}

// ParseSessionKeys reads the member sessions of an object, or where room is empty
// the member rooms with sessions in each.
func ParseSessionKeys(room string, obj []byte) ([]SessionKey, error) {
	if room != "" {
		return parseSessions(nil, room, obj)
	}
	rooms, ok := cjson.Lookup(obj, "rooms")
	if !ok || cjson.KindOf(rooms) != cjson.ObjectKind {
		return nil, fault.E(fault.BadJSON, "e2ee.SessionKeys", "rooms must be an object")
	}
	var list []SessionKey
	var err error
	_ = cjson.Object(rooms, func(key, val []byte) bool { // it has been checked to be JSON
		list, err = parseSessions(list, string(key), val)
		return err == nil
	})
	return list, err
}

func parseSessions(list []SessionKey, room string, obj []byte) ([]SessionKey, error) {
	sessions, ok := cjson.Lookup(obj, "sessions")
	if !ok || cjson.KindOf(sessions) != cjson.ObjectKind {
		return nil, fault.E(fault.BadJSON, "e2ee.SessionKeys", "sessions must be an object")
	}
	var err error
	_ = cjson.Object(sessions, func(key, val []byte) bool { // it has been checked to be JSON
		var k SessionKey
		k, err = ParseSessionKey(room, string(key), val)
		list = append(list, k)
		return err == nil
	})
	return list, err
}

func (k *SessionKey) append(dst []byte) []byte {
	var verified uint64
	if k.verified {
		verified = 1
	}
	dst = binary.AppendUvarint(binary.AppendUvarint(binary.AppendUvarint(dst, verified), k.first), k.forwarded)
	return fields.AppendText(dst, k.data)
}

func (k *SessionKey) parse(row []byte) error {
	d := fields.Open(row)
	k.verified, k.first, k.forwarded, k.data = d.Uint() != 0, d.Uint(), d.Uint(), d.Bytes()
	return rowErr(&d, "a backed-up key")
}

// better says whether k replaces a key that is there: one from a verified device
// first, then the one that decrypts more, then the one that was passed on less.
// Spec: client-server, server-side key backups.
func (k *SessionKey) better(old *SessionKey) bool {
	switch {
	case k.verified != old.verified:
		return k.verified
	case k.first != old.first:
		return k.first < old.first
	}
	return k.forwarded < old.forwarded
}

func (k *SessionKey) appendJSON(dst []byte) []byte {
	dst = strconv.AppendUint(append(dst, `{"first_message_index":`...), k.first, 10)
	dst = strconv.AppendUint(append(dst, `,"forwarded_count":`...), k.forwarded, 10)
	dst = strconv.AppendBool(append(dst, `,"is_verified":`...), k.verified)
	return append(append(append(dst, `,"session_data":`...), k.data...), '}')
}

// PutSessionKeys adds keys to the current version; those that are no better than
// what is there are left out. The result is the version as it is then.
//
// Errors: NotFound where there is no such version, WrongKeysVersion where it is
// not the current one.
func (r *Records) PutSessionKeys(user, version uint32, list []SessionKey) (Backup, error) {
	const op = "e2ee.PutSessionKeys"
	mu := r.holdBackups(user)
	mu.Lock()
	defer mu.Unlock()
	v, err := r.CurrentBackup(user)
	if err != nil {
		return v, err
	}
	if v.Version != version {
		return v, fault.E(fault.WrongKeysVersion, op, "keys are added to the current version only, which is %d", v.Version)
	}
	b := r.st.NewBatch()
	put := map[string]bool{} // new rows of this batch, so that a session that comes twice counts once
	for i := range list {
		k := &list[i]
		key := sessionKey(user, version, k.Room, k.Session)
		row, has, err := r.st.Get(nil, key)
		if err != nil {
			b.Drop()
			return v, err
		}
		if has {
			var old SessionKey
			if err := old.parse(row); err != nil {
				b.Drop()
				return v, err
			}
			if !k.better(&old) {
				continue
			}
		} else if !put[string(key)] {
			v.Count++
		}
		put[string(key)] = true
		b.Set(key, k.append(fields.New()))
	}
	if v.Count > maxBackup {
		b.Drop()
		return v, fault.E(fault.TooLarge, op, "a key backup holds at most %d keys", maxBackup)
	}
	if b.Empty() {
		b.Drop()
		return v, nil
	}
	v.Etag++
	setBackup(b, user, &v)
	return v, r.st.Commit(b)
}

// DeleteSessionKeys deletes the key of a session; of all sessions of a room where
// session is empty; all keys where room is empty too. The result is the version as
// it is then.
func (r *Records) DeleteSessionKeys(user, version uint32, room, session string) (Backup, error) {
	mu := r.holdBackups(user)
	mu.Lock()
	defer mu.Unlock()
	v, err := r.Backup(user, version)
	if err != nil || len(room) > maxRoomID || len(session) > maxSession {
		return v, err
	}
	prefix, exact := sessionRange(user, version, room, session)
	var n uint64
	count := func(key, _ []byte) (bool, error) {
		if !exact || len(key) == len(prefix) {
			n++
		}
		return !exact, nil
	}
	if err := r.st.ScanPrefix(prefix, count); err != nil || n == 0 {
		return v, err
	}
	b := r.st.NewBatch()
	if exact {
		b.Delete(prefix)
	} else {
		b.DeleteRange(prefix, store.After(prefix))
	}
	v.Count -= min(n, v.Count)
	v.Etag++
	setBackup(b, user, &v)
	return v, r.st.Commit(b)
}

// sessionRange begins the rows of a backup, a room or a session in it; exact says
// that it is the one row itself.
func sessionRange(user, version uint32, room, session string) (prefix []byte, exact bool) {
	switch {
	case room == "":
		return sessionPrefix(user, version), false
	case session == "":
		return roomPrefix(user, version, room), false
	}
	return sessionKey(user, version, room, session), true
}

// AppendSessionKey appends the key of one session. NotFound where there is none.
func (r *Records) AppendSessionKey(dst []byte, user, version uint32, room, session string) ([]byte, error) {
	if _, err := r.Backup(user, version); err != nil {
		return dst, err
	}
	var row []byte
	ok := len(room) <= maxRoomID
	if ok {
		var err error
		if row, ok, err = r.st.Get(nil, sessionKey(user, version, room, session)); err != nil {
			return dst, err
		}
	}
	if !ok {
		return dst, fault.E(fault.NotFound, "e2ee.SessionKey", "there is no such key in the backup")
	}
	var k SessionKey
	if err := k.parse(row); err != nil {
		return dst, err
	}
	return k.appendJSON(dst), nil
}

// KeyReader writes out the keys of a backup as JSON, a page at a time: a backup
// may be larger than the hub's memory. It is an io.Reader.
type KeyReader struct {
	r     *Records
	room  string // the one room; empty: all
	lower []byte // first key that is not read yet; nil: the end has been read
	upper []byte
	cut   int    // length of the prefix before the room's id
	last  []byte // room of the last key; nil: none yet
	buf   []byte // written and not read yet, from off on
	off   int
}

// Keys reads all keys of a version, or those of one room where room is not empty.
// NotFound where there is no such version.
func (r *Records) Keys(user, version uint32, room string) (*KeyReader, error) {
	if _, err := r.Backup(user, version); err != nil {
		return nil, err
	}
	k := &KeyReader{r: r, room: room, cut: len(sessionPrefix(user, version))}
	if len(room) > maxRoomID {
		k.buf = []byte(`{"sessions":{}}`)
		return k, nil
	}
	k.lower, _ = sessionRange(user, version, room, "")
	k.upper = store.After(k.lower)
	k.buf = append(k.buf, `{"rooms":{`...)
	if room != "" {
		k.buf = append(k.buf[:0], `{"sessions":{`...)
	}
	return k, nil
}

// page is how many bytes are made before some are given out.
const page = 32 << 10

func (k *KeyReader) Read(p []byte) (int, error) {
	if k.off == len(k.buf) {
		k.buf, k.off = k.buf[:0], 0
	}
	if k.lower != nil && len(k.buf)-k.off < page {
		if err := k.fill(); err != nil {
			return 0, err
		}
	}
	if k.off == len(k.buf) {
		return 0, io.EOF
	}
	n := copy(p, k.buf[k.off:])
	k.off += n
	return n, nil
}

// fill reads on until there is a page.
func (k *KeyReader) fill() error {
	done := true
	err := k.r.st.Scan(k.lower, k.upper, func(key, row []byte) (bool, error) {
		room, session, ok := cutShort(key[k.cut:])
		if !ok {
			return false, corrupt("a backed-up key")
		}
		var s SessionKey
		if err := s.parse(row); err != nil {
			return false, err
		}
		k.begin(room)
		k.buf = append(cjson.AppendString(k.buf, string(session)), ':')
		k.buf = s.appendJSON(k.buf)
		if len(k.buf)-k.off < page {
			return true, nil
		}
		k.lower, done = append(append(k.lower[:0:0], key...), 0), false
		return false, nil
	})
	if err != nil {
		return errors.Join(err, io.ErrUnexpectedEOF)
	}
	if !done {
		return nil
	}
	k.lower = nil
	if k.room == "" && k.last != nil {
		k.buf = append(k.buf, '}', '}')
	}
	k.buf = append(k.buf, '}', '}')
	return nil
}

// begin appends what stands before a key of that room.
func (k *KeyReader) begin(room []byte) {
	switch {
	case k.last != nil && bytes.Equal(k.last, room):
		k.buf = append(k.buf, ',')
		return
	case k.room != "":
	case k.last != nil:
		k.buf = append(k.buf, '}', '}', ',')
		fallthrough
	default:
		k.buf = append(cjson.AppendString(k.buf, string(room)), `:{"sessions":{`...)
	}
	k.last = append(k.last[:0:0], room...)
}
