// Package boot is what a box does between its kernel and its hub: file systems, the data partition, the settings on the
// card, the clock, and the programs with the watchdog over them.
//
// It owns what has to hold whatever happens to the power. The root is never written. The data partition is the only
// place that keeps something, and where it cannot be mounted the box says so on a page instead of starting an empty hub.
// The hardware watchdog is fed by the hub's own word that a commit worked, not by a program that is merely alive. It
// refuses to be a general init: there are no services to configure, and nothing but the hub takes connections.
package boot

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Mount mounts what programs expect beside the root. Logs and all else that is temporary is in memory.
func Mount() error {
	for _, m := range []struct {
		kind, at, with string
		flags          uintptr
	}{
		{"devtmpfs", "/dev", "", unix.MS_NOSUID | unix.MS_NOEXEC},
		{"proc", "/proc", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"sysfs", "/sys", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"tmpfs", "/run", "mode=0755,size=4m", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"tmpfs", "/tmp", "mode=1777,size=16m", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	} {
		err := unix.Mount(m.kind, m.at, m.kind, m.flags, m.with)
		if err != nil && !errors.Is(err, unix.EBUSY) { // the kernel has mounted /dev
			return fmt.Errorf("mounting %s on %s: %w", m.kind, m.at, err)
		}
	}
	return os.Mkdir("/dev/shm", 0o1777)
}

// MountBoot mounts the partition with the owner's settings, to be unmounted by the function that it gives. A
// kernel has one of several tables for the letters of names, all of which know those that matter here.
func (d *Disk) MountBoot(at string) (unmount func(), err error) {
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME)
	for _, with := range []string{"", "iocharset=utf8", "iocharset=ascii"} {
		if err = unix.Mount(d.Device(1), at, "vfat", flags, with); err == nil {
			return func() { _ = unix.Unmount(at, 0) }, nil
		}
	}
	return nil, fmt.Errorf("mounting the boot partition %s: %w", d.Device(1), err)
}

// mountData mounts a data partition at a folder, so that an error stops writing at once.
func mountData(device, at string) error {
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME)
	if err := unix.Mount(device, at, "ext4", flags, "errors=remount-ro"); err != nil {
		return fmt.Errorf("mounting the data partition %s: %w", device, err)
	}
	return nil
}
