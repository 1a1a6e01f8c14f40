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
	"time"

	"golang.org/x/sys/unix"
)

// LoopbackUp brings up lo, to which the kernel gives its address by itself.
func LoopbackUp() error { return linkUp("lo") }

// linkUp brings up an interface.
func linkUp(name string) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, r)
}

// wired lists the interfaces that have a cable.
func wired() (names []string) {
	all, err := filepath.Glob("/sys/class/net/*/device")
	if err != nil {
		return nil
	}
	for _, path := range all {
		dir := filepath.Dir(path)
		if _, err := os.Stat(filepath.Join(dir, "wireless")); err == nil {
			continue
		}
		if kind, err := number(filepath.Join(dir, "type")); err == nil && kind == 1 {
			names = append(names, filepath.Base(dir))
		}
	}
	return names
}

// Addresses are those at which others reach the box.
func Addresses() (all []string) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			all = append(all, n.IP.String())
		}
	}
	slices.Sort(all)
	return all
}

// Cables starts dhcp for every interface as it appears, USB ones too, until ctx ends, and anew where a cable that was out is
// back, which may lead to another network.
func Cables(ctx context.Context, dhcp string) {
	seen := map[string]*lease{}
	for {
		for _, name := range wired() {
			l := seen[name]
			if l == nil {
				l = newLease()
				seen[name] = l
				go Program{Path: dhcp, Args: []string{"-interface=" + name}, Dir: "/tmp"}.Run(ctx, l.anew)
			}
			l.look(carrier(name))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// lease is an interface for which an address is asked. The program that asks sleeps until half of the time is over for
// which it was given one, and does not mind what becomes of the interface.
type lease struct {
	had, lost bool          // whether there was a connection, and whether it was lost
	anew      chan struct{} // makes the program ask again
}

func newLease() *lease { return &lease{anew: make(chan struct{}, 1)} }

// look is told whether there is a connection.
func (l *lease) look(on bool) {
	if on && l.lost {
		select {
		case l.anew <- struct{}{}:
		default:
		}
	}
	l.had = l.had || on
	l.lost = l.had && !on
}

// Rescue answers every request at addr with a page that says why there is no hub, until ctx ends. It reads nothing but
// the first packet of a request, and holds one connection at a time.
func Rescue(ctx context.Context, addr string, why error) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	page := rescuePage(why)
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		_ = c.SetDeadline(time.Now().Add(2 * time.Second))
		_, _ = c.Read(make([]byte, 4096))
		_, _ = io.WriteString(c, page)
		c.Close()
	}
}

func rescuePage(why error) string {
	text := "This hub has not started, so that nothing is lost.\n\n" + why.Error() + "\n\n"
	if errors.Is(why, ErrSettings) {
		text += "Take the card out, mend the file " + SettingsFile + " on its first partition on a computer, and put the card back.\n"
	} else {
		text += "The card may be worn out, or have been torn out while it was written, and mending it did not help. Take it out,\n" +
			"make a copy of it on a computer, and look at the copy's last partition. A backup restores onto a new card.\n"
	}
	return fmt.Sprintf("HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nRetry-After: 60\r\nConnection: close\r\n\r\n%s", len(text), text)
}
