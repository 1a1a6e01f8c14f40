package keyring

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"

	"hearth/engine/event"
	"hearth/engine/mxid"
)

// FuzzAnswer reads what servers say of their keys: none of it may panic, and
// what is taken is within its bounds.
func FuzzAnswer(f *testing.F) {
	w := newWorld()
	w.server("a")
	f.Add(w.object("a"))
	w.rotate("a", w.now)
	f.Add(w.object("a"))
	f.Add([]byte(`{"server_name":"a","valid_until_ts":-1,"verify_keys":{"ed25519:1":{"key":"AA"}},"signatures":{"a":{"ed25519:1":""}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := readAnswer(raw, "a", 1000)
		if err != nil {
			return
		}
		if len(a.keys) > maxKeys || a.inUse > len(a.keys) {
			t.Fatalf("%d keys, %d in use", len(a.keys), a.inUse)
		}
		for i, k := range a.keys {
			if k.until > 1000+believed || k.until < 0 || !goodKeyID(k.id) || (k.expired != 0) != (i >= a.inUse) {
				t.Fatalf("%+v", k)
			}
			tail := k.appendKey(nil, "a")[len(serverKey(nil, 0, "a")):]
			if back, err := parseKeyRow(tail, k.appendRow(nil)); err != nil || back != k {
				t.Fatalf("%+v became %+v: %v", k, back, err)
			}
		}
		_ = a.checkSelf()
	})
}

// FuzzKeyRow reads rows.
func FuzzKeyRow(f *testing.F) {
	k := key{id: "ed25519:1", until: 5}
	f.Add(k.appendKey(nil, "a")[3:], k.appendRow(nil))
	f.Fuzz(func(_ *testing.T, tail, row []byte) { _, _ = parseKeyRow(tail, row) })
}

// FuzzQueries reads what notaries are asked and what they answer.
func FuzzQueries(f *testing.F) {
	f.Add([]byte(`{"server_keys":{"a":{"ed25519:1":{"minimum_valid_until_ts":5}},"":{}}}`))
	f.Add([]byte(`{"server_keys":[{"server_name":"a"},1]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, err := ParseQueries(raw)
		if err == nil && len(list) > MaxQueries {
			t.Fatalf("%d servers", len(list))
		}
		for _, q := range list {
			if _, err := mxid.ParseServer(string(q.Server)); err != nil || len(q.KeyIDs) > maxWants {
				t.Fatalf("%+v", q)
			}
		}
		n := 0
		_ = parseBatch(raw, func(mxid.Server, []byte) { n++ })
		if n > maxNotary {
			t.Fatalf("%d objects", n)
		}
	})
}

// Objects that are no good, each for its own reason.
func TestBadAnswers(t *testing.T) {
	w := newWorld()
	s := w.server("a")
	sign := func(obj string) []byte {
		signed, err := event.SignJSON(nil, []byte(obj), &s)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	pub := `{"ed25519:1":` + string(appendPublic([]byte{'{'}, s.Key.Public().(ed25519.PublicKey))) + `}`
	many := `{"ed25519:1":` + string(appendPublic([]byte{'{'}, s.Key.Public().(ed25519.PublicKey)))
	for i := range maxKeys {
		many += fmt.Sprintf(`,"ed25519:x%d":{}`, i)
	}
	for name, raw := range map[string][]byte{
		"no JSON":            []byte(`{`),
		"no object":          []byte(`[]`),
		"another server":     sign(`{"server_name":"b","valid_until_ts":5,"verify_keys":` + pub + `}`),
		"no name":            sign(`{"valid_until_ts":5,"verify_keys":` + pub + `}`),
		"no time":            sign(`{"server_name":"a","verify_keys":` + pub + `}`),
		"a time of text":     sign(`{"server_name":"a","valid_until_ts":"5","verify_keys":` + pub + `}`),
		"no keys":            sign(`{"server_name":"a","valid_until_ts":5}`),
		"a retired key":      sign(`{"server_name":"a","valid_until_ts":5,"old_verify_keys":` + pub + `}`),
		"not signed":         []byte(`{"server_name":"a","valid_until_ts":5,"verify_keys":` + pub + `}`),
		"signed, but not it": bytes.Replace(sign(`{"server_name":"a","valid_until_ts":6,"verify_keys":`+pub+`}`), []byte(`_ts":6`), []byte(`_ts":7`), 1),
		"too many keys":      sign(`{"server_name":"a","valid_until_ts":5,"verify_keys":` + many + `}}`),
		"too long":           sign(`{"server_name":"a","valid_until_ts":5,"verify_keys":` + pub + `,"x":"` + strings.Repeat("x", maxAnswer) + `"}`),
	} {
		if _, err := parseAnswer(raw, "a", 1000); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := parseAnswer(sign(`{"server_name":"a","valid_until_ts":5,"verify_keys":`+pub+`}`), "a", 1000); err != nil {
		t.Errorf("the good one: %v", err)
	}
}
