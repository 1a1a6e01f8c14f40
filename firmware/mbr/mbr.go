// Package mbr reads and writes the old partition table, in the first sector of a Raspberry Pi's card.
//
// It owns one form of it: three partitions, and a fourth that holds all others, one behind the other, each described by
// the sector in front of it. A Raspberry Pi is told by a partition's number where to start from, and its maker numbers
// those of this table alone: with the newer GUID table, whether as the only one or beside this one, some of its
// bootloaders find none, others another. It refuses to guess: a table of another form is an error.
package mbr

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Sector is the size of all units, in bytes.
const Sector = 512

// Kinds of partitions.
const (
	FAT      = 0x0c
	Linux    = 0x83
	extended = 0x0f
	guid     = 0xee
)

// Gap is how many sectors lie between a partition of the fourth and the sector that describes it; 4 MiB, so that each
// begins where a card erases.
const Gap = 4 << 20 / Sector

// First is how many partitions come before the fourth.
const First = 3

// Partition is one of them. Begin and End are sectors, both inside.
type Partition struct {
	Kind       byte
	Begin, End uint64
}

// Table is a whole table. Partitions are in the order of their numbers: the first three are 1 to 3, those behind are 5
// and so on.
type Table struct {
	ID         uint32
	Partitions []Partition
}

// Number is the number of the partition at an index.
func Number(i int) int {
	if i < First {
		return i + 1
	}
	return i + 2
}

// PARTUUID is how Linux calls the partition of a number.
func (t *Table) PARTUUID(number int) string { return fmt.Sprintf("%08x-%02x", t.ID, number) }

// Errors of disks with other tables.
var (
	ErrNone = errors.New("no partition table of the old form")
	ErrGUID = errors.New("a GUID partition table")
)

// most is how many partitions are read at most.
const most = 16

func row(b []byte, i int) Partition {
	e := b[446+16*i:]
	begin, n := uint64(binary.LittleEndian.Uint32(e[8:])), uint64(binary.LittleEndian.Uint32(e[12:]))
	return Partition{Kind: e[4], Begin: begin, End: begin + n - 1}
}

func readSector(r io.ReaderAt, at uint64) ([]byte, error) {
	b := make([]byte, Sector)
	if _, err := r.ReadAt(b, int64(at*Sector)); err != nil {
		return nil, err
	}
	if b[510] != 0x55 || b[511] != 0xaa {
		return nil, fmt.Errorf("%w in sector %d", ErrNone, at)
	}
	return b, nil
}

// Read reads the table. The error is ErrGUID where the sector only protects one of the newer form.
func Read(r io.ReaderAt) (*Table, error) {
	b, err := readSector(r, 0)
	if err != nil {
		return nil, err
	}
	t := &Table{ID: binary.LittleEndian.Uint32(b[440:])}
	for i := range 4 {
		if row(b, i).Kind == guid {
			return nil, ErrGUID
		}
	}
	for i := range First {
		t.Partitions = append(t.Partitions, row(b, i))
	}
	outer := row(b, First)
	if outer.Kind != extended {
		return nil, fmt.Errorf("%w: its fourth partition is of kind %#x", ErrNone, outer.Kind)
	}
	for at := outer.Begin; ; {
		b, err := readSector(r, at)
		if err != nil {
			return nil, err
		}
		p := row(b, 0)
		p.Begin, p.End = p.Begin+at, p.End+at
		if p.End > outer.End || len(t.Partitions) == most {
			return nil, fmt.Errorf("%w: partition %d lies outside", ErrNone, Number(len(t.Partitions)))
		}
		t.Partitions = append(t.Partitions, p)
		next := row(b, 1)
		if next.Kind == 0 {
			return t, nil
		}
		at = outer.Begin + next.Begin
	}
}

func put(b []byte, i int, kind byte, begin, n uint64) {
	e := b[446+16*i:]
	copy(e[1:4], []byte{0xfe, 0xff, 0xff})
	e[4] = kind
	copy(e[5:8], []byte{0xfe, 0xff, 0xff})
	binary.LittleEndian.PutUint32(e[8:], uint32(begin))
	binary.LittleEndian.PutUint32(e[12:], uint32(n))
	b[510], b[511] = 0x55, 0xaa
}

// Write writes the table, the first sector before what describes the partitions inside the fourth: as long as a table
// is only made to end later, one that can be read is there after every sector. flush must not return before the disk
// has what was written.
func (t *Table) Write(w io.WriterAt, flush func() error) error {
	for i, p := range t.Partitions {
		if p.Begin > p.End || p.End > 1<<32-1 || i > 0 && p.Begin <= t.Partitions[i-1].End {
			return fmt.Errorf("partition %d does not fit: sectors %d to %d", Number(i), p.Begin, p.End)
		}
	}
	inner := t.Partitions[First:]
	outer, end := inner[0].Begin-Gap, inner[len(inner)-1].End
	b := make([]byte, Sector)
	binary.LittleEndian.PutUint32(b[440:], t.ID)
	for i, p := range t.Partitions[:First] {
		put(b, i, p.Kind, p.Begin, p.End-p.Begin+1)
	}
	put(b, First, extended, outer, end-outer+1)
	if _, err := w.WriteAt(b, 0); err != nil {
		return err
	}
	if err := flush(); err != nil {
		return err
	}
	for i := len(inner) - 1; i >= 0; i-- {
		p, b := inner[i], make([]byte, Sector)
		put(b, 0, p.Kind, Gap, p.End-p.Begin+1)
		if i < len(inner)-1 {
			put(b, 1, extended, inner[i+1].Begin-Gap-outer, inner[i+1].End-inner[i+1].Begin+1+Gap)
		}
		if _, err := w.WriteAt(b, int64((p.Begin-Gap)*Sector)); err != nil {
			return err
		}
	}
	return flush()
}
