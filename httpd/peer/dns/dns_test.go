package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// server is a name server on loopback, by UDP and TCP at one port.
type server struct {
	port  uint16
	mu    sync.Mutex
	zone  map[question]func(m *dnsmessage.Message)
	asked map[question]int
	hold  chan struct{} // answers wait until it is closed; nil: they do not
	gone  bool          // it does not answer
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{zone: map[question]func(*dnsmessage.Message){}, asked: map[question]int{}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(ln.Addr().String())
	pc, err := net.ListenPacket("udp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	s.port = at.Port()
	t.Cleanup(func() { _ = ln.Close(); _ = pc.Close() })
	go func() {
		for {
			buf := make([]byte, 4096)
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			go func() {
				for _, out := range s.answer(buf[:n], false) {
					_, _ = pc.WriteTo(out, from)
				}
			}()
		}
	}()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			var size [2]byte
			_, _ = io.ReadFull(c, size[:])
			buf := make([]byte, binary.BigEndian.Uint16(size[:]))
			_, _ = io.ReadFull(c, buf)
			for _, out := range s.answer(buf, true) {
				_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...))
			}
			_ = c.Close()
		}
	}()
	return s
}

// answer gives the packets that answer one, a stray one first.
func (s *server) answer(msg []byte, stream bool) [][]byte {
	var m dnsmessage.Message
	if m.Unpack(msg) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := question{same(m.Questions[0].Name), m.Questions[0].Type}
	s.mu.Lock()
	s.asked[q]++
	fill, hold, gone := s.zone[q], s.hold, s.gone
	s.mu.Unlock()
	if hold != nil {
		<-hold
	}
	if gone {
		return nil
	}
	m.Response, m.Additionals = true, nil
	switch {
	case fill != nil:
		fill(&m)
	default:
		m.RCode = dnsmessage.RCodeNameError
	}
	if stream {
		m.Truncated = false
	} else if m.Truncated {
		m.Answers = nil
	}
	out, err := m.Pack()
	if err != nil {
		return nil
	}
	if stream {
		return [][]byte{out}
	}
	stray := slices.Clone(out)
	stray[0] ^= 1
	return [][]byte{stray, out}
}

func (s *server) set(name string, kind dnsmessage.Type, fill func(m *dnsmessage.Message)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zone[question{name, kind}] = fill
}

func (s *server) count(name string, kind dnsmessage.Type) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[question{name, kind}]
}

func record(name string, ttl uint32, body dnsmessage.ResourceBody) dnsmessage.Resource {
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name + "."), Class: dnsmessage.ClassINET, TTL: ttl}, Body: body}
}

func answers(rs ...dnsmessage.Resource) func(*dnsmessage.Message) {
	return func(m *dnsmessage.Message) { m.Answers = rs }
}

func a4(a, b, c, d byte) *dnsmessage.AResource { return &dnsmessage.AResource{A: [4]byte{a, b, c, d}} }

// resolver makes one that asks s. The clock stands still until it is moved.
func resolver(t *testing.T, s *server, hosts string) (r *Resolver, now *time.Time) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "resolv.conf"), "# a remark\nsearch home.example\nnameserver 127.0.0.1\noptions ndots:5\n")
	write(t, filepath.Join(dir, "hosts"), hosts)
	at := time.Unix(1700000000, 0)
	r = New(Options{
		Conf: filepath.Join(dir, "resolv.conf"), Hosts: filepath.Join(dir, "hosts"), Port: s.port,
		Now: func() time.Time { return at },
	})
	return r, &at
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (r *Resolver) expect(t *testing.T, host, want string) {
	t.Helper()
	found, err := r.Addrs(t.Context(), host)
	got := fmt.Sprint(found)
	if err != nil {
		got = "fails"
		if errors.Is(err, ErrNone) {
			got = "none"
		}
	}
	if got != want {
		t.Errorf("%s: %s (%v), not %s", host, got, err, want)
	}
}

func TestAddresses(t *testing.T) {
	s := newServer(t)
	s.set("a.example", dnsmessage.TypeA, answers(record("a.example", 300, a4(192, 0, 2, 1)), record("a.example", 300, a4(192, 0, 2, 2))))
	s.set("alias.example", dnsmessage.TypeA, answers(
		record("alias.example", 300, &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("B.example.")}),
		record("b.example", 300, a4(192, 0, 2, 3)), record("c.example", 300, a4(192, 0, 2, 66))))
	s.set("stub.example", dnsmessage.TypeA, answers(record("stub.example", 300, &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("a.example.")})))
	s.set("loop.example", dnsmessage.TypeA, answers(record("loop.example", 300, &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("pool.example.")})))
	s.set("pool.example", dnsmessage.TypeA, answers(record("pool.example", 300, &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("loop.example.")})))
	s.set("six.example", dnsmessage.TypeAAAA, answers(record("six.example", 300, &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr("2001:db8::1").As16()})))
	s.set("long.example", dnsmessage.TypeA, func(m *dnsmessage.Message) {
		m.Truncated = true
		for i := range 200 {
			m.Answers = append(m.Answers, record("long.example", 300, a4(192, 0, 2, byte(i))))
		}
	})
	s.set("old.example", dnsmessage.TypeA, func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeServerFailure })
	r, _ := resolver(t, s, "192.0.2.77 Named.example named # a remark\n2001:db8::77 named\nnonsense other\n")
	for host, want := range map[string]string{
		"a.example": "[192.0.2.1 192.0.2.2]", "A.EXAMPLE.": "[192.0.2.1 192.0.2.2]", "alias.example": "[192.0.2.3]",
		"stub.example": "[192.0.2.1 192.0.2.2]", "loop.example": "fails", "six.example": "[2001:db8::1]", "absent.example": "none",
		"old.example": "fails", "named.example": "[192.0.2.77]", "named": "[192.0.2.77 2001:db8::77]", "other": "none",
		"192.0.2.9": "[192.0.2.9]", "::1": "[::1]", "localhost": "[127.0.0.1 ::1]", "a.localhost": "[127.0.0.1 ::1]",
		"": "none", "a..b": "none", strings.Repeat("x", 64) + ".example": "none", strings.Repeat("x.", 200): "none",
	} {
		r.expect(t, host, want)
	}
	if n := s.count("named.example", dnsmessage.TypeA) + s.count("named", dnsmessage.TypeA); n != 0 {
		t.Errorf("asked %d times for what the hosts file has", n)
	}
	if s.count("a.example.home.example", dnsmessage.TypeA) != 0 {
		t.Error("the search domain was applied")
	}
	found, err := r.Addrs(t.Context(), "long.example")
	if err != nil || len(found) != maxRecords {
		t.Error("the answer that comes by TCP:", len(found), err)
	}
	for host, want := range map[string]bool{"named": true, "NAMED.example": true, "a.example": false, "192.0.2.1": true, "": false} {
		if r.Local(host) != want {
			t.Errorf("%q is local: %v", host, !want)
		}
	}
}

// The hosts file is read again when it has changed.
func TestHostsChange(t *testing.T) {
	r, now := resolver(t, newServer(t), "192.0.2.1 hub\n")
	r.expect(t, "hub", "[192.0.2.1]")
	write(t, r.o.Hosts, "192.0.2.1 bus\n192.0.2.22 hub\n")
	r.expect(t, "hub", "[192.0.2.1]")
	*now = now.Add(lookAgain)
	r.expect(t, "hub", "[192.0.2.22]")
}

func TestKept(t *testing.T) {
	s := newServer(t)
	s.set("short.example", dnsmessage.TypeA, answers(record("short.example", 0, a4(192, 0, 2, 1))))
	s.set("ever.example", dnsmessage.TypeA, answers(record("ever.example", 1<<30, a4(192, 0, 2, 1))))
	s.set("none.example", dnsmessage.TypeA, func(m *dnsmessage.Message) {
		m.Authorities = []dnsmessage.Resource{record("example", 7200, &dnsmessage.SOAResource{
			NS: dnsmessage.MustNewName("ns.example."), MBox: dnsmessage.MustNewName("ns.example."), MinTTL: 120})}
	})
	s.set("fail.example", dnsmessage.TypeA, func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeRefused })
	r, now := resolver(t, s, "")
	// How often each was asked for at a time since the beginning.
	for _, c := range []struct {
		after time.Duration
		want  map[string]int
	}{
		{0, map[string]int{"short.example": 1, "ever.example": 1, "none.example": 1, "fail.example": rounds, "absent.example": 1}},
		{4 * time.Second, map[string]int{"short.example": 1, "ever.example": 1, "none.example": 1, "fail.example": rounds, "absent.example": 1}},
		{40 * time.Second, map[string]int{"short.example": 2, "ever.example": 1, "none.example": 1, "fail.example": 2 * rounds, "absent.example": 1}},
		{90 * time.Second, map[string]int{"short.example": 3, "ever.example": 1, "none.example": 1, "fail.example": 3 * rounds, "absent.example": 2}},
		{121 * time.Second, map[string]int{"none.example": 2, "ever.example": 1}},
		{mostKept + time.Second, map[string]int{"ever.example": 2}},
	} {
		*now = time.Unix(1700000000, 0).Add(c.after)
		for name, want := range c.want {
			_, _ = r.find(t.Context(), question{name, dnsmessage.TypeA})
			if got := s.count(name, dnsmessage.TypeA); got != want {
				t.Errorf("after %v %s was asked for %d times, not %d", c.after, name, got, want)
			}
		}
	}
}

// While nobody can say anything, an answer that has run out goes on.
func TestStale(t *testing.T) {
	s := newServer(t)
	s.set("a.example", dnsmessage.TypeA, answers(record("a.example", 60, a4(192, 0, 2, 1))))
	r, now := resolver(t, s, "")
	r.expect(t, "a.example", "[192.0.2.1]")
	s.set("a.example", dnsmessage.TypeA, func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeServerFailure })
	*now = now.Add(time.Hour)
	r.expect(t, "a.example", "[192.0.2.1]")
	if s.count("a.example", dnsmessage.TypeA) != 1+rounds {
		t.Error("it was not asked for again")
	}
	*now = now.Add(staleMost)
	s.set("a.example", dnsmessage.TypeAAAA, func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeServerFailure })
	r.expect(t, "a.example", "fails")
}

// Many who ask at once make one question, and one who leaves takes none along.
func TestJoined(t *testing.T) {
	s := newServer(t)
	s.hold = make(chan struct{})
	s.set("a.example", dnsmessage.TypeA, answers(record("a.example", 60, a4(192, 0, 2, 1))))
	r, _ := resolver(t, s, "")
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := r.Addrs(gone, "a.example"); !errors.Is(err, context.Canceled) {
		t.Error("one who had left:", err)
	}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { r.expect(t, "a.example", "[192.0.2.1]") })
	}
	close(s.hold)
	all.Wait()
	if n := s.count("a.example", dnsmessage.TypeA); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestBounds(t *testing.T) {
	s := newServer(t)
	r, _ := resolver(t, s, "")
	r.kept.most = 20 << 10
	for i := range 200 {
		name := fmt.Sprintf("n%d.example", i)
		s.set(name, dnsmessage.TypeA, answers(record(name, 60, a4(192, 0, 2, 1))))
		if _, err := r.find(t.Context(), question{name, dnsmessage.TypeA}); err != nil {
			t.Fatal(err)
		}
	}
	if r.kept.size > r.kept.most || r.kept.order.Len() != len(r.kept.byName) || r.kept.order.Len() < 30 {
		t.Errorf("%d bytes in %d and %d answers", r.kept.size, r.kept.order.Len(), len(r.kept.byName))
	}
	if r.kept.get(question{"n199.example", dnsmessage.TypeA}) == nil || r.kept.get(question{"n0.example", dnsmessage.TypeA}) != nil {
		t.Error("the wrong ones went")
	}
}

func TestTargets(t *testing.T) {
	s := newServer(t)
	srv := func(host string, port, priority, weight uint16) dnsmessage.Resource {
		return record("_x._tcp.example", 60, &dnsmessage.SRVResource{Priority: priority, Weight: weight, Port: port, Target: dnsmessage.MustNewName(host)})
	}
	s.set("_x._tcp.example", dnsmessage.TypeSRV, answers(srv("last.example.", 1, 20, 0), srv("Light.example.", 2, 10, 1), srv("heavy.example.", 3, 10, 999)))
	s.set("_no._tcp.example", dnsmessage.TypeSRV, answers(srv(".", 0, 0, 0)))
	r, _ := resolver(t, s, "")
	light := 0
	for range 200 {
		got, err := r.Targets(t.Context(), "_x._tcp.example")
		if err != nil || len(got) != 3 || got[2] != (Target{"last.example", 1}) {
			t.Fatal(got, err)
		}
		if got[0] == (Target{"light.example", 2}) {
			light++
		}
	}
	if light > 20 { // 0.4 are to be expected
		t.Errorf("the light one came first %d times of 200", light)
	}
	if got, err := r.Targets(t.Context(), "_no._tcp.example"); err != nil || len(got) != 0 {
		t.Error("no service:", got, err)
	}
	if _, err := r.Targets(t.Context(), "_y._tcp.example"); !errors.Is(err, ErrNone) {
		t.Error(err)
	}
}

// A name server that does not know EDNS is asked without, and one that is away
// costs its wait once: the next question goes to the one that answered.
func TestOddServers(t *testing.T) {
	s := newServer(t)
	s.set("a.example", dnsmessage.TypeA, func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeFormatError })
	r, _ := resolver(t, s, "")
	if _, err := r.find(t.Context(), question{"a.example", dnsmessage.TypeA}); err == nil || s.count("a.example", dnsmessage.TypeA) != 2*rounds {
		t.Errorf("asked %d times: %v", s.count("a.example", dnsmessage.TypeA), err)
	}
	write(t, r.o.Conf, "nameserver 127.0.0.2\nnameserver 127.0.0.1\n") // nobody listens at the first
	r = New(r.o)
	s.set("b.example", dnsmessage.TypeA, answers(record("b.example", 60, a4(192, 0, 2, 1))))
	if _, err := r.find(t.Context(), question{"b.example", dnsmessage.TypeA}); err != nil || r.good.Load() != 1 {
		t.Error(err, r.good.Load())
	}
}

func FuzzParse(f *testing.F) {
	q := question{"a.example", dnsmessage.TypeA}
	for _, kind := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeSRV} {
		m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, Response: true}, Questions: []dnsmessage.Question{
			{Name: dnsmessage.MustNewName("a.example."), Type: kind, Class: dnsmessage.ClassINET}}}
		m.Answers = []dnsmessage.Resource{
			record("a.example", 9, &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("b.example.")}), record("b.example", 9, a4(1, 2, 3, 4)),
			record("a.example", 9, &dnsmessage.SRVResource{Target: dnsmessage.MustNewName("b.example."), Port: 9}),
		}
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint16(kind))
	}
	f.Fuzz(func(t *testing.T, msg []byte, kind uint16) {
		q := q
		q.kind = dnsmessage.Type(kind)
		a, err := parse(msg, 7, q)
		if err != nil {
			return
		}
		if len(a.addrs) > maxRecords || len(a.services) > maxRecords || a.ttl < leastKept || a.ttl > mostKept {
			t.Error("out of bounds:", *a)
		}
		for _, at := range order(a.services) {
			if at.Host == "" || at.Port == 0 {
				t.Error("nowhere:", at)
			}
		}
	})
}
