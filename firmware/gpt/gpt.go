// Package gpt reads and writes the partition table of a box's card or disk.
//
// It owns one form of it: a GUID partition table with 128 entries, and beside it in the first sector an old table that
// shows the boot partition to firmware which knows no other, such as a Raspberry Pi 3's. It refuses to guess: a table
// whose checksums do not hold is an error, never a disk to be laid out anew. It works on bytes that it is given, so that
// the image builder and the running box share it.
package gpt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"unicode/utf16"
)

// Sector is the size of all units, in bytes.
const Sector = 512

// The table takes the first and the last sectors of the disk, and one more for the old table in front.
const (
	entries      = 128
	entrySize    = 128
	entrySectors = entries * entrySize / Sector
	headSize     = 92
)

// GUID is an identifier in the mixed byte order of the disk.
type GUID [16]byte

// Kinds of partitions.
var (
	ESP   = GUID{0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b} // read by firmware
	Linux = GUID{0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4}
)

// String is how Linux spells it, in lower case.
func (g GUID) String() string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(g[0:]), le.Uint16(g[4:]), le.Uint16(g[6:]), g[8:10], g[10:])
}

// Partition is one entry. First and Last are sectors, both inside.
type Partition struct {
	Kind, ID    GUID
	First, Last uint64
	Name        string
}

// Table is the whole table of a disk of Sectors sectors.
type Table struct {
	ID         GUID
	Sectors    uint64
	Partitions []Partition
	Torn       bool // it was read from the end, and the one in front is to be written anew
}

// Usable is the last sector that a partition may have.
func (t *Table) Usable() uint64 { return t.Sectors - 1 - entrySectors - 1 }

// ErrNone is wrapped by errors of disks that have no whole table.
var ErrNone = errors.New("no partition table")

// Read reads the table in front, or where that is torn the one at the end of a disk of the given number of sectors,
// which Write leaves whole while it writes the one in front. Sectors of the result is what the table was made for.
func Read(r io.ReaderAt, sectors uint64) (*Table, error) {
	t, err := readAt(r, 1)
	if err == nil {
		return t, nil
	}
	if last, more := readAt(r, sectors-1); more == nil {
		last.Torn = true
		return last, nil
	}
	return nil, err
}

func readAt(r io.ReaderAt, at uint64) (*Table, error) {
	head := make([]byte, Sector)
	if _, err := r.ReadAt(head, int64(at*Sector)); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	sum := le.Uint32(head[16:])
	clear(head[16:20])
	switch {
	case string(head[:8]) != "EFI PART" || le.Uint32(head[12:]) != headSize || crc32.ChecksumIEEE(head[:headSize]) != sum:
		return nil, fmt.Errorf("%w in sector %d", ErrNone, at)
	case le.Uint32(head[80:]) != entries || le.Uint32(head[84:]) != entrySize:
		return nil, fmt.Errorf("%w of the known form in sector %d", ErrNone, at)
	}
	table := make([]byte, entries*entrySize)
	if _, err := r.ReadAt(table, int64(le.Uint64(head[72:])*Sector)); err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(table) != le.Uint32(head[88:]) {
		return nil, fmt.Errorf("%w: the entries of that in sector %d are torn", ErrNone, at)
	}
	t := &Table{Sectors: max(le.Uint64(head[24:]), le.Uint64(head[32:])) + 1}
	copy(t.ID[:], head[56:])
	for e := range slices.Chunk(table, entrySize) {
		p := Partition{First: le.Uint64(e[32:]), Last: le.Uint64(e[40:])}
		copy(p.Kind[:], e)
		copy(p.ID[:], e[16:])
		if p.Kind == (GUID{}) {
			continue
		}
		for i := 56; i < entrySize && (e[i] != 0 || e[i+1] != 0); i += 2 {
			p.Name += string(utf16.Decode([]uint16{le.Uint16(e[i:])}))
		}
		t.Partitions = append(t.Partitions, p)
	}
	return t, nil
}

// Write writes the table, the one at the end first: at every moment one of them is whole. Between the two it calls
// flush, which must not return before the disk has what was written. boot is the number, from 0, of the partition that
// the old table shows.
func (t *Table) Write(w io.WriterAt, boot int, flush func() error) error {
	table := make([]byte, entries*entrySize)
	le := binary.LittleEndian
	var end uint64
	for i, p := range t.Partitions {
		if p.First > p.Last || p.Last > t.Usable() || i > 0 && p.First <= end {
			return fmt.Errorf("partition %d does not fit: sectors %d to %d of %d", i+1, p.First, p.Last, t.Sectors)
		}
		end = p.Last
		e := table[i*entrySize:]
		copy(e, p.Kind[:])
		copy(e[16:], p.ID[:])
		le.PutUint64(e[32:], p.First)
		le.PutUint64(e[40:], p.Last)
		for j, u := range utf16.Encode([]rune(p.Name)) {
			le.PutUint16(e[56+2*j:], u)
		}
	}
	put := func(at, other, tableAt uint64) error {
		if _, err := w.WriteAt(table, int64(tableAt*Sector)); err != nil {
			return err
		}
		_, err := w.WriteAt(t.head(at, other, tableAt, crc32.ChecksumIEEE(table)), int64(at*Sector))
		return err
	}
	if err := put(t.Sectors-1, 1, t.Sectors-1-entrySectors); err != nil {
		return err
	}
	if err := flush(); err != nil {
		return err
	}
	if err := put(1, t.Sectors-1, 2); err != nil {
		return err
	}
	if _, err := w.WriteAt(t.old(boot), 0); err != nil {
		return err
	}
	return flush()
}

// head is the sector that describes the table.
func (t *Table) head(at, other, tableAt uint64, sum uint32) []byte {
	le := binary.LittleEndian
	h := make([]byte, Sector)
	copy(h, "EFI PART\x00\x00\x01\x00")
	le.PutUint32(h[12:], headSize)
	le.PutUint64(h[24:], at)
	le.PutUint64(h[32:], other)
	le.PutUint64(h[40:], 2+entrySectors)
	le.PutUint64(h[48:], t.Usable())
	copy(h[56:], t.ID[:])
	le.PutUint64(h[72:], tableAt)
	le.PutUint32(h[80:], entries)
	le.PutUint32(h[84:], entrySize)
	le.PutUint32(h[88:], sum)
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:headSize]))
	return h
}

// old is the first sector: the boot partition as FAT, and the rest of the disk as taken. Its partitions carry no
// addresses of heads and cylinders.
func (t *Table) old(boot int) []byte {
	b := make([]byte, Sector)
	le := binary.LittleEndian
	row := func(i int, kind byte, first, last uint64) {
		e := b[446+16*i:]
		copy(e[1:4], []byte{0xfe, 0xff, 0xff})
		e[4] = kind
		copy(e[5:8], []byte{0xfe, 0xff, 0xff})
		le.PutUint32(e[8:], uint32(first))
		le.PutUint32(e[12:], uint32(min(last-first+1, 0xffffffff)))
	}
	p := t.Partitions[boot]
	row(0, 0x0c, p.First, p.Last)
	row(1, 0xee, 1, p.First-1)
	copy(b[440:444], t.ID[:4])
	b[510], b[511] = 0x55, 0xaa
	return b
}
