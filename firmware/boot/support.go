package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Report is what a box tells who helps its owner: what only root may read. It has no settings, since those hold secrets.
type Report struct {
	Data    string // where the data partition is mounted
	Version string
	Disk    *Disk
}

// reportTime is how long somebody may take to hear it.
const reportTime = 10 * time.Second

// Answer tells the report to whoever connects to a socket that only user may open, until ctx ends.
func (r Report) Answer(ctx context.Context, socket string, user int) error {
	ln, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	if err := errors.Join(os.Chown(socket, user, user), os.Chmod(socket, 0o600)); err != nil {
		return err
	}
	for {
		c, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if err := c.SetDeadline(time.Now().Add(reportTime)); err == nil {
			r.Write(c)
		}
		c.Close()
	}
}

// Write writes it; whoever does not listen to the end misses the rest.
func (r Report) Write(w io.Writer) {
	part := func(name, text string) { fmt.Fprintf(w, "==== %s\n%s\n", name, strings.TrimRight(text, "\n")) }
	var i unix.Sysinfo_t
	if unix.Sysinfo(&i) == nil {
		part("box", fmt.Sprintf("version %s\nup for %v\n", r.Version, time.Duration(i.Uptime)*time.Second))
	}
	if r.Disk != nil && r.Disk.Card != nil {
		var b strings.Builder
		fmt.Fprintf(&b, "started from slot %d of %s\n", r.Disk.Slot, r.Disk.Name)
		for _, p := range r.Disk.Card.Parts {
			fmt.Fprintf(&b, "%d %-8s %d MB at %d\n", p.Number, p.Name, p.Size/1e6, p.Begin)
		}
		part("card", b.String())
	}
	for _, path := range []string{"/proc/mounts", "/proc/diskstats", "/proc/net/dev", filepath.Join(r.Data, checkLog), filepath.Join(r.Data, "clock"), filepath.Join(r.Data, "trimmed"), filepath.Join(r.Data, "update")} {
		if b, err := os.ReadFile(path); err == nil {
			part(path, string(b))
		}
	}
	part("addresses", strings.Join(Addresses(), "\n"))
	part("listeners", strings.Join(listeners("/proc/net"), "\n"))
	found, _ := filepath.Glob(filepath.Join(r.Data, "crash", "*.log"))
	for _, path := range found {
		if b, err := os.ReadFile(path); err == nil {
			part(path, string(b))
		}
	}
	part("kernel log", kernelLog())
}

// listeners are the ports at which a box can be reached, as "tcp 8008", by what the kernel lists in a folder.
func listeners(dir string) (all []string) {
	const listening, unconnected = "0A", "07"
	for _, kind := range []string{"tcp", "tcp6", "udp", "udp6"} {
		text, err := os.ReadFile(filepath.Join(dir, kind))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) < 4 || f[3] != listening && f[3] != unconnected {
				continue
			}
			_, hex, _ := strings.Cut(f[1], ":")
			if port, err := strconv.ParseUint(hex, 16, 16); err == nil {
				all = append(all, fmt.Sprintf("%s %d", strings.TrimSuffix(kind, "6"), port))
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// kernelLog is what the kernel still has of its log, the box's own words among it.
func kernelLog() string {
	const readAll, sizeOf = 3, 10
	n, err := unix.Klogctl(sizeOf, nil)
	if err != nil {
		return err.Error()
	}
	b := make([]byte, min(max(n, 1), 1<<20))
	if n, err = unix.Klogctl(readAll, b); err != nil {
		return err.Error()
	}
	return string(b[:n])
}
