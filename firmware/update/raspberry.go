package update

import (
	"bytes"
	"fmt"
	"strconv"

	"hearth/firmware/fat"
)

// AutobootFile is what a Raspberry Pi reads first to know which boot partition it starts from.
const AutobootFile = "autoboot.txt"

// RootBlank stands in cmdline.txt of a boot partition until its slot is known.
const RootBlank = "root=PARTUUID=00000000-00"

// Autoboot is the file, one sector, for a default boot partition and the one that is tried.
func Autoboot(def, try int) []byte {
	b := bytes.Repeat([]byte("\n"), Sector)
	copy(b, fmt.Sprintf("[all]\ntryboot_a_b=1\nboot_partition=%d\n[tryboot]\nboot_partition=%d\n", def, try))
	return b
}

// FillRoot puts a root into the sector of a boot partition that has RootBlank at a place.
func FillRoot(sector []byte, at int64, uuid string) error {
	text := "root=PARTUUID=" + uuid
	if at < 0 || at+int64(len(RootBlank)) > int64(len(sector)) || len(text) != len(RootBlank) || string(sector[at:at+int64(len(RootBlank))]) != RootBlank {
		return refused("its boot partition does not say where the root goes")
	}
	copy(sector[at:], text)
	return nil
}

// raspberry tells a Raspberry Pi's firmware.
type raspberry struct{ s Slots }

// Slots are the devices of a card. Boots is empty where a board has no boot partitions.
type Slots struct {
	Home        *Device
	Boots       [2]*Device
	BootNumbers [2]int
	Roots       [2]*Device
	UUIDs       [2]string // of the roots
}

// Raspberry is the loader of a Raspberry Pi.
func Raspberry(s Slots) Loader { return &raspberry{s} }

func (r *raspberry) Parts() []string { return []string{PartRoot, PartBoot} }

// autoboot finds the sector and reads it.
func (r *raspberry) autoboot() (at int64, text []byte, err error) {
	v, err := fat.Open(r.s.Home)
	if err != nil {
		return 0, nil, err
	}
	f, err := v.Find(AutobootFile)
	if err != nil {
		return 0, nil, err
	}
	if f.Size != Sector {
		return 0, nil, fmt.Errorf("%w: %s has %d bytes", fat.ErrShape, AutobootFile, f.Size)
	}
	text = make([]byte, Sector)
	_, err = r.s.Home.ReadAt(text, f.At)
	return f.At, text, err
}

func (r *raspberry) Default() (int, error) {
	_, text, err := r.autoboot()
	if err != nil {
		return 0, err
	}
	all, _, _ := bytes.Cut(text, []byte("[tryboot]"))
	_, after, _ := bytes.Cut(all, []byte("boot_partition="))
	line, _, _ := bytes.Cut(after, []byte("\n"))
	n, err := strconv.Atoi(string(bytes.TrimSpace(line)))
	if err != nil {
		return 0, fmt.Errorf("%w: %s names no partition", fat.ErrShape, AutobootFile)
	}
	for slot, number := range r.s.BootNumbers {
		if n == number {
			return slot, nil
		}
	}
	return 0, fmt.Errorf("%w: %s names partition %d", fat.ErrShape, AutobootFile, n)
}

// Retire has nothing to do: what is not the default is started by a restart with words for it alone.
func (r *raspberry) Retire(int) error { return nil }

func (r *raspberry) Region(slot int, part string) (Region, error) {
	switch part {
	case PartRoot:
		return Region{Dev: r.s.Roots[slot], Max: r.s.Roots[slot].Size}, nil
	case PartBoot:
		return Region{Dev: r.s.Boots[slot], Max: r.s.Boots[slot].Size}, nil
	}
	return Region{}, refused("this board has no part %s", part)
}

func (r *raspberry) Finish(slot int, m *Manifest) error {
	at := m.RootAt / Sector * Sector
	if at+Sector > r.s.Boots[slot].Size {
		return refused("its boot partition does not say where the root goes")
	}
	b := make([]byte, Sector)
	if _, err := r.s.Boots[slot].ReadAt(b, at); err != nil {
		return err
	}
	if err := FillRoot(b, m.RootAt-at, r.s.UUIDs[slot]); err != nil {
		return err
	}
	return overwrite(r.s.Boots[slot], at, b)
}

// Arm sees that the slot is the one that is tried, which it is since the last commit.
func (r *raspberry) Arm(slot int) error {
	at, text, err := r.autoboot()
	if err != nil {
		return err
	}
	want := Autoboot(r.s.BootNumbers[1-slot], r.s.BootNumbers[slot])
	if bytes.Equal(text, want) {
		return nil
	}
	return overwrite(r.s.Home, at, want)
}

func (r *raspberry) Commit(slot int) error {
	at, _, err := r.autoboot()
	if err != nil {
		return err
	}
	return overwrite(r.s.Home, at, Autoboot(r.s.BootNumbers[slot], r.s.BootNumbers[1-slot]))
}
