package account

import (
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// The two profile fields that member events repeat.
const (
	DisplayName = "displayname"
	AvatarURL   = "avatar_url"
)

func profileKey(user uint32, field string) []byte {
	return append(store.U32(store.Profile.Prefix(), user), field...)
}

// CheckProfile judges a field's name and value, given as JSON, and gives the
// value as it is to be stored. A nil value is a deletion.
// Spec: client-server, PUT /profile/{userId}/{keyName}.
func CheckProfile(field string, value []byte) ([]byte, error) {
	const op = "account.CheckProfile"
	if len(field) > maxProfileField {
		return nil, fault.E(fault.KeyTooLarge, op, "the name of a profile field has at most %d bytes", maxProfileField)
	}
	named := field == DisplayName || field == AvatarURL
	if !named && !isNamespaced(field) {
		return nil, fault.E(fault.Invalid, op, "this cannot be the name of a profile field")
	}
	if value == nil {
		return nil, nil
	}
	if len(value) > maxProfile {
		return nil, fault.E(fault.ProfileTooLarge, op, "a profile has at most %d bytes", maxProfile)
	}
	value, err := cjson.Canonical(nil, value, false)
	if err != nil {
		return nil, fault.E(fault.BadJSON, op, "%w", err)
	}
	if named || field == "m.tz" {
		text, ok := cjson.String(value)
		if !ok {
			return nil, fault.E(fault.BadJSON, op, "%s must be a string", field)
		}
		if len(text) > maxProfileName {
			return nil, fault.E(fault.Invalid, op, "%s has at most %d bytes", field, maxProfileName)
		}
	}
	return value, nil
}

// isNamespaced holds a name to the grammar of namespaced identifiers.
// Spec: appendices, common namespaced identifier grammar.
func isNamespaced(s string) bool {
	if s == "" || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

// PutProfile sets a field to a value that CheckProfile gave, or deletes it
// where the value is nil. The caller holds the user.
func (a *Accounts) PutProfile(tx *stream.Tx, user uint32, field string, value []byte) error {
	key := profileKey(user, field)
	if value == nil {
		tx.Delete(key)
		tx.Put(&stream.Entry{Kind: stream.Account, User: user})
		return nil
	}
	total := len(field) + len(value)
	err := a.ProfileFields(user, func(name string, val []byte) {
		if name != field {
			total += len(name) + len(val)
		}
	})
	if err != nil {
		return err
	}
	if total >= maxProfile {
		return fault.E(fault.ProfileTooLarge, "account.PutProfile", "a profile has at most %d bytes", maxProfile)
	}
	tx.Set(key, value)
	tx.Put(&stream.Entry{Kind: stream.Account, User: user})
	return nil
}

// SetProfile is CheckProfile and PutProfile in a batch of its own.
func (a *Accounts) SetProfile(user uint32, field string, value []byte) error {
	value, err := CheckProfile(field, value)
	if err != nil {
		return err
	}
	defer a.Hold(user)()
	_, err = a.log.Commit(func(tx *stream.Tx) error { return a.PutProfile(tx, user, field, value) })
	return err
}

// ProfileFields calls f for each field of a user's profile in the order of
// their names. The value is valid during the call.
func (a *Accounts) ProfileFields(user uint32, f func(field string, value []byte)) error {
	return a.st.ScanPrefix(profileKey(user, ""), func(key, val []byte) (bool, error) {
		f(string(key[5:]), val)
		return true, nil
	})
}

// ProfileField appends one field's JSON value to dst.
func (a *Accounts) ProfileField(dst []byte, user uint32, field string) (val []byte, ok bool, err error) {
	if len(field) > maxProfileField {
		return dst, false, nil
	}
	return a.st.Get(dst, profileKey(user, field))
}

// AppendProfile appends the whole profile as an object.
func (a *Accounts) AppendProfile(dst []byte, user uint32) ([]byte, error) {
	dst = append(dst, '{')
	first := true
	err := a.ProfileFields(user, func(field string, value []byte) {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(cjson.AppendString(dst, field), ':')
		dst = append(dst, value...)
	})
	return append(dst, '}'), err
}

// NameAndAvatar gives the two fields that member events repeat; empty where
// they are not set.
func (a *Accounts) NameAndAvatar(user uint32) (name, avatar string, err error) {
	for _, f := range [...]struct {
		field string
		to    *string
	}{{DisplayName, &name}, {AvatarURL, &avatar}} {
		val, ok, err := a.st.Get(nil, profileKey(user, f.field))
		if err != nil {
			return "", "", err
		}
		if ok {
			*f.to, _ = cjson.String(val)
		}
	}
	return name, avatar, nil
}
