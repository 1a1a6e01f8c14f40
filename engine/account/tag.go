package account

import (
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/stream"
)

// Tags are the one piece of account data that is edited in parts: type m.tag
// of the room, content {"tags":{NAME:{"order":…}}}.
// Spec: client-server, room tagging.

// AppendTags appends a room's tags as GET /tags answers them.
func (a *Accounts) AppendTags(dst []byte, user, room uint32) ([]byte, error) {
	at := len(dst)
	dst, ok, err := a.Data(dst, user, room, TypeTag)
	if err != nil {
		return dst, err
	}
	if _, has := cjson.Lookup(dst[at:], "tags"); !ok || !has {
		return append(dst[:at], `{"tags":{}}`...), nil
	}
	return dst, nil
}

// SetTag adds a tag to a room or changes it. Content is the tag's object as a
// client sent it; nil takes the tag away.
func (a *Accounts) SetTag(user, room uint32, tag string, content []byte) (stream.Pos, error) {
	const op = "account.SetTag"
	if tag == "" {
		return 0, fault.E(fault.Invalid, op, "a tag needs a name")
	}
	if err := checkText(op, "the tag", tag, maxTag); err != nil {
		return 0, err
	}
	if content != nil {
		var err error
		if content, err = checkTag(op, content); err != nil {
			return 0, err
		}
		if err := a.roomForData(user, room, TypeTag); err != nil {
			return 0, err
		}
	}
	return a.log.Commit(func(tx *stream.Tx) error {
		old, _, err := a.Data(nil, user, room, TypeTag)
		if err != nil {
			return err
		}
		all, changed, err := editTags(old, tag, content)
		if err != nil || !changed {
			return err
		}
		return a.PutData(tx, user, room, TypeTag, all)
	})
}

func checkTag(op string, content []byte) ([]byte, error) {
	if len(content) > maxDataContent/maxTags {
		return nil, fault.E(fault.TooLarge, op, "a tag has at most %d bytes", maxDataContent/maxTags)
	}
	if cjson.KindOf(content) != cjson.ObjectKind {
		return nil, fault.E(fault.BadJSON, op, "a tag must be an object")
	}
	if order, ok := cjson.Lookup(content, "order"); ok && cjson.KindOf(order) != cjson.NumberKind {
		return nil, fault.E(fault.BadJSON, op, "the order of a tag must be a number")
	}
	out, err := cjson.Canonical(nil, content, false)
	if err != nil {
		return nil, fault.E(fault.BadJSON, op, "%w", err)
	}
	return out, nil
}

// editTags writes the content anew with one tag set or gone. Other members of
// the content, which a client may have put there, stay.
func editTags(old []byte, tag string, content []byte) (all []byte, changed bool, err error) {
	list := []byte{'{'}
	n := 0
	add := func(name, val []byte) {
		if n++; n > 1 {
			list = append(list, ',')
		}
		list = append(append(cjson.AppendString(list, string(name)), ':'), val...)
	}
	if tags, ok := cjson.Lookup(old, "tags"); ok && cjson.KindOf(tags) == cjson.ObjectKind {
		err = cjson.Object(tags, func(name, val []byte) bool {
			if string(name) == tag {
				changed = true
			} else {
				add(name, val)
			}
			return true
		})
	}
	if content != nil {
		changed = true
		add([]byte(tag), content)
	}
	if n > maxTags {
		return nil, false, fault.E(fault.Forbidden, "account.SetTag", "a room has at most %d tags", maxTags)
	}
	list = append(list, '}')
	all = append([]byte(`{"tags":`), list...)
	if old != nil && err == nil {
		err = cjson.Object(old, func(name, val []byte) bool {
			if string(name) != "tags" {
				all = append(cjson.AppendString(append(all, ','), string(name)), ':')
				all = append(all, val...)
			}
			return true
		})
	}
	all = append(all, '}')
	return all, changed, err
}
