package boot

import (
	"context"
	"encoding/binary"
	"log"
	"net"
	"net/netip"
	"sync"
	"time"
)

// TimeServer tells the time to what has no clock of its own: NTP on the networks that the box is itself on. Things that
// ask the box need no way out.
//
// It answers a question with one of the same length at most, only to neighbours, and only so many a second: nobody can use
// it against others. While the box itself has not been told the time it says so, in the words that clients heed.
type TimeServer struct {
	// Known tells when the clock was last set by a server, and how far that is from a clock of its own; zero: never.
	Known func() (at time.Time, stratum uint8)

	mu   sync.Mutex // guards what follows
	near []netip.Prefix
	read time.Time // when near was
	left int       // answers of this second
	sec  int64
}

// Bounds of the time server.
const (
	perSecond = 200
	nearTime  = 10 * time.Second // how long the box's networks are believed to be as they were
	freshTime = 24 * time.Hour   // how long a clock that nobody has set is still called right: it is off by seconds then
	unknown   = 16               // the stratum of who does not know the time
)

// Serve answers at addr until ctx ends.
//
// Spec: RFC 4330, section 6, what a server sends.
func (s *TimeServer) Serve(ctx context.Context, addr string) error {
	var lc net.ListenConfig
	c, err := lc.ListenPacket(ctx, "udp", addr)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { c.Close() })()
	q := make([]byte, 128)
	for {
		n, from, err := c.ReadFrom(q)
		got := time.Now()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			log.Printf("telling the time: %v", err)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
			continue
		}
		u, ok := from.(*net.UDPAddr)
		if !ok || !s.may(u.AddrPort().Addr().Unmap(), got) {
			continue
		}
		if a := s.answer(q[:n], got); a != nil {
			_, _ = c.WriteTo(a, from) // who does not hear it asks again
		}
	}
}

// may says whether a neighbour asks, and not too much is asked.
func (s *TimeServer) may(from netip.Addr, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sec != now.Unix() {
		s.sec, s.left = now.Unix(), perSecond
	}
	if s.left <= 0 {
		return false
	}
	if now.Sub(s.read).Abs() > nearTime {
		s.near, s.read = networks(), now
	}
	from = from.WithZone("")
	for _, p := range s.near {
		if p.Contains(from) {
			s.left--
			return true
		}
	}
	return false
}

// networks are those that the box has an address of.
func networks() (all []netip.Prefix) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		bits, _ := n.Mask.Size()
		if ip = ip.Unmap(); ok && bits > 0 { // a network of everybody is none
			all = append(all, netip.PrefixFrom(ip, bits).Masked())
		}
	}
	return all
}

// answer makes the answer to a question; nil where it is none.
func (s *TimeServer) answer(q []byte, got time.Time) []byte {
	const client, server = 3, 4
	v := byte(0)
	if len(q) >= 48 {
		v = q[0] >> 3 & 7
	}
	if v < 1 || v > 4 || q[0]&7 != client {
		return nil
	}
	a := make([]byte, 48)
	at, stratum := s.Known()
	a[0], a[1] = v<<3|server, stratum+1
	a[2] = q[2]
	a[3] = 0xec // the clock is read to 2^-20 s
	age := got.Sub(at)
	if at.IsZero() || age > freshTime || age < -time.Second || a[1] >= unknown {
		a[0], a[1] = a[0]|3<<6, unknown
	} else {
		put32 := binary.BigEndian.PutUint32
		put32(a[4:], 1<<16/20)                                        // 50 ms there and back, as over a line of a home
		put32(a[8:], uint32((0.1+max(0, age.Seconds())*50e-6)*65536)) // 0.1 s, and 50 ppm since
		copy(a[12:], []byte{127, 127, 1, 0})                          // from where: not told further
		putTime(a[16:], at)
	}
	copy(a[24:], q[40:48])
	putTime(a[32:], got)
	putTime(a[40:], time.Now())
	return a
}

// putTime writes a time as stamp reads it.
func putTime(b []byte, t time.Time) {
	binary.BigEndian.PutUint32(b, uint32(t.Unix()+epoch))
	binary.BigEndian.PutUint32(b[4:], uint32(uint64(t.Nanosecond())<<32/1e9))
}
