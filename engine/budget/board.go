package budget

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// RAM is how much memory there is for this process: the machine's, or what the
// control group leaves of it. 0 where neither can be read, which counts as the
// smallest board.
func RAM() int64 {
	return ram("/")
}

// ram is RAM with the root of the file system as a parameter.
func ram(root string) int64 {
	all := memTotal(filepath.Join(root, "proc/meminfo"))
	if g := cgroup(root); g > 0 && (all == 0 || g < all) {
		return g
	}
	return all
}

// memTotal reads the first line that matters of /proc/meminfo.
func memTotal(path string) int64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) >= 2 && f[0] == "MemTotal:" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return 0
			}
			return n * KiB
		}
	}
	return 0
}

// cgroup is the smallest limit on the way from our control group to the root,
// in version 2 of the hierarchy or the memory one of version 1.
func cgroup(root string) int64 {
	b, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return 0
	}
	least := int64(0)
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		mount, name := "sys/fs/cgroup", "memory.max"
		if f[1] != "" {
			mount, name = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
			if f[1] != "memory" {
				continue
			}
		}
		for dir := f[2]; ; dir = filepath.Dir(dir) {
			if n := number(filepath.Join(root, mount, dir, name)); n > 0 && (least == 0 || n < least) {
				least = n
			}
			if dir == "/" || dir == "." {
				break
			}
		}
	}
	return least
}

// number reads a file with one number; "max" and what cannot be read are 0.
func number(path string) int64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil || n >= 1<<60 { // version 1 writes a huge number for no limit
		return 0
	}
	return n
}
