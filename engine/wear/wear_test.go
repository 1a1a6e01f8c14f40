package wear

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// board lays out what the kernel tells of a card with one partition.
func board(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, "mmcblk0", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "mmcblk0", "mmcblk0p4")
}

const stat = "  5120   100  400000  3000  9000   50  2000000  8000  0  4000 11000 0 0 0 0 700 300"

func TestDisk(t *testing.T) {
	part := board(t, map[string]string{"size": "62333952", "stat": stat, "mmcblk0p4/partition": "4", "mmcblk0p4/size": "7", "device/life_time": "0x01 0x02", "device/pre_eol_info": "0x02"})
	d, err := find(part)
	if err != nil || d.Name != "mmcblk0" || d.Size != 62333952*512 {
		t.Fatalf("%+v %v", d, err)
	}
	if n, err := d.Written(); err != nil || n != 2000000*512 {
		t.Errorf("%d bytes, %v", n, err)
	}
	if used, urgent := d.Used(); used != 20 || !urgent {
		t.Errorf("used %d%%, urgent %v", used, urgent)
	}
	var c Count
	c.Add(d, "a", 10e9, 48*time.Hour)
	text := c.String(d)
	for _, want := range []string{"5.0 GB a day", "by the last 2 days", "250 times its 31.9 GB lasts 4 years", "at most 20%", "replace it"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %q", want, text)
		}
	}
	sd, err := find(board(t, map[string]string{"size": "62333952", "stat": stat, "mmcblk0p4/partition": "4"}))
	if err != nil {
		t.Fatal(err)
	}
	if used, urgent := sd.Used(); used != -1 || urgent {
		t.Errorf("a card that does not say: %d %v", used, urgent)
	}
	if _, err := find(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a disk that there is none of")
	}
}

// TestCount adds over starts, changes of the disk and counters that go back.
func TestCount(t *testing.T) {
	d, other := &Disk{Name: "mmcblk0", Size: 32e9}, &Disk{Name: "sda", Size: 32e9}
	var c Count
	c.Add(d, "a", 1000, 10*time.Minute)
	if c.PerDay() != 0 || !strings.Contains(c.String(d), "not known yet") {
		t.Errorf("ten minutes: %v", c.String(d))
	}
	c.Add(d, "a", 5000, 20*time.Minute)
	path := filepath.Join(t.TempDir(), "wear")
	if err := c.Save(path); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	c.Add(d, "b", 7000, 40*time.Minute)
	c.Add(d, "b", 7000, 100*time.Minute)
	if c.Bytes != 12000 || c.Seconds != 7200 || c.PerDay() != 144000 {
		t.Errorf("%+v, %v a day", c, c.PerDay())
	}
	c.Add(d, "b", 100, 101*time.Minute)
	if c.Bytes != 12100 {
		t.Errorf("a counter that went back: %+v", c)
	}
	c.Add(other, "b", 1, time.Minute)
	if c.Bytes != 1 || c.Disk != "sda" {
		t.Errorf("another disk: %+v", c)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Load(path); err != nil || c.Disk != "" || c.Bytes != 0 {
		t.Errorf("a file that is none: %+v %v", c, err)
	}
	if c, err := Load(path + "?"); err != nil || c.Disk != "" || c.Bytes != 0 {
		t.Errorf("no file: %+v %v", c, err)
	}
}
