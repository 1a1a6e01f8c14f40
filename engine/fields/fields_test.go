package fields

import (
	"encoding/binary"
	"testing"
)

func sample(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, 300)
	dst = binary.AppendVarint(dst, -7)
	dst = append(dst, 9)
	return AppendText(AppendText(dst, "text"), []byte{1, 2})
}

func check(t *testing.T, r Reader) {
	t.Helper()
	if n, i, b, s, raw := r.Uint(), r.Int(), r.Byte(), r.Text(), r.Bytes(); n != 300 || i != -7 || b != 9 || s != "text" || string(raw) != "\x01\x02" || r.Cut() || len(r.Rest) > 0 {
		t.Errorf("%d %d %d %q %q %+v", n, i, b, s, raw, r)
	}
}

func TestFields(t *testing.T) {
	check(t, Open(sample(New())))
	check(t, Of(sample(nil)))
	r := Open(New())
	if r.Uint() != 0 || r.Int() != 0 || r.Byte() != 0 || r.Text() != "" || r.Cut() {
		t.Error("a field that a row lacks is a mistake")
	}
	for _, row := range [][]byte{nil, {}, {2}, {0, 1}} {
		if r := Open(row); !r.Cut() || r.Uint() != 0 || r.Text() != "" {
			t.Errorf("%v is a row", row)
		}
	}
	for cut := range sample(nil) {
		r := Of(sample(nil)[:cut])
		r.Uint()
		r.Int()
		r.Byte()
		r.Text()
		r.Bytes()
		if !r.Cut() || len(r.Rest) > 0 {
			t.Errorf("a row cut at %d reads", cut)
		}
	}
}

func TestReadingAllocatesNothing(t *testing.T) {
	row := sample(New())
	if n := testing.AllocsPerRun(100, func() {
		r := Open(row)
		r.Uint()
		r.Int()
		r.Byte()
		r.Bytes()
		r.Bytes()
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzReader(f *testing.F) {
	f.Add(sample(New()))
	f.Fuzz(func(t *testing.T, row []byte) {
		for _, r := range []Reader{Open(row), Of(row)} {
			for range 8 {
				before := len(r.Rest)
				r.Uint()
				r.Bytes()
				r.Int()
				r.Byte()
				if len(r.Rest) > before {
					t.Fatal("it grows")
				}
			}
		}
	})
}
