package bridge

import (
	"encoding/base64"
	"unicode/utf8"

	"hearth/engine/cjson"
	"hearth/engine/event"
)

// keyTopic names the topic in what the bridge sends: a room may hold many.
const keyTopic = "io.hearth.topic"

// maxContent is the longest payload that becomes an event: what an event may be,
// less room for what stands around it. In base64 less goes in.
const maxContent = event.MaxSize - 2048

// isObject says whether a payload can be the content of an event as it stands: an
// object without fractions, which events must not hold.
func isObject(payload []byte) bool {
	if cjson.Check(payload) != nil || cjson.KindOf(trim(payload)) != cjson.ObjectKind {
		return false
	}
	_, err := cjson.Canonical(nil, payload, true)
	return err == nil
}

func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t' || b[0] == '\n' || b[0] == '\r') {
		b = b[1:]
	}
	return b
}

// appendPayload appends the members that carry any payload: its text, or base64
// with a word that says so.
func appendPayload(dst, payload []byte) []byte {
	if utf8.Valid(payload) {
		dst = cjson.AppendString(append(dst, `"payload":`...), string(payload))
		if cjson.Check(payload) == nil {
			dst = append(dst, `,"encoding":"json"`...)
		}
		return dst
	}
	dst = cjson.AppendString(append(dst, `"payload":`...), base64.StdEncoding.EncodeToString(payload))
	return append(dst, `,"encoding":"base64"`...)
}

// content is the content of the event that a message becomes. A message for
// people gets a body to read.
func content(typ, name string, payload []byte) []byte {
	if isObject(payload) {
		if _, has := cjson.LookupString(payload, "body"); typ != typeMessage || has {
			dst := []byte{'{'}
			_ = cjson.Object(trim(payload), func(key, val []byte) bool { // it was checked
				if string(key) != keyTopic {
					dst = append(append(cjson.AppendString(dst, string(key)), ':'), val...)
					dst = append(dst, ',')
				}
				return true
			})
			if _, ok := cjson.LookupString(payload, "msgtype"); typ == typeMessage && !ok {
				dst = append(dst, `"msgtype":"m.text",`...)
			}
			return append(cjson.AppendString(append(append(dst, '"'), keyTopic+`":`...), name), '}')
		}
	}
	dst := []byte{'{'}
	if typ == typeMessage {
		body := string(payload)
		if !utf8.Valid(payload) {
			body = "(binary)"
		}
		dst = cjson.AppendString(append(dst, `"msgtype":"m.text","body":`...), body)
		if utf8.Valid(payload) {
			return append(cjson.AppendString(append(append(dst, ',', '"'), keyTopic+`":`...), name), '}')
		}
		dst = append(dst, ',')
	}
	dst = append(appendPayload(dst, payload), ',', '"')
	return append(cjson.AppendString(append(dst, keyTopic+`":`...), name), '}')
}

// payloadOf is the payload that an event becomes. ok is false for what is nothing
// to send: an edit, a message without text.
func payloadOf(typ string, content []byte) (payload []byte, ok bool) {
	if rel, has := cjson.Lookup(content, "m.relates_to"); has && typ == typeMessage {
		if kind, _ := cjson.LookupString(rel, "rel_type"); kind == "m.replace" {
			return nil, false
		}
	}
	val, has := cjson.Lookup(content, "payload")
	if !has && typ == typeMessage {
		kind, _ := cjson.LookupString(content, "msgtype")
		body, ok := cjson.LookupString(content, "body")
		return []byte(body), ok && (kind == "m.text" || kind == "m.notice" || kind == "m.emote")
	}
	if !has {
		return content, true
	}
	text, isText := cjson.String(val)
	if !isText {
		return val, true
	}
	if enc, _ := cjson.LookupString(content, "encoding"); enc == "base64" {
		raw, err := base64.StdEncoding.DecodeString(text)
		return raw, err == nil
	}
	return []byte(text), true
}
