package thing

import (
	"crypto/rand"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"hearth/engine/fault"
	"hearth/engine/store"
)

// Bounds of those who knock. Anybody on the network may, so that all of it is
// small: who knocks cannot fill the disk, nor the owner's room.
const (
	maxKnocks     = 64
	maxKnocksAddr = 8           // names from one address
	knockEvery    = time.Minute // how often what is known of one that knocks on is written
	freshPerHour  = 40          // new names that are told
	leastSecret   = 8           // bytes of a secret that is kept for the case that the thing is let in
	maxClient     = 128
)

// Knock is an unknown thing that wants in.
type Knock struct {
	Name   string     `json:"name"`
	Client string     `json:"client"` // the client id it gave, cut
	From   netip.Addr `json:"from"`
	First  time.Time  `json:"first"`
	Last   time.Time  `json:"last"` // within the minute
	Times  int        `json:"times"`
	Denied bool       `json:"denied,omitempty"` // the owner said no
	Others bool       `json:"others,omitempty"` // it came with more than one secret: perhaps two of one name
	Secret []byte     `json:"secret,omitempty"` // SHA-256 of salt and what it came with first
	Salt   []byte     `json:"salt,omitempty"`
}

type knocks struct {
	mu     sync.Mutex
	byName map[string]*Knock
	hour   time.Time // when the count of new names began
	fresh  int
}

func (k *knocks) load(st *store.Store) error {
	k.byName = map[string]*Knock{}
	return st.ScanPrefix(store.ThingKnock.Prefix(), func(_, val []byte) (bool, error) {
		one := &Knock{}
		if err := json.Unmarshal(val, one); err != nil {
			return false, fault.E(fault.Corrupt, "thing.Open", "the row of a knock cannot be read: %w", err)
		}
		k.byName[one.Name] = one
		return true, nil
	})
}

func knockKey(name string) []byte { return append(store.ThingKnock.Prefix(), name...) }

// Knock notes that an unknown thing wants in. fresh says that the owner is to be
// told of it. Errors: BadUsername; Limit where too many knock.
func (t *Things) Knock(name, client, secret string, from netip.Addr) (fresh bool, err error) {
	name, from = t.Short(name), from.Unmap()
	if err := CheckName(name); err != nil {
		return false, err
	}
	now := t.o.Now()
	k := &t.knocks
	k.mu.Lock()
	defer k.mu.Unlock()
	one := k.byName[name]
	if one != nil {
		// Two of one name are noted at once: one of them is perhaps not what it says.
		other := !one.Others && len(one.Secret) > 0 && !slices.Equal(hash(one.Salt, secret), one.Secret)
		if !other && now.Sub(one.Last) < knockEvery {
			return false, nil
		}
		again := *one
		again.Last, again.Times, again.From, again.Others = now, one.Times+1, from, one.Others || other
		return false, t.putKnock(&again)
	}
	if err := k.admit(now, from); err != nil {
		return false, err
	}
	one = &Knock{Name: name, Client: strings.ToValidUTF8(client[:min(len(client), maxClient)], "?"), From: from, First: now, Last: now, Times: 1}
	if len(secret) >= leastSecret && len(secret) <= maxSecret {
		one.Salt = make([]byte, 16)
		if _, err := rand.Read(one.Salt); err != nil {
			return false, fault.E(fault.Internal, "thing.Knock", "no randomness: %w", err)
		}
		one.Secret = hash(one.Salt, secret)
	}
	return true, t.putKnock(one)
}

// admit makes place for a new name, or refuses it. The caller holds mu.
func (k *knocks) admit(now time.Time, from netip.Addr) error {
	if now.Sub(k.hour) > time.Hour || now.Before(k.hour) {
		k.hour, k.fresh = now, 0
	}
	same := 0
	for _, one := range k.byName {
		if one.From == from {
			same++
		}
	}
	if k.fresh >= freshPerHour || same >= maxKnocksAddr {
		return fault.Wait("thing.Knock", time.Hour)
	}
	k.fresh++
	return nil
}

// putKnock writes a knock, and drops the one that was quiet for longest where
// there are too many. The caller holds mu. It is worth no sync.
func (t *Things) putKnock(one *Knock) error {
	k := &t.knocks
	row, err := json.Marshal(one)
	if err != nil {
		return fault.E(fault.Internal, "thing.Knock", "%w", err)
	}
	b := t.st.NewBatch()
	if k.byName[one.Name] == nil && len(k.byName) >= maxKnocks {
		var oldest *Knock
		for _, o := range k.byName {
			if oldest == nil || o.Last.Before(oldest.Last) {
				oldest = o
			}
		}
		b.Delete(knockKey(oldest.Name))
		delete(k.byName, oldest.Name)
	}
	b.Set(knockKey(one.Name), row)
	if err := t.st.Apply(b); err != nil {
		return err
	}
	k.byName[one.Name] = one
	return nil
}

// Knocks lists those who knock and were not denied, the latest first, without
// what is kept of their secrets.
func (t *Things) Knocks() []*Knock {
	k := &t.knocks
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []*Knock
	for _, one := range k.byName {
		if !one.Denied {
			c := *one
			c.Secret, c.Salt = nil, nil
			list = append(list, &c)
		}
	}
	slices.SortFunc(list, func(a, b *Knock) int { return b.Last.Compare(a.Last) })
	return list
}

// Knocking gives the knock of a name, denied or not. Errors: NotFound.
func (t *Things) Knocking(name string) (*Knock, error) {
	k := &t.knocks
	k.mu.Lock()
	defer k.mu.Unlock()
	if one := k.byName[t.Short(name)]; one != nil {
		return one, nil
	}
	return nil, fault.E(fault.NotFound, "thing.Knocking", "no thing %s knocks", name)
}

// Deny has a thing that knocks not told of again. Errors: NotFound.
func (t *Things) Deny(name string) error {
	one, err := t.Knocking(name)
	if err != nil {
		return err
	}
	t.knocks.mu.Lock()
	defer t.knocks.mu.Unlock()
	again := *one
	again.Denied = true
	return t.putKnock(&again)
}

// Answered forgets a knock of a name that is a thing now.
func (t *Things) Answered(name string) error {
	k := &t.knocks
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.byName[name] == nil {
		return nil
	}
	b := t.st.NewBatch()
	b.Delete(knockKey(name))
	b.Frees()
	delete(k.byName, name)
	return t.st.Apply(b)
}

// Adopt has the secret that a thing knocked with let it in. ok is false where it
// came with none that could be kept, or with several.
func (t *Thing) Adopt(k *Knock) (ok bool) {
	if len(k.Secret) == 0 || k.Others {
		return false
	}
	t.Salt, t.Secret = k.Salt, k.Secret
	return true
}
