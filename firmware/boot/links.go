package boot

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Links lists the interfaces that have link and an address at which others reach the box.
func Links() (names []string) {
	all, err := net.Interfaces()
	if err != nil {
		return nil
	}
	for _, i := range all {
		if i.Flags&net.FlagLoopback != 0 || i.Flags&net.FlagUp == 0 || i.Flags&net.FlagRunning == 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
				names = append(names, i.Name)
				break
			}
		}
	}
	return names
}

// Packets is how many came in from outside since the kernel started.
func Packets() (n uint64) {
	all, err := filepath.Glob("/sys/class/net/*/statistics/rx_packets")
	if err != nil {
		return 0
	}
	for _, path := range all {
		if strings.HasPrefix(path, "/sys/class/net/lo/") {
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		more, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
		if err == nil {
			n += more
		}
	}
	return n
}

// RestartWith restarts the box with words for its firmware, which forgets them at the start after that.
func RestartWith(words string) error {
	text, err := unix.BytePtrFromString(words)
	if err != nil {
		return err
	}
	_, _, errno := unix.Syscall6(unix.SYS_REBOOT, unix.LINUX_REBOOT_MAGIC1, unix.LINUX_REBOOT_MAGIC2, unix.LINUX_REBOOT_CMD_RESTART2, uintptr(unsafe.Pointer(text)), 0, 0)
	return errno
}
