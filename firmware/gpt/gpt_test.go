package gpt

import (
	"errors"
	"testing"
)

// disk is a disk in memory that counts what was flushed.
type disk struct {
	b       []byte
	flushed int
}

func (d *disk) WriteAt(p []byte, at int64) (int, error) { return copy(d.b[at:], p), nil }
func (d *disk) ReadAt(p []byte, at int64) (int, error)  { return copy(p, d.b[at:]), nil }
func (d *disk) flush() error                            { d.flushed++; return nil }

func sample(sectors uint64) *Table {
	return &Table{ID: GUID{1, 2, 3}, Sectors: sectors, Partitions: []Partition{
		{Kind: ESP, ID: GUID{4}, First: 2048, Last: 4095, Name: "boot A"},
		{Kind: Linux, ID: GUID{5}, First: 4096, Last: 8191, Name: "data"},
	}}
}

func TestWriteRead(t *testing.T) {
	d := &disk{b: make([]byte, 10000*Sector)}
	want := sample(10000)
	if err := want.Write(d, 0, d.flush); err != nil {
		t.Fatal(err)
	}
	got, err := Read(d, 10000)
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != want.ID || got.Sectors != want.Sectors || len(got.Partitions) != 2 || got.Partitions[0] != want.Partitions[0] || got.Partitions[1] != want.Partitions[1] {
		t.Errorf("read %+v, wrote %+v", got, want)
	}
	if d.b[450] != 0x0c || d.b[510] != 0x55 {
		t.Error("the old table does not show the boot partition")
	}
	if ESP.String() != "c12a7328-f81f-11d2-ba4b-00a0c93ec93b" {
		t.Errorf("a boot partition's kind is spelt %s", ESP)
	}
}

// TestTornGrowth cuts the power in every write of a table for a larger disk: a table is always there.
func TestTornGrowth(t *testing.T) {
	for cut := 0; ; cut++ {
		d := &disk{b: make([]byte, 20000*Sector)}
		if err := sample(10000).Write(d, 0, d.flush); err != nil {
			t.Fatal(err)
		}
		grown := sample(20000)
		grown.Partitions[1].Last = grown.Usable()
		w := &failing{disk: d, left: cut}
		err := grown.Write(w, 0, d.flush)
		got, readErr := Read(d, 20000)
		if readErr != nil {
			t.Fatalf("cut at write %d: %v", cut, readErr)
		}
		if len(got.Partitions) != 2 || got.Partitions[1].First != 4096 {
			t.Fatalf("cut at write %d: %+v", cut, got)
		}
		if _, front := readAt(d, 1); got.Torn != (front != nil) {
			t.Fatalf("cut at write %d: torn %v, and the table in front: %v", cut, got.Torn, front)
		}
		if err := got.Write(d, 0, d.flush); err != nil {
			t.Fatal(err)
		}
		if mended, err := Read(d, 20000); err != nil || mended.Torn {
			t.Fatalf("cut at write %d: written anew it is %+v, %v", cut, mended, err)
		}
		if err == nil {
			if got.Sectors != 20000 {
				t.Fatalf("grown to %d sectors", got.Sectors)
			}
			return
		}
	}
}

// failing tears one write in half and refuses all after it.
type failing struct {
	*disk
	left int
}

func (f *failing) WriteAt(p []byte, at int64) (int, error) {
	if f.left == 0 {
		f.disk.WriteAt(p[:len(p)/2], at)
		return 0, errors.New("power cut")
	}
	f.left--
	return f.disk.WriteAt(p, at)
}

func TestRefused(t *testing.T) {
	d := &disk{b: make([]byte, 10000*Sector)}
	if _, err := Read(d, 10000); !errors.Is(err, ErrNone) {
		t.Errorf("an empty disk: %v", err)
	}
	late := sample(10000)
	late.Partitions[1].Last = 9999
	if err := late.Write(d, 0, d.flush); err == nil {
		t.Error("a partition over the table at the end was written")
	}
}
