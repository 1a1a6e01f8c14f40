package mqttd

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hearth/engine/mqtt"
)

// idleHands is how many goroutines may wait for work, in the crews of the broker
// and of its listener, with a few of the store's. A test that looks for what is
// left makes more connections than that.
const idleHands = 2*24 + 16

// nothingLeft waits until a hub holds nothing for anybody any more.
func (h *hub) nothingLeft(goroutines int) {
	h.t.Helper()
	what := func() string {
		f := h.broker.Figures()
		h.server.reading.mu.Lock()
		reading := h.server.o.Bytes - h.server.reading.left
		h.server.reading.mu.Unlock()
		out, running := h.server.out.Load(), runtime.NumGoroutine()
		if h.server.Conns()+f.Connected+f.Sessions+f.Subscriptions == 0 && reading+out+f.MemoryBytes+f.QueuedBytes == 0 && running <= goroutines+idleHands {
			return ""
		}
		return fmt.Sprintf("%d connections, %d goroutines after %d before, %d bytes to read, %d to write, %+v",
			h.server.Conns(), running, goroutines, reading, out, f)
	}
	for late := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		left := what()
		if left == "" {
			return
		}
		if time.Now().After(late) {
			h.t.Fatal(left)
		}
	}
}

// seeded gives randomness that can be had again.
func seeded(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	if s := os.Getenv("HEARTH_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("HEARTH_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// Broken packets of all kinds, in the middle of good ones, leave nothing behind:
// no connection, no goroutine, no byte that somebody counts.
func TestMalformedLeavesNothing(t *testing.T) {
	h := start(t, mqtt.Options{}, Options{Packet: 20_000, ConnectTime: 500 * time.Millisecond, PacketTime: 300 * time.Millisecond, WriteTime: 500 * time.Millisecond})
	rng := seeded(t)
	before := runtime.NumGoroutine()
	lines := []string{
		"publish t=a/b q=1 id=1 m=x", "publish t=a/b q=2 id=2 m=" + strings.Repeat("x", 9000), "publish t=a/b m=0 p=23.0001.26.0001.61.0001.62", "subscribe id=3 a/#:02 $share/g/a/+:01",
		"subscribe id=4 +/b:00 p=0b.01", "unsubscribe id=5 a/#", "pubrel id=2", "pubrec id=1", "pubcomp id=1 code=92", "puback id=9", "ping", "disconnect code=04 p=11.00000000",
	}
	var all sync.WaitGroup
	for i := range 300 {
		a := &actor{t: t, net: h.dial(), ver: 5}
		hello := a.build(strings.Fields(fmt.Sprintf("connect v5 clean id=c%d user=u will=a/w:gone keep=1", i)))
		out := hello
		if rng.IntN(4) == 0 {
			out = mutate(rng, hello)
		}
		for range rng.IntN(12) {
			p := a.build(strings.Fields(lines[rng.IntN(len(lines))]))
			if rng.IntN(3) == 0 {
				p = mutate(rng, p)
			}
			out = append(out, p...)
		}
		cut := rng.IntN(3) == 0
		all.Go(func() {
			defer a.net.Close()
			_ = a.net.SetDeadline(time.Now().Add(20 * time.Second))
			_, _ = a.net.Write(out)
			for buf := make([]byte, 4096); !cut; { // until the hub ends it
				if _, err := a.net.Read(buf); err != nil {
					return
				}
			}
		})
	}
	all.Wait()
	h.nothingLeft(before)
}

// mutate breaks a packet: a byte is another, some are missing, or are too many.
func mutate(rng *rand.Rand, p []byte) []byte {
	p = append([]byte{}, p...)
	switch at := rng.IntN(len(p)); rng.IntN(4) {
	case 0:
		p[at] ^= byte(1 << rng.IntN(8))
	case 1:
		p[at] = byte(rng.Uint32())
	case 2:
		return p[:at]
	default:
		return append(p[:at:at], append([]byte{byte(rng.Uint32())}, p[at:]...)...)
	}
	return p
}

// Connections that stop in the middle end: silent ones, half a CONNECT, half a
// packet, and those that take nothing of what they are sent.
func TestHalfOpen(t *testing.T) {
	h := start(t, mqtt.Options{}, Options{ConnectTime: 300 * time.Millisecond, PacketTime: 300 * time.Millisecond, WriteTime: 300 * time.Millisecond})
	before := runtime.NumGoroutine()
	var conns []net.Conn
	for i := range 120 {
		a := &actor{t: t, net: h.dial(), ver: 5}
		hello := a.build(strings.Fields(fmt.Sprintf("connect v5 clean id=c%d", i)))
		switch i % 4 {
		case 1:
			_, _ = a.net.Write(hello[:len(hello)/2])
		case 2:
			_, _ = a.net.Write(append(hello, 0x30, 0xff, 0x7f, 0, 1, 'x'))
		case 3:
			_, _ = a.net.Write(append(hello, a.build(strings.Fields("subscribe id=1 big:00"))...))
		}
		conns = append(conns, a.net)
	}
	until(t, func() bool { return h.broker.Figures().Subscriptions == 30 })
	w := &actor{t: t, net: h.dial(), ver: 5}
	for _, line := range []string{"connect v5 clean id=w", "publish t=big q=1 id=1 m=" + strings.Repeat("x", 50_000)} {
		_, _ = w.net.Write(w.build(strings.Fields(line)))
	}
	for range 2 {
		if _, err := w.read(); err != nil {
			t.Fatal(err)
		}
	}
	for h.broker.Figures().Connected > 1 { // sockets fill, and then their time is over
		_, _ = w.net.Write(w.build([]string{"publish", "t=big", "q=1", "id=1", "m=" + strings.Repeat("x", 50_000)}))
		if _, err := w.read(); err != nil {
			t.Fatal(err)
		}
	}
	_ = w.net.Close()
	h.nothingLeft(before)
	for _, c := range conns {
		_ = c.Close()
	}
}

// Many who want one client id at the same time: one has it, the session is one,
// and the others are told.
func TestTakeover(t *testing.T) {
	h := start(t, mqtt.Options{}, Options{})
	before := runtime.NumGoroutine()
	const many = 100
	actors := make([]*actor, many)
	var all sync.WaitGroup
	for i := range actors {
		actors[i] = &actor{t: t, net: h.dial(), ver: 5}
		all.Go(func() {
			_, _ = actors[i].net.Write(actors[i].build(strings.Fields("connect v5 id=same user=u p=11.00000064")))
			// Who is taken over before it was let in is told nothing.
			if got, err := actors[i].read(); err == nil && !matches(got, "connack 00") {
				t.Errorf("%q", got)
			}
		})
	}
	all.Wait()
	until(t, func() bool { return h.server.Conns() == 1 })
	if f := h.broker.Figures(); f.Sessions != 1 || f.Connected != 1 {
		t.Errorf("%+v", f)
	}
	left := 0
	for _, a := range actors {
		for {
			_, _ = a.net.Write([]byte{0xc0, 0})
			got, err := a.read()
			if err != nil {
				break
			}
			if got == "pong" {
				left++
				_, _ = a.net.Write(a.build(strings.Fields("disconnect p=11.00000000")))
				break
			}
		}
		_ = a.net.Close()
	}
	if left != 1 {
		t.Errorf("%d have the session", left)
	}
	h.nothingLeft(before)
}

// Ten thousand connects one upon the other, which a hub has to bear in a minute: each
// is served, and none is left.
func TestConnectFlood(t *testing.T) {
	h := start(t, mqtt.Options{}, Options{})
	before, began := runtime.NumGoroutine(), time.Now()
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			for n := range 1000 {
				c, err := net.Dial("tcp", h.addr)
				if err != nil {
					t.Error(err)
					return
				}
				a := &actor{t: t, net: c, ver: 4}
				_, _ = c.Write(a.build(strings.Fields(fmt.Sprintf("connect v4 clean id=f%d-%d", i, n))))
				if got, err := a.read(); err != nil || got != "connack 00 present=0" {
					t.Errorf("%q %v", got, err)
				}
				_ = c.Close()
			}
		})
	}
	all.Wait()
	t.Logf("ten thousand connects in %v", time.Since(began))
	h.nothingLeft(before)
	if f := h.broker.Figures(); f.Connects != 10_000 {
		t.Errorf("%+v", f)
	}
}

// What is too long for the hub ends its sender with a reason, before it is read, and
// nobody else.
func TestHugePackets(t *testing.T) {
	h := start(t, mqtt.Options{}, Options{Packet: 20_000})
	before := runtime.NumGoroutine()
	other := in + "b> connect v5 clean id=b; b< connack 00; b> subscribe id=1 x/#:01; b< suback id=1;"
	for _, c := range []struct{ what, script string }{
		{"as long as may be", other + "a> publish t=x/1 q=1 id=1 m=" + long(19_980) + "; a< puback id=1; b< publish t=x/1"},
		{"too long", other + "a> publish t=x/1 q=1 id=1 m=" + long(20_001) + "; a< disconnect code=95; a| closed; b| quiet"},
		{"announced only", other + "a> 30 ff ff ff 7f 00 01; a< disconnect code=95; a| closed; b| quiet"},
		{"a length that is none", other + "a> 30 ff ff ff ff 7f; a< disconnect code=81; a| closed; b| quiet"},
		{"in version 3.1.1", in4 + "a> publish t=x/1 q=1 id=1 m=" + long(20_001) + "; a| closed"},
		{"of a stranger", "a> 10 ff ff ff 7f 00 04 4d 51 54 54; a| closed"},
		{"a topic that is all of it", other + "a> publish t=" + long(19_000) + " q=1 id=1; a< disconnect code=90; a| closed; b| quiet"},
	} {
		t.Run(strings.ReplaceAll(c.what, " ", "_"), func(t *testing.T) {
			hh := *h
			hh.t = t
			hh.play(t, c.script)
		})
	}
	h.nothingLeft(before)
}

// Who publishes without end and reads nothing is slowed or ended, and others are
// served meanwhile.
func TestPublishFlood(t *testing.T) {
	h := start(t, mqtt.Options{Limits: mqtt.Limits{Inflight: 16}}, Options{WriteTime: 300 * time.Millisecond})
	before := runtime.NumGoroutine()
	stop := make(chan struct{})
	var all sync.WaitGroup
	for i := range 8 {
		a := &actor{t: t, net: h.dial(), ver: 4}
		_, _ = a.net.Write(a.build(strings.Fields(fmt.Sprintf("connect v4 clean id=flood%d", i))))
		if got, err := a.read(); err != nil {
			t.Fatal(got, err)
		}
		packet := a.build([]string{"publish", "t=flood/x", fmt.Sprintf("q=%d", i%2), "id=1", "m=" + strings.Repeat("x", 500)})
		burst := []byte(strings.Repeat(string(packet), 64))
		all.Go(func() { // answers of QoS 1 pile up, for it reads none
			defer a.net.Close()
			for {
				_ = a.net.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
				_, err := a.net.Write(burst)
				select {
				case <-stop:
					return
				default:
				}
				if err != nil && !os.IsTimeout(err) {
					return // the hub has ended it
				}
			}
		})
	}
	b := &actor{t: t, net: h.dial(), ver: 5}
	defer b.net.Close()
	for i, line := range []string{"> connect v5 clean id=b", "< connack 00", "> subscribe id=1 calm:01", "< suback id=1"} {
		if err := b.line(line[0], line[2:]); err != nil {
			t.Fatal(i, err)
		}
	}
	for i := range 50 {
		for _, line := range []string{fmt.Sprintf("> publish t=calm q=1 id=%d m=%d", i+1, i), fmt.Sprintf("< publish t=calm m=%d", i), fmt.Sprintf("< puback id=%d", i+1)} {
			if err := b.line(line[0], line[2:]); err != nil {
				t.Fatal(i, line, err)
			}
		}
		_, _ = b.net.Write(b.build(strings.Fields(fmt.Sprintf("puback id=%d", i+2))))
	}
	close(stop)
	all.Wait()
	_ = b.net.Close()
	h.nothingLeft(before)
}

// A filter may be wider than what its client may read: what that may not is given to
// it in no way, not live, not retained, not from its queue and not by turns.
func TestNothingLeaks(t *testing.T) {
	may := func(_ mqtt.Identity, op mqtt.Op, topic string) bool {
		return op != mqtt.Receive || !strings.HasPrefix(topic, "secret/")
	}
	h := start(t, mqtt.Options{May: may}, Options{})
	for name, script := range map[string]string{
		"live":     in + "a> subscribe id=1 #:02; a< suback id=1; b> connect v5 clean id=b; b< connack 00; b> publish t=secret/x q=2 id=1 m=1; b< pubrec id=1; b> publish t=secret/x m=2; b> publish t=open/x m=3; a< publish t=open/x m=3",
		"retained": in + "a> publish t=secret/r q=1 id=1 retain m=1; a< puback id=1; a> publish t=secretly/r q=1 id=1 retain m=2; a< puback id=1; a> subscribe id=1 #:01; a< suback id=1; a< publish t=secretly/r; a| quiet; a> publish t=secret/r retain; a> publish t=secretly/r retain; a< publish t=secretly/r",
		"shared":   in + "a> subscribe id=1 $share/g/#:01; a< suback id=1; b> connect v5 clean id=b; b< connack 00; b> publish t=secret/x q=1 id=1 m=1; b< puback id=1; a| quiet",
		"queue": "a> connect v5 id=q1 p=11.00000064; a< connack 00; a> subscribe id=1 #:01; a< suback id=1; a> disconnect; a| closed; b> connect v5 clean id=b; b< connack 00; b> publish t=secret/x q=1 id=1 m=1; b< puback id=1; " +
			"b> publish t=open/x q=1 id=2 m=2; b< puback id=2; a> connect v5 id=q1 p=11.00000064; a< connack 00 present=1; a< publish t=open/x m=2; a| quiet; a> disconnect p=11.00000000; a| closed",
		"will": in + "a> subscribe id=1 #:01; a< suback id=1; b> connect v5 clean id=b will=secret/w:gone; b< connack 00; b| cut; a| quiet",
	} {
		t.Run(name, func(t *testing.T) {
			hh := *h
			hh.t = t
			hh.play(t, script)
		})
	}
}
