package update

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"hearth/firmware/card"
	"hearth/firmware/fat"
)

// EntryFolder is where systemd-boot looks for entries.
const EntryFolder = "loader/entries"

// EntrySize is what the text of an entry is filled up to: one cluster of the partition.
const EntrySize = 2 * Sector

// noCount is the number of tries left of an entry whose name counts none.
const noCount = -1

// EntryName is the file of a slot's entry. Of two entries that may be started the one with the higher order is. left and
// done are what is left of the tries and what was made of them.
func EntryName(slot int, order int64, left, done int) string {
	name := fmt.Sprintf("hearth-%d%s", order, card.SlotName(slot))
	switch {
	case left == noCount:
		return name + ".conf"
	case done == 0:
		return fmt.Sprintf("%s+%d.conf", name, left)
	}
	return fmt.Sprintf("%s+%d-%d.conf", name, left, done)
}

// EntryText is the text of an entry. systemd-boot 250 knows no sort-key yet and goes by the names of entries alone.
func EntryText(slot int, m *Manifest, uuid string) ([]byte, error) {
	text := fmt.Sprintf("title Hearth %s\nlinux /%s/vmlinuz\noptions root=PARTUUID=%s %s\n", m.Version, card.SlotName(slot), uuid, m.Cmdline)
	if len(text) > EntrySize {
		return nil, refused("its command line is too long")
	}
	return append([]byte(text), bytes.Repeat([]byte("\n"), EntrySize-len(text))...), nil
}

// KernelFile is the file of a slot's kernel.
func KernelFile(slot int) string { return card.SlotName(slot) + "/vmlinuz" }

// uefi tells systemd-boot.
type uefi struct{ s Slots }

// UEFI is the loader of a board that starts by systemd-boot.
func UEFI(s Slots) Loader { return &uefi{s} }

func (u *uefi) Parts() []string { return []string{PartRoot, PartKernel} }

// entry is one entry of the folder.
type entry struct {
	file       fat.File
	left, done int
	order      int64
}

var entryName = regexp.MustCompile(`^hearth-(\d{1,9})([ab])(?:\+(\d{1,3})(?:-(\d{1,3}))?)?\.conf$`)

// folder is the sector with both entries.
type folder struct {
	at      int64
	sector  []byte
	entries [2]*entry
}

// read reads the folder. An entry that the firmware lost when power was cut while it renamed it is found by where it
// lies, as one that is not started by itself.
func (u *uefi) read() (*folder, error) {
	v, err := fat.Open(u.s.Home)
	if err != nil {
		return nil, err
	}
	dir, err := v.Find(EntryFolder)
	if err != nil {
		return nil, err
	}
	f := &folder{at: dir.At, sector: make([]byte, Sector)}
	if _, err := u.s.Home.ReadAt(f.sector, f.at); err != nil {
		return nil, err
	}
	list, err := fat.Rows(f.sector)
	if err != nil {
		return nil, err
	}
	for _, file := range list {
		m := entryName.FindStringSubmatch(strings.ToLower(file.Name))
		if m == nil {
			return nil, fmt.Errorf("%w: %s in %s was not there", fat.ErrShape, file.Name, EntryFolder)
		}
		e := &entry{left: noCount}
		e.order, _ = strconv.ParseInt(m[1], 10, 64)
		if m[3] != "" {
			e.left, _ = strconv.Atoi(m[3])
			e.done, _ = strconv.Atoi(m[4])
		}
		if e.file, err = v.Find(EntryFolder + "/" + file.Name); err != nil {
			return nil, err
		}
		slot := int(m[2][0] - 'a')
		if old := f.entries[slot]; old != nil && old.left < e.left && old.left != noCount {
			continue // the firmware was renaming: the name with fewer tries is the newer one
		}
		f.entries[slot] = e
	}
	for slot, e := range f.entries {
		other := f.entries[1-slot]
		if e != nil {
			continue
		}
		if other == nil {
			return nil, fmt.Errorf("%w: %s has no entry", fat.ErrShape, EntryFolder)
		}
		file, err := v.Single(other.file, slot-(1-slot)) // B lies behind A
		if err != nil {
			return nil, err
		}
		f.entries[slot] = &entry{file: file, left: 0, done: 1}
	}
	for _, e := range f.entries {
		if e.file.Size != EntrySize {
			return nil, fmt.Errorf("%w: %s has %d bytes", fat.ErrShape, e.file.Name, e.file.Size)
		}
	}
	return f, nil
}

// Default is the slot with the highest order of those that count no tries.
func (u *uefi) Default() (int, error) {
	f, err := u.read()
	if err != nil {
		return 0, err
	}
	best := -1
	for slot, e := range f.entries {
		if e.left == noCount && (best < 0 || e.order > f.entries[best].order) {
			best = slot
		}
	}
	if best < 0 {
		return 0, fmt.Errorf("%w: no entry is the default", fat.ErrShape)
	}
	return best, nil
}

// rename writes the folder's sector with another name for one entry.
func (u *uefi) rename(slot int, change func(e *entry, other *entry)) error {
	f, err := u.read()
	if err != nil {
		return err
	}
	change(f.entries[slot], f.entries[1-slot])
	b := append([]byte(nil), f.sector[:64]...) // . and ..
	for s, e := range f.entries {
		b = fat.AppendFile(b, EntryName(s, e.order, e.left, e.done), s, e.file, time.Unix(0, 0).UTC())
	}
	if len(b) > Sector-32 {
		return fmt.Errorf("the entries take %d bytes", len(b))
	}
	return overwrite(u.s.Home, f.at, append(b, make([]byte, Sector-len(b))...))
}

func (u *uefi) Retire(slot int) error {
	return u.rename(slot, func(e, _ *entry) { e.left, e.done = 0, 0 })
}

func (u *uefi) Arm(slot int) error {
	return u.rename(slot, func(e, other *entry) { e.order, e.left, e.done = other.order+1, 1, 0 })
}

func (u *uefi) Commit(slot int) error {
	return u.rename(slot, func(e, other *entry) { e.order, e.left, e.done = max(e.order, other.order+1), noCount, 0 })
}

func (u *uefi) Region(slot int, part string) (Region, error) {
	switch part {
	case PartRoot:
		return Region{Dev: u.s.Roots[slot], Max: u.s.Roots[slot].Size}, nil
	case PartKernel:
		v, err := fat.Open(u.s.Home)
		if err != nil {
			return Region{}, err
		}
		f, err := v.Find(KernelFile(slot))
		return Region{Dev: u.s.Home, At: f.At, Max: f.Room}, err
	}
	return Region{}, refused("this board has no part %s", part)
}

// resize writes the size of a slot's kernel into its row.
func (u *uefi) resize(slot int, m *Manifest) error {
	v, err := fat.Open(u.s.Home)
	if err != nil {
		return err
	}
	f, err := v.Find(KernelFile(slot))
	if err != nil {
		return err
	}
	b, at := make([]byte, Sector), f.RowAt/Sector*Sector
	if _, err := u.s.Home.ReadAt(b, at); err != nil {
		return err
	}
	for _, p := range m.Parts {
		if p.Name == PartKernel {
			binary.LittleEndian.PutUint32(b[f.SizeAt():], uint32(p.Size))
		}
	}
	return overwrite(u.s.Home, at, b)
}

func (u *uefi) Finish(slot int, m *Manifest) error {
	if err := u.resize(slot, m); err != nil {
		return err
	}
	f, err := u.read()
	if err != nil {
		return err
	}
	text, err := EntryText(slot, m, u.s.UUIDs[slot])
	if err != nil {
		return err
	}
	return overwrite(u.s.Home, f.entries[slot].file.At, text)
}
