// Package card is the layout of a box's card or disk: which partitions there are, how large, and what each is for.
//
// It owns the layouts, which are for good, since an owner's data lies behind them; the image builder makes cards by them
// and the box finds its way by them. Partition 1 is always HEARTH, a FAT that is never written as a whole: the owner's
// hearth.txt, and what the firmware reads first. A slot is all that starts one version, A or B. It refuses to know
// versions: which slot is started is package update's.
//
//	uefi       GUID table    1 HEARTH 192 MiB   2 root A   3 root B   4 data
//	                         HEARTH has the loader, an entry for each slot, and a kernel of 80 MiB for each
//	raspberry  old table     1 HEARTH  64 MiB   2 boot A   3 boot B   5 root A   6 root B   7 data
//	                         HEARTH has bootcode.bin and autoboot.txt, which names the boot partition; see package mbr
//	                         for why the table is the old one
//
// A root has 192 MiB, a boot partition 128. The data partition has the rest of the card.
package card

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"

	"hearth/firmware/gpt"
	"hearth/firmware/mbr"
)

// Sizes, in bytes. Grain is what every partition begins at a multiple of: cards erase that at once.
const (
	Grain     = 4 << 20
	RootSize  = 192 << 20
	BootSize  = 128 << 20
	KernelMax = 80 << 20 // of a kernel on a uefi board
	dataSize  = 64 << 20 // in an image, before it grows
)

// Loaders are the two ways in which boards are started.
const (
	UEFI      = "uefi"
	Raspberry = "raspberry"
)

// Slots are A and B.
const (
	A = 0
	B = 1
)

// SlotName is how people and files call a slot.
func SlotName(slot int) string { return string("ab"[slot&1]) }

// Plan is a layout. Numbers are those of partitions, as Linux counts them.
type Plan struct {
	Loader string
	Boot   [2]int // zero where a slot has no boot partition
	Root   [2]int
	Data   int
	Home   int64 // size of HEARTH
}

// PlanOf gives the layout for a loader.
func PlanOf(loader string) (Plan, error) {
	switch loader {
	case UEFI:
		return Plan{Loader: loader, Root: [2]int{2, 3}, Data: 4, Home: 192 << 20}, nil
	case Raspberry:
		return Plan{Loader: loader, Boot: [2]int{2, 3}, Root: [2]int{5, 6}, Data: 7, Home: 64 << 20}, nil
	}
	return Plan{}, fmt.Errorf("no loader is called %q", loader)
}

// Slot says which slot has the root of a number.
func (p Plan) Slot(root int) (int, error) {
	for slot, n := range p.Root {
		if n == root {
			return slot, nil
		}
	}
	return 0, fmt.Errorf("partition %d is no slot's root", root)
}

// Part is a partition of a card. Begin and Size are in bytes.
type Part struct {
	Number      int
	Name        string
	Begin, Size int64
	UUID        string // as in root=PARTUUID=
}

// Card is a table that was read or made.
type Card struct {
	Plan  Plan
	Parts []Part
	guid  *gpt.Table
	old   *mbr.Table
}

// sizes lists the partitions with their names.
func (p Plan) sizes() (names []string, sizes []int64) {
	names, sizes = []string{"HEARTH"}, []int64{p.Home}
	for slot := range 2 {
		if p.Boot[slot] != 0 {
			names, sizes = append(names, "boot "+string("AB"[slot])), append(sizes, BootSize)
		}
	}
	return append(names, "root A", "root B", "data"), append(sizes, RootSize, RootSize, dataSize)
}

// New lays out a card for a board's image. All identifiers follow from the board's name, whatever the version.
func New(p Plan, board string) *Card {
	c := &Card{Plan: p}
	id := func(what string) (g gpt.GUID) {
		sum := sha256.Sum256([]byte("hearth card " + board + " " + what))
		copy(g[:], sum[:])
		g[7], g[8] = g[7]&0x0f|0x40, g[8]&0x3f|0x80
		return g
	}
	disk := id("disk")
	names, sizes := p.sizes()
	at := int64(Grain)
	if p.Loader == Raspberry {
		c.old = &mbr.Table{ID: binary.LittleEndian.Uint32(disk[:])}
		for i, size := range sizes {
			kind := byte(mbr.FAT)
			if i >= mbr.First {
				at, kind = at+mbr.Gap*mbr.Sector, mbr.Linux
			}
			c.old.Partitions = append(c.old.Partitions, mbr.Partition{Kind: kind, Begin: uint64(at / mbr.Sector), End: uint64((at+size)/mbr.Sector - 1)})
			at += size
		}
		c.fill(names)
		return c
	}
	c.guid = &gpt.Table{ID: disk}
	for i, size := range sizes {
		kind := gpt.Linux
		if i == 0 {
			kind = gpt.ESP
		}
		c.guid.Partitions = append(c.guid.Partitions, gpt.Partition{Kind: kind, ID: id(names[i]), First: uint64(at / gpt.Sector), Last: uint64((at+size)/gpt.Sector - 1), Name: names[i]})
		at += size
	}
	c.guid.Sectors = uint64((at + Grain) / gpt.Sector)
	c.fill(names)
	return c
}

// Read reads the table of a disk of so many sectors.
func Read(r io.ReaderAt, sectors uint64) (*Card, error) {
	c := &Card{}
	old, err := mbr.Read(r)
	loader := Raspberry
	if err == nil {
		c.old = old
	} else {
		loader = UEFI
		if c.guid, err = gpt.Read(r, sectors); err != nil {
			return nil, err
		}
	}
	if c.Plan, err = PlanOf(loader); err != nil {
		return nil, err
	}
	names, _ := c.Plan.sizes()
	if c.fill(names); len(c.Parts) != len(names) {
		return nil, fmt.Errorf("the card has %d partitions and should have %d", len(c.Parts), len(names))
	}
	return c, nil
}

// fill lists the partitions of either table.
func (c *Card) fill(names []string) {
	c.Parts = nil
	add := func(number int, begin, last uint64, uuid string) {
		p := Part{Number: number, Begin: int64(begin * gpt.Sector), Size: int64((last - begin + 1) * gpt.Sector), UUID: uuid}
		if i := len(c.Parts); i < len(names) {
			p.Name = names[i]
		}
		c.Parts = append(c.Parts, p)
	}
	if c.old != nil {
		for i, p := range c.old.Partitions {
			add(mbr.Number(i), p.Begin, p.End, c.old.PARTUUID(mbr.Number(i)))
		}
		return
	}
	for i, p := range c.guid.Partitions {
		add(i+1, p.First, p.Last, p.ID.String())
	}
}

// Part gives the partition of a number.
func (c *Card) Part(number int) Part {
	for _, p := range c.Parts {
		if p.Number == number {
			return p
		}
	}
	return Part{}
}

// Size is how large the card must be, in bytes.
func (c *Card) Size() int64 {
	if c.guid != nil {
		return int64(c.guid.Sectors * gpt.Sector)
	}
	last := c.Parts[len(c.Parts)-1]
	return last.Begin + last.Size
}

// Grow gives the data partition the rest of a larger card of so many sectors, and says whether there was any. The end is
// a multiple of Grain.
func (c *Card) Grow(sectors uint64) bool {
	const grain = Grain / gpt.Sector
	end := min(sectors, 1<<32-1) / grain * grain
	if c.guid != nil {
		if sectors <= c.guid.Sectors {
			return false
		}
		larger := gpt.Table{Sectors: sectors}
		end = (larger.Usable() + 1) / grain * grain
	}
	names, _ := c.Plan.sizes()
	data := c.Parts[len(c.Parts)-1]
	if end*gpt.Sector < uint64(data.Begin+data.Size+Grain) {
		return false
	}
	if c.guid != nil {
		c.guid.Sectors, c.guid.Partitions[len(c.Parts)-1].Last = sectors, end-1
	} else {
		c.old.Partitions[len(c.Parts)-1].End = end - 1
	}
	c.fill(names)
	return true
}

// Torn says that a power cut has spoilt the table in front, and that Write mends it by the one at the end.
func (c *Card) Torn() bool { return c.guid != nil && c.guid.Torn }

// Write writes the table. A power cut leaves the old one or the new one.
func (c *Card) Write(w io.WriterAt, flush func() error) error {
	if c.old != nil {
		return c.old.Write(w, flush)
	}
	return c.guid.Write(w, 0, flush)
}
