package media

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"time"

	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
)

// Kind says why a file is here.
type Kind uint8

// The kinds. They are on disk.
const (
	Local   Kind = 0 // uploaded here by a user
	Remote  Kind = 1 // a copy of another server's file
	Preview Kind = 2 // the picture of a link preview
	Thumb   Kind = 3 // a thumbnail that another server made of its file
)

// Media is what is known of one file.
type Media struct {
	Origin  mxid.Server
	ID      string
	Owner   uint32 // interned user; 0 for what nobody here uploaded
	Kind    Kind
	Type    string // as the uploader said; never empty
	Name    string // as the uploader said; may be empty
	Size    int64
	Created time.Time
	Access  time.Time // the day of the last download
	Hash    [sha256.Size]byte
	Blocked bool // not served to anybody

	key     key
	stored  bool      // the file is here; otherwise the id is only reserved
	expires time.Time // of a reserved id
}

// URI is the file's mxc address.
func (m *Media) URI() string { return "mxc://" + string(m.Origin) + "/" + m.ID }

// key names a file in rows and on the disk.
type key [16]byte

func keyOf(origin mxid.Server, id string) (k key) {
	h := sha256.Sum256([]byte(string(origin) + "/" + id))
	copy(k[:], h[:])
	return k
}

func (k key) row() []byte { return append(store.Media.Prefix(), k[:]...) }

func (k key) owned(user uint32) []byte {
	return append(store.U32(store.MediaOwner.Prefix(), user), k[:]...)
}

// name is the file's, inside its folder.
func (k key) name() string { return hex.EncodeToString(k[:]) }

const keyName = 2 * len(key{}) // bytes of a name

func keyOfName(name string) (k key, ok bool) {
	if len(name) < keyName {
		return k, false
	}
	_, err := hex.Decode(k[:], []byte(name[:keyName]))
	return k, err == nil
}

// Bits of a row's flags.
const (
	flagStored = 1 << iota
	flagBlocked
)

// Rows begin with a version byte; fields are only ever added at the end.
const rowVersion = 1

const daySeconds = 24 * 60 * 60

func (m *Media) append(dst []byte) []byte {
	flags := uint64(0)
	if m.stored {
		flags |= flagStored
	}
	if m.Blocked {
		flags |= flagBlocked
	}
	dst = append(dst, rowVersion, byte(m.Kind))
	for _, v := range [...]uint64{
		flags, uint64(m.Owner), uint64(m.Size), uint64(m.Created.UnixMilli()), uint64(m.Access.Unix() / daySeconds), millis(m.expires),
	} {
		dst = binary.AppendUvarint(dst, v)
	}
	dst = append(dst, m.Hash[:]...)
	for _, s := range [...]string{string(m.Origin), m.ID, m.Type, m.Name} {
		dst = append(binary.AppendUvarint(dst, uint64(len(s))), s...)
	}
	return dst
}

func millis(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixMilli())
}

func parseRow(k key, row []byte) (*Media, error) {
	if len(row) < 2 || row[0] != rowVersion {
		return nil, errRow
	}
	m := &Media{key: k, Kind: Kind(row[1])}
	row = row[2:]
	var num [6]uint64
	for i := range num {
		v, n := binary.Uvarint(row)
		if n <= 0 {
			return nil, errRow
		}
		num[i], row = v, row[n:]
	}
	m.stored, m.Blocked = num[0]&flagStored != 0, num[0]&flagBlocked != 0
	m.Owner, m.Size = uint32(num[1]), int64(num[2])
	m.Created, m.Access = time.UnixMilli(int64(num[3])), time.Unix(int64(num[4])*daySeconds, 0)
	if num[5] != 0 {
		m.expires = time.UnixMilli(int64(num[5]))
	}
	if len(row) < len(m.Hash) {
		return nil, errRow
	}
	row = row[copy(m.Hash[:], row):]
	var text [4]string
	for i := range text {
		v, n := binary.Uvarint(row)
		if n <= 0 || v > uint64(len(row)-n) {
			return nil, errRow
		}
		text[i], row = string(row[n:n+int(v)]), row[n+int(v):]
	}
	m.Origin, m.ID, m.Type, m.Name = mxid.Server(text[0]), text[1], text[2], text[3]
	return m, nil
}

var errRow = fault.E(fault.Corrupt, "media", "the row of a file cannot be read")

// usage is what a user has stored, or all together have.
type usage struct {
	bytes, files, reserved int64
}

// Users of MediaUsage that are none.
const (
	everybody uint32 = 0
	cached    uint32 = 1<<32 - 1 // files of kinds other than Local
)

func usageKey(user uint32) []byte { return store.U32(store.MediaUsage.Prefix(), user) }

func (r *Records) usage(user uint32) (u usage, err error) {
	row, ok, err := r.st.Get(nil, usageKey(user))
	if err != nil || !ok {
		return u, err
	}
	for _, p := range [...]*int64{&u.bytes, &u.files, &u.reserved} {
		v, n := binary.Varint(row)
		if n <= 0 {
			return u, errRow
		}
		*p, row = v, row[n:]
	}
	return u, nil
}

// tally is what a batch adds to usages, by user.
type tally map[uint32]usage

// add counts a change of what the owner of m and everybody have stored.
func (t tally) add(m *Media, d usage) {
	t.plus(everybody, d)
	if m.Owner != 0 {
		t.plus(m.Owner, d)
	}
	if m.Kind != Local {
		t.plus(cached, d)
	}
}

func (t tally) plus(user uint32, d usage) {
	u := t[user]
	t[user] = usage{u.bytes + d.bytes, u.files + d.files, u.reserved + d.reserved}
}

// settle puts the new usages into the batch. It needs mu.
func (r *Records) settle(b *store.Batch, t tally) error {
	for user, d := range t {
		u, err := r.usage(user)
		if err != nil {
			return err
		}
		row := binary.AppendVarint(nil, u.bytes+d.bytes)
		row = binary.AppendVarint(row, u.files+d.files)
		b.Set(usageKey(user), binary.AppendVarint(row, u.reserved+d.reserved))
	}
	return nil
}
