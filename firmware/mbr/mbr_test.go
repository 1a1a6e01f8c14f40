package mbr

import (
	"errors"
	"slices"
	"testing"
)

// disk is a disk in memory that loses its power after some writes.
type disk struct {
	b    []byte
	left int
}

func (d *disk) ReadAt(p []byte, at int64) (int, error) { return copy(p, d.b[at:]), nil }
func (d *disk) WriteAt(p []byte, at int64) (int, error) {
	if d.left == 0 {
		return 0, errors.New("power cut")
	}
	d.left--
	return copy(d.b[at:], p), nil
}

func sample(end uint64) *Table {
	return &Table{ID: 0x68656172, Partitions: []Partition{
		{FAT, 8192, 16383}, {FAT, 16384, 24575}, {FAT, 24576, 32767},
		{Linux, 32768 + Gap, 49151}, {Linux, 49152 + Gap, 65535 + Gap}, {Linux, 65536 + 2*Gap, end},
	}}
}

// TestGrowth writes a table, and then one whose last partition is larger, with the power cut before every sector.
func TestGrowth(t *testing.T) {
	flush := func() error { return nil }
	for cut := 0; ; cut++ {
		d := &disk{b: make([]byte, 60<<20), left: -1}
		if err := sample(90000).Write(d, flush); err != nil {
			t.Fatal(err)
		}
		d.left = cut
		err := sample(110000).Write(d, flush)
		got, more := Read(d)
		if more != nil {
			t.Fatalf("cut at %d: %v", cut, more)
		}
		end := got.Partitions[5].End
		if end != 90000 && end != 110000 || got.ID != 0x68656172 || !slices.Equal(got.Partitions[:5], sample(end).Partitions[:5]) {
			t.Fatalf("cut at %d: %+v", cut, got)
		}
		if err == nil {
			if end != 110000 {
				t.Error("it has not grown")
			}
			break
		}
	}
	if Number(2) != 3 || Number(3) != 5 || sample(9e4).PARTUUID(5) != "68656172-05" {
		t.Error("partitions are miscounted")
	}
}

func TestRefused(t *testing.T) {
	d := &disk{b: make([]byte, 1<<20), left: -1}
	if _, err := Read(d); !errors.Is(err, ErrNone) {
		t.Errorf("an empty disk: %v", err)
	}
	d.b[446+4], d.b[510], d.b[511] = guid, 0x55, 0xaa
	if _, err := Read(d); !errors.Is(err, ErrGUID) {
		t.Errorf("a protecting table: %v", err)
	}
	bad := sample(90000)
	bad.Partitions[1].Begin--
	if err := bad.Write(d, func() error { return nil }); err == nil {
		t.Error("partitions that overlap were written")
	}
}
