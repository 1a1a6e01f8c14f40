// Package wear says how much is written to the disk below a folder, and how long the disk will take that.
//
// It owns the reading of what Linux tells of a block device and the sum over starts. It refuses to promise: a card that
// counts its own wear is believed, for any other the answer follows from an assumption, which is said with it. What is
// counted is all that reaches the device, whoever wrote it.
package wear

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Endures is how many times its size a card is assumed to take from a computer before it wears out: a thousand erasures
// of each cell, with four bytes written inside for each that comes, as small writes make of it. Good cards take more.
const Endures = 250

// enough is how long has to be counted before a day's writes are known well enough to judge by.
const enough = time.Hour

// Disk is a block device.
type Disk struct {
	Name string // as mmcblk0
	Size uint64 // bytes
	dir  string // of what the kernel tells of it
}

// Find gives the disk that a folder lies on. A folder that lies on no disk, as one in memory, has none.
func Find(folder string) (*Disk, error) {
	var st unix.Stat_t
	if err := unix.Stat(folder, &st); err != nil {
		return nil, err
	}
	return find(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)))
}

func find(link string) (*Disk, error) {
	dir, err := filepath.EvalSymlinks(link)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
		dir = filepath.Dir(dir)
	}
	d := &Disk{Name: filepath.Base(dir), dir: dir}
	sectors, err := numbers(filepath.Join(dir, "size"))
	if err != nil {
		return nil, err
	}
	d.Size = sectors[0] * 512
	return d, nil
}

// numbers reads a file of them.
func numbers(path string) ([]uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all []uint64
	for _, f := range strings.Fields(string(b)) {
		n, err := strconv.ParseUint(f, 0, 64) // life_time is written as 0x01
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, n)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s is empty", path)
	}
	return all, nil
}

// Written is how many bytes were written to the disk since the kernel started.
func (d *Disk) Written() (uint64, error) {
	stat, err := numbers(filepath.Join(d.dir, "stat"))
	if err != nil {
		return 0, err
	}
	if len(stat) < 7 {
		return 0, fmt.Errorf("%s/stat has %d numbers", d.dir, len(stat))
	}
	return stat[6] * 512, nil
}

// Used is what an eMMC says of itself: how much of its life is behind it, in percent, at most; -1 where it does not say.
// urgent says that its spare blocks run out.
func (d *Disk) Used() (percent int, urgent bool) {
	percent = -1
	if life, err := numbers(filepath.Join(d.dir, "device", "life_time")); err == nil {
		for _, step := range life { // of two kinds of cells; 0 is not known, 11 is beyond
			if step > 0 && step <= 11 {
				percent = max(percent, int(step)*10)
			}
		}
	}
	if end, err := numbers(filepath.Join(d.dir, "device", "pre_eol_info")); err == nil {
		urgent = end[0] == 2 || end[0] == 3
	}
	return percent, urgent
}

// Count is what was written while somebody counted, over all starts.
type Count struct {
	Bytes   uint64  `json:"bytes"`
	Seconds float64 `json:"seconds"`

	Disk string  `json:"disk"`    // that was counted
	Boot string  `json:"boot"`    // the kernel's name for this start
	Last uint64  `json:"last"`    // what it had written then
	Up   float64 `json:"up_time"` // how long it ran then, in seconds

	Fill Fill `json:"fill,omitempty"` // how full it was
}

// Add counts what came since the last call. What a kernel wrote before the first call in its life counts too, as long as
// the disk is the same; one that counts backwards begins anew.
func (c *Count) Add(d *Disk, boot string, written uint64, up time.Duration) {
	if c.Disk != d.Name {
		*c = Count{Disk: d.Name}
	}
	if c.Boot != boot || written < c.Last || up.Seconds() < c.Up {
		c.Last, c.Up = 0, 0
	}
	c.Bytes += written - c.Last
	c.Seconds += up.Seconds() - c.Up
	c.Boot, c.Last, c.Up = boot, written, up.Seconds()
}

// PerDay is how many bytes are written in a day, 0 where too little was counted.
func (c *Count) PerDay() float64 {
	if c.Seconds < enough.Seconds() {
		return 0
	}
	return float64(c.Bytes) / c.Seconds * 86400
}

// Years is how long a new disk of this size lasts at that, by what Endures assumes.
func (c *Count) Years(d *Disk) float64 {
	day := c.PerDay()
	if day == 0 {
		return math.Inf(1)
	}
	return float64(d.Size) * Endures / day / 365
}

// String says it for people.
func (c *Count) String(d *Disk) string {
	text := "not known yet how much a day"
	if day := c.PerDay(); day > 0 {
		text = fmt.Sprintf("%s a day, by the last %s; a card that takes %d times its %s lasts %s", bytesText(day), daysText(c.Seconds), Endures, bytesText(float64(d.Size)), yearsText(c.Years(d)))
	}
	if used, urgent := d.Used(); used >= 0 {
		text += fmt.Sprintf("; the disk itself says that at most %d%% of its life is used", min(used, 100))
		if urgent {
			text += ", and that its spare blocks run out: replace it"
		}
	}
	return d.Name + ": " + text
}

func bytesText(n float64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1e12, "TB"}, {1e9, "GB"}, {1e6, "MB"}} {
		if n >= u.size {
			return fmt.Sprintf("%.1f %s", n/u.size, u.name)
		}
	}
	return fmt.Sprintf("%.0f kB", n/1e3)
}

func daysText(seconds float64) string {
	if days := seconds / 86400; days >= 2 {
		return fmt.Sprintf("%.0f days", days)
	}
	return fmt.Sprintf("%.0f hours", seconds/3600)
}

func yearsText(years float64) string {
	switch {
	case years > 50:
		return "more than 50 years"
	case years >= 2:
		return fmt.Sprintf("%.0f years", years)
	}
	return fmt.Sprintf("%.0f months", years*12)
}

// Now reads the kernel's name for this start, and how long it runs.
func Now() (boot string, up time.Duration, err error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", 0, err
	}
	var i unix.Sysinfo_t
	if err := unix.Sysinfo(&i); err != nil {
		return "", 0, err
	}
	return strings.TrimSpace(string(b)), time.Duration(i.Uptime) * time.Second, nil
}

// Load reads a count that Save kept; one that is not there, or is none, begins anew.
func Load(path string) (c Count, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return c, nil
	}
	if err == nil && json.Unmarshal(b, &c) != nil {
		c = Count{}
	}
	return c, err
}

// Save keeps a count. What is lost with the power is a few hours of it.
func (c *Count) Save(path string) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
