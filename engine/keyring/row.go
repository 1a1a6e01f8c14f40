package keyring

import (
	"bytes"
	"encoding/binary"
	"slices"

	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
)

// key is all that is known of one public key of a server. Times are in
// milliseconds.
type key struct {
	id          string
	pub         [32]byte
	first, last int64 // seen
	until       int64 // the latest time to which it was said to be valid; 0: it was never seen in use
	expired     int64 // when it was retired, by the last word on it; 0: it was not
	said        int64 // valid_until_ts of the last word, by which words are put in order
}

// validAt says whether an event of that time may bear the key's signature.
// Spec: rooms v5, signing key validity period; server-server, publishing keys.
func (k *key) validAt(ms int64) bool {
	if k.expired != 0 {
		return ms <= k.expired
	}
	return ms <= k.until
}

// inUse says whether the key may sign requests at a time.
func (k *key) inUse(ms int64) bool { return k.expired == 0 && ms <= k.until }

// keySet is what is known of one server's keys. One id can stand for more than
// one key, where a server lost its own and began anew: all of them are kept.
type keySet []key

func (s keySet) of(id string) (list []*key) {
	for i := range s {
		if s[i].id == id {
			list = append(list, &s[i])
		}
	}
	return list
}

// merge takes in what an answer says, and gives the keys that it changed. A
// validity that was seen is never taken back by a later answer that leaves the
// key out or names an earlier time; only a word that it has expired counts
// against it.
func (s *keySet) merge(a *answer) (changed []key) {
	for _, k := range a.keys {
		i := slices.IndexFunc(*s, func(old key) bool { return old.id == k.id && old.pub == k.pub })
		if i < 0 {
			if len(*s) >= 2*maxKeys {
				continue // a server with that many keys keeps those it has
			}
			*s, changed = append(*s, k), append(changed, k)
			continue
		}
		old := &(*s)[i]
		k.first, k.until = old.first, max(old.until, k.until)
		if !a.direct && k.said < old.said { // a notary's answer may be older than what is known
			k.expired, k.said = old.expired, old.said
		}
		*old = k
		changed = append(changed, k)
	}
	return changed
}

const keyForm = 1

func serverKey(dst []byte, t store.Table, server mxid.Server) []byte {
	return append(append(t.Key(dst), server...), 0)
}

func (k *key) appendKey(dst []byte, server mxid.Server) []byte {
	dst = append(append(serverKey(dst, store.RemoteKey, server), k.id...), 0)
	return append(dst, k.pub[:]...)
}

func (k *key) appendRow(dst []byte) []byte {
	dst = append(dst, keyForm)
	for _, v := range [...]int64{k.first, k.last, k.until, k.expired, k.said} {
		dst = binary.AppendUvarint(dst, uint64(v))
	}
	return dst
}

// parseKeyRow reads a row; tail is its key behind the server's name.
func parseKeyRow(tail, row []byte) (k key, err error) {
	cut := len(tail) - len(k.pub) - 1
	if cut < 1 || tail[cut] != 0 || len(row) == 0 || row[0] != keyForm {
		return k, fault.E(fault.Corrupt, "keyring", "a row of unknown form")
	}
	k.id, k.pub = string(tail[:cut]), [32]byte(tail[cut+1:])
	row = row[1:]
	for _, v := range [...]*int64{&k.first, &k.last, &k.until, &k.expired, &k.said} {
		u, n := binary.Uvarint(row)
		if n <= 0 {
			return k, fault.E(fault.Corrupt, "keyring", "a cut row")
		}
		*v, row = int64(u), row[n:]
	}
	return k, nil
}

// known reads what is stored of a server's keys.
func (k *Keys) known(server mxid.Server) (keySet, error) {
	var set keySet
	prefix := serverKey(nil, store.RemoteKey, server)
	err := k.st.ScanPrefix(prefix, func(at, row []byte) (bool, error) {
		one, err := parseKeyRow(at[len(prefix):], row)
		set = append(set, one)
		return true, err
	})
	return set, err
}

// keep stores what servers have said of their keys. It need not be on the disk
// before it is used: what is lost is asked for again.
func (k *Keys) keep(answers []*answer) error {
	k.keeping.Lock()
	defer k.keeping.Unlock()
	b := k.st.NewBatch()
	for _, a := range answers {
		set, err := k.known(a.server)
		if err != nil {
			b.Drop()
			return err
		}
		for _, changed := range set.merge(a) {
			b.Set(changed.appendKey(nil, a.server), changed.appendRow(nil))
		}
		if err := k.keepAnswer(b, a); err != nil {
			b.Drop()
			return err
		}
	}
	if err := k.st.Apply(b); err != nil {
		return err
	}
	return k.trim()
}

// kept is an answer as it is stored.
type kept struct {
	at  int64 // when it came, in milliseconds
	raw []byte
}

// answers reads the stored answers of a server, the newest first.
func (k *Keys) answers(server mxid.Server) (list []kept, err error) {
	prefix := serverKey(nil, store.RemoteAnswer, server)
	err = k.st.ScanPrefix(prefix, func(at, raw []byte) (bool, error) {
		if len(at) != len(prefix)+8 {
			return false, fault.E(fault.Corrupt, "keyring", "a key of %d bytes", len(at))
		}
		list = append(list, kept{int64(binary.BigEndian.Uint64(at[len(prefix):])), bytes.Clone(raw)})
		return true, nil
	})
	slices.Reverse(list)
	return list, err
}

// keepAnswer stores the object itself, for those who ask this hub as a notary.
// Older ones of the server stay where they tell of a key that the new one does
// not, a few at most. The caller holds keeping.
func (k *Keys) keepAnswer(b *store.Batch, a *answer) error {
	old, err := k.answers(a.server)
	if err != nil {
		return err
	}
	now := a.at
	left := 0
	for _, o := range old {
		was, err := readAnswer(o.raw, a.server, o.at)
		if o.at != now && err == nil && left < 3 && slices.ContainsFunc(was.keys, func(k key) bool { return a.find(k.id) == nil }) {
			left++
			continue
		}
		k.dropAnswer(b, a.server, o.at, len(o.raw))
	}
	b.Set(store.U64(serverKey(nil, store.RemoteAnswer, a.server), uint64(now)), a.raw)
	b.Set(answerAt(now, a.server), binary.AppendUvarint(nil, uint64(len(a.raw))))
	k.bytes += int64(len(a.raw))
	return nil
}

func answerAt(ms int64, server mxid.Server) []byte {
	return append(store.U64(store.RemoteAnswerAt.Prefix(), uint64(ms)), server...)
}

func (k *Keys) dropAnswer(b *store.Batch, server mxid.Server, at int64, size int) {
	b.Delete(store.U64(serverKey(nil, store.RemoteAnswer, server), uint64(at)))
	b.Delete(answerAt(at, server))
	k.bytes -= int64(size)
}

// trim forgets the oldest answers where all together are too large: anybody can
// make this hub ask servers without number. The caller holds keeping.
func (k *Keys) trim() error {
	if k.bytes <= k.o.AnswerBytes {
		return nil
	}
	b := k.st.NewBatch()
	b.Frees()
	err := k.st.ScanPrefix(store.RemoteAnswerAt.Prefix(), func(at, val []byte) (bool, error) {
		size, n := binary.Uvarint(val)
		if len(at) < 9 || n <= 0 {
			return false, fault.E(fault.Corrupt, "keyring", "a row of unknown form")
		}
		server := mxid.Server(at[9:])
		k.dropAnswer(b, server, int64(binary.BigEndian.Uint64(at[1:])), int(size))
		if k.o.Keep != nil && !k.o.Keep(server) {
			prefix := serverKey(nil, store.RemoteKey, server)
			b.DeleteRange(prefix, store.After(prefix))
		}
		return k.bytes > k.o.AnswerBytes*7/8, nil
	})
	if err != nil {
		b.Drop()
		return err
	}
	return k.st.Apply(b)
}

// count sums up the stored answers.
func (k *Keys) count() error {
	return k.st.ScanPrefix(store.RemoteAnswerAt.Prefix(), func(_, val []byte) (bool, error) {
		size, _ := binary.Uvarint(val)
		k.bytes += int64(size)
		return true, nil
	})
}
