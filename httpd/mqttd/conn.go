package mqttd

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"hearth/engine/mqtt"
)

const (
	bufSize   = 8 << 10
	fullOut   = 64 << 10 // bytes that may wait for one socket
	tightOut  = 4 << 10  // and where all sockets together have too much
	closeTime = time.Second

	lingerTime  = 300 * time.Millisecond
	lingerReads = 64
)

var buffers = sync.Pool{New: func() any { return new([bufSize]byte) }}

// conn is one connection. Its packets are read and handled by one goroutine.
type conn struct {
	srv    *Server
	net    net.Conn
	raw    syscall.RawConn // of a plain TCP socket; nil: read through net
	remote netip.Addr
	since  time.Time // when it was accepted
	whose  *string   // whose it is, where the server counts it as that
	secure bool
	web    bool

	version byte // 0: no CONNECT has come
	client  *mqtt.Client
	asked   byte // problem information: 1 where the client wants reason strings
	most    int  // longest packet to the client
	alive   time.Duration
	dueAt   time.Time // read deadline that is set
	aliases []string  // topics of the client's aliases, from 1 on
	topic   string    // the last one; things mostly publish to one
	buf     *[bufSize]byte
	n       int // bytes that came
	err     error
	tiny    [64]byte // what a read through net waits with

	mu       sync.Mutex
	out      []byte
	writing  bool // somebody writes, or will
	handling bool // packets are being handled, what is answered goes out after that
	full     bool // Full said so
	closing  bool // out is the last
	broken   bool
	ended    bool          // the reader has ended
	idle     chan struct{} // closed when writing ends, where the reader waits for that
}

func newConn(s *Server, raw net.Conn) *conn {
	c := &conn{srv: s, net: raw, most: 1 << 28, asked: 1, since: time.Now()}
	if a, err := netip.ParseAddrPort(raw.RemoteAddr().String()); err == nil {
		c.remote = a.Addr().Unmap()
	} else {
		c.remote = netip.IPv4Unspecified()
	}
	return c
}

// serve reads packets until the connection ends.
func (c *conn) serve() {
	defer c.srv.forget(c)
	reason, text := c.read()
	if reason != mqtt.Success {
		c.close(reason, text)
	}
	if c.client != nil {
		c.client.Lost() // unless it took leave
	}
	if c.finish() {
		c.linger()
	}
	_ = c.net.Close() // there is nothing more to say
}

// finish ends writing: a farewell goes out, anything else that waits is dropped
// with the connection. It reports whether the client was told something.
func (c *conn) finish() (farewell bool) {
	_ = c.net.SetWriteDeadline(time.Now().Add(closeTime)) // also of a write under way
	c.mu.Lock()
	farewell = c.closing && !c.broken
	c.closing, c.ended = true, true
	switch {
	case c.writing:
		idle := make(chan struct{}) // who closes it forgets c.idle
		c.idle = idle
		c.mu.Unlock()
		<-idle
	case farewell && len(c.out) > 0:
		c.writing = true
		c.mu.Unlock()
		c.flush()
	default:
		c.mu.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = true
	c.dropOut()
	return farewell
}

// linger listens for a moment to a client that is still sending: a socket that
// is closed on unread bytes takes the farewell back.
func (c *conn) linger() {
	tcp, ok := c.net.(*net.TCPConn)
	if !ok || tcp.CloseWrite() != nil || tcp.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	b := buffers.Get().(*[bufSize]byte)
	defer buffers.Put(b)
	for range lingerReads {
		if _, err := tcp.Read(b[:]); err != nil {
			return
		}
	}
}

// errOver is what ends a connection without a word.
var errOver = errors.New("the connection is over")

// read is the loop of a connection. The reason is what the client is told;
// Success: nothing.
func (c *conn) read() (mqtt.Reason, string) {
	if err := c.net.SetReadDeadline(time.Now().Add(c.srv.o.ConnectTime)); err != nil {
		return mqtt.Success, ""
	}
	c.dueAt = foreign
	if t, ok := c.net.(*tls.Conn); ok {
		if err := t.HandshakeContext(c.srv.ctx); err != nil {
			return mqtt.Success, ""
		}
	}
	for {
		if err := c.wait(); err != nil {
			return c.why(err)
		}
		rest, err := c.handleAll(c.buf[:c.n])
		for err == nil && len(rest) > 0 {
			rest, err = c.partial(rest)
		}
		buffers.Put(c.buf)
		c.buf = nil
		if err != nil {
			return c.why(err)
		}
		if err := c.rest(); err != nil {
			return mqtt.Success, ""
		}
	}
}

// why is the reason that the client is told of an error.
func (c *conn) why(err error) (mqtt.Reason, string) {
	var refused *mqtt.RefusedError
	switch {
	case errors.As(err, &refused):
		return refused.Reason, refused.Text
	case errors.Is(err, os.ErrDeadlineExceeded) && c.client != nil:
		return mqtt.KeepAliveTimeout, ""
	}
	return mqtt.Success, ""
}

// foreign stands for a read deadline that rest did not set.
var foreign = time.Unix(1, 0)

// rest sets the deadline for the next packet. It is set anew only now and then:
// that costs more than the packet.
//
// Spec: MQTT 5, 3.1.2.10 [MQTT-3.1.2-22].
func (c *conn) rest() error {
	if c.client == nil {
		return nil
	}
	now := time.Now()
	if c.alive == 0 {
		if c.dueAt.IsZero() {
			return nil
		}
		c.dueAt = time.Time{}
		return c.net.SetReadDeadline(time.Time{})
	}
	limit := c.alive + c.alive/2
	if left := c.dueAt.Sub(now); left >= limit && left <= limit+c.alive/4 {
		return nil
	}
	c.dueAt = now.Add(limit + c.alive/4)
	return c.net.SetReadDeadline(c.dueAt)
}

// wait waits for bytes, without holding a buffer meanwhile.
func (c *conn) wait() error {
	if c.raw != nil {
		if err := c.raw.Read(c.tryRead); err != nil {
			return err
		}
		return c.err
	}
	n, err := c.net.Read(c.tiny[:])
	if n == 0 && err != nil {
		return err
	}
	c.buf = buffers.Get().(*[bufSize]byte)
	c.n = copy(c.buf[:], c.tiny[:n])
	return nil
}

// tryRead reads what the socket has; false where that is nothing.
func (c *conn) tryRead(fd uintptr) bool {
	if c.buf == nil {
		c.buf = buffers.Get().(*[bufSize]byte)
	}
	for {
		n, err := syscall.Read(int(fd), c.buf[:])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			buffers.Put(c.buf)
			c.buf = nil
			return false
		case err != nil:
			c.err = err
		case n == 0:
			c.err = io.EOF
		}
		c.n = n
		return true
	}
}

// handleAll handles the whole packets in b, and gives what is left over.
func (c *conn) handleAll(b []byte) (rest []byte, err error) {
	c.mu.Lock()
	c.handling = true
	c.mu.Unlock()
	for len(b) > 1 && err == nil {
		size, head, bad := header(b)
		switch {
		case bad:
			err = mqtt.Refuse(mqtt.Malformed, "a remaining length that is none")
		case size > c.longest():
			err = mqtt.Refuse(mqtt.PacketTooLarge, "")
		case size == 0 || size > len(b):
			err = c.early(b)
		default:
			err = c.handle(b[0], b[head:size:size])
			b = b[size:]
			continue
		}
		break
	}
	c.mu.Lock()
	c.handling = false
	write := len(c.out) > 0 && !c.writing
	if write {
		c.writing = true
	}
	c.mu.Unlock()
	if write {
		c.flush()
	}
	return b, err
}

// longestConnect bounds a packet of somebody who was not let in: what is being read
// of long packets comes out of a budget, of which strangers have a small one.
const longestConnect = 256 << 10

// longest is how long a packet may be.
func (c *conn) longest() int {
	if c.client == nil {
		return min(c.srv.o.Packet, longestConnect)
	}
	return c.srv.o.Packet
}

// early looks at the beginning of a packet that is not all there: what can never
// become a CONNECT is not waited for.
func (c *conn) early(b []byte) error {
	if c.client == nil && b[0] != typeConnect<<4 {
		return errOver
	}
	return nil
}

// partial reads the rest of a packet of which b is the beginning, and handles
// it and what came behind it.
func (c *conn) partial(b []byte) (rest []byte, err error) {
	if len(b) == 1 {
		if err := c.early(b); err != nil {
			return nil, err
		}
	}
	if err := c.net.SetReadDeadline(time.Now().Add(c.srv.o.PacketTime)); err != nil {
		return nil, err
	}
	c.dueAt = foreign
	if len(b) > 0 && &b[0] != &c.buf[0] {
		copy(c.buf[:], b)
	}
	n := len(b)
	for {
		size, _, bad := header(c.buf[:n])
		if bad || size > c.longest() || size > 0 && size <= n {
			return c.handleAll(c.buf[:n])
		}
		if size > bufSize {
			return c.long(c.buf[:n], size)
		}
		more, err := c.net.Read(c.buf[n:])
		if n += more; more == 0 && err != nil {
			return nil, c.stalled(err)
		}
	}
}

// stalled is the error of a packet whose rest did not come.
func (c *conn) stalled(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) && c.client == nil {
		return errOver
	}
	return err
}

// long reads a packet that is longer than a buffer, and no byte more.
func (c *conn) long(b []byte, size int) (rest []byte, err error) {
	from := &c.srv.reading
	if c.client == nil {
		from = &c.srv.greeting
	}
	from.take(size)
	defer from.give(size)
	whole := make([]byte, size)
	n := copy(whole, b)
	if _, err := io.ReadFull(c.net, whole[n:]); err != nil {
		return nil, c.stalled(err)
	}
	return c.handleAll(whole)
}

// wake has what waits written. It needs mu.
func (c *conn) wake() {
	if !c.writing && !c.handling && len(c.out) > 0 {
		c.writing = true
		c.srv.crew.Go(c.flush)
	}
}

// room makes sure that there is something to append to. It needs mu.
func (c *conn) room() {
	if c.out == nil {
		c.out = buffers.Get().(*[bufSize]byte)[:0]
	}
}

// grown keeps count of what waits. It needs mu.
func (c *conn) grown(before int) {
	c.srv.out.Add(int64(len(c.out) - before))
}

// dropOut lets go of what waits. It needs mu.
func (c *conn) dropOut() {
	c.srv.out.Add(-int64(len(c.out)))
	recycle(c.out)
	c.out = nil
}

func recycle(b []byte) {
	if cap(b) == bufSize {
		buffers.Put((*[bufSize]byte)(b[:bufSize]))
	}
}

// flush writes until nothing is left. writing was set by the caller.
func (c *conn) flush() {
	for {
		c.mu.Lock()
		b := c.out
		c.out = nil
		if len(b) == 0 || c.broken {
			c.idled(b)
			return
		}
		wait := c.srv.o.WriteTime
		if c.closing {
			wait = closeTime
		}
		c.mu.Unlock()
		err := c.net.SetWriteDeadline(time.Now().Add(wait))
		if err == nil {
			_, err = c.net.Write(b)
		}
		c.srv.out.Add(-int64(len(b)))
		recycle(b)
		c.mu.Lock()
		ready := c.full && !c.closing
		c.full = false
		c.broken = c.broken || err != nil
		c.mu.Unlock()
		if err != nil {
			c.cut()
		} else if ready && c.client != nil {
			c.client.Ready()
		}
	}
}

// idled ends writing; b is what will not be written. It needs mu, and lets go of
// it.
func (c *conn) idled(b []byte) {
	c.writing = false
	c.srv.out.Add(-int64(len(b)))
	end := c.closing && !c.ended
	if c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
	c.mu.Unlock()
	recycle(b)
	if end {
		c.cut()
	}
}

// cut breaks the connection under whoever uses it.
func (c *conn) cut() {
	switch n := c.net.(type) {
	case *tls.Conn:
		_ = n.NetConn().Close() // without the farewell, which could block
	case *webConn:
		_ = n.Conn.Close()
	default:
		_ = c.net.Close()
	}
}

// close ends the connection after what waits for the socket, and tells clients
// of MQTT 5 why.
func (c *conn) close(r mqtt.Reason, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return
	}
	c.closing = true
	if c.version == 5 && c.client != nil {
		c.room()
		n := len(c.out)
		if c.asked == 0 {
			text = ""
		}
		c.out = appendDisconnect(c.out, r, text, c.most)
		c.grown(n)
	}
	switch {
	case len(c.out) == 0 && !c.writing:
		c.srv.crew.Go(c.cut)
	case !c.writing && !c.handling:
		c.writing = true
		c.srv.crew.Go(c.flush)
	}
}

// link is what the broker sends through.
func (c *conn) link() *mqtt.Link {
	return &mqtt.Link{Deliver: c.deliver, Answer: c.answer, Full: c.isFull, Close: c.close}
}

func (c *conn) deliver(d *mqtt.Delivery) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return true
	}
	c.room()
	n := len(c.out)
	out, ok := appendPublish(c.out, c.version, c.most, d, d.Topic, 0)
	c.out = out
	c.grown(n)
	c.wake()
	return ok
}

func (c *conn) answer(a mqtt.Answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return
	}
	if c.asked == 0 {
		a.Text = ""
	}
	c.room()
	n := len(c.out)
	c.out = appendAnswer(c.out, c.version, c.most, a)
	c.grown(n)
	c.wake()
}

// say queues packets that f appends.
func (c *conn) say(f func(dst []byte) []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return
	}
	c.room()
	n := len(c.out)
	c.out = f(c.out)
	c.grown(n)
	c.wake()
}

func (c *conn) isFull() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	limit := fullOut
	if c.srv.out.Load() > c.srv.o.Out {
		limit = tightOut
	}
	if len(c.out) >= limit {
		c.full = true
	}
	return c.full
}
