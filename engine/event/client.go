package event

import (
	"strconv"

	"hearth/engine/cjson"
)

// ClientOptions say what AppendClient writes besides the event.
type ClientOptions struct {
	OmitRoom bool   // leave room_id out, as /sync has it
	Unsigned []byte // a JSON object for unsigned; none where empty
}

// AppendClient appends the event as clients get it. A redaction names its target
// both in content and beside it, whatever the room version, since clients look in
// one place or the other. Spec: client-server, Room event format; rooms v11,
// Moving the redacts property.
func AppendClient(dst []byte, e *Event, o ClientOptions) []byte {
	dst = append(dst, `{"content":`...)
	if e.Redacts != "" && !e.Version.RedactsInContent {
		dst = appendContentRedacts(dst, e)
	} else {
		dst = append(dst, e.Content...)
	}
	dst = append(dst, `,"event_id":`...)
	dst = cjson.AppendString(dst, e.ID)
	dst = append(dst, `,"origin_server_ts":`...)
	dst = strconv.AppendInt(dst, e.Time, 10)
	if e.Redacts != "" {
		dst = append(dst, `,"redacts":`...)
		dst = cjson.AppendString(dst, e.Redacts)
	}
	if !o.OmitRoom {
		dst = append(dst, `,"room_id":`...)
		dst = cjson.AppendString(dst, e.Room)
	}
	dst = appendHead(dst, e)
	if len(o.Unsigned) > 0 {
		dst = append(dst, `,"unsigned":`...)
		dst = append(dst, o.Unsigned...)
	}
	return append(dst, '}')
}

// appendHead appends sender, state key and type.
func appendHead(dst []byte, e *Event) []byte {
	dst = append(dst, `,"sender":`...)
	dst = cjson.AppendString(dst, e.Sender)
	if e.IsState {
		dst = append(dst, `,"state_key":`...)
		dst = cjson.AppendString(dst, e.StateKey)
	}
	dst = append(dst, `,"type":`...)
	return cjson.AppendString(dst, e.Type)
}

// appendContentRedacts appends content with the true target in it: a sender may
// have put another there.
func appendContentRedacts(dst []byte, e *Event) []byte {
	dst, err := appendWithout(dst, e.Content, func(key []byte) bool { return string(key) == "redacts" })
	if err != nil {
		panic("event: kept content is not an object")
	}
	if dst = dst[:len(dst)-1]; dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	dst = append(dst, `"redacts":`...)
	dst = cjson.AppendString(dst, e.Redacts)
	return append(dst, '}')
}

// AppendStripped appends a state event as invited people get it: type, state key,
// sender and content. Spec: client-server, Stripped state.
func AppendStripped(dst []byte, e *Event) []byte {
	dst = append(dst, `{"content":`...)
	dst = append(dst, e.Content...)
	dst = appendHead(dst, e)
	return append(dst, '}')
}
