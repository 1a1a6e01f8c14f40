package image

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// driverFile is where systemd-boot looks for drivers, which it starts before it chooses an entry. On a card with UEFI it
// has package firmware/efi's, and no update changes it.
const driverFile = "EFI/systemd/drivers/dogaa64.efi"

// patience is how long a start may take from the driver on until the kernel's own driver has found the watchdog. It is what
// systemd-boot gives to the same by UEFI's timer, as far as that runs.
const patience = 5 * time.Minute

// driver makes the file of the program that package firmware/efi was built into.
func (o *Options) driver() ([]byte, error) {
	code, err := driverCode(filepath.Join(o.Programs, "efi"))
	if err != nil {
		return nil, fmt.Errorf("a program of the box: %w", err)
	}
	return wrapDriver(code, patience), nil
}

// driverCode takes the driver out of the program that holds it.
func driverCode(program string) ([]byte, error) {
	f, err := elf.Open(program)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all, err := f.Symbols()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	for _, s := range all {
		if s.Name != "main.driver" && s.Name != "main.driver.abi0" || elf.ST_TYPE(s.Info) != elf.STT_FUNC {
			continue
		}
		if int(s.Section) >= len(f.Sections) {
			break
		}
		text := f.Sections[s.Section]
		code := make([]byte, s.Size)
		if _, err := text.ReadAt(code, int64(s.Value-text.Addr)); err != nil {
			return nil, fmt.Errorf("%s: %w", program, err)
		}
		if f.Machine != elf.EM_AARCH64 || len(code) < 8 || len(code) > driverRoom {
			break
		}
		return code, nil
	}
	return nil, errors.New(program + " holds no driver")
}

// Sizes of the driver's file, in bytes.
const (
	driverHead = 512  // in the file
	driverPage = 4096 // headers and code begin at multiples of it in memory
	driverRoom = 4096
)

// wrapDriver makes a PE32+ of code that runs wherever it lies, begins at its first byte, and has how many seconds it
// waits in its second word. The headers say what firmware needs and nothing else: there are no relocations, and no
// word that they were taken out, which would bind the code to one address.
func wrapDriver(code []byte, wait time.Duration) []byte {
	le := binary.LittleEndian
	b := append(make([]byte, 0, driverHead+driverRoom), "MZ"...)
	b = append(b, make([]byte, 58)...)
	b = le.AppendUint32(b, 64) // where the next header is
	b = append(b, "PE\x00\x00"...)
	b = le.AppendUint16(b, 0xaa64)     // 64-bit ARM
	b = le.AppendUint16(b, 1)          // sections
	b = append(b, make([]byte, 12)...) // no time, no symbols
	const directories = 6
	b = le.AppendUint16(b, 112+8*directories)
	b = le.AppendUint16(b, 0x0206) // an executable without symbols

	b = le.AppendUint16(b, 0x020b) // PE32+
	b = append(b, 0, 0)
	b = le.AppendUint32(b, driverRoom) // code
	b = append(b, make([]byte, 8)...)  // no data
	b = le.AppendUint32(b, driverPage) // the entry
	b = le.AppendUint32(b, driverPage) // where code begins
	b = le.AppendUint64(b, 0)
	b = le.AppendUint32(b, driverPage) // alignment in memory
	b = le.AppendUint32(b, driverHead) // in the file
	b = append(b, make([]byte, 16)...) // versions
	b = le.AppendUint32(b, driverPage+driverRoom)
	b = le.AppendUint32(b, driverHead)
	b = le.AppendUint32(b, 0)  // no checksum
	b = le.AppendUint16(b, 11) // a driver that ends with the boot services
	b = append(b, make([]byte, 38)...)
	b = le.AppendUint32(b, directories)
	b = append(b, make([]byte, 8*directories)...)

	b = append(b, ".text\x00\x00\x00"...)
	for _, n := range []uint32{driverRoom, driverPage, driverRoom, driverHead, 0, 0, 0, 0x60000020} { // code, readable
		b = le.AppendUint32(b, n)
	}
	b = append(b, make([]byte, driverHead-len(b))...)
	b = append(b, code...)
	le.PutUint32(b[driverHead+4:], uint32(wait/time.Second))
	return append(b, make([]byte, driverHead+driverRoom-len(b))...)
}
