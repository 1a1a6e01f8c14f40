package main

import (
	"net"
	"os"
	"strconv"
	"time"
)

// supervisor is systemd, or whatever else started the hub and wants to know how
// it is. Without one everything here does nothing.
type supervisor struct {
	socket string        // NOTIFY_SOCKET
	every  time.Duration // between two signs of life; 0: none are expected
}

func newSupervisor(env func(string) string) supervisor {
	s := supervisor{socket: env("NOTIFY_SOCKET")}
	if s.socket != "" && s.socket[0] == '@' {
		s.socket = "\x00" + s.socket[1:] // a name that is in no file system
	}
	if pid := env("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return s // the watchdog is for another process
	}
	if us, err := strconv.ParseInt(env("WATCHDOG_USEC"), 10, 64); err == nil && us > 0 {
		s.every = time.Duration(us) * time.Microsecond / 2 // as sd_watchdog_enabled(3) advises
	}
	return s
}

// say tells the supervisor something. It cannot fail in a way that matters: a
// supervisor that does not listen kills or restarts us by its own rules.
func (s supervisor) say(state string) {
	if s.socket == "" {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.socket, Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = c.Write([]byte(state))
}

// beat ticks when a sign of life is due; never, where none is expected.
func (s supervisor) beat() *time.Ticker {
	if s.socket == "" || s.every == 0 {
		t := time.NewTicker(time.Hour)
		t.Stop()
		return t
	}
	return time.NewTicker(s.every)
}
