package boot

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"
)

// TestTimeServer asks it as the box itself asks others, before and after it knows the time.
func TestTimeServer(t *testing.T) {
	var at time.Time
	s := &TimeServer{Known: func() (time.Time, uint8) { return at, 2 }}
	ctx, end := context.WithCancel(t.Context())
	defer end()
	probe, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := probe.LocalAddr().String()
	probe.Close()
	over := make(chan error, 1)
	go func() { over <- s.Serve(ctx, addr) }()
	// Whoever asks before it listens asks again.
	ask := func(ctx context.Context) (off time.Duration, stratum uint8, err error) {
		for began := time.Now(); time.Since(began) < 10*time.Second; {
			if off, stratum, err = Ask(ctx, addr, time.Unix(0, 0)); err == nil || err.Error() == addr+" does not know the time itself" {
				break
			}
		}
		return off, stratum, err
	}
	if _, _, err := ask(ctx); err == nil {
		t.Error("a box that was told no time tells one")
	}
	end()
	if err := <-over; err != nil {
		t.Error(err)
	}
	ctx, again := context.WithCancel(t.Context())
	defer again()
	at = time.Now()
	go func() { over <- s.Serve(ctx, addr) }()
	off, stratum, err := ask(ctx)
	if err != nil || off.Abs() > time.Second || stratum != 3 {
		t.Errorf("off by %v, stratum %d: %v", off, stratum, err)
	}
	again()
	<-over
}

// TestTimeAnswers: nothing but questions of clients is answered, no answer is longer than its question, and one that has
// not heard of the time for long says so.
func TestTimeAnswers(t *testing.T) {
	now := time.Now()
	at := now
	s := &TimeServer{Known: func() (time.Time, uint8) { return at, 3 }}
	q := make([]byte, 68)
	q[0] = 4<<3 | 3
	copy(q[40:], "question")
	a := s.answer(q, now)
	if len(a) != 48 || a[0] != 4<<3|4 || a[1] != 4 || string(a[24:32]) != "question" || stamp(a[32:]).Sub(now).Abs() > time.Millisecond || stamp(a[16:]).Sub(at).Abs() > time.Millisecond {
		t.Errorf("%x", a)
	}
	for name, bad := range map[string]func(q []byte) []byte{
		"short": func(q []byte) []byte { return q[:47] }, "empty": func([]byte) []byte { return nil },
		"a server's": func(q []byte) []byte { q[0] = 4<<3 | 4; return q }, "a control message": func(q []byte) []byte { q[0] = 2<<3 | 6; return q },
		"a list of those who asked": func(q []byte) []byte { q[0] = 2<<3 | 7; return q }, "version 0": func(q []byte) []byte { q[0] = 3; return q },
		"version 5": func(q []byte) []byte { q[0] = 5<<3 | 3; return q },
	} {
		if s.answer(bad(append([]byte(nil), q...)), now) != nil {
			t.Errorf("%s was answered", name)
		}
	}
	for _, at = range []time.Time{{}, now.Add(-2 * freshTime), now.Add(time.Hour)} {
		if a := s.answer(q, now); a[0]>>6 != 3 || a[1] != unknown {
			t.Errorf("told at %v: %x", at, a[:2])
		}
	}
}

// TestNeighbours: strangers are not answered, and neighbours only so often.
func TestNeighbours(t *testing.T) {
	now := time.Unix(1000, 0)
	s := &TimeServer{near: []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24"), netip.MustParsePrefix("fe80::/64")}, read: now}
	for addr, want := range map[string]bool{"192.168.1.7": true, "192.168.2.7": false, "8.8.8.8": false, "fe80::1": true, "2001:db8::1": false} {
		if got := s.may(netip.MustParseAddr(addr), now); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
	n := 0
	for range 3 * perSecond {
		if s.may(netip.MustParseAddr("192.168.1.7"), now) {
			n++
		}
	}
	if n != perSecond-2 {
		t.Errorf("%d answers in a second", n)
	}
	if !s.may(netip.MustParseAddr("192.168.1.7"), now.Add(time.Second)) {
		t.Error("a second later nobody is answered")
	}
	if len(networks()) == 0 {
		t.Error("this machine is on no network, not even its own")
	}
}
