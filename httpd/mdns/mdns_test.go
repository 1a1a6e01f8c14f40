package mdns

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

var (
	home  = Interface{Index: 2, Prefixes: []netip.Prefix{netip.MustParsePrefix("192.168.1.5/24"), netip.MustParsePrefix("fe80::5/64")}}
	other = netip.MustParseAddrPort("192.168.1.9:5353")
)

// link is what a responder sent, and where to.
type link struct {
	mu   sync.Mutex
	sent [][]byte
	to   []netip.AddrPort
}

func (l *link) take(t *testing.T) (msg *dnsmessage.Message, to netip.AddrPort) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.sent) == 0 {
		return nil, to
	}
	msg = &dnsmessage.Message{}
	if err := msg.Unpack(l.sent[0]); err != nil {
		t.Fatal(err)
	}
	to = l.to[0]
	l.sent, l.to = l.sent[1:], l.to[1:]
	return msg, to
}

// ready makes a responder that has its name.
func ready(name string, services ...Service) (*Responder, *link) {
	r, l := newResponder(Options{Name: name, Services: services}), &link{}
	r.send = func(_ int, to netip.AddrPort, packet []byte) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.sent, l.to = append(l.sent, packet), append(l.to, to)
	}
	r.ifaces, r.ready = []Interface{home}, true
	return r, l
}

func query(t *testing.T, name string, typ dnsmessage.Type) []byte {
	t.Helper()
	packet, err := pack(dnsmessage.Header{ID: 7}, []dnsmessage.Question{{Name: mustName(name), Type: typ, Class: classINET}}, [3][]record{}, false)
	if err != nil {
		t.Fatal(err)
	}
	return packet
}

func names(list []dnsmessage.Resource) string {
	var b strings.Builder
	for _, r := range list {
		b.WriteString(r.Header.Type.String() + " " + r.Header.Name.String() + "; ")
	}
	return b.String()
}

var mqttService = Service{Type: "_mqtt._tcp", Port: 1883}

func TestAnswers(t *testing.T) {
	r, l := ready("Hub", mqttService)
	now := time.Now()
	for _, c := range []struct {
		name    string
		typ     dnsmessage.Type
		answers string
		more    string
	}{
		{"HUB.local.", dnsmessage.TypeA, "TypeA hub.local.; ", ""},
		{"hub.local.", dnsmessage.TypeAAAA, "TypeAAAA hub.local.; ", ""},
		{"_mqtt._tcp.local.", dnsmessage.TypePTR, "TypePTR _mqtt._tcp.local.; ", "TypeA hub.local.; TypeAAAA hub.local.; TypeSRV hub._mqtt._tcp.local.; TypeTXT hub._mqtt._tcp.local.; "},
		{"hub._mqtt._tcp.local.", dnsmessage.TypeSRV, "TypeSRV hub._mqtt._tcp.local.; ", "TypeA hub.local.; TypeAAAA hub.local.; "},
		{allTypes, dnsmessage.TypePTR, "TypePTR " + allTypes + "; ", ""},
		{"other.local.", dnsmessage.TypeA, "", ""},
		{"_http._tcp.local.", dnsmessage.TypePTR, "", ""},
	} {
		now = now.Add(2 * time.Second)
		r.came(2, other, query(t, c.name, c.typ), now)
		m, to := l.take(t)
		if m == nil {
			m = &dnsmessage.Message{}
		}
		if names(m.Answers) != c.answers || names(m.Additionals) != c.more || to.IsValid() {
			t.Errorf("%s %s: %s + %s to %s", c.name, c.typ, names(m.Answers), names(m.Additionals), to)
		}
	}
	// Who asks from another port is answered alone, with its own question and id.
	r.came(2, netip.MustParseAddrPort("192.168.1.9:40000"), query(t, "hub.local.", dnsmessage.TypeA), now)
	if m, to := l.take(t); m == nil || to.Port() != 40000 || m.ID != 7 || len(m.Questions) != 1 || m.Answers[0].Header.TTL > 10 || m.Answers[0].Header.Class != classINET {
		t.Errorf("%+v %s", m, to)
	}
	// What the asker knows is not said.
	all := r.zone.addresses(home.addrs())
	packet, err := pack(dnsmessage.Header{}, []dnsmessage.Question{{Name: mustName("hub.local."), Type: dnsmessage.TypeA, Class: classINET}}, [3][]record{all[:1]}, false)
	if err != nil {
		t.Fatal(err)
	}
	r.came(2, other, packet, now.Add(time.Minute))
	if m, _ := l.take(t); m != nil {
		t.Error("a known answer was given again", names(m.Answers))
	}
}

// A hub that has no address of a family says so.
func TestNoSuchAddress(t *testing.T) {
	r, l := ready("hub")
	r.ifaces[0].Prefixes = r.ifaces[0].Prefixes[:1]
	r.came(2, other, query(t, "hub.local.", dnsmessage.TypeAAAA), time.Now())
	m, _ := l.take(t)
	if m == nil || len(m.Answers) != 1 || m.Answers[0].Header.Type != typeNSEC {
		t.Fatalf("%+v", m)
	}
}

// Others' links are not answered, nor is a flood.
func TestStrangersAndFloods(t *testing.T) {
	r, l := ready("hub", mqttService)
	now := time.Now()
	q := query(t, "hub.local.", dnsmessage.TypeA)
	r.came(2, netip.MustParseAddrPort("203.0.113.9:5353"), q, now)
	r.came(3, other, q, now)
	r.came(2, other, q[:len(q)-3], now)
	r.came(2, other, append([]byte("\xff\xff"), make([]byte, 60)...), now)
	if m, _ := l.take(t); m != nil {
		t.Errorf("answered: %+v", m)
	}
	for i := range 10_000 {
		from := netip.AddrPortFrom(other.Addr(), uint16(10_000+i%1000))
		if i%2 == 0 {
			from = other
		}
		r.came(2, from, q, now)
	}
	if len(l.sent) > maxAnswers {
		t.Errorf("%d answers to a flood", len(l.sent))
	}
	before := len(l.sent)
	r.came(2, other, q, now.Add(2*time.Second))
	if len(l.sent) != before+1 {
		t.Error("no answer after a flood")
	}
}

func TestRivals(t *testing.T) {
	r, l := ready("hub", mqttService)
	say := func(rec record, response bool) []byte {
		sections := [3][]record{1: {rec}}
		if response {
			sections = [3][]record{{rec}}
		}
		packet, err := pack(dnsmessage.Header{Response: response}, nil, sections, false)
		if err != nil {
			t.Fatal(err)
		}
		return packet
	}
	theirs := r.zone.addresses([]netip.Addr{netip.MustParseAddr("192.168.1.200")})[0]
	mine := r.zone.addresses(home.addrs())[0]
	for _, c := range []struct {
		what        string
		ready       bool
		packet      []byte
		lost, taken bool
	}{
		{"another probes with more right", false, say(theirs, false), true, false},
		{"the hub's own address", false, say(mine, false), false, false},
		{"another has the name", false, say(theirs, true), false, true},
		{"this machine has the name", true, say(mine, true), false, false},
		{"another takes the name", true, say(theirs, true), false, true},
		{"another port for the service", true, say(record{"hub._mqtt._tcp.local.", true, 120, dnsmessage.TypeSRV, &dnsmessage.SRVResource{Port: 1, Target: mustName("hub.local.")}}, true), false, true},
	} {
		r.ready, r.lost, r.taken = c.ready, false, false
		r.came(2, other, c.packet, time.Now())
		if r.lost != c.lost || r.taken != c.taken {
			t.Errorf("%s: lost %v taken %v", c.what, r.lost, r.taken)
		}
	}
	if m, _ := l.take(t); m != nil {
		t.Errorf("it said %+v", m)
	}
}

func TestLabels(t *testing.T) {
	for text, want := range map[string]string{"Hub.example": "hub", "my_box 2": "mybox2", "-x-": "x", "": "", strings.Repeat("a", 80): strings.Repeat("a", 56)} {
		if got := label(text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// Two hubs on one wire, the loopback, want the same name, and get two; goodbye is
// said.
func TestTwoOnOneWire(t *testing.T) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Skip("NOT TESTED: there is no interface lo")
	}
	wire := func() ([]Interface, error) {
		return []Interface{{Index: lo.Index, Prefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/0")}}}, nil
	}
	first, err := Open(Options{Name: "hearth-test", Services: []Service{{Type: "_mqtt._tcp", Port: 1}}, Interfaces: wire, Log: t.Logf})
	if err != nil {
		t.Skip("NOT TESTED: no multicast here:", err)
	}
	is := func(r *Responder) bool { r.mu.Lock(); defer r.mu.Unlock(); return r.ready }
	until := func(what string, so func() bool) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); !so(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("it did not come to be: " + what)
			}
		}
	}
	until("the first has its name", func() bool { return is(first) })
	second, err := Open(Options{Name: "hearth-test", Services: []Service{{Type: "_mqtt._tcp", Port: 2}}, Interfaces: wire, Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	until("the second has a name", func() bool { return is(second) })
	if a, b := first.Name(), second.Name(); a != "hearth-test.local" || b != "hearth-test-2.local" {
		t.Errorf("%s and %s", a, b)
	}
	for _, r := range []*Responder{first, second} {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

func FuzzCame(f *testing.F) {
	f.Add([]byte{0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, 'h', 'u', 'b', 5, 'l', 'o', 'c', 'a', 'l', 0, 0, 1, 0, 1})
	f.Fuzz(func(_ *testing.T, packet []byte) {
		for _, is := range []bool{true, false} {
			r, _ := ready("hub", mqttService)
			r.ready = is
			r.came(2, other, packet, time.Now())
		}
	})
}
