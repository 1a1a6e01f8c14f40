package room

import (
	"crypto/ed25519"
	"encoding/base64"
	"strings"

	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/stream"
)

// Policy is the policy server of a room: it signs the events that it does not
// advise against. Spec: server-server, policy servers.
type Policy struct {
	Via mxid.Server
	key ed25519.PublicKey
}

// PolicyKey is the id of the key by which a policy server signs; the room's state
// has the key itself.
const PolicyKey = "ed25519:policy_server"

const typePolicy = "m.room.policy"

// Policy is the policy server that a room uses now; nil where it uses none.
// Spec: server-server, determining if a policy server is enabled in a room.
func (r *Rooms) Policy(h *Head) (*Policy, error) {
	e, err := r.StateEvent(h.State, typePolicy, "")
	if err != nil || e == nil {
		return nil, err
	}
	via, _ := cjson.LookupString(e.Content, "via")
	text, _ := cjson.LookupPath(e.Content, "public_keys", "ed25519")
	key, isText := cjson.String(text)
	server, err := mxid.ParseServer(via)
	if err != nil || !isText {
		return nil, nil
	}
	there := server == r.Server() && len(h.Local) > 0
	err = r.Servers(h.Room, func(s mxid.Server, _ stream.Pos) bool {
		there = there || s == server
		return !there
	})
	if err != nil || !there {
		return nil, err
	}
	p := &Policy{Via: server}
	// A key that is none is one by which nothing is signed.
	if raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(key, "=")); err == nil && len(raw) == ed25519.PublicKeySize {
		p.key = raw
	}
	return p, nil
}

// Passes says whether an event needs no word of the policy server any more: it has
// signed the event, or is not asked about such.
// Spec: server-server, validating policy server signatures.
func (p *Policy) Passes(e *event.Event) bool {
	if p == nil || e.Is(typePolicy, "") {
		return true
	}
	if p.key == nil {
		return false
	}
	for _, s := range event.Signatures(e.JSON, string(p.Via)) {
		if s.KeyID == PolicyKey && event.VerifyBytes(e.SigningBytes(nil), s.Sig, p.key) == nil {
			return true
		}
	}
	return false
}

// Advised notes that the room's policy server advises against an event: where it
// would be accepted it is soft-failed.
func (w *Writer) Advised(id mxid.EventID) { w.advised = append(w.advised, id) }

// Make builds and signs an event as Add does, for who has to show it to somebody
// before Enter. Errors: as Add.
func (w *Writer) Make(d *Draft) (*event.Event, error) {
	made, _, err := w.make(d)
	return made, err
}

// Enter stages an event that Make gave, after others may have come in between. It
// is this hub's own all the same. Errors: Forbidden where the room's rules do not
// allow it any more.
func (w *Writer) Enter(e *event.Event, txn Txn) (*Event, error) {
	outcome, _, err := w.Accept(e, nil)
	if err != nil {
		return nil, err
	}
	if outcome == Known {
		return w.byID(e.ID)
	}
	if outcome != Accepted {
		return nil, fault.E(fault.Forbidden, "room.Enter", "the room has changed meanwhile and does not allow it any more")
	}
	made := w.staged[len(w.staged)-1].ev
	made.Flags |= flagLocal
	if txn.Device != 0 {
		made.TxnDevice, made.Txn = txn.Device, txn.ID
	}
	return made, nil
}
