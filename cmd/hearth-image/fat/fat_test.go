package fat

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestMtools reads what was written with the tools of others, where they are there.
func TestMtools(t *testing.T) {
	if _, err := exec.LookPath("mcopy"); err != nil {
		t.Skip("NOT TESTED: mcopy is not here (apt-get install mtools)")
	}
	files := map[string][]byte{"vmlinuz": bytes.Repeat([]byte("kernel!"), 300000), "EFI/BOOT/BOOTAA64.EFI": []byte("loader"),
		"overlays/a-name-that-is-long.dtbo": []byte("overlay"), "empty": {}}
	for i := range 40 {
		files[fmt.Sprintf("bcm%04d-a-board-with-a-name.dtb", i)] = bytes.Repeat([]byte{byte(i)}, 1000*i)
	}
	b, err := Make(128<<20, "HEARTH-A", files, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(t.TempDir(), "fat")
	if err := os.WriteFile(image, b, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := exec.Command("mtype", "-i", image, "::"+name).Output()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes came back of %d", name, len(got), len(want))
		}
	}
	for _, check := range []string{"/sbin/fsck.fat", "/usr/sbin/fsck.fat"} {
		if _, err := os.Stat(check); err != nil {
			continue
		}
		if out, err := exec.Command(check, "-n", image).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

func TestTooMuch(t *testing.T) {
	if _, err := Make(128<<20, "X", map[string][]byte{"a": make([]byte, 129<<20)}, time.Now()); err == nil {
		t.Error("a file larger than the partition was taken")
	}
	if _, err := Make(1<<20, "X", nil, time.Now()); err == nil {
		t.Error("a partition too small for FAT32 was made")
	}
}
