package e2ee

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"strconv"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/fields"
	"hearth/engine/mxid"
	"hearth/engine/store"
)

// supply is how many one-time keys a device has left. It is told with every
// sync, so it is kept in memory.
type supply struct {
	counts []count
	unused []string // algorithms with a fallback key that nobody was given yet
	next   uint64   // number of the next one-time key
	total  int
}

type count struct {
	algorithm string
	n         int
}

func (s *supply) add(algorithm string, n int) {
	s.total += n
	for i := range s.counts {
		if s.counts[i].algorithm == algorithm {
			s.counts[i].n += n
			return
		}
	}
	s.counts = append(s.counts, count{algorithm, n})
}

func (s *supply) use(algorithm string) {
	s.unused = slices.DeleteFunc(s.unused, func(a string) bool { return a == algorithm })
}

func oneTimePrefix(device uint64, algorithm string) []byte {
	return appendShort(store.U64(store.OneTimeKey.Prefix(), device), algorithm)
}

func fallbackKey(device uint64, algorithm string) []byte {
	return append(store.U64(store.FallbackKey.Prefix(), device), algorithm...)
}

// eachOneTime calls f for the one-time keys of a device.
func (r *Records) eachOneTime(device uint64, f func(algorithm, row []byte, num uint64) error) error {
	prefix := store.U64(store.OneTimeKey.Prefix(), device)
	return r.st.ScanPrefix(prefix, func(key, row []byte) (bool, error) {
		algorithm, num, ok := cutShort(key[len(prefix):])
		if !ok || len(num) != 8 {
			return false, corrupt("a one-time key")
		}
		return true, f(algorithm, row, binary.BigEndian.Uint64(num))
	})
}

// load finds a device's supply. It needs keys.
func (r *Records) load(device uint64) (*supply, error) {
	if s := r.supply[device]; s != nil {
		return s, nil
	}
	s := &supply{}
	err := r.eachOneTime(device, func(algorithm, _ []byte, num uint64) error {
		s.next = max(s.next, num+1)
		s.add(string(algorithm), 1)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := r.loadFallback(device, s); err != nil {
		return nil, err
	}
	evict(r.supply)
	r.supply[device] = s
	return s, nil
}

func (r *Records) loadFallback(device uint64, s *supply) error {
	prefix := store.U64(store.FallbackKey.Prefix(), device)
	return r.st.ScanPrefix(prefix, func(key, row []byte) (bool, error) {
		d := fields.Open(row)
		if d.Uint() == 0 {
			s.unused = append(s.unused, string(key[len(prefix):]))
		}
		return true, rowErr(&d, "a fallback key")
	})
}

// place holds an upload against what the device has: the keys that are new, and
// the supply as it will be but for those keys. A key that came before is left out where it is the
// same, and refused where it is another under the same name. It needs keys.
func (r *Records) place(u *Upload) (after *supply, fresh []oneTime, err error) {
	const op = "e2ee.Upload"
	after = &supply{}
	known := make([]bool, len(u.oneTime))
	err = r.eachOneTime(u.Num, func(algorithm, row []byte, num uint64) error {
		after.next = max(after.next, num+1)
		after.add(string(algorithm), 1)
		d := fields.Open(row)
		id, json := d.Bytes(), d.Bytes()
		i, same := slices.BinarySearchFunc(u.oneTime, struct{}{}, func(k oneTime, _ struct{}) int {
			return compareName(k.name, algorithm, id)
		})
		if same && !bytes.Equal(json, u.oneTime[i].json) {
			return fault.E(fault.Invalid, op, "the hub has another one-time key named %s", u.oneTime[i].name)
		}
		if same {
			known[i] = true
		}
		return rowErr(&d, "a one-time key")
	})
	if err != nil {
		return nil, nil, err
	}
	for i := range u.oneTime {
		if !known[i] {
			fresh = append(fresh, u.oneTime[i])
		}
	}
	if after.total+len(fresh) > maxOneTime {
		return nil, nil, fault.E(fault.Invalid, op, "a device has at most %d one-time keys", maxOneTime)
	}
	for i := range fresh {
		after.add(fresh[i].algorithm(), 1)
	}
	return after, fresh, r.placeFallback(u, after)
}

// placeFallback leaves out of the upload the fallback keys that are there, so
// that a key which was given to somebody stays used.
func (r *Records) placeFallback(u *Upload, after *supply) error {
	if err := r.loadFallback(u.Num, after); err != nil {
		return err
	}
	var fresh []oneTime
	for i := range u.fallback {
		k := &u.fallback[i]
		row, ok, err := r.st.Get(nil, fallbackKey(u.Num, k.algorithm()))
		if err != nil {
			return err
		}
		if ok {
			d := fields.Open(row)
			d.Uint()
			if string(d.Bytes()) == k.id() && bytes.Equal(d.Bytes(), k.json) {
				continue
			}
		}
		after.use(k.algorithm())
		after.unused = append(after.unused, k.algorithm())
		fresh = append(fresh, *k)
	}
	u.fallback = fresh
	if len(after.unused) > maxFallback {
		return fault.E(fault.Invalid, "e2ee.Upload", "a device has fallback keys of at most %d algorithms", maxFallback)
	}
	return nil
}

// compareName compares "algorithm:id" with its parts.
func compareName(name string, algorithm, id []byte) int {
	var buf [2*maxID + 1]byte
	other := append(append(append(buf[:0], algorithm...), ':'), id...)
	return cmp.Compare(name, string(other))
}

// putOneTime writes one-time keys with numbers from next on.
func putOneTime(b *store.Batch, device uint64, fresh []oneTime, next uint64) {
	for i := range fresh {
		k := &fresh[i]
		row := fields.AppendText(fields.AppendText(fields.New(), k.id()), k.json)
		b.Set(store.U64(oneTimePrefix(device, k.algorithm()), next+uint64(i)), row)
	}
}

func putFallback(b *store.Batch, device uint64, fresh []oneTime) {
	for i := range fresh {
		k := &fresh[i]
		b.Set(fallbackKey(device, k.algorithm()), fallbackRow(false, k.id(), k.json))
	}
}

func fallbackRow[S ~string | ~[]byte](used bool, id S, json []byte) []byte {
	var flag uint64
	if used {
		flag = 1
	}
	return fields.AppendText(fields.AppendText(binary.AppendUvarint(fields.New(), flag), id), json)
}

// usual is the algorithm that clients have one-time keys of.
const usual = "signed_curve25519"

// AppendCounts appends how many one-time keys a device has left, by algorithm. By
// the specification one that is not named has none left, but clients of the Rust SDK
// make new keys only when they read a number, so the usual one is always named.
// Spec: client-server, POST /keys/upload and extensions to /sync.
func (r *Records) AppendCounts(dst []byte, device uint64) ([]byte, error) {
	r.keys.Lock()
	defer r.keys.Unlock()
	s, err := r.load(device)
	if err != nil {
		return dst, err
	}
	dst = append(dst, '{')
	named := false
	for i := range s.counts {
		named = named || s.counts[i].algorithm == usual
		dst = append(cjson.AppendString(dst, s.counts[i].algorithm), ':')
		dst = append(strconv.AppendInt(dst, int64(s.counts[i].n), 10), ',')
	}
	if named {
		dst[len(dst)-1] = '}'
		return dst, nil
	}
	return append(dst, `"`+usual+`":0}`...), nil
}

// AppendUnused appends the algorithms of which a device has a fallback key that
// nobody was given yet. Spec: client-server, extensions to /sync.
func (r *Records) AppendUnused(dst []byte, device uint64) ([]byte, error) {
	r.keys.Lock()
	defer r.keys.Unlock()
	s, err := r.load(device)
	if err != nil {
		return dst, err
	}
	dst = append(dst, '[')
	for i, a := range s.unused {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = cjson.AppendString(dst, a)
	}
	return append(dst, ']'), nil
}

// Claim asks for a one-time key of a device. Num is the device's number, which
// the caller finds; what Records.Claim finds is in KeyID and Key.
type Claim struct {
	User      mxid.UserID
	Device    string
	Algorithm string

	Num   uint64
	KeyID string // "algorithm:id"; empty where there is no key left
	Key   []byte // its JSON
}

// ParseClaims reads who asks for which keys: the member one_time_keys of a
// request, by user and device. No device is asked twice.
// Spec: client-server, POST /keys/claim; server-server, POST /user/keys/claim.
func ParseClaims(body []byte) ([]Claim, error) {
	const op = "e2ee.Claim"
	raw, ok := cjson.Lookup(body, "one_time_keys")
	if !ok {
		return nil, fault.E(fault.Missing, op, "whose one_time_keys?")
	}
	bad := fault.E(fault.BadJSON, op, "one_time_keys must be an object of objects of algorithms")
	if cjson.KindOf(raw) != cjson.ObjectKind {
		return nil, bad
	}
	raw, err := cjson.Canonical(nil, raw, false) // of equal names one stays
	if err != nil {
		return nil, fault.E(fault.BadJSON, op, "%w", err)
	}
	var list []Claim
	good := eachIn(raw, func(user, devices []byte) bool {
		id := mxid.UserID(user)
		return eachIn(devices, func(device, val []byte) bool {
			algorithm, ok := cjson.String(val)
			list = append(list, Claim{User: id, Device: string(device), Algorithm: algorithm})
			return ok && len(list) <= maxClaims
		})
	})
	switch {
	case len(list) > maxClaims:
		return nil, fault.E(fault.TooLarge, op, "at most %d keys can be claimed at once", maxClaims)
	case !good:
		return nil, bad
	}
	return list, nil
}

// claimsAtOnce is how many keys are taken under one hold of the lock.
const claimsAtOnce = 128

// Claim takes the oldest one-time key for each claim whose Num is set, or else
// the fallback key. When it returns the keys are gone on disk, so that nobody
// is given one twice.
func (r *Records) Claim(list []Claim) error {
	for part := range slices.Chunk(list, claimsAtOnce) {
		b, err := r.claim(part)
		if err != nil {
			return err
		}
		if b == nil {
			continue
		}
		if err := b.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// claim applies a batch that has still to be waited for; nil where none is needed.
func (r *Records) claim(list []Claim) (*store.Batch, error) {
	r.keys.Lock()
	defer r.keys.Unlock()
	b := r.st.NewBatch()
	for i := range list {
		c := &list[i]
		if c.Num == 0 || len(c.Algorithm) > maxID {
			continue
		}
		if err := r.take(b, c); err != nil {
			b.Drop()
			clear(r.supply)
			return nil, err
		}
	}
	if b.Empty() {
		b.Drop()
		return nil, nil
	}
	return b, r.st.Start(b)
}

// take finds the key of one claim.
func (r *Records) take(b *store.Batch, c *Claim) error {
	s := r.supply[c.Num]
	err := r.st.ScanPrefix(oneTimePrefix(c.Num, c.Algorithm), func(key, row []byte) (bool, error) {
		d := fields.Open(row)
		c.KeyID = c.Algorithm + ":" + string(d.Bytes())
		c.Key = slices.Clone(d.Bytes())
		b.Delete(key)
		return false, rowErr(&d, "a one-time key")
	})
	if err != nil {
		return err
	}
	if c.Key != nil {
		if s != nil {
			s.add(c.Algorithm, -1)
		}
		return nil
	}
	key := fallbackKey(c.Num, c.Algorithm)
	row, ok, err := r.st.Get(nil, key)
	if err != nil || !ok {
		return err
	}
	d := fields.Open(row)
	used, id := d.Uint() != 0, d.Bytes()
	c.KeyID, c.Key = c.Algorithm+":"+string(id), d.Bytes()
	if !used {
		b.Set(key, fallbackRow(true, id, c.Key))
		if s != nil {
			s.use(c.Algorithm)
		}
	}
	return rowErr(&d, "a fallback key")
}

// AppendClaimed appends what was claimed, by user and device. The list is in the
// order in which ParseClaims gave it.
func AppendClaimed(dst []byte, list []Claim) []byte {
	dst = append(dst, '{')
	var last mxid.UserID
	for i := range list {
		c := &list[i]
		if c.Key == nil {
			continue
		}
		switch {
		case last == c.User:
			dst = append(dst, ',')
		case last != "":
			dst = append(dst, '}', ',')
			fallthrough
		default:
			dst = append(cjson.AppendString(dst, c.User), ':', '{')
			last = c.User
		}
		dst = append(cjson.AppendString(dst, c.Device), ':', '{')
		dst = append(cjson.AppendString(dst, c.KeyID), ':')
		dst = append(append(dst, c.Key...), '}')
	}
	if last != "" {
		dst = append(dst, '}')
	}
	return append(dst, '}')
}
