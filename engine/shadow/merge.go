package shadow

import (
	"bytes"
	"strconv"

	"hearth/engine/cjson"
)

func appendInt(dst []byte, v int64) []byte { return strconv.AppendInt(dst, v, 10) }

// member appends a member to an object under way.
func member(dst, key, val []byte) []byte {
	if len(dst) > 1 {
		dst = append(dst, ',')
	}
	return append(append(cjson.AppendString(dst, string(key)), ':'), val...)
}

// each calls f for the members of an object that count: of equal keys the last.
func each(obj []byte, f func(key, val []byte)) {
	_ = cjson.Object(obj, func(key, val []byte) bool { // it was checked
		if last, _ := cjson.Lookup(obj, string(key)); len(last) > 0 && len(val) > 0 && &last[0] == &val[0] {
			f(key, val)
		}
		return true
	})
}

// merge is target with a patch in it. Spec: RFC 7396, JSON Merge Patch.
func merge(target, patch []byte) []byte {
	if cjson.KindOf(patch) == cjson.NullKind {
		return nil
	}
	if cjson.KindOf(patch) != cjson.ObjectKind {
		return append([]byte(nil), patch...)
	}
	if cjson.KindOf(target) != cjson.ObjectKind {
		target = []byte("{}")
	}
	dst := []byte{'{'}
	each(target, func(key, val []byte) {
		change, ok := cjson.Lookup(patch, string(key))
		if ok {
			val = merge(val, change)
		}
		if val != nil {
			dst = member(dst, key, val)
		}
	})
	each(patch, func(key, val []byte) {
		if _, ok := cjson.Lookup(target, string(key)); ok {
			return
		}
		if val = merge(nil, val); val != nil {
			dst = member(dst, key, val)
		}
	})
	return append(dst, '}')
}

// delta is what of desired is not in reported; nil: nothing.
func delta(desired, reported []byte) []byte {
	if cjson.KindOf(desired) != cjson.ObjectKind || cjson.KindOf(reported) != cjson.ObjectKind {
		if same(desired, reported) {
			return nil
		}
		return desired
	}
	dst := []byte{'{'}
	each(desired, func(key, val []byte) {
		has, _ := cjson.Lookup(reported, string(key))
		if d := delta(val, has); d != nil {
			dst = member(dst, key, d)
		}
	})
	if len(dst) == 1 {
		return nil
	}
	return append(dst, '}')
}

// same says whether two JSON values are the same, however they are spelt.
func same(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	if x, ok := cjson.Float(a); ok {
		y, ok := cjson.Float(b)
		return ok && x == y
	}
	x, err := cjson.Canonical(nil, a, false)
	if err != nil {
		return false
	}
	y, err := cjson.Canonical(nil, b, false)
	return err == nil && bytes.Equal(x, y)
}
