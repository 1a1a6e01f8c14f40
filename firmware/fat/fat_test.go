package fat

import (
	"bytes"
	"encoding/binary"
	"errors"
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
	b, err := Make(Spec{Size: 128 << 20, Label: "HEARTH-A", Files: files, When: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)})
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
	if _, err := Make(Spec{Size: 128 << 20, Label: "X", Files: map[string][]byte{"a": make([]byte, 129<<20)}, When: time.Now()}); err == nil {
		t.Error("a file larger than the partition was taken")
	}
	if _, err := Make(Spec{Size: 1 << 20, Label: "X", When: time.Now()}); err == nil {
		t.Error("a partition too small for FAT32 was made")
	}
}

// TestFind finds files in both sizes of clusters, and one that has room to grow.
func TestFind(t *testing.T) {
	for _, size := range []int{64 << 20, 128 << 20} {
		files := map[string][]byte{"loader/entries/a-long-name+1.conf": []byte("text"), "C/B.C": bytes.Repeat([]byte("x"), 3000), "a/kernel": bytes.Repeat([]byte("k"), 70000)}
		b, err := Make(Spec{Size: size, Label: "X", Files: files, Room: map[string]int{"a/kernel": 1 << 20}, When: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		v, err := Open(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range files {
			f, err := v.Find(name)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got := b[f.At : f.At+f.Size]; !bytes.Equal(got, want) || f.Room < f.Size || name == "a/kernel" && f.Room != 1<<20 {
				t.Errorf("%s: %d bytes with room for %d", name, len(got), f.Room)
			}
			if got, err := Rows(b[f.RowAt : f.RowAt+32]); err != nil || len(got) != 1 || got[0].Size != f.Size {
				t.Errorf("%s has no row at %d", name, f.RowAt)
			}
		}
		if _, err := v.Find("loader/nothing"); err == nil {
			t.Error("a file that is not there was found")
		}
	}
}

// TestPieces: the root folder has grown on another computer, into a cluster that lies elsewhere, and the rows of one file
// stand in both.
func TestPieces(t *testing.T) {
	b, err := Make(Spec{Size: 64 << 20, Label: "X", Files: map[string][]byte{"A.TXT": []byte("first"), "a name that takes several rows here.txt": []byte("second")}, When: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	v, err := Open(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	const far = 5000
	le := binary.LittleEndian
	le.PutUint32(b[v.table+4*int64(v.root):], far)
	le.PutUint32(b[v.table+4*far:], last)
	root, more := b[v.at(v.root):][:v.cluster], b[v.at(far):][:v.cluster]
	used := bytes.Clone(root[:7*32]) // the label, one file, and the five rows of the other
	for i := range len(root) / 32 {
		root[i*32] = 0xe5
	}
	copy(root, used[:2*32])
	copy(root[len(root)-64:], used[2*32:4*32])
	copy(more, used[4*32:])
	for name, want := range map[string]string{"a.txt": "first", "a name that takes several rows here.txt": "second"} {
		f, err := v.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(b[f.At : f.At+f.Size]); got != want || le.Uint32(b[f.RowAt+28:]) != uint32(len(want)) {
			t.Errorf("%s: %q, its row at %d", name, got, f.RowAt)
		}
	}
	le.PutUint32(b[v.table+4*far:], v.root) // without end
	if _, err := v.Find("nothing"); !errors.Is(err, ErrShape) {
		t.Errorf("a folder without end: %v", err)
	}
	le.PutUint32(b[v.table+4*far:], 1<<27)
	if _, err := v.Find("a.txt"); !errors.Is(err, ErrShape) {
		t.Errorf("a folder that leads out: %v", err)
	}
}

// FuzzFind reads partitions that are spoilt.
func FuzzFind(f *testing.F) {
	b, err := Make(Spec{Size: 64 << 20, Label: "X", Files: map[string][]byte{"a/b": []byte("text")}, When: time.Unix(0, 0)})
	if err != nil {
		f.Fatal(err)
	}
	front := 1100 << 10 // tables and the first clusters
	f.Add(uint32(13), byte(200))
	f.Add(uint32(32*512+12), byte(3))
	f.Fuzz(func(t *testing.T, at uint32, to byte) {
		c := bytes.Clone(b[:front])
		c[int(at)%len(c)] = to
		v, err := Open(bytes.NewReader(c))
		if err == nil {
			_, _ = v.Find("a/b")
		}
	})
}
