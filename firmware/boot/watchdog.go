package boot

import (
	"context"
	"log"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Health follows what the hub says of itself, in the words that systemd's programs use: READY=1 once it serves, and
// WATCHDOG=1 whenever a commit worked.
type Health struct {
	mu    sync.Mutex // guards what follows
	since time.Time  // of the last good word, or of the start
	ready bool
	beats int           // good words since it is ready
	first chan struct{} // closed at the first READY=1
	port  string        // at which clients reach the hub
	claim string        // its claim code; empty: it has an owner, or has not said
}

// NewHealth begins to count at now.
func NewHealth(now time.Time) *Health {
	return &Health{since: now, first: make(chan struct{}), port: "8008"}
}

// Said is what the hub said of itself last: the port for clients, and its claim code.
func (h *Health) Said() (port, claim string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.port, h.claim
}

// Ready is closed once the hub has served for the first time.
func (h *Health) Ready() <-chan struct{} { return h.first }

// hear takes one message.
func (h *Health) hear(text string, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch {
		case key == "X_HEARTH_PORT" && len(value) < 6:
			h.port = value
		case key == "X_HEARTH_CLAIM" && len(value) < 65:
			h.claim = value
		case key == "READY" && value == "1":
			h.ready, h.since, h.beats = true, now, 0
			select {
			case <-h.first:
			default:
				close(h.first)
			}
		case key == "WATCHDOG" && value == "1":
			h.since = now
			h.beats++
		}
	}
}

// Serving says whether the hub serves, and how often it has said since that a commit worked.
func (h *Health) Serving() (ready bool, beats int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ready, h.beats
}

// Ended is called when the hub has ended and is to be started anew.
func (h *Health) Ended() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ready, h.beats = false, 0
}

// Stages of a hub that no longer commits. They are counted from its last good word, whether it was restarted since or
// not; what opens a damaged store may take longer than what keeps one going.
const (
	Beat      = 20 * time.Second // the hub is asked to say that it is well twice as often
	kickAfter = time.Minute
	openTime  = 10 * time.Minute
	resetTime = 15 * time.Minute
)

// act is what the time since the last good word calls for.
type act int

const (
	feed  act = iota // all is well, or may get well
	kick             // end the hub, so that it starts anew
	reset            // feed the watchdog no more
)

// judge says what is to be done now; kicked is when the hub was last ended for being silent.
func (h *Health) judge(now, kicked time.Time) act {
	h.mu.Lock()
	defer h.mu.Unlock()
	silent := now.Sub(h.since)
	limit := kickAfter
	if !h.ready {
		limit = openTime
	}
	switch {
	case silent >= resetTime:
		return reset
	case silent >= limit && now.Sub(kicked) >= limit:
		return kick
	}
	return feed
}

// Listen hears the hub at a socket that only user may write to.
func (h *Health) Listen(socket string, user int) error {
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	if err := os.Chown(socket, user, user); err != nil {
		return err
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		return err
	}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := c.Read(b)
			if err != nil {
				log.Printf("the hub is heard no more: %v", err)
				return
			}
			h.hear(string(b[:n]), time.Now())
		}
	}()
	return nil
}

// timeout is what the hardware is asked to wait, in seconds. A Raspberry Pi's takes 15 at most.
const timeout = 15

// Watchdog is the hardware that resets the box unless it is fed: every timer of that kind that the box has, since the
// firmware may have armed any of them, which the kernel feeds for a while only (watchdog.open_timeout).
type Watchdog struct{ all []*os.File }

// OpenWatchdog arms it; a box without one has a nil Watchdog, which feeding does not mind.
func OpenWatchdog() *Watchdog {
	names, err := filepath.Glob("/dev/watchdog[0-9]*")
	if err != nil || len(names) == 0 {
		names = []string{"/dev/watchdog"}
	}
	w := &Watchdog{}
	for _, name := range names {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			log.Printf("there is no hardware watchdog: %v", err)
			continue
		}
		if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.WDIOC_SETTIMEOUT, timeout); err != nil {
			log.Printf("the watchdog keeps its own time: %v", err)
		}
		w.all = append(w.all, f)
	}
	if len(w.all) == 0 {
		return nil
	}
	log.Printf("the hardware watchdog is armed")
	return w
}

// Stay keeps the program's own code in memory, for as long as it runs: it is the first that a small box's memory is taken
// from, and who feeds the watchdog would wait for a card that is busy with itself for a minute. What is locked is the file's
// pages alone; the Go heap lies in 64 MB of addresses, all of which would take memory once locked.
func Stay() error {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	for _, r := range filePages(string(maps)) {
		if _, _, errno := unix.Syscall(unix.SYS_MLOCK, r.begin, r.end-r.begin, 0); errno != 0 {
			return errno
		}
	}
	return nil
}

// addresses are of memory, the end not inside.
type addresses struct{ begin, end uintptr }

// filePages finds what of a program's memory is read from a file, in what the kernel lists of it.
func filePages(maps string) (all []addresses) {
	for line := range strings.Lines(maps) {
		f := strings.Fields(line)
		if len(f) < 6 || f[4] == "0" || !strings.HasPrefix(f[1], "r") {
			continue
		}
		from, to, _ := strings.Cut(f[0], "-")
		begin, err := strconv.ParseUint(from, 16, strconv.IntSize)
		if err != nil {
			continue
		}
		if end, err := strconv.ParseUint(to, 16, strconv.IntSize); err == nil && end > begin {
			all = append(all, addresses{uintptr(begin), uintptr(end)})
		}
	}
	return all
}

// Feed puts the reset off.
func (w *Watchdog) Feed() {
	if w == nil {
		return
	}
	for _, f := range w.all {
		if _, err := f.Write([]byte{0}); err != nil {
			log.Printf("feeding the watchdog: %v", err)
		}
	}
}

// Guard feeds the watchdog while the hub is well, ends the hub where it is not, and lets the reset come where that does
// not help. A box without the hardware is reset by the kernel instead.
func (h *Health) Guard(ctx context.Context, w *Watchdog, ending chan<- struct{}) {
	tick := time.NewTicker(timeout * time.Second / 4)
	defer tick.Stop()
	var kicked time.Time
	for {
		select {
		case <-ctx.Done():
			w.Feed()
			return
		case <-tick.C:
		}
		now := time.Now()
		switch h.judge(now, kicked) {
		case reset:
			log.Printf("no commit worked for %v: the box is reset", resetTime)
			if w == nil {
				unix.Sync()
				_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
			}
			return
		case kick:
			log.Printf("no commit worked for too long: the hub is ended")
			kicked = now
			h.Ended()
			select {
			case ending <- struct{}{}:
			default:
			}
		}
		w.Feed()
	}
}
