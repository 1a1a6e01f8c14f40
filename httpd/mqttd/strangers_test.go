package mqttd

import (
	"net"
	"testing"
	"time"

	"hearth/engine/mqtt"
)

// Who says nothing keeps nobody out for long, and is cut when somebody else comes.
func TestStrangersMakePlace(t *testing.T) {
	h := start(t, mqtt.Options{}, Options{Conns: 8})
	s := h.server
	come := func(since time.Time) (c *conn, other net.Conn, in bool) {
		ours, theirs := net.Pipe()
		t.Cleanup(func() { _ = theirs.Close() })
		c = newConn(s, ours)
		c.since = since
		in = s.admit(c)
		if in {
			t.Cleanup(func() { s.forget(c) })
		}
		return c, theirs, in
	}
	now := time.Now()
	_, first, _ := come(now)
	if _, _, in := come(now.Add(time.Second)); !in {
		t.Fatal("the second was not let in")
	}
	if _, _, in := come(now.Add(time.Second)); in {
		t.Fatal("a third, while the others may still be about to speak")
	}
	if _, _, in := come(now.Add(s.o.ConnectTime / 2)); !in {
		t.Fatal("a third was kept out by one that is silent")
	}
	if _, err := first.Read(make([]byte, 1)); err == nil {
		t.Error("the one that was silent is still there")
	}
}

// One thing does not take all connections.
func TestConnectionsOfOne(t *testing.T) {
	h := start(t, mqtt.Options{}, Options{Conns: 8})
	var in int
	for range 6 {
		c := newConn(h.server, unused{})
		h.server.mu.Lock()
		h.server.conns[c] = struct{}{}
		h.server.running.Add(1)
		h.server.mu.Unlock()
		t.Cleanup(func() { h.server.forget(c) })
		if h.server.known(c, "greedy") {
			in++
		}
	}
	if in != 4 {
		t.Errorf("%d of 8 are one thing's", in)
	}
}

// unused is a connection that nobody uses.
type unused struct{ net.Conn }

func (unused) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }
func (unused) Close() error         { return nil }

// A stranger that pings over WebSocket and reads nothing is not waited for.
func TestPongsHaveADeadline(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	d := &deadlines{Conn: ours}
	w := newWebConn(d)
	go func() {
		for {
			if _, err := theirs.Write(frameOf(0x89, []byte("x"))); err != nil {
				return
			}
		}
	}()
	if _, err := w.Read(make([]byte, 8)); err == nil {
		t.Fatal("a pong went out that nobody read")
	}
	if !d.set {
		t.Error("a pong without a deadline")
	}
}

// deadlines is a connection whose deadlines of writing are over at once.
type deadlines struct {
	net.Conn
	set bool
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.set = true
	return d.Conn.SetWriteDeadline(time.Unix(1, 0))
}

func (d *deadlines) Write(p []byte) (int, error) {
	if !d.set {
		return 0, net.ErrClosed // it would wait for ever
	}
	return d.Conn.Write(p)
}

// Strangers that announce long packets and send none of them do not hold up what
// things send.
func TestStrangersDoNotHoldUpLongPackets(t *testing.T) {
	h := start(t, mqtt.Options{}, Options{Conns: 64, Bytes: longestConnect})
	stall := append([]byte{0x10, 0xf0, 0xff, 0x0f}, make([]byte, 100)...) // 262,128 bytes
	for range 3 {
		c, err := net.Dial("tcp", h.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write(stall); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(10 * time.Second); h.server.greeting.free() == longestConnect; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the strangers are not being read")
		}
	}
	if h.server.reading.free() != longestConnect {
		t.Error("strangers use up what is there for things")
	}
}

func (b *budget) free() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.left
}
