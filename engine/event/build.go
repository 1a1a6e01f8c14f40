package event

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"unicode/utf8"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
)

// Draft is what is needed to make an event. Strings, Prev and Auth become parts of
// the event and must stay as they are; Content is copied.
type Draft struct {
	ID       mxid.EventID // versions 1 and 2 only, where it is free to choose
	Room     mxid.RoomID  // empty for a create event of version 12
	Type     string
	StateKey *string // nil for a message event
	Sender   mxid.UserID
	Time     int64
	Depth    int64
	Prev     []mxid.EventID
	Auth     []mxid.EventID
	Redacts  mxid.EventID // target of a redaction; Build puts it where the version wants it
	Content  []byte       // a JSON object from outside, in any form

	// The reference hashes of Prev and Auth, for versions 1 and 2.
	PrevHashes, AuthHashes [][sha256.Size]byte
}

// Signer is a server's name and one of its keys.
type Signer struct {
	Server mxid.Server
	KeyID  string // "ed25519:name"
	Key    ed25519.PrivateKey
}

// sigText is the length of a signature in unpadded base64.
const sigText = 86

// The blanks that Build fills in once it can.
const (
	blankHash = "0000000000000000000000000000000000000000000"
	blankSig  = blankHash + blankHash
)

// layout is where the parts of an event under construction lie. All are offsets
// into its JSON; each part from..to holds the comma before it.
type layout struct {
	content, contentEnd int
	hashes, hashesEnd   int
	redacts, redactsEnd int
	sigs, sigsEnd       int
	typ                 int
}

// Build makes a complete event of a draft: content in canonical form, hashes, id,
// signature. Without a signer the event bears no signature, which only suits
// tests and templates. Content that is not JSON, not an object or has no
// canonical form, and anything over its limit, is the caller's fault (NotJSON,
// BadJSON, TooLarge). Spec: server-server, Adding hashes and signatures to
// outgoing events.
//
// It is on the way of every message: the JSON is laid out once with blanks for
// hash and signature, what is hashed and signed is gathered on the stack, and the
// bytes that are signed are also the ones that give the id.
func Build(v *Version, d *Draft, s *Signer) (*Event, error) {
	if err := checkDraft(v, d); err != nil {
		return nil, err
	}
	json, at, err := lay(make([]byte, 0, sizeOf(v, d, s)), v, d, s)
	if err != nil {
		return nil, err
	}
	if len(json) > MaxSize {
		return nil, fault.E(fault.TooLarge, "event.Build", "event of %d bytes, %d are allowed", len(json), MaxSize)
	}
	e := &Event{
		Version: v, ID: d.ID, Room: d.Room, Type: d.Type, Sender: d.Sender, Time: d.Time, Depth: d.Depth,
		Prev: d.Prev, Auth: d.Auth, Content: json[at.content:at.contentEnd:at.contentEnd], JSON: json,
	}
	if d.StateKey != nil {
		e.IsState, e.StateKey = true, *d.StateKey
	}
	if d.Type == "m.room.redaction" {
		if e.Redacts = d.Redacts; e.Redacts == "" && v.RedactsInContent {
			target, _ := cjson.LookupString(e.Content, "redacts")
			e.Redacts = mxid.EventID(target)
		}
	}
	seal(v, e, s, at)
	if v.RoomIDIsCreate && d.Type == "m.room.create" {
		e.Room = roomOf(e.ID)
	}
	if err := checkSizes("event.Build", e, true); err != nil {
		return nil, err
	}
	return e, nil
}

// checkDraft refuses what the hub itself got wrong, and text that is none.
func checkDraft(v *Version, d *Draft) error {
	switch {
	case !utf8.ValidString(d.Type), d.StateKey != nil && !utf8.ValidString(*d.StateKey):
		return fault.E(fault.BadJSON, "event.Build", "type or state_key is not UTF-8")
	case v.IDs == IDInEvent && (d.ID == "" || len(d.PrevHashes) != len(d.Prev) || len(d.AuthHashes) != len(d.Auth)):
		return fault.E(fault.Internal, "event.Build", "draft of an old version without id or reference hashes")
	case v.IDs != IDInEvent && d.ID != "":
		return fault.E(fault.Internal, "event.Build", "draft with an id that only the hash can give")
	case d.Room == "" && (!v.RoomIDIsCreate || d.Type != "m.room.create"):
		return fault.E(fault.Internal, "event.Build", "draft without a room")
	case len(d.Prev) > MaxPrev || len(d.Auth) > MaxAuth:
		return fault.E(fault.Internal, "event.Build", "draft with %d previous and %d auth events", len(d.Prev), len(d.Auth))
	}
	return nil
}

// appendContent appends the content in canonical form, with the target of a
// redaction inside where the version keeps it there.
func appendContent(b []byte, v *Version, d *Draft) ([]byte, error) {
	start := len(b)
	b, err := cjson.Canonical(b, d.Content, v.StrictJSON)
	if err != nil {
		return nil, jsonFault("event.Build", err)
	}
	if b[start] != '{' {
		return nil, fault.E(fault.BadJSON, "event.Build", "content is not an object")
	}
	if d.Redacts == "" || !v.RedactsInContent {
		return b, nil
	}
	target := cjson.AppendString(nil, d.Redacts)
	b, err = cjson.Canonical(b[:start], withMember(b[start:], "redacts", target), v.StrictJSON)
	if err != nil {
		return nil, jsonFault("event.Build", err)
	}
	return b, nil
}

// sizeOf guesses the length of the event, a little over rather than under. Escapes
// may prove it wrong; then the bytes are moved once. While content is sorted, the
// room for what comes behind it serves as the space to sort in.
func sizeOf(v *Version, d *Draft, s *Signer) int {
	n := 320 + len(d.Content) + len(d.ID) + len(d.Room) + len(d.Type) + len(d.Sender) + len(d.Redacts)
	if d.StateKey != nil {
		n += len(*d.StateKey) + 15
	}
	if s != nil {
		n += len(s.Server) + len(s.KeyID) + sigText
	}
	per := 3
	if v.IDs == IDInEvent {
		per += 16 + hashText
	}
	for _, refs := range [][]mxid.EventID{d.Prev, d.Auth} {
		for _, id := range refs {
			n += len(id) + per
		}
	}
	return n
}

// lay writes the event in canonical order with blanks for hash and signature.
func lay(b []byte, v *Version, d *Draft, s *Signer) (_ []byte, at layout, err error) {
	b = append(b, `{"auth_events":`...)
	b = appendRefs(b, v, d.Auth, d.AuthHashes)
	b = append(b, `,"content":`...)
	at.content = len(b)
	if b, err = appendContent(b, v, d); err != nil {
		return nil, at, err
	}
	at.contentEnd = len(b)
	b = append(b, `,"depth":`...)
	b = strconv.AppendInt(b, d.Depth, 10)
	if v.IDs == IDInEvent {
		b = append(b, `,"event_id":`...)
		b = cjson.AppendString(b, d.ID)
	}
	at.hashes = len(b)
	b = append(b, `,"hashes":{"sha256":"`+blankHash+`"}`...)
	at.hashesEnd = len(b)
	b = append(b, `,"origin_server_ts":`...)
	b = strconv.AppendInt(b, d.Time, 10)
	b = append(b, `,"prev_events":`...)
	b = appendRefs(b, v, d.Prev, d.PrevHashes)
	at.redacts = len(b)
	if d.Redacts != "" && !v.RedactsInContent {
		b = append(b, `,"redacts":`...)
		b = cjson.AppendString(b, d.Redacts)
	}
	at.redactsEnd = len(b)
	if d.Room != "" && !(v.RoomIDIsCreate && d.Type == "m.room.create") {
		b = append(b, `,"room_id":`...)
		b = cjson.AppendString(b, d.Room)
	}
	b = append(b, `,"sender":`...)
	b = cjson.AppendString(b, d.Sender)
	at.sigs = len(b)
	b = append(b, `,"signatures":{`...)
	if s != nil {
		b = cjson.AppendString(b, s.Server)
		b = append(b, ':', '{')
		b = cjson.AppendString(b, s.KeyID)
		b = append(b, `:"`+blankSig+`"}`...)
	}
	b = append(b, '}')
	at.sigsEnd = len(b)
	if d.StateKey != nil {
		b = append(b, `,"state_key":`...)
		b = cjson.AppendString(b, *d.StateKey)
	}
	b = append(b, `,"type":`...)
	at.typ = len(b)
	b = cjson.AppendString(b, d.Type)
	return append(b, '}'), at, nil
}

// appendRefs writes prev_events or auth_events.
func appendRefs(b []byte, v *Version, ids []mxid.EventID, hashes [][sha256.Size]byte) []byte {
	b = append(b, '[')
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		if v.IDs != IDInEvent {
			b = cjson.AppendString(b, id)
			continue
		}
		b = append(b, '[')
		b = cjson.AppendString(b, id)
		b = append(b, `,{"sha256":"`...)
		b = base64.RawStdEncoding.AppendEncode(b, hashes[i][:])
		b = append(b, `"}]`...)
	}
	return append(b, ']')
}

// seal fills the blanks: the content hash, then the signature over what redaction
// leaves with that hash, and from the same bytes the id.
func seal(v *Version, e *Event, s *Signer, at layout) {
	var buf scratch
	json := e.JSON
	text := append(buf[:0], json[:at.hashes]...)
	text = append(text, json[at.hashesEnd:at.sigs]...)
	text = append(text, json[at.sigsEnd:]...)
	sum := sha256.Sum256(text)
	base64.RawStdEncoding.Encode(json[at.hashesEnd-len(`"}`)-hashText:], sum[:])

	text = append(text[:0], json[:at.content]...)
	text = v.appendRedactedContent(text, ruleOf(json[at.typ:len(json)-1]), e.Content)
	text = append(text, json[at.contentEnd:at.redacts]...)
	text = append(text, json[at.redactsEnd:at.sigs]...)
	text = append(text, json[at.sigsEnd:]...)
	if s != nil {
		sig := ed25519.Sign(s.Key, text)
		base64.RawStdEncoding.Encode(json[at.sigsEnd-len(`"}}`)-sigText:], sig)
	}
	if v.IDs != IDInEvent {
		sum = sha256.Sum256(text)
		var id [1 + hashText]byte
		e.ID = mxid.EventID(v.appendID(id[:0], &sum))
	}
}
