package keyring

import (
	"crypto/ed25519"
	"encoding/base64"
	"strconv"
	"sync"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
)

// Own is this hub's keys. It is not written to once it was given to SetOwn.
type Own struct {
	Server  mxid.Server
	Current []event.Signer // the first one signs
	Retired []Retired      // published for ever: old events bear their signatures
}

// Retired is a key that signs no more.
type Retired struct {
	KeyID   string
	Public  ed25519.PublicKey
	Expired time.Time // nothing later bears its signature
}

// How far ahead others may believe our keys, and how often that is renewed: an
// answer is always good for most of a day.
const (
	publishedFor = 24 * time.Hour
	renewed      = time.Hour
)

// published is the object in which our keys are published, made once an hour.
type published struct {
	mu  sync.Mutex
	own *Own
	at  time.Time
	obj []byte
}

// SetOwn takes this hub's keys.
func (k *Keys) SetOwn(own *Own) { k.own.Store(own) }

// ownSet is our keys in the form of others'.
func (o *Own) ownSet() (set keySet) {
	const forEver = 1<<62 - 1
	for _, s := range o.Current {
		set = append(set, key{id: s.KeyID, pub: [32]byte(s.Key.Public().(ed25519.PublicKey)), until: forEver})
	}
	for _, r := range o.Retired {
		set = append(set, key{id: r.KeyID, pub: [32]byte(r.Public), expired: r.Expired.UnixMilli()})
	}
	return set
}

// Published is the object in which this hub publishes its keys, signed by all
// that are in use. Shared: nobody writes to it. Spec: server-server, publishing
// keys.
func (k *Keys) Published() ([]byte, error) {
	own := k.own.Load()
	if len(own.Current) == 0 {
		return nil, fault.E(fault.Internal, "keyring.Published", "this hub has no signing key")
	}
	p := &k.published
	p.mu.Lock()
	defer p.mu.Unlock()
	now := k.o.Now()
	if p.own == own && !now.Before(p.at) && now.Sub(p.at) < renewed {
		return p.obj, nil
	}
	obj := own.appendObject(nil, now.Add(publishedFor))
	for i := range own.Current {
		var err error
		if obj, err = event.SignJSON(nil, obj, &own.Current[i]); err != nil {
			return nil, fault.E(fault.Internal, "keyring.Published", "the keys cannot be signed: %w", err)
		}
	}
	p.own, p.at, p.obj = own, now, obj
	return obj, nil
}

// appendObject appends the object without signatures.
func (o *Own) appendObject(dst []byte, until time.Time) []byte {
	dst = append(dst, `{"old_verify_keys":{`...)
	for i, r := range o.Retired {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(cjson.AppendString(dst, r.KeyID), `:{"expired_ts":`...)
		dst = strconv.AppendInt(dst, r.Expired.UnixMilli(), 10)
		dst = appendPublic(append(dst, ','), r.Public)
	}
	dst = cjson.AppendString(append(dst, `},"server_name":`...), o.Server)
	dst = strconv.AppendInt(append(dst, `,"valid_until_ts":`...), until.UnixMilli(), 10)
	dst = append(dst, `,"verify_keys":{`...)
	for i, s := range o.Current {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(cjson.AppendString(dst, s.KeyID), `:{`...)
		dst = appendPublic(dst, s.Key.Public().(ed25519.PublicKey))
	}
	return append(dst, `}}`...)
}

func appendPublic(dst []byte, pub ed25519.PublicKey) []byte {
	dst = append(dst, `"key":"`...)
	return append(base64.RawStdEncoding.AppendEncode(dst, pub), `"}`...)
}
