package cjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

func canon1(t *testing.T, src string, strict bool) string {
	t.Helper()
	out, err := Canonical(nil, []byte(src), strict)
	if err != nil {
		t.Fatalf("Canonical(%q, %v): %v", src, strict, err)
	}
	return string(out)
}

func TestSpecVectors(t *testing.T) {
	file, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Good []struct{ Input, Canonical string } `json:"canonical_json"`
		Bad  []string                            `json:"canonical_json_must_refuse"`
	}
	if err := json.Unmarshal(file, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Good) < 10 || len(v.Bad) < 4 {
		t.Fatal("vectors are missing")
	}
	for _, g := range v.Good {
		for _, strict := range []bool{true, false} {
			if got := canon1(t, g.Input, strict); got != g.Canonical {
				t.Errorf("%q: got %q, want %q", g.Input, got, g.Canonical)
			}
		}
	}
	for _, b := range v.Bad {
		if out, err := Canonical(nil, []byte(b), true); err == nil {
			t.Errorf("%q passed as %q", b, out)
		}
	}
}

func TestCanonical(t *testing.T) {
	for _, c := range []struct{ src, want string }{
		{` [ 1 , 2 ] `, `[1,2]`},
		{`{"b":1,"a":{"d":[],"c":{}}}`, `{"a":{"c":{},"d":[]},"b":1}`},
		{`{"a":1,"a":2}`, `{"a":2}`},
		{`{"a":1,"b":0,"a":{"z":1,"y":2}}`, `{"a":{"y":2,"z":1},"b":0}`},
		{`{"a":1,"\u0061":2,"a":3}`, `{"a":3}`},
		{`{"aa":1,"a":2,"":3}`, `{"":3,"a":2,"aa":1}`},
		// Escapes sort as what they stand for: \t, ", #, \, ].
		{`{"]":5,"\\":4,"#":3,"\"":2,"\t":1}`, `{"\t":1,"\"":2,"#":3,"\\":4,"]":5}`},
		{`{"\u0001":1,"\u0000":0}`, `{"\u0000":0,"\u0001":1}`},
		// By code point, not by UTF-16 unit.
		{`{"😀":1,"｡":2}`, `{"｡":2,"😀":1}`},
		{`"\/\u0041\u00e9\u001F\u000a\uD83D\uDE00\u007f"`, "\"/Aé\\u001f\\n😀\x7f\""},
		{`"\b\f\n\r\t\"\\"`, `"\b\f\n\r\t\"\\"`},
		{"\"\u2028\"", "\"\u2028\""},
		{`[true,false,null]`, `[true,false,null]`},
		{`-0`, `0`},
		{`[1e3,1E+3,0e9,-2e1]`, `[1000,1000,0,-20]`},
		{`9007199254740991`, `9007199254740991`},
		{`-9007199254740991`, `-9007199254740991`},
	} {
		for _, strict := range []bool{true, false} {
			if got := canon1(t, c.src, strict); got != c.want {
				t.Errorf("%s: got %s, want %s", c.src, got, c.want)
			}
		}
	}
}

func TestLenientNumbers(t *testing.T) {
	for _, c := range []struct{ src, want string }{
		{`9007199254740992`, `9007199254740992`},
		{`123456789012345678901234567890`, `123456789012345678901234567890`},
		{`1.5`, `1.5`}, {`1.50`, `1.5`}, {`1.0`, `1.0`}, {`-0.0`, `-0.0`},
		{`1e16`, `1e+16`}, {`0.00001`, `1e-05`}, {`0.0001`, `0.0001`}, {`1.5e300`, `1.5e+300`},
		{`1e-3`, `0.001`}, {`1234567890123456.0`, `1234567890123456.0`}, {`1e-999`, `0.0`},
	} {
		if got := canon1(t, c.src, false); got != c.want {
			t.Errorf("%s: got %s, want %s", c.src, got, c.want)
		}
		if _, err := Canonical(nil, []byte(c.src), true); !isRange(err) {
			t.Errorf("%s passed strictly: %v", c.src, err)
		}
	}
	if _, err := Canonical(nil, []byte(`1e999`), false); !isRange(err) {
		t.Errorf("1e999: %v", err)
	}
}

func TestHalfSurrogates(t *testing.T) {
	for src, want := range map[string]string{
		`"\ud800"`: `"�"`, `"\udc00x"`: `"�x"`, `"\ud800\ud83d\ude00"`: `"�😀"`, `"\ud800\u0041"`: `"�A"`,
	} {
		if got := canon1(t, src, false); got != want {
			t.Errorf("%s: got %s, want %s", src, got, want)
		}
		if _, err := Canonical(nil, []byte(src), true); !isRange(err) {
			t.Errorf("%s passed strictly: %v", src, err)
		}
	}
}

func isRange(err error) bool {
	var e *RangeError
	return errors.As(err, &e)
}

func isSyntax(err error) bool {
	var e *SyntaxError
	return errors.As(err, &e)
}

func TestRefused(t *testing.T) {
	for _, src := range []string{
		``, ` `, `{`, `[`, `}`, `]`, `[1`, `[1,]`, `[,1]`, `{,}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{a:1}`, `{1:1}`,
		`01`, `-`, `-01`, `1.`, `.5`, `1e`, `1e+`, `+1`, `0x1`, `NaN`, `Infinity`, `tru`, `nul`, `falsy`,
		`"`, `"\`, `"\x"`, `"\u12"`, `"\u12g4"`, "\"\x01\"", "\"\xff\"", "\"\xed\xa0\x80\"", "\"\xc0\x80\"", `1 2`, `{}{}`,
		"\ufeff{}", `[1 2]`, `{"a" 1}`, `{"a":1 "b":2}`, `'a'`, "[\v1]", `{"a":1]`, `[1}`, "\"a\x00b\"",
	} {
		if err := Check([]byte(src)); !isSyntax(err) {
			t.Errorf("Check(%q): %v", src, err)
		}
		if _, err := Canonical(nil, []byte(src), false); !isSyntax(err) {
			t.Errorf("Canonical(%q): %v", src, err)
		}
	}
}

func TestDepth(t *testing.T) {
	nest := func(n int) []byte {
		return []byte(strings.Repeat(`{"a":[`, n/2) + strings.Repeat(`[`, n%2) + "1" +
			strings.Repeat(`]`, n%2) + strings.Repeat(`]}`, n/2))
	}
	for n, deep := range map[int]bool{1: false, 63: false, 64: false, 65: false, 99: false, 100: false, 101: true, 100001: true} {
		src := nest(n)
		_, err := Canonical(nil, src, true)
		if cerr := Check(src); isRange(err) != deep || isRange(cerr) != deep || (err == nil) == deep || (cerr == nil) == deep {
			t.Errorf("depth %d: %v, %v", n, err, cerr)
		}
	}
	if err := Check([]byte(strings.Repeat("[", 1<<20))); !isRange(err) {
		t.Error(err)
	}
	// A sibling after a deep branch starts from its own depth.
	if err := Check([]byte("[" + strings.Repeat("[", 99) + strings.Repeat("]", 99) + ",{\"a\":[]}]")); err != nil {
		t.Error(err)
	}
}

// TestShuffled canonicalises objects with many keys given in any order.
func TestShuffled(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	for range 50 {
		n := 1 + r.IntN(200)
		parts := make([]string, n)
		for i := range parts {
			key, _ := json.Marshal(strings.Repeat("k", r.IntN(3)) + string(rune(r.IntN(0x300))))
			parts[i] = string(key) + `: {"y":[1,2], "x":` + string(rune('0'+r.IntN(10))) + `}`
		}
		src := []byte("{" + strings.Join(parts, " , ") + "}")
		out, err := Canonical([]byte("head"), src, true)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		again, err := Canonical(nil, out[4:], true)
		if err != nil || !bytes.Equal(again, out[4:]) {
			t.Fatalf("seed %d: not idempotent: %v\n%s\n%s", seed, err, out, again)
		}
		sameJSON(t, src, out[4:])
	}
}

func sameJSON(t *testing.T, a, b []byte) {
	t.Helper()
	var x, y any
	if err := json.Unmarshal(a, &x); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &y); err != nil {
		t.Fatal(err)
	}
	p, _ := json.Marshal(noMinusZero(x))
	q, _ := json.Marshal(noMinusZero(y))
	if !bytes.Equal(p, q) {
		t.Fatalf("meaning changed:\n%s\n%s", p, q)
	}
}

// noMinusZero makes -0 into 0 throughout, which canonical JSON does.
func noMinusZero(v any) any {
	switch v := v.(type) {
	case float64:
		if v == 0 {
			return 0.0
		}
	case []any:
		for i := range v {
			v[i] = noMinusZero(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = noMinusZero(v[k])
		}
	}
	return v
}

const sample = `{"auth_events":["$a","$b"],"content":{"body":"some text, plain and longer than eight","msgtype":"m.text"},` +
	`"depth":12,"origin_server_ts":1700000000000,"sender":"@a:b","type":"m.room.message"}`

func TestAllocations(t *testing.T) {
	src, dst := []byte(sample), make([]byte, 0, 4096)
	messy := []byte(strings.ReplaceAll(`{"z":1,"y":{"b":"\u0041","a":1e3},"x":[]}`, ",", " , "))
	for name, f := range map[string]func(){
		"Check":            func() { _ = Check(src) },
		"Canonical":        func() { _, _ = Canonical(dst, src, true) },
		"Canonical, messy": func() { _, _ = Canonical(dst, messy, true) },
		"Lookup":           func() { _, _ = Lookup(src, "type") },
		"LookupPath":       func() { _, _ = LookupPath(src, "content", "body") },
		"Object":           func() { _ = Object(src, func(k, v []byte) bool { return true }) },
		"Is":               func() { _ = Is([]byte(`"abc"`), "abc") },
		"Int":              func() { _, _ = Int([]byte(`1700000000000`)) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}

func FuzzCanonical(f *testing.F) {
	for _, s := range []string{sample, `{"b":1.5,"a":[{}],"\u0000":"\ud800"}`, `[1e10,-0,0.1]`, `{"a":1,"a":2}`, "\"\xff\"", `{"":{"":{}}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		cerr := Check(src)
		valid := json.Valid(src) && utf8.Valid(src)
		if (cerr == nil) != valid && !isRange(cerr) {
			t.Fatalf("Check %v, but valid is %v", cerr, valid)
		}
		for _, strict := range []bool{true, false} {
			out, err := Canonical(nil, src, strict)
			if cerr != nil && err == nil {
				t.Fatalf("Canonical passes what Check refuses: %v", cerr)
			}
			if cerr == nil && isSyntax(err) {
				t.Fatalf("syntax: %v", err)
			}
			if err != nil {
				continue
			}
			again, err := Canonical(nil, out, strict)
			if err != nil || !bytes.Equal(again, out) {
				t.Fatalf("strict %v not idempotent: %v\n%q\n%q", strict, err, out, again)
			}
			sameJSON(t, src, out)
		}
		walk(src)
	})
}

// walk reads everything a text holds through the readers, for their panics.
func walk(src []byte) {
	String(src)
	Int(src)
	IntLenient(src)
	Is(src, "x")
	Lookup(src, "a")
	_ = Object(src, func(k, v []byte) bool { walk(v); return true })
	_ = Array(src, func(v []byte) bool { walk(v); return true })
}

func BenchmarkCanonical(b *testing.B) {
	src, dst := []byte(sample), make([]byte, 0, 4096)
	b.SetBytes(int64(len(src)))
	for b.Loop() {
		_, _ = Canonical(dst, src, true)
	}
}
