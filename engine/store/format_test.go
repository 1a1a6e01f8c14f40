package store

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/fault"
)

// The formats of a made-up next version: rows of the table Account end with an exclamation mark.
func nextForms(fail *error) forms {
	return forms{newest: Format + 1, steps: []step{{Format, func(s *Store) error {
		for _, key := range []string{"a", "b"} {
			if key == "b" && *fail != nil {
				return *fail
			}
			val, _, err := s.Get(nil, testRow(key))
			if err != nil {
				return err
			}
			if bytes.HasSuffix(val, []byte("!")) {
				continue // done before a cut
			}
			b := s.NewBatch()
			b.Set(testRow(key), append(val, '!'))
			if err := s.Commit(b); err != nil {
				return err
			}
		}
		return nil
	}}}}
}

func testRow(key string) []byte { return append(Meta.Prefix(), "test/"+key...) }

// put writes rows as the store's format says.
func putAs(t *testing.T, s *Store, text string) {
	t.Helper()
	if s.Format() > Format {
		text += "!"
	}
	b := s.NewBatch()
	b.Set(testRow("a"), []byte(text))
	b.Set(testRow("b"), []byte(text))
	if err := s.Commit(b); err != nil {
		t.Fatal(err)
	}
}

// TestKeepFormat takes a store through an update that is rolled back, and one that stays.
func TestKeepFormat(t *testing.T) {
	var fail error
	old := Options{Dir: "store", FS: vfs.NewMem(), files: format - 1}
	next := Options{Dir: "store", FS: old.FS, forms: nextForms(&fail)}
	trial := next
	trial.KeepFormat = true
	use := func(o Options, format uint64, want, text string) {
		t.Helper()
		s, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		if got, _, err := s.Get(nil, testRow("b")); s.Format() != format || string(got) != want || err != nil {
			t.Errorf("format %d, %q, %v", s.Format(), got, err)
		}
		if text != "" {
			putAs(t, s, text)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	files := func(want pebble.FormatMajorVersion) {
		t.Helper()
		if was, err := pebble.Peek("store", old.FS); err != nil || was.FormatMajorVersion != want {
			t.Errorf("Pebble's files are of format %v, %v", was.FormatMajorVersion, err)
		}
	}
	use(old, Format, "", "one")
	use(trial, Format, "one", "two")
	files(format - 1)
	use(old, Format, "two", "three") // rolled back
	use(trial, Format, "three", "")

	fail = errors.New("power cut")
	if _, err := Open(next); !errors.Is(err, fail) {
		t.Fatalf("a step that was cut off: %v", err)
	}
	fail = nil
	use(next, Format+1, "three!", "four")
	files(format)
	use(trial, Format+1, "four!", "")
	old.files = 0
	if _, err := Open(old); !fault.Is(err, fault.Invalid) {
		t.Errorf("the old version opened a store that was brought on: %v", err)
	}
}
