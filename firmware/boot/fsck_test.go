package boot

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// hostTool finds a program of e2fsprogs on this machine.
func hostTool(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range []string{"/sbin", "/usr/sbin", "/bin", "/usr/bin"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return filepath.Join(dir, name)
		}
	}
	t.Skipf("%s is not here; it comes with e2fsprogs", name)
	return ""
}

// ext4 makes a file system in a file, with one file in it.
func ext4(t *testing.T) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 300<<20); err != nil { // a second group, which holds a copy of the superblock
		t.Fatal(err)
	}
	run(t, hostTool(t, "mkfs.ext4"), "-q", "-F", "-b", "4096", image)
	run(t, hostTool(t, "debugfs"), "-w", "-R", "write /proc/version kept", image)
	return image
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// spoil writes over a part of a file.
func spoil(t *testing.T, image string, at int64, with []byte) {
	t.Helper()
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(with, at); err != nil {
		t.Fatal(err)
	}
}

// TestCheck mends what can be mended, and says so of what cannot.
func TestCheck(t *testing.T) {
	checker := hostTool(t, "e2fsck")
	well := ext4(t)
	if why := flagged(well); why != "" {
		t.Errorf("a new file system %s", why)
	}
	marked := ext4(t)
	run(t, hostTool(t, "debugfs"), "-w", "-R", "set_super_value state 2", marked)
	headless := ext4(t)
	spoil(t, headless, 0, make([]byte, 64<<10))
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		image, why string
		mends      bool
	}{{marked, "is marked as having errors", true}, {headless, "has lost its first block", true}, {empty, "has lost its first block", false}} {
		if why := flagged(c.image); why != c.why {
			t.Errorf("it %q, not %q", why, c.why)
		}
		said, err := Check(checker, c.image)
		if (err == nil) != c.mends || len(said) == 0 {
			t.Errorf("one that %s: %v: %s", c.why, err, said)
		}
		if c.mends {
			if why := flagged(c.image); why != "" {
				t.Errorf("mended, it %s", why)
			}
			if list := run(t, hostTool(t, "debugfs"), "-R", "ls /", c.image); !strings.Contains(list, "kept") {
				t.Errorf("mended, it lost a file: %s", list)
			}
		}
	}
	if _, err := Check(filepath.Join(t.TempDir(), "none"), well); err == nil || !strings.Contains(err.Error(), "no e2fsck") {
		t.Errorf("without a checker: %v", err)
	}
}

// TestTorn: a first block of two writings is made whole, with and without copies of it, and one that is well stays as it is.
func TestTorn(t *testing.T) {
	image := ext4(t)
	head := func() []byte {
		f, err := os.Open(image)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b := make([]byte, 4096)
		if _, err := f.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		return b
	}
	before := head()
	if err := joinSuper(image); err != nil || !bytes.Equal(before, head()) {
		t.Errorf("a whole one was changed, %v", err)
	}
	old := before[1024:1536]
	run(t, hostTool(t, "tune2fs"), "-L", "another", "-T", "20260101000000", image)
	spoil(t, image, 1024, old) // the first sector of before, the second of after
	if out, err := exec.Command(hostTool(t, "dumpe2fs"), "-h", image).CombinedOutput(); err == nil {
		t.Fatalf("what was torn is whole: %s", out)
	}
	if err := joinSuper(image); err != nil {
		t.Fatal(err)
	}
	run(t, hostTool(t, "e2fsck"), "-f", "-n", image)
	if err := joinSuper(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a disk that there is none of")
	}
}

func TestTrimDue(t *testing.T) {
	stamp, now := filepath.Join(t.TempDir(), "trimmed"), time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for text, due := range map[string]bool{
		"": true, "never": true,
		now.Add(-trimEvery).Format(time.RFC3339): true, now.Add(time.Minute-trimEvery).Format(time.RFC3339) + "\n": false, now.Add(time.Hour).Format(time.RFC3339): true,
	} {
		if err := os.WriteFile(stamp, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if trimDue(stamp, now) != due {
			t.Errorf("%q: due is not %v", text, due)
		}
	}
	if !trimDue(stamp+"?", now) {
		t.Error("a card that was never told is not due")
	}
}

// TestTrim tells a loop device of its empty blocks, which needs root.
func TestTrim(t *testing.T) {
	image, at := ext4(t), t.TempDir()
	mount := hostTool(t, "mount")
	if out, err := exec.Command(mount, "-o", "loop", image, at).CombinedOutput(); err != nil {
		t.Skipf("no mounting here: %s", out)
	}
	defer run(t, hostTool(t, "umount"), at)
	n, err := trim(t.Context(), at)
	if err != nil || n < 100<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
}
