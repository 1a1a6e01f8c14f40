package auth

import (
	"bytes"

	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/mxid"
)

// singleLevels are the properties of m.room.power_levels that are one level.
func singleLevels() [7]string {
	return [...]string{"users_default", "events_default", "state_default", "ban", "redact", "kick", "invite"}
}

// powerLevels is the rule for m.room.power_levels; level is the sender's.
func (c *check) powerLevels(level int64) error {
	if c.v.IntegerPL {
		if err := checkIntegers(c.e); err != nil {
			return err
		}
	}
	if err := c.namedUsers(); err != nil {
		return err
	}
	// Spec: rooms v12, auth rule 10.5.
	old := c.state(typePowerLevels, "")
	if old == nil {
		return nil
	}
	// Spec: rooms v12, auth rule 10.6.
	for _, key := range singleLevels() {
		was, _ := cjson.Lookup(old.Content, key)
		is, _ := cjson.Lookup(c.e.Content, key)
		if err := c.alters(key, was, is, level); err != nil {
			return err
		}
	}
	// Spec: rooms v12, auth rules 10.7 and 10.8.
	if err := c.altersEach(old, "events", level); err != nil {
		return err
	}
	if c.v.NotificationsPL {
		if err := c.altersEach(old, "notifications", level); err != nil {
			return err
		}
	}
	// Spec: rooms v12, auth rules 10.9 and 10.10.
	return c.altersEach(old, "users", level)
}

// checkIntegers judges the shape that version 10 made a rule.
func checkIntegers(e *event.Event) error {
	// Spec: rooms v12, auth rule 10.1.
	for _, key := range singleLevels() {
		if val, ok := cjson.Lookup(e.Content, key); ok {
			if _, ok := cjson.Int(val); !ok {
				return malformed("%s is not an integer", key)
			}
		}
	}
	// Spec: rooms v12, auth rule 10.2.
	for _, key := range [...]string{"events", "notifications"} {
		val, ok := cjson.Lookup(e.Content, key)
		if !ok {
			continue
		}
		integers := true
		err := cjson.Object(val, func(_, val []byte) bool {
			_, integers = cjson.Int(val)
			return integers
		})
		if err != nil || !integers {
			return malformed("%s is not an object of integers", key)
		}
	}
	return nil
}

// namedUsers judges the users of a power levels event. A missing users property is
// let pass: deployed servers read the rule so.
func (c *check) namedUsers() error {
	val, ok := cjson.Lookup(c.e.Content, "users")
	if !ok {
		return nil
	}
	valid, creator := true, false
	err := cjson.Object(val, func(key, val []byte) bool {
		user := string(key)
		_, valid = parseLevel(c.v, val)
		valid = valid && namesUser(user)
		creator = creator || (c.v.Creators && standsAbove(c.create, mxid.UserID(user)))
		return valid
	})
	// Spec: rooms v12, auth rule 10.3.
	if err != nil || !valid {
		return malformed("users is not an object of user ids and power levels")
	}
	// Spec: rooms v12, auth rule 10.4.
	if creator {
		return malformed("users names a creator of the room")
	}
	return nil
}

// entry is what a power levels property said of a key, and what it is to say.
type entry struct{ was, is []byte }

// altersEach compares the entries of one property.
func (c *check) altersEach(old *event.Event, property string, level int64) error {
	was, _ := cjson.Lookup(old.Content, property)
	is, _ := cjson.Lookup(c.e.Content, property)
	if bytes.Equal(was, is) {
		return nil
	}
	entries := make(map[string]entry)
	_ = cjson.Object(was, func(key, val []byte) bool {
		entries[string(key)] = entry{was: val}
		return true
	})
	_ = cjson.Object(is, func(key, val []byte) bool {
		en := entries[string(key)]
		en.is = val
		entries[string(key)] = en
		return true
	})
	for key, en := range entries {
		if property == "users" && key != string(c.e.Sender) && !c.same(en.was, en.is) {
			// Spec: rooms v12, auth rule 10.9.
			if n, ok := parseLevel(c.v, en.was); ok && n >= level {
				return deny("%s has no lower power level than the sender", key)
			}
		}
		if err := c.alters(key, en.was, en.is, level); err != nil {
			return err
		}
	}
	return nil
}

// alters refuses to change a level from or to above the sender's. A nil value is
// an absent one. Values that are no level can stay as they are and be removed;
// setting one is refused, since nothing says how to compare it.
func (c *check) alters(key string, was, is []byte, level int64) error {
	if c.same(was, is) {
		return nil
	}
	if n, ok := parseLevel(c.v, was); ok && n > level {
		return deny("changing the level for %s needs power level %d", key, n)
	}
	if is == nil {
		return nil
	}
	n, ok := parseLevel(c.v, is)
	if !ok {
		return malformed("the level for %s is not an integer", key)
	}
	if n > level {
		return deny("setting %s to %d needs that power level", key, n)
	}
	return nil
}

// same says whether two values, either of which may be absent, are the same level.
// In old versions "10" and 10 are.
func (c *check) same(was, is []byte) bool {
	if was == nil || is == nil {
		return was == nil && is == nil
	}
	if bytes.Equal(was, is) {
		return true
	}
	a, ok := parseLevel(c.v, was)
	b, ok2 := parseLevel(c.v, is)
	return ok && ok2 && a == b
}
