package cjson

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func TestLookup(t *testing.T) {
	const obj = ` { "a" : 1 , "b":{"c":[1,{"]":2}],"d":"x\"}"},"t":true,"n":null,"\u0065":"esc","a":2, "" : "e" } `
	for key, want := range map[string]string{
		"a": "2", "b": `{"c":[1,{"]":2}],"d":"x\"}"}`, "t": "true", "n": "null", "e": `"esc"`, "": `"e"`,
	} {
		if got, ok := Lookup([]byte(obj), key); !ok || string(got) != want {
			t.Errorf("%q: got %q, %v", key, got, ok)
		}
	}
	for _, key := range []string{"c", "A", "aa", `\u0065`} {
		if got, ok := Lookup([]byte(obj), key); ok {
			t.Errorf("%q: got %q", key, got)
		}
	}
	if got, ok := LookupPath([]byte(obj), "b", "d"); !ok || string(got) != `"x\"}"` {
		t.Errorf("path: %q", got)
	}
	if s, ok := LookupString([]byte(obj), "e"); !ok || s != "esc" {
		t.Errorf("string: %q", s)
	}
	for _, broken := range []string{``, `[]`, `"a"`, `{`, `{"a`, `{"a"`, `{"a":`, `{"a":[`, `{"a":}`, `{"a":"`} {
		if got, ok := Lookup([]byte(broken), "a"); ok {
			t.Errorf("%q: got %q", broken, got)
		}
	}
}

func TestIterate(t *testing.T) {
	var got []string
	err := Object([]byte(`{"a":1,"\u0062":[1,2]}`), func(k, v []byte) bool {
		got = append(got, string(k)+"="+string(v))
		return true
	})
	if want := []string{"a=1", "b=[1,2]"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v %v", got, err)
	}
	got = nil
	err = Array([]byte(` [ 1 , "x,]" , {"a":[]} , null ] `), func(v []byte) bool {
		got = append(got, string(v))
		return true
	})
	if want := []string{"1", `"x,]"`, `{"a":[]}`, "null"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q %v", got, err)
	}
	n := 0
	if err := Array([]byte(`[1,2,3]`), func([]byte) bool { n++; return n < 2 }); err != nil || n != 2 {
		t.Errorf("stop: %d %v", n, err)
	}
	for _, s := range []string{`{}`, `1`, ``, `[1`, `[1,]`, `[1 2]`} {
		if Array([]byte(s), func([]byte) bool { return true }) == nil {
			t.Errorf("Array(%q) passed", s)
		}
	}
	if Object([]byte(`[]`), nil) == nil || Object([]byte(`{}`), nil) != nil || Array([]byte(`[]`), nil) != nil {
		t.Error("empty")
	}
}

func TestScalars(t *testing.T) {
	for s, want := range map[string]int64{"0": 0, "-1": -1, "9223372036854775807": 9223372036854775807, "-0": 0} {
		if n, ok := Int([]byte(s)); !ok || n != want {
			t.Errorf("Int(%s) = %d, %v", s, n, ok)
		}
	}
	for _, s := range []string{"", "1.0", "1e2", "9223372036854775808", "+1", "01", `"1"`, "true", "1 ", "0x1", "1_0"} {
		if n, ok := Int([]byte(s)); ok {
			t.Errorf("Int(%s) = %d", s, n)
		}
	}
	for s, want := range map[string]int64{"1.0": 1, "1e2": 100, "1.9": 1, "-1.9": -1, "7": 7} {
		if n, ok := IntLenient([]byte(s)); !ok || n != want {
			t.Errorf("IntLenient(%s) = %d, %v", s, n, ok)
		}
	}
	if _, ok := IntLenient([]byte("1e30")); ok {
		t.Error("IntLenient(1e30)")
	}
	for s, want := range map[string]Kind{"": NoKind, " ": NoKind, "x": NoKind, "null": NullKind, "true": BoolKind, "-1": NumberKind,
		`"a"`: StringKind, " []": ArrayKind, "{}": ObjectKind} {
		if k := KindOf([]byte(s)); k != want {
			t.Errorf("KindOf(%q) = %d", s, k)
		}
	}
	for s, want := range map[string]string{`""`: "", `"a"`: "a", `"é\n\u00e9\ud83d\ude00"`: "é\né😀", `"\ud800"`: "\ufffd"} {
		if got, ok := String([]byte(s)); !ok || got != want || !Is([]byte(s), want) {
			t.Errorf("String(%s) = %q, %v", s, got, ok)
		}
	}
	for _, s := range []string{``, `"`, `a`, `"a`, `a"`, `"a"b"`, `1`, `"\"`} {
		if got, ok := String([]byte(s)); ok {
			t.Errorf("String(%s) = %q", s, got)
		}
	}
	if b, ok := Bool([]byte("false")); b || !ok {
		t.Error("Bool(false)")
	}
	if _, ok := Bool([]byte("1")); ok {
		t.Error("Bool(1)")
	}
}

func TestAppendString(t *testing.T) {
	for _, s := range []string{"", "plain", "qu\"ote\\", "\x00\x01\b\f\n\r\t\x1f\x7f", "é😀\u2028<>&", "bad\xffend\xed\xa0\x80", strings.Repeat("x", 100)} {
		q := AppendString(nil, s)
		var back string
		if err := json.Unmarshal(q, &back); err != nil || back != strings.ToValidUTF8(s, "\ufffd") && !strings.Contains(s, "\xed") {
			t.Errorf("%q -> %s -> %q (%v)", s, q, back, err)
		}
		if c, err := Canonical(nil, q, true); err != nil || string(c) != string(q) {
			t.Errorf("%s is not canonical: %s, %v", q, c, err)
		}
	}
}
