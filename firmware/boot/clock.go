package boot

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Clock keeps the box's time: never before the last time that was kept, and right once a server has told it. A Raspberry
// Pi has no clock that runs while it is off.
type Clock struct {
	Dir     string    // of the data partition
	Built   time.Time // no time before this can be
	Servers []string  // host or host:port

	doubt answer // the last one that another server has to bear out; Run's own

	mu    sync.Mutex // guards known and from
	known time.Time  // when a server last told the time; zero: none did
	from  uint8      // that server's stratum
}

// answer is how far a server says that the clock is off.
type answer struct {
	server string
	off    time.Duration
}

// Known is when a server last told the time, and its stratum; zero: none did since the start.
func (c *Clock) Known() (at time.Time, stratum uint8) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known, c.from
}

// PublicServers are asked where the owner named none.
var PublicServers = []string{"0.pool.ntp.org", "1.pool.ntp.org", "2.pool.ntp.org", "3.pool.ntp.org"}

func (c *Clock) file() string { return filepath.Join(c.Dir, "clock") }

// floor is the earliest time that it can be now.
func (c *Clock) floor() time.Time {
	b, err := os.ReadFile(c.file())
	if err != nil {
		return c.Built
	}
	t, err := time.Parse(time.RFC3339, strings.TrimSpace(string(b)))
	if err != nil || t.Before(c.Built) {
		return c.Built
	}
	return t
}

// Forget drops the time that was kept.
func (c *Clock) Forget() error {
	if err := os.Remove(c.file()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Start sets the clock to the floor where it is before that.
func (c *Clock) Start() {
	if floor := c.floor(); time.Now().Before(floor) {
		if err := setTime(floor); err != nil {
			log.Printf("the clock: %v", err)
		}
	}
}

// Save keeps the time as the floor of the next start.
func (c *Clock) Save() {
	if err := WriteFile(c.file(), []byte(time.Now().UTC().Format(time.RFC3339)+"\n"), 0o600); err != nil {
		log.Printf("keeping the time: %v", err)
	}
}

func setTime(t time.Time) error {
	tv := unix.NsecToTimeval(t.UnixNano())
	return unix.Settimeofday(&tv)
}

// How often the time is asked for, asked for again when nobody answered, and kept. 144 small writes a day are nothing
// to a card.
const (
	askEvery   = time.Hour
	retryEvery = 15 * time.Second
	saveEvery  = 10 * time.Minute
	sane       = 200 * time.Millisecond // a clock that is this near is left alone
	far        = 24 * time.Hour         // from there on two servers have to agree
	agreed     = time.Minute            // how far apart they may be for that
)

// believe says whether the clock may be set by what a server says. The time that is kept is never gone back behind, so one
// server that is wrong, or somebody in its place, could take a box into a year from which nothing leads back. A server
// that the owner named is the only one and believed alone, as the owner's watch would be.
func (c *Clock) believe(a answer) bool {
	before := c.doubt
	c.doubt = answer{}
	if a.off.Abs() < far || len(c.Servers) == 1 {
		return true
	}
	if before.server != "" && before.server != a.server && (before.off-a.off).Abs() < agreed {
		return true
	}
	c.doubt = a
	return false
}

// Run asks the servers in turn, and keeps the time, until ctx ends.
func (c *Clock) Run(ctx context.Context) {
	save := time.NewTicker(saveEvery)
	defer save.Stop()
	ask := time.NewTimer(0)
	defer ask.Stop()
	for turn := 0; ; {
		select {
		case <-ctx.Done():
			c.Save()
			return
		case <-save.C:
			c.Save()
		case <-ask.C:
			server := c.Servers[turn%len(c.Servers)]
			turn++
			off, stratum, err := Ask(ctx, server, c.floor())
			if err != nil {
				ask.Reset(retryEvery)
				continue
			}
			if first := c.doubt.server == ""; !c.believe(answer{server, off}) {
				ask.Reset(retryEvery)
				if first { // a first start is a long way behind, and the next server says the same at once
					log.Printf("%s says that the clock is off by %v; another server is asked", server, off.Round(time.Second))
					ask.Reset(time.Second)
				}
				continue
			}
			ask.Reset(askEvery)
			if off.Abs() >= sane {
				if err := setTime(time.Now().Add(off)); err != nil {
					log.Printf("the clock: %v", err)
					continue
				}
				log.Printf("the clock was set by %s, by %v", server, off.Round(time.Millisecond))
				c.Save()
			}
			c.mu.Lock()
			c.known, c.from = time.Now().Round(0), stratum // the time of day, not of a clock that is set
			c.mu.Unlock()
		}
	}
}

// epoch is where NTP counts from, in seconds before 1970.
const epoch = 2208988800

// Ask asks an NTP server how far the clock is off, and how far the server is from a clock of its own. An answer must
// repeat the random number that was sent in place of a time, so that nobody who does not see the question can answer it, and
// must not be before the floor.
//
// Spec: RFC 4330, section 5, the client's checks of an answer.
func Ask(ctx context.Context, server string, floor time.Time) (off time.Duration, stratum uint8, err error) {
	if _, _, err := net.SplitHostPort(server); err != nil {
		server = net.JoinHostPort(server, "123")
	}
	ctx, end := context.WithTimeout(ctx, 5*time.Second)
	defer end()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp", server)
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return 0, 0, err
		}
	}
	q := make([]byte, 48)
	q[0] = 4<<3 | 3 // version 4, a client
	rand.Read(q[40:])
	sent := time.Now()
	if _, err := conn.Write(q); err != nil {
		return 0, 0, err
	}
	a := make([]byte, 512)
	n, err := conn.Read(a)
	if err != nil {
		return 0, 0, err
	}
	trip := time.Since(sent)
	switch {
	case n < 48 || a[0]&7 != 4 || string(a[24:32]) != string(q[40:]):
		return 0, 0, errors.New("that is no answer to this question")
	case a[0]>>6 == 3 || a[1] == 0 || a[1] > 15:
		return 0, 0, fmt.Errorf("%s does not know the time itself", server)
	}
	got := stamp(a[32:])
	left := stamp(a[40:])
	if got.Before(floor) || left.Before(got) {
		return 0, 0, fmt.Errorf("%s says it is %s, which it cannot be", server, left.UTC().Format(time.RFC3339))
	}
	there := left.Sub(got)
	return left.Sub(sent.Round(0).Add(trip - (trip-there)/2)), a[1], nil
}

// stamp reads a time of 32 bits of seconds and 32 bits below. Seconds that began anew in 2036 have their first bit off.
func stamp(b []byte) time.Time {
	s, part := int64(binary.BigEndian.Uint32(b)), uint64(binary.BigEndian.Uint32(b[4:]))
	if s < 1<<31 {
		s += 1 << 32
	}
	return time.Unix(s-epoch, int64(part*1e9>>32))
}
