package account

import (
	"crypto/sha256"
	"encoding/binary"
	"net/url"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/fields"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// Kinds of pusher. Spec: client-server, POST /pushers/set.
const (
	PushHTTP  = "http"
	PushEmail = "email"
)

// Pusher is where a user wants to be told of notifications.
type Pusher struct {
	Kind       string
	App        string // app_id
	Key        string // pushkey
	AppName    string // app_display_name
	DeviceName string // device_display_name
	Tag        string // profile_tag; empty: none
	Lang       string
	Data       []byte     // canonical JSON object
	Device     uint64     // number of the device whose session set it, and with which it goes
	Set        time.Time  // when it was last set
	Since      stream.Pos // nothing up to here is told it
}

// PusherID stands for an app_id and a pushkey.
type PusherID [16]byte

// ID is what no other pusher of the user has.
func (p *Pusher) ID() PusherID { return NewPusherID(p.App, p.Key) }

// NewPusherID makes the id of an app_id and a pushkey.
func NewPusherID(app, key string) PusherID {
	h := sha256.Sum256([]byte(app + "\x00" + key))
	return PusherID(h[:16])
}

const (
	maxPushers    = 100
	maxPusherApp  = 64  // Spec: client-server, POST /pushers/set
	maxPusherKey  = 512 // the same
	maxPusherText = 255
	maxPusherData = 8 << 10
	notifyPath    = "/_matrix/push/v1/notify"
)

// CheckPusher judges what a client wants to be told by, and makes Data
// canonical. Who may be mailed is not its question.
func CheckPusher(p *Pusher) error {
	const op = "account.CheckPusher"
	for _, f := range [...]struct {
		what, text string
		most       int
	}{
		{"app_id", p.App, maxPusherApp}, {"pushkey", p.Key, maxPusherKey}, {"app_display_name", p.AppName, maxPusherText},
		{"device_display_name", p.DeviceName, maxPusherText}, {"profile_tag", p.Tag, maxPusherText}, {"lang", p.Lang, maxPusherText},
	} {
		if err := checkText(op, f.what, f.text, f.most); err != nil {
			return err
		}
	}
	if p.App == "" || p.Key == "" {
		return fault.E(fault.Invalid, op, "app_id and pushkey must not be empty")
	}
	if len(p.Data) > maxPusherData {
		return fault.E(fault.Invalid, op, "data has at most %d bytes", maxPusherData)
	}
	if cjson.KindOf(p.Data) != cjson.ObjectKind {
		return fault.E(fault.BadJSON, op, "data must be an object")
	}
	data, err := cjson.Canonical(nil, p.Data, false)
	if err != nil {
		return fault.E(fault.BadJSON, op, "data: %w", err)
	}
	p.Data = data
	switch p.Kind {
	case PushHTTP:
		return checkGateway(data)
	case PushEmail:
		return nil
	}
	return fault.E(fault.Invalid, op, "there is no kind of pusher but http and email")
}

// checkGateway wants the address of a push gateway. It may be one without TLS:
// whether the hub asks a host of the local network is for its owner to allow.
func checkGateway(data []byte) error {
	const op = "account.CheckPusher"
	val, ok := cjson.Lookup(data, "url")
	if !ok {
		return fault.E(fault.Missing, op, "data of a pusher of kind http needs a url")
	}
	text, ok := cjson.String(val)
	if !ok {
		return fault.E(fault.BadJSON, op, "url must be a string")
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.Path != notifyPath {
		return fault.E(fault.Invalid, op, "url must be an HTTPS URL with the path "+notifyPath)
	}
	return nil
}

func pusherKey(user uint32, id PusherID) []byte {
	return append(store.U32(store.Pusher.Prefix(), user), id[:]...)
}

func pusherUserKey(id PusherID, user uint32) []byte {
	return store.U32(append(store.PusherUser.Prefix(), id[:]...), user)
}

func (p *Pusher) append(dst []byte) []byte {
	for _, s := range [...]string{p.Kind, p.App, p.Key, p.AppName, p.DeviceName, p.Tag, p.Lang, string(p.Data)} {
		dst = fields.AppendText(dst, s)
	}
	dst = binary.AppendUvarint(dst, p.Device)
	dst = binary.AppendUvarint(dst, uint64(p.Set.UnixMilli()))
	return binary.AppendUvarint(dst, uint64(p.Since))
}

func parsePusher(row []byte) (Pusher, error) {
	r := fields.Open(row)
	p := Pusher{Kind: r.Text(), App: r.Text(), Key: r.Text(), AppName: r.Text(), DeviceName: r.Text(), Tag: r.Text(), Lang: r.Text()}
	p.Data = []byte(r.Text())
	p.Device, p.Set, p.Since = r.Uint(), time.UnixMilli(int64(r.Uint())), stream.Pos(r.Uint())
	return p, rowErr(&r, "a pusher")
}

// PutPusher sets a pusher that CheckPusher let pass. Where alone is set, other
// users lose theirs of the same app and key: it is the same phone. Pushers are
// changed under the log's lock only.
func (a *Accounts) PutPusher(tx *stream.Tx, user uint32, p Pusher, alone bool) error {
	id := p.ID()
	p.Set, p.Since = a.now(), tx.Next()-1
	if alone {
		prefix := append(store.PusherUser.Prefix(), id[:]...)
		err := a.st.ScanPrefix(prefix, func(key, _ []byte) (bool, error) {
			if len(key) == len(prefix)+4 {
				a.dropPusher(tx, binary.BigEndian.Uint32(key[len(prefix):]), id)
			}
			return true, nil
		})
		if err != nil {
			return err
		}
	}
	old, known, err := a.Pusher(user, id)
	if err != nil {
		return err
	}
	if known {
		p.Since = old.Since
	} else if list, err := a.Pushers(user); err != nil {
		return err
	} else if len(list) >= maxPushers {
		return fault.E(fault.Forbidden, "account.PutPusher", "a user has at most %d pushers", maxPushers)
	}
	tx.Set(pusherKey(user, id), p.append(fields.New()))
	tx.Set(pusherUserKey(id, user), nil)
	return nil
}

// DropPusher deletes a user's pusher, if there is one.
func (a *Accounts) DropPusher(tx *stream.Tx, user uint32, id PusherID) error {
	known, err := a.st.Has(pusherKey(user, id))
	if err == nil && known {
		a.dropPusher(tx, user, id)
	}
	return err
}

func (a *Accounts) dropPusher(tx *stream.Tx, user uint32, id PusherID) {
	tx.Delete(pusherKey(user, id))
	tx.Delete(pusherUserKey(id, user))
}

// dropPushersOf deletes the pushers that sessions of some devices set.
func (a *Accounts) dropPushersOf(tx *stream.Tx, user uint32, gone func(device uint64) bool) error {
	list, err := a.Pushers(user)
	for i := range list {
		if gone(list[i].Device) {
			a.dropPusher(tx, user, list[i].ID())
		}
	}
	return err
}

// Pushers lists a user's pushers.
func (a *Accounts) Pushers(user uint32) (list []Pusher, err error) {
	err = a.st.ScanPrefix(store.U32(store.Pusher.Prefix(), user), func(_, val []byte) (bool, error) {
		p, err := parsePusher(val)
		list = append(list, p)
		return true, err
	})
	return list, err
}

// Pusher reads one pusher; ok is false where there is none.
func (a *Accounts) Pusher(user uint32, id PusherID) (p Pusher, ok bool, err error) {
	val, ok, err := a.st.Get(nil, pusherKey(user, id))
	if err != nil || !ok {
		return p, false, err
	}
	p, err = parsePusher(val)
	return p, err == nil, err
}

// PusherUsers calls f for every user who has a pusher, at least once.
func (a *Accounts) PusherUsers(f func(user uint32)) error {
	return a.st.ScanPrefix(store.Pusher.Prefix(), func(key, _ []byte) (bool, error) {
		if len(key) < 5 {
			return false, fault.E(fault.Corrupt, "account.PusherUsers", "a pusher's key is cut")
		}
		f(binary.BigEndian.Uint32(key[1:]))
		return true, nil
	})
}
