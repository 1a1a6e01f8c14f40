package federation

import (
	"testing"

	"hearth/engine/cjson"
)

// What is parsed is bounded, and nothing that is JSON makes the parser stumble.
func FuzzParseTransaction(f *testing.F) {
	for _, s := range []string{
		`{"pdus":[]}`, `{"pdus":[{"room_id":"!a:b","type":"m"},7,null,"x"],"edus":[{"edu_type":"m.typing","content":{}}]}`,
		`{"pdus":{},"edus":[]}`, `{"edus":[1]}`, `{"pdus":[[]],"edus":{"a":1}}`, `{"pdus":[],"edus":null}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if cjson.Check([]byte(s)) != nil || cjson.KindOf([]byte(s)) != cjson.ObjectKind {
			return
		}
		tr, err := parseTransaction([]byte(s))
		if err != nil {
			return
		}
		if len(tr.pdus) > maxPDUs || len(tr.edus) > maxEDUs {
			t.Fatalf("%d pdus, %d edus", len(tr.pdus), len(tr.edus))
		}
		for _, e := range tr.edus {
			if cjson.KindOf(e.content) != cjson.ObjectKind {
				t.Fatalf("content %q", e.content)
			}
		}
		for _, raw := range tr.pdus {
			if id := strangeID(raw); len(id) > 255 {
				t.Fatalf("an id of %d bytes", len(id))
			}
		}
	})
}
