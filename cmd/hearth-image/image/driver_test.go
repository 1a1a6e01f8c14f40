package image

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestDriver builds the driver, takes it out of its program, and reads the file that firmware gets. That the firmware
// takes it is for TestBoxHang to show.
func TestDriver(t *testing.T) {
	program := filepath.Join(t.TempDir(), "efi")
	cmd := exec.Command("go", "build", "-trimpath", "-o", program, "hearth/firmware/efi")
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	code, err := driverCode(program)
	if err != nil {
		t.Fatal(err)
	}
	const jump, seconds = 0x14000002, 300 // over the second word
	if le := binary.LittleEndian; le.Uint32(code) != jump || le.Uint32(code[4:]) != seconds {
		t.Fatalf("the driver begins with %x", code[:8])
	}
	for at := 0; at+4 <= len(code); at += 4 { // ADRP gives addresses that hold only where the linker put the code
		if w := binary.LittleEndian.Uint32(code[at:]); w&0x9f000000 == 0x90000000 {
			t.Errorf("%#x at %#x is bound to an address", w, at)
		}
	}
	file := wrapDriver(code, 7*time.Second)
	f, err := pe.NewFile(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	head, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok || f.Machine != pe.IMAGE_FILE_MACHINE_ARM64 || head.Subsystem != pe.IMAGE_SUBSYSTEM_EFI_BOOT_SERVICE_DRIVER || len(f.Sections) != 1 {
		t.Fatalf("%+v %+v", f.FileHeader, f.OptionalHeader)
	}
	if f.Characteristics&pe.IMAGE_FILE_RELOCS_STRIPPED != 0 || f.Characteristics&pe.IMAGE_FILE_EXECUTABLE_IMAGE == 0 {
		t.Errorf("characteristics %#x", f.Characteristics)
	}
	text := f.Sections[0]
	got, err := text.Data()
	if err != nil {
		t.Fatal(err)
	}
	if head.AddressOfEntryPoint != text.VirtualAddress || int(text.Offset+text.Size) != len(file) || head.SizeOfImage != text.VirtualAddress+text.VirtualSize {
		t.Errorf("%+v %+v", head, text.SectionHeader)
	}
	if binary.LittleEndian.Uint32(got[4:]) != 7 || !bytes.Equal(got[8:len(code)], code[8:]) {
		t.Error("the code is not what was built")
	}
}

// TestNoDriver: a program without a driver, and one that is not there, are told.
func TestNoDriver(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{self, filepath.Join(t.TempDir(), "none")} {
		if code, err := driverCode(program); err == nil {
			t.Errorf("%s: %d bytes", program, len(code))
		}
	}
}
