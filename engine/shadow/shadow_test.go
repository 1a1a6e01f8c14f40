package shadow

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/fault"
	"hearth/engine/store"
)

func open(t *testing.T, fs vfs.FS) (*Shadows, *store.Store) {
	t.Helper()
	st, err := store.Open(store.Options{Dir: "db", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(st, func() int64 { return 7 })
	if err != nil {
		t.Fatal(err)
	}
	return s, st
}

func TestShadow(t *testing.T) {
	fs := vfs.NewMem()
	s, st := open(t, fs)
	for _, step := range []struct{ do, val, want string }{
		{"report", `{"on":false,"level":20}`, `"version":1,"at":7,"reported":{"on":false,"level":20}}`},
		{"report", `{"on":false,"level":20}`, `"version":1,"at":7,"reported":{"on":false,"level":20}}`},
		{"desire", `{"on":true,"c":{"r":1,"g":2}}`, `"version":2,"at":7,"reported":{"on":false,"level":20},"desired":{"on":true,"c":{"r":1,"g":2}},"delta":{"on":true,"c":{"r":1,"g":2}}}`},
		{"desire", `{"c":{"r":null},"level":2e1}`, `"version":3,"at":7,"reported":{"on":false,"level":20},"desired":{"on":true,"c":{"g":2},"level":2e1},"delta":{"on":true,"c":{"g":2}}}`},
		{"report", `{"on":true,"c":{"g":2},"level":20}`, `"version":4,"at":7,"reported":{"on":true,"c":{"g":2},"level":20},"desired":{"on":true,"c":{"g":2},"level":2e1}}`},
		{"report", `open`, `"version":5,"at":7,"reported":"open","desired":{"on":true,"c":{"g":2},"level":2e1},"delta":{"on":true,"c":{"g":2},"level":2e1}}`},
		{"desire", `null`, `"version":6,"at":7,"reported":"open"}`},
	} {
		var err error
		if step.do == "report" {
			_, _, err = s.Report("lamp", "lamp/state", []byte(step.val), false)
		} else {
			_, err = s.Desire("lamp", "lamp/state", []byte(step.val), 0)
		}
		if err != nil {
			t.Fatal(step.val, err)
		}
		one, err := s.Get("lamp", "lamp/state")
		if err != nil {
			t.Fatal(err)
		}
		if got := string(one.Append(nil)); got != `{"thing":"lamp","topic":"lamp/state",`+step.want {
			t.Errorf("after %s %s:\n%s, not\n%s", step.do, step.val, got, step.want)
		}
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	s, st = open(t, fs)
	defer st.Close()
	if one, err := s.Get("lamp", "lamp/state"); err != nil || one.Version != 6 {
		t.Fatal(one, err)
	}
	if _, err := s.Desire("lamp", "lamp/state", []byte("1"), 5); !fault.Is(err, fault.BadState) {
		t.Error("an old version:", err)
	}
	if err := s.Delete("lamp", "lamp/state"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get("lamp", "lamp/state"); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	if err := s.Delete("lamp", "lamp/state"); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}

// What was reported with a promise and put into a batch is there after a power cut.
func TestPromise(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s, st := open(t, fs)
	defer st.Close()
	for i := range 3 {
		one, _, err := s.Report("x", fmt.Sprint("x/", i), []byte("1"), i != 1)
		if err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			continue
		}
		b := st.NewBatch()
		s.Put(b, one)
		if err := st.Commit(b); err != nil {
			t.Fatal(err)
		}
	}
	after, st2 := open(t, fs.CrashClone(vfs.CrashCloneCfg{}))
	defer st2.Close()
	var got []string
	if err := after.List("x", func(one *State) bool { got = append(got, one.Topic); return true }); err != nil || strings.Join(got, " ") != "x/0 x/2" {
		t.Error(got, err)
	}
	got = nil
	if err := s.List("", func(one *State) bool { got = append(got, one.Topic); return true }); err != nil || len(got) != 3 {
		t.Error(got, err)
	}
}

func TestBounds(t *testing.T) {
	s, st := open(t, vfs.NewMem())
	defer st.Close()
	if _, _, err := s.Report("x", "x", make([]byte, MaxValue+1), false); !fault.Is(err, fault.TooLarge) {
		t.Error(err)
	}
	if _, err := s.Desire("x", "x", []byte("{"), 0); !fault.Is(err, fault.NotJSON) {
		t.Error(err)
	}
}
