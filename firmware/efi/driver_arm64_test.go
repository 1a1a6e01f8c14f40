package main

import (
	"encoding/binary"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// firmware is what the driver sees of a machine, in memory below no Go object, as it holds addresses of its own. There is
// no PCI: what the driver does with that is shown by QEMU, in the tests of the image builder.
type firmware struct {
	*testing.T
	mem  []byte
	base uintptr
	used int
}

// newFirmware maps room for tables, and a page of instructions.
func newFirmware(t *testing.T) *firmware {
	mem, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(mem) })
	return &firmware{T: t, mem: mem, base: uintptr(unsafe.Pointer(&mem[0]))}
}

// put copies b to a page of its own and gives the address.
func (f *firmware) put(b []byte) uint64 {
	at := f.used
	copy(f.mem[at:], b)
	f.used += (len(b) + 4095) / 4096 * 4096
	return uint64(f.base) + uint64(at)
}

// word reads four bytes at an address.
func (f *firmware) word(at uint64) uint32 {
	return binary.LittleEndian.Uint32(f.mem[at-uint64(f.base):])
}

// code makes a routine of instructions.
func code(t *testing.T, words ...uint32) uintptr {
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(page) })
	b := page[:0]
	for _, w := range words {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	if err := unix.Mprotect(page, unix.PROT_READ|unix.PROT_EXEC); err != nil {
		t.Fatal(err)
	}
	return uintptr(unsafe.Pointer(&page[0]))
}

// frequency is how often the counter counts in a second.
func frequency(t *testing.T) uint64 {
	return uint64(call(code(t, 0xd53be000, 0xd65f03c0), 0, 0)) // MRS X0, CNTFRQ_EL0; RET
}

var (
	acpi = [16]byte{0x71, 0xe8, 0x68, 0x88, 0xf1, 0xe4, 0xd3, 0x11, 0xbc, 0x22, 0x00, 0x80, 0xc7, 0x3c, 0x88, 0x81}
	tree = [16]byte{0xd5, 0x21, 0xb6, 0xb1, 0x9c, 0xf1, 0xa5, 0x41, 0x83, 0x0b, 0xd9, 0x15, 0x2c, 0x69, 0xaa, 0xe0}
)

type row struct {
	id [16]byte
	at uint64
}

// start makes a system table with the rows and runs the driver.
func (f *firmware) start(rows ...row) {
	f.Helper()
	services := make([]byte, 400)
	binary.LittleEndian.PutUint64(services[312:], uint64(code(f.T, 0xd28001c0, 0xf2f00000, 0xd65f03c0))) // there is none of those
	var list []byte
	for _, r := range rows {
		list = binary.LittleEndian.AppendUint64(append(list, r.id[:]...), r.at)
	}
	table := make([]byte, 120)
	binary.LittleEndian.PutUint64(table[96:], f.put(services))
	binary.LittleEndian.PutUint64(table[104:], uint64(len(rows)))
	binary.LittleEndian.PutUint64(table[112:], f.put(list))
	if got := call(where(), 0, uintptr(f.put(table))); uint64(got) != 0x8000000000000015 {
		f.Errorf("the driver ended with %x", got)
	}
	runtime.KeepAlive(f.mem)
}

// table makes a table of ACPI.
func table(name string, revision byte, body []byte) []byte {
	b := make([]byte, 36, 36+len(body))
	copy(b, name)
	binary.LittleEndian.PutUint32(b[4:], uint32(36+len(body)))
	b[8] = revision
	return append(b, body...)
}

// root makes the root pointer with a list of tables.
func (f *firmware) root(tables ...[]byte) row {
	var list []byte
	for _, t := range tables {
		at := uint64(0)
		if t != nil {
			at = f.put(t)
		}
		list = binary.LittleEndian.AppendUint64(list, at)
	}
	b := make([]byte, 36)
	copy(b, "RSD PTR ")
	binary.LittleEndian.PutUint64(b[24:], f.put(table("XSDT", 1, list)))
	return row{acpi, f.put(b)}
}

// gtdt makes a table of timers: count is what it says of their number.
func gtdt(revision byte, count int, timers ...[]byte) []byte {
	const fixed = 104 // with what the third revision has besides
	b := make([]byte, fixed-36)
	binary.LittleEndian.PutUint32(b[88-36:], uint32(count))
	binary.LittleEndian.PutUint32(b[92-36:], fixed)
	for _, t := range timers {
		b = append(b, t...)
	}
	return table("GTDT", revision, b)
}

// Timers of the platform, by their flags.
const secure = 1 << 2

func watchdog(refresh, control uint64, flags uint32) []byte {
	b := []byte{1, 28, 0, 0}
	b = binary.LittleEndian.AppendUint64(b, refresh)
	b = binary.LittleEndian.AppendUint64(b, control)
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(b, 48), flags)
}

// block is a block of timers with one frame, of an odd length.
func block() []byte {
	b := make([]byte, 60)
	b[1] = 60
	return b
}

// frames are those of one watchdog.
type frames struct{ refresh, control uint64 }

// newFrames makes them as hardware of a version has them.
func (f *firmware) newFrames(version uint32) frames {
	control := make([]byte, 4096)
	binary.LittleEndian.PutUint32(control[0xfcc:], version<<16|0x43b)
	return frames{f.put(make([]byte, 4096)), f.put(control)}
}

func (w frames) timer(flags uint32) []byte { return watchdog(w.refresh, w.control, flags) }

// armed says for how many ticks each half is, and 0 where it was left alone.
func (f *firmware) armed(w frames) uint64 {
	f.Helper()
	ticks := uint64(f.word(w.control+8)) | uint64(f.word(w.control+12))<<32
	on, refreshed := f.word(w.control), f.word(w.refresh)
	if (on == 1) != (ticks != 0) || on != refreshed {
		f.Errorf("control %d, refresh %d, %d ticks", on, refreshed, ticks)
	}
	return ticks
}

// TestServer runs the driver over what servers' firmware tells of its watchdogs.
func TestServer(t *testing.T) {
	half := frequency(t) * 300 / 2
	f := newFirmware(t)
	own, second := f.newFrames(1), f.newFrames(1)
	f.start(row{[16]byte{1}, 1}, f.root(table("FACP", 6, make([]byte, 200)), nil, gtdt(3, 4, block(), own.timer(secure), second.timer(0), own.timer(0))))
	if got := f.armed(second); got != half {
		t.Errorf("armed for %d ticks, not %d", got, half)
	}
	if f.armed(own) != 0 {
		t.Error("more than one was armed, or that of the secure world")
	}
	for name, tables := range map[string][][]byte{
		"a table of the first revision":  {gtdt(1, 1, own.timer(0))},
		"no timers":                      {gtdt(2, 0, own.timer(0))},
		"no table":                       {table("FACP", 6, own.timer(0))},
		"an empty list":                  nil,
		"more timers than there are":     {gtdt(2, 1<<31, block(), block())},
		"a timer without a length":       {gtdt(2, 9, make([]byte, 28), own.timer(0))},
		"a timer beyond the table's end": {gtdt(2, 1, own.timer(0)[:27])},
		"a watchdog that is too short":   {gtdt(2, 1, append([]byte{1, 24, 0, 0}, own.timer(0)[4:24]...))},
	} {
		f.start(f.root(tables...))
		if f.armed(own) != 0 {
			t.Errorf("%s: armed", name)
		}
	}
	f.start(f.root(gtdt(2, 1, own.timer(0))), row{tree, 1})
	if f.armed(own) != 0 {
		t.Error("armed where the kernel goes by a device tree")
	}
	f.start()
	f.start(f.root(gtdt(2, 0), gtdt(2, 1, own.timer(0)))) // the second table has it
	if got := f.armed(own); got != half {
		t.Errorf("armed for %d ticks, not %d", got, half)
	}
}

// TestNarrow runs it over a watchdog that counts 32 bits.
func TestNarrow(t *testing.T) {
	hz := frequency(t)
	want := hz * 300 / 2
	if want > 1<<32-1 {
		want = 1<<32 - 1
	}
	if want < hz*60 {
		want = 0 // shorter than a start may take
	}
	f := newFirmware(t)
	w := f.newFrames(0)
	f.start(f.root(gtdt(2, 1, w.timer(0))))
	if got := f.armed(w); got != want {
		t.Errorf("armed for %d ticks of %d a second, not %d", got, hz, want)
	}
}
