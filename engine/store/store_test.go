package store

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func openTest(t *testing.T, fs FS) *Store {
	t.Helper()
	s, err := Open(Options{Dir: "db", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBatchIsAllOrNothingAndOrdered(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := openTest(t, fs)
	key := func(i int) []byte { return U64(Log.Key(nil), uint64(i)) }
	for i := range 20 {
		b := s.NewBatch()
		b.Set(key(i), fmt.Append(nil, "v", i))
		b.Set(U64(Timeline.Key(nil), uint64(i)), []byte("t"))
		if err := s.Commit(b); err != nil {
			t.Fatal(err)
		}
	}
	// A row that was never waited for is carried by the next synced batch.
	b := s.NewBatch()
	b.Set(key(20), []byte("applied"))
	if err := s.Apply(b); err != nil {
		t.Fatal(err)
	}
	b = s.NewBatch()
	b.Set(key(21), []byte("synced"))
	if err := s.Commit(b); err != nil {
		t.Fatal(err)
	}
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, crashed)
	defer s.Close()
	n := 0
	err := s.ScanPrefix(Log.Prefix(), func(k, v []byte) (bool, error) {
		if !bytes.Equal(k, key(n)) {
			t.Fatalf("row %d has key %x", n, k)
		}
		n++
		return true, nil
	})
	if err != nil || n != 22 {
		t.Fatalf("%d rows, %v", n, err)
	}
	last, err := s.Last(Log.Prefix(), After(Log.Prefix()))
	if err != nil || !bytes.Equal(last, key(21)) {
		t.Fatalf("last %x, %v", last, err)
	}
}

func TestIncarnationAndFormatSurvive(t *testing.T) {
	fs := vfs.NewMem()
	s := openTest(t, fs)
	inc, err := s.Incarnation()
	if err != nil || inc == 0 {
		t.Fatal(inc, err)
	}
	b := s.NewBatch()
	b.Set(metaFormat, []byte{Format + 1})
	if err := s.Commit(b); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: "db", FS: fs}); err == nil {
		t.Fatal("a store of a newer format was opened")
	}
}

func TestNamesKeepTheirNumbers(t *testing.T) {
	fs := vfs.NewMem()
	s := openTest(t, fs)
	n, err := OpenNames(s)
	if err != nil {
		t.Fatal(err)
	}
	const many = namesCached + 100 // more than are kept in memory
	for i := range many {
		num, err := n.Number(Users, fmt.Sprint("@u", i))
		if err != nil || num != uint32(i+1) {
			t.Fatalf("user %d got number %d, %v", i, num, err)
		}
	}
	if num, err := n.Find(Rooms, "@u1"); num != 0 || err != nil {
		t.Fatal("spaces are not apart", num, err)
	}
	b := s.NewBatch()
	b.SetMeta("test", []byte{1})
	if err := s.Commit(b); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, fs)
	defer s.Close()
	if n, err = OpenNames(s); err != nil {
		t.Fatal(err)
	}
	for i := range many {
		name := fmt.Sprint("@u", i)
		if num, err := n.Number(Users, name); err != nil || num != uint32(i+1) {
			t.Fatalf("after reopening user %d has number %d, %v", i, num, err)
		}
		if got, err := n.Name(Users, uint32(i+1)); err != nil || got != name {
			t.Fatalf("number %d is %q, %v", i+1, got, err)
		}
	}
	if num, err := n.Number(Users, "@new"); err != nil || num != many+1 {
		t.Fatal(num, err)
	}
}

func TestAfter(t *testing.T) {
	for _, c := range []struct{ in, want []byte }{
		{[]byte{1}, []byte{2}}, {[]byte{1, 0xff}, []byte{2}}, {[]byte{0xff, 0xff}, nil}, {[]byte{1, 2}, []byte{1, 3}},
	} {
		if got := After(c.in); !bytes.Equal(got, c.want) {
			t.Errorf("After(%x) = %x, want %x", c.in, got, c.want)
		}
	}
}
