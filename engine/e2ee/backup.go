package e2ee

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"sync"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/fields"
	"hearth/engine/store"
)

// Bounds of a user's backups.
const (
	maxVersions  = 1000
	maxAuthData  = 32 << 10
	maxAlgorithm = 255
	maxRoomID    = 255
	maxSession   = 255
	maxKeyData   = 32 << 10
	maxBackup    = 1_000_000 // keys of one version: some 700 MB, far above what people have
)

// Backup is one version of a user's key backup. Spec: client-server, server-side
// key backups.
type Backup struct {
	Version   uint32
	Algorithm string
	AuthData  []byte // canonical JSON
	Etag      uint64 // grows with every change of the keys
	Count     uint64 // keys in it

	deleted bool // the row stays, so that a second deletion is none of an unknown version
}

func backupKey(user, version uint32) []byte {
	return store.U32(store.U32(store.Backup.Prefix(), user), version)
}

func (v *Backup) append(dst []byte) []byte {
	var deleted uint64
	if v.deleted {
		deleted = 1
	}
	dst = fields.AppendText(fields.AppendText(dst, v.Algorithm), v.AuthData)
	dst = binary.AppendUvarint(binary.AppendUvarint(dst, v.Etag), v.Count)
	return binary.AppendUvarint(dst, deleted)
}

func parseBackup(version uint32, row []byte) (Backup, error) {
	d := fields.Open(row)
	v := Backup{Version: version, Algorithm: string(d.Bytes()), AuthData: bytes.Clone(d.Bytes()), Etag: d.Uint(), Count: d.Uint()}
	v.deleted = d.Uint() != 0
	return v, rowErr(&d, "a key backup")
}

func setBackup(b *store.Batch, user uint32, v *Backup) {
	b.Set(backupKey(user, v.Version), v.append(fields.New()))
}

func (r *Records) holdBackups(user uint32) *sync.Mutex {
	return &r.backups[user%uint32(len(r.backups))]
}

// ParseVersion reads a version as it stands in paths and queries; 0 is none.
func ParseVersion(s string) uint32 {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || s[0] == '+' || s[0] == '0' {
		return 0
	}
	return uint32(n)
}

// Backup reads a version. NotFound where there is none such, or no more.
func (r *Records) Backup(user, version uint32) (Backup, error) {
	row, ok, err := r.st.Get(nil, backupKey(user, version))
	if err != nil {
		return Backup{}, err
	}
	var v Backup
	if ok {
		v, err = parseBackup(version, row)
	}
	if err == nil && (!ok || v.deleted) {
		err = fault.E(fault.NotFound, "e2ee.Backup", "there is no such version of the key backup")
	}
	return v, err
}

// CurrentBackup reads the newest version that is there. NotFound where there is none.
func (r *Records) CurrentBackup(user uint32) (v Backup, err error) {
	found := false
	prefix := store.U32(store.Backup.Prefix(), user)
	err = r.st.ScanBack(prefix, store.After(prefix), func(key, row []byte) (bool, error) {
		v, err = parseBackup(binary.BigEndian.Uint32(key[5:]), row)
		found = err == nil && !v.deleted
		return !found, err
	})
	if err == nil && !found {
		err = fault.E(fault.NotFound, "e2ee.CurrentBackup", "there is no key backup")
	}
	return v, err
}

// parseAuth reads the description of a backup.
func parseAuth(body []byte) (algorithm string, auth []byte, err error) {
	const op = "e2ee.Backup"
	if algorithm, err = mustString(op, body, "algorithm"); err != nil {
		return "", nil, err
	}
	auth, ok := cjson.Lookup(body, "auth_data")
	if !ok || cjson.KindOf(auth) != cjson.ObjectKind {
		return "", nil, fault.E(fault.BadJSON, op, "auth_data must be an object")
	}
	if len(auth) > maxAuthData || len(algorithm) > maxAlgorithm {
		return "", nil, fault.E(fault.TooLarge, op, "auth_data has at most %d bytes", maxAuthData)
	}
	if auth, err = cjson.Canonical(nil, auth, false); err != nil {
		return "", nil, fault.E(fault.BadJSON, op, "%w", err)
	}
	return algorithm, auth, nil
}

// NewBackup makes a new version, which is the current one from then on. The
// older ones stay until they are deleted. Spec: client-server, POST
// /room_keys/version.
func (r *Records) NewBackup(user uint32, body []byte) (uint32, error) {
	algorithm, auth, err := parseAuth(body)
	if err != nil {
		return 0, err
	}
	mu := r.holdBackups(user)
	mu.Lock()
	defer mu.Unlock()
	prefix := store.U32(store.Backup.Prefix(), user)
	last, err := r.st.Last(prefix, store.After(prefix))
	if err != nil {
		return 0, err
	}
	v := Backup{Version: 1, Algorithm: algorithm, AuthData: auth}
	if len(last) == 9 {
		v.Version = binary.BigEndian.Uint32(last[5:]) + 1
	}
	if v.Version > maxVersions {
		return 0, fault.E(fault.Forbidden, "e2ee.NewBackup", "a user makes at most %d key backups", maxVersions)
	}
	b := r.st.NewBatch()
	setBackup(b, user, &v)
	return v.Version, r.st.Commit(b)
}

// SetBackupAuth changes the auth_data of a version; nothing else of it changes.
// Spec: client-server, PUT /room_keys/version/{version}.
func (r *Records) SetBackupAuth(user, version uint32, body []byte) error {
	const op = "e2ee.SetBackupAuth"
	algorithm, auth, err := parseAuth(body)
	if err != nil {
		return err
	}
	if raw, ok := member(body, "version"); ok {
		if s, ok := cjson.String(raw); !ok || ParseVersion(s) != version {
			return fault.E(fault.Invalid, op, "the version in the body is not that in the path")
		}
	}
	mu := r.holdBackups(user)
	mu.Lock()
	defer mu.Unlock()
	v, err := r.Backup(user, version)
	if err != nil {
		return err
	}
	if algorithm != v.Algorithm {
		return fault.E(fault.Invalid, op, "the algorithm of a key backup does not change")
	}
	v.AuthData = auth
	b := r.st.NewBatch()
	setBackup(b, user, &v)
	return r.st.Commit(b)
}

// DeleteBackup deletes a version and its keys. One that was deleted before is
// no error. Spec: client-server, DELETE /room_keys/version/{version}.
func (r *Records) DeleteBackup(user, version uint32) error {
	mu := r.holdBackups(user)
	mu.Lock()
	defer mu.Unlock()
	row, ok, err := r.st.Get(nil, backupKey(user, version))
	if err != nil {
		return err
	}
	if !ok {
		return fault.E(fault.NotFound, "e2ee.DeleteBackup", "there is no such version of the key backup")
	}
	v, err := parseBackup(version, row)
	if err != nil || v.deleted {
		return err
	}
	b := r.st.NewBatch()
	setBackup(b, user, &Backup{Version: version, deleted: true})
	prefix := sessionPrefix(user, version)
	b.DeleteRange(prefix, store.After(prefix))
	return r.st.Commit(b)
}
