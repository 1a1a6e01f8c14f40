package cjson

import (
	"bytes"
	"errors"
	"math"
	"strconv"
)

// errShape is what Object and Array say of a value that is not theirs.
var errShape = errors.New("json: value of another kind or broken")

// Kind is the kind of a JSON value.
type Kind uint8

// The kinds. NoKind is what no value begins with.
const (
	NoKind Kind = iota
	NullKind
	BoolKind
	NumberKind
	StringKind
	ArrayKind
	ObjectKind
)

// KindOf tells the kind of a value by its first byte.
func KindOf(val []byte) Kind {
	i := skipSpace(val, 0)
	if i == len(val) {
		return NoKind
	}
	switch c := val[i]; {
	case c == '{':
		return ObjectKind
	case c == '[':
		return ArrayKind
	case c == '"':
		return StringKind
	case c == 't' || c == 'f':
		return BoolKind
	case c == 'n':
		return NullKind
	case c == '-' || '0' <= c && c <= '9':
		return NumberKind
	}
	return NoKind
}

// skipString is the index behind the string that opens at src[i]; -1 where it does
// not end. A quote closes where an even number of backslashes stands before it.
func skipString(src []byte, i int) int {
	for i++; ; {
		n := bytes.IndexByte(src[i:], '"')
		if n < 0 {
			return -1
		}
		slashes := 0
		for slashes < n && src[i+n-1-slashes] == '\\' {
			slashes++
		}
		i += n + 1
		if slashes%2 == 0 {
			return i
		}
	}
}

// skipValue is the index behind the value at src[i]; -1 where it is broken. It
// believes that what lies between the brackets is JSON.
func skipValue(src []byte, i int) int {
	start, depth := i, 0
	for i < len(src) {
		switch src[i] {
		case '"':
			if i = skipString(src, i); i < 0 {
				return -1
			}
			if depth == 0 {
				return i
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth <= 0 {
				if depth < 0 { // closes the object around a number or literal
					return endScalar(start, i)
				}
				return i + 1
			}
		case ',', ' ', '\n', '\t', '\r':
			if depth == 0 {
				return endScalar(start, i)
			}
		}
		i++
	}
	if depth > 0 {
		return -1
	}
	return endScalar(start, i)
}

func endScalar(start, end int) int {
	if start == end {
		return -1
	}
	return end
}

// nextMember takes the member at src[i], which is behind the opening brace or a
// comma. It gives the raw key between its quotes, the value, and the index of what
// follows. done says that the object closes there; next is -1 where it is broken.
func nextMember(src []byte, i int) (key, val []byte, next int, done bool) {
	i = skipSpace(src, i)
	if i < len(src) && src[i] == '}' {
		return nil, nil, i + 1, true
	}
	if i >= len(src) || src[i] != '"' {
		return nil, nil, -1, false
	}
	end := skipString(src, i)
	if end < 0 {
		return nil, nil, -1, false
	}
	key = src[i+1 : end-1]
	if i = skipSpace(src, end); i >= len(src) || src[i] != ':' {
		return nil, nil, -1, false
	}
	i = skipSpace(src, i+1)
	if end = skipValue(src, i); end < 0 {
		return nil, nil, -1, false
	}
	val = src[i:end]
	if i = skipSpace(src, end); i < len(src) && src[i] == ',' {
		i++
	} else if i >= len(src) || src[i] != '}' {
		return nil, nil, -1, false
	}
	return key, val, i, false
}

// keyIs compares a raw key with a decoded one.
func keyIs(raw []byte, key string) bool {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw) == key
	}
	s, ok := decodeKey(raw)
	return ok && string(s) == key
}

// decodeKey decodes a raw key that holds escapes.
func decodeKey(raw []byte) ([]byte, bool) {
	quoted := make([]byte, 0, len(raw)+2)
	quoted = append(quoted, '"')
	quoted = append(quoted, raw...)
	quoted = append(quoted, '"')
	return AppendDecoded(nil, quoted)
}

// Lookup finds the value of a key of the object obj, in any spelling of the key;
// of equal keys the last. It gives the raw bytes of the value without white space
// around, as a part of obj. It does not allocate unless a key holds escapes.
func Lookup(obj []byte, key string) (val []byte, ok bool) {
	i := skipSpace(obj, 0)
	if i >= len(obj) || obj[i] != '{' {
		return nil, false
	}
	i++
	for {
		k, v, next, done := nextMember(obj, i)
		if done || next < 0 {
			return val, val != nil
		}
		if keyIs(k, key) {
			val = v
		}
		i = next
	}
}

// LookupPath follows keys through nested objects.
func LookupPath(obj []byte, keys ...string) (val []byte, ok bool) {
	val = obj
	for _, key := range keys {
		if val, ok = Lookup(val, key); !ok {
			return nil, false
		}
	}
	return val, len(keys) > 0
}

// LookupString is the text of a string under a key of obj.
func LookupString(obj []byte, key string) (string, bool) {
	val, ok := Lookup(obj, key)
	if !ok {
		return "", false
	}
	return String(val)
}

// Object calls f for every member of obj in the order of the text, until f returns
// false. The key is decoded; both slices are parts of obj where the key holds no
// escape. Equal keys are not joined: of those the last counts.
func Object(obj []byte, f func(key, val []byte) bool) error {
	i := skipSpace(obj, 0)
	if i >= len(obj) || obj[i] != '{' {
		return errShape
	}
	i++
	for {
		key, val, next, done := nextMember(obj, i)
		if done {
			return nil
		}
		if next < 0 {
			return errShape
		}
		if bytes.IndexByte(key, '\\') >= 0 {
			var ok bool
			if key, ok = decodeKey(key); !ok {
				return errShape
			}
		}
		if !f(key, val) {
			return nil
		}
		i = next
	}
}

// Array calls f for every element of arr, until f returns false.
func Array(arr []byte, f func(val []byte) bool) error {
	i := skipSpace(arr, 0)
	if i >= len(arr) || arr[i] != '[' {
		return errShape
	}
	if i = skipSpace(arr, i+1); i < len(arr) && arr[i] == ']' {
		return nil
	}
	for {
		end := skipValue(arr, i)
		if end < 0 {
			return errShape
		}
		if !f(arr[i:end]) {
			return nil
		}
		i = skipSpace(arr, end)
		if i < len(arr) && arr[i] == ']' {
			return nil
		}
		if i >= len(arr) || arr[i] != ',' {
			return errShape
		}
		i = skipSpace(arr, i+1)
	}
}

// String decodes a JSON string. Half a surrogate pair becomes U+FFFD.
func String(val []byte) (string, bool) {
	if len(val) >= 2 && val[0] == '"' && 1+plainRun(val, 1) == len(val)-1 && val[len(val)-1] == '"' {
		return string(val[1 : len(val)-1]), true
	}
	text, ok := AppendDecoded(nil, val)
	return string(text), ok
}

// Is says whether val is a JSON string that stands for s. It does not allocate
// unless val holds escapes.
func Is(val []byte, s string) bool {
	if len(val) < 2 || val[0] != '"' || val[len(val)-1] != '"' {
		return false
	}
	return keyIs(val[1:len(val)-1], s)
}

// Int reads an integer: digits only, within 64 bits.
func Int(val []byte) (int64, bool) {
	if len(val) == 0 || len(val) > 20 || val[0] == '+' {
		return 0, false
	}
	if end, _, err := scanNumber(val, 0); err != nil || end != len(val) {
		return 0, false
	}
	n, err := strconv.ParseInt(string(val), 10, 64)
	return n, err == nil
}

// IntLenient reads a number as an integer as old rooms want it: an integer of 64
// bits, or the integral part of a fraction or exponent form.
func IntLenient(val []byte) (int64, bool) {
	if n, ok := Int(val); ok {
		return n, true
	}
	f, ok := Float(val)
	if !ok || math.Abs(f) >= 1<<63 {
		return 0, false
	}
	return int64(f), true
}

// Float reads any JSON number that a double can hold.
func Float(val []byte) (float64, bool) {
	if len(val) == 0 {
		return 0, false
	}
	if end, _, err := scanNumber(val, 0); err != nil || end != len(val) {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(val), 64)
	return f, err == nil
}

// Bool reads true or false; ok is false for anything else.
func Bool(val []byte) (b, ok bool) {
	switch string(val) {
	case "true":
		return true, true
	case "false":
		return false, true
	}
	return false, false
}
