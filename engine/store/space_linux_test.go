package store

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"hearth/engine/fault"
)

// smallExt4 mounts an ext4 of so many bytes on a loop device. It needs root and
// the tools; without them the test is skipped, and says so.
func smallExt4(t *testing.T, bytes int64) (dir, device string) {
	t.Helper()
	run := func(name string, args ...string) string {
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Skipf("NOT TESTED on a real disk: %s %s: %v: %s", name, strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED on a real disk: mounting one takes root")
	}
	image := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, bytes); err != nil {
		t.Fatal(err)
	}
	run("mkfs.ext4", "-q", "-m", "0", image)
	loop := run("losetup", "--find", "--show", image)
	t.Cleanup(func() { exec.Command("losetup", "-d", loop).Run() })
	dir = t.TempDir()
	if err := unix.Mount(loop, dir, "ext4", 0, ""); err != nil {
		t.Skipf("NOT TESTED on a real disk: mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir, filepath.Base(loop)
}

// deviceBytes counts what reached a block device.
func deviceBytes(t *testing.T, device string) int64 {
	unix.Sync()
	text, err := os.ReadFile("/sys/block/" + device + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	sectors, err := strconv.ParseInt(strings.Fields(string(text))[6], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return sectors * 512
}

// The same story as in memory, on a file system that really fills.
func TestFullExt4(t *testing.T) {
	dir, device := smallExt4(t, 40<<20)
	f := openSmall(t, filepath.Join(dir, "db"), nil, true)
	defer func() {
		if err := f.s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if info, err := os.Stat(filepath.Join(dir, "db", ballastName)); err != nil || info.Size() < 1<<20 {
		t.Fatal("the ballast is not there", err)
	}
	other := filepath.Join(dir, "others")
	fullDisk(t, f, func() int64 { return deviceBytes(t, device) }, func(left int64) {
		if left < 0 {
			if err := os.Remove(other); err != nil {
				t.Fatal(err)
			}
			return
		}
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			t.Fatal(err)
		}
		file, err := os.Create(other)
		if err == nil {
			err = unix.Fallocate(int(file.Fd()), 0, 0, int64(st.Bavail)*int64(st.Bsize)-left)
		}
		if err != nil || file.Close() != nil {
			t.Fatal(err)
		}
	})
}

// The kernel makes a file system read-only when its disk fails. The store comes
// up to be read.
func TestRemountedReadOnly(t *testing.T) {
	dir, _ := smallExt4(t, 40<<20)
	opts := Options{Dir: filepath.Join(dir, "db"), MemTable: 256 << 10}
	s, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 100 {
		if err := put(s, n); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(opts); !Unwritable(err) {
		t.Fatalf("it was opened: %v", err)
	}
	opts.ReadOnly = true
	if s, err = Open(opts); err != nil {
		t.Fatal(err)
	}
	if n := rows(t, s); n != 100 {
		t.Errorf("%d rows can be read", n)
	}
	if err := put(s, 1); !fault.Is(err, fault.Full) {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
