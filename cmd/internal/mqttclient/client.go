package mqttclient

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"hearth/engine/mqtt"
)

// Options say where the server is, and who comes.
type Options struct {
	Addr     string      // host:port
	TLS      *tls.Config // nil: plain TCP
	ClientID string
	User     string
	Password string
	Expiry   uint32           // seconds that the session outlives its connection
	Clean    bool             // begin with a new session
	Notice   func(say string) // is told when the server is away; nil: nobody is
}

// Message is an application message.
type Message struct {
	Topic   string
	Payload []byte
	QoS     byte
	Retain  bool
}

// RefusedError is the server's no, which trying again would not change.
type RefusedError struct {
	What   string // what it was about: connect, publish, subscribe, disconnect
	Reason mqtt.Reason
	Text   string // the server's own words; may be empty
}

func (e *RefusedError) Error() string {
	s := e.What + ": " + e.Reason.String()
	if e.Text != "" {
		s += ": " + e.Text
	}
	return s
}

// ErrStop is what a receiver returns to have Follow end.
var ErrStop = errors.New("stop")

const (
	keepAlive  = 60 // seconds
	pingEvery  = keepAlive * time.Second / 2
	dialTime   = 10 * time.Second
	writeTime  = 30 * time.Second
	firstPause = 200 * time.Millisecond
	lastPause  = 10 * time.Second
)

// Client is one session. Its methods are called one at a time.
type Client struct {
	o    Options
	l    *link
	been bool // it was connected before: the session is not to be made anew
	id   uint16

	mu      sync.Mutex // of the two below, which the reading goroutine needs
	receive func(Message) error
	own     error           // what receive ended with
	stopped chan struct{}   // closed when own is set
	held    map[uint16]bool // packet ids of QoS 2 between PUBREC and PUBREL
}

// New makes a client, which connects when it has something to do.
func New(o Options) *Client {
	if o.Notice == nil {
		o.Notice = func(string) {}
	}
	return &Client{o: o, stopped: make(chan struct{}), held: map[uint16]bool{}}
}

// link is one connection.
type link struct {
	net     net.Conn
	present bool // the session was there
	answers chan packet
	done    chan struct{} // closed when err is set and nothing more comes
	err     error

	mu sync.Mutex // of writing
}

func (l *link) write(b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.net.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	_, err := l.net.Write(b)
	return err
}

// dial makes one connection and says CONNECT.
func (c *Client) dial(ctx context.Context) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	var nc net.Conn
	var err error
	if c.o.TLS != nil {
		nc, err = (&tls.Dialer{Config: c.o.TLS}).DialContext(ctx, "tcp", c.o.Addr)
	} else {
		nc, err = (&net.Dialer{}).DialContext(ctx, "tcp", c.o.Addr)
	}
	if err != nil {
		return nil, err
	}
	l := &link{net: nc, answers: make(chan packet, 1), done: make(chan struct{})}
	r := bufio.NewReader(nc)
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	err = c.greet(l, r)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	if !l.present {
		clear(c.held)
	}
	c.been = true
	go c.read(l, r)
	go l.ping()
	return l, nil
}

// greet says CONNECT and hears what the server says to it.
func (c *Client) greet(l *link, r *bufio.Reader) error {
	if err := l.write(connectPacket(&c.o, c.o.Clean && !c.been)); err != nil {
		return err
	}
	p, err := readPacket(r)
	if err != nil {
		return err
	}
	in := cutter{b: p.body}
	l.present = in.byte()&1 != 0
	reason := mqtt.Reason(in.byte())
	text := in.reason()
	switch {
	case p.typ() != typeConnAck || in.bad:
		return errPacket
	case reason.Failed():
		return &RefusedError{"connect", reason, text}
	}
	return nil
}

func (l *link) ping() {
	t := time.NewTicker(pingEvery)
	defer t.Stop()
	for {
		select {
		case <-l.done:
			return
		case <-t.C:
		}
		if l.write([]byte{0xc0, 0}) != nil {
			_ = l.net.Close()
			return
		}
	}
}

// read takes what comes until the connection ends.
func (c *Client) read(l *link, r *bufio.Reader) {
	defer close(l.done)
	defer l.net.Close()
	for {
		if l.err = l.net.SetReadDeadline(time.Now().Add(keepAlive * 3 / 2 * time.Second)); l.err != nil {
			return
		}
		var p packet
		if p, l.err = readPacket(r); l.err != nil {
			return
		}
		if l.err = c.take(l, p); l.err != nil {
			return
		}
	}
}

// take handles one packet.
func (c *Client) take(l *link, p packet) error {
	switch p.typ() {
	case typePublish:
		return c.message(l, p)
	case typePubRel:
		id, _, _ := answered(p)
		delete(c.held, id)
		return l.write(answerPacket(typePubComp, id))
	case typePubAck, typePubRec, typePubComp, typeSubAck:
		select {
		case l.answers <- p:
		default: // nobody waits for one; the next says it again
		}
	case typePingResp:
	case typeDisconnect:
		in := cutter{b: p.body}
		var r mqtt.Reason
		if len(p.body) > 0 {
			r = mqtt.Reason(in.byte())
		}
		return &RefusedError{"disconnect", r, in.reason()}
	default:
		return errPacket
	}
	return nil
}

// message hands one message on, and acknowledges it after that.
func (c *Client) message(l *link, p packet) error {
	m, id, err := readMessage(p)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.own != nil {
		return nil // it stays with the server
	}
	if c.receive != nil && (m.QoS < 2 || !c.held[id]) {
		c.own = c.receive(m)
	}
	if c.own != nil {
		defer close(c.stopped)
	}
	switch {
	case c.own != nil && !errors.Is(c.own, ErrStop): // it was not taken
	case m.QoS == 1:
		return l.write(answerPacket(typePubAck, id))
	case m.QoS == 2:
		c.held[id] = true
		return l.write(answerPacket(typePubRec, id))
	}
	return nil
}

// await waits for the answer of a type to a packet id.
func (l *link) await(ctx context.Context, typ byte, id uint16) (packet, error) {
	for {
		select {
		case p := <-l.answers:
			if got, _, _ := answered(p); p.typ() == typ && got == id {
				return p, nil
			}
		case <-l.done:
			return packet{}, l.err
		case <-ctx.Done():
			return packet{}, context.Cause(ctx)
		}
	}
}

// try does f with a connection, and with the next one where that broke, until f
// succeeds, the server refuses, or ctx ends.
func (c *Client) try(ctx context.Context, f func(l *link) error) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		var err error
		if c.l == nil {
			c.l, err = c.dial(ctx)
		}
		if err == nil {
			if err = f(c.l); err == nil {
				return nil
			}
			_ = c.l.net.Close()
			<-c.l.done
			c.l = nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if final(err) {
			return err
		}
		c.o.Notice(fmt.Sprintf("%v; it is tried again", err))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// final says that the next attempt would end as this one.
func final(err error) bool {
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) || errors.Is(err, errPacket) {
		return true
	}
	var refused *RefusedError
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.Reason {
	case mqtt.Success, mqtt.Unavailable, mqtt.Busy, mqtt.ShuttingDown, mqtt.KeepAliveTimeout, mqtt.RateExceeded:
		return false
	}
	return true
}

// nextID gives a packet id.
func (c *Client) nextID() uint16 {
	c.id = c.id%65535 + 1
	return c.id
}

// Publish sends a message, and returns when the server answers for it: with QoS
// 0 when it is on its way. Where the connection breaks it is sent again in the
// next, with QoS 2 never twice.
//
// Errors: RefusedError; what ended ctx.
func (c *Client) Publish(ctx context.Context, m Message) error {
	id := c.nextID()
	dup, released := false, false
	return c.try(ctx, func(l *link) error {
		if !l.present && released {
			return nil // the server had it, before it forgot the session
		}
		if !released {
			again := dup && l.present
			dup = true
			if err := l.write(publishPacket(&m, id, again)); err != nil || m.QoS == 0 {
				return err
			}
			if err := l.accepted(ctx, typePubAck+m.QoS-1, id); err != nil || m.QoS == 1 {
				return err
			}
			released = true
		}
		if err := l.write(answerPacket(typePubRel, id)); err != nil {
			return err
		}
		_, err := l.await(ctx, typePubComp, id)
		return err
	})
}

// accepted waits for a PUBACK or PUBREC and what it says.
func (l *link) accepted(ctx context.Context, typ byte, id uint16) error {
	p, err := l.await(ctx, typ, id)
	if err != nil {
		return err
	}
	if _, r, text := answered(p); r.Failed() {
		return &RefusedError{"publish", r, text}
	}
	return nil
}

// Follow subscribes, and hands every message to receive until that returns an
// error, which it gives, or ctx ends. A message is acknowledged after receive
// returned. ready is called each time that the server has said yes.
//
// Errors: RefusedError; what ended ctx; what receive returned, but nil for ErrStop.
func (c *Client) Follow(ctx context.Context, filters []string, qos byte, ready func(), receive func(Message) error) error {
	c.mu.Lock()
	c.receive = receive
	c.mu.Unlock()
	holds := false
	err := c.try(ctx, func(l *link) error {
		if !l.present || !holds {
			if err := c.subscribe(ctx, l, filters, qos); err != nil {
				return err
			}
			holds = true
			ready()
		}
		select {
		case <-l.done:
			return l.err
		case <-ctx.Done():
			return nil
		case <-c.stopped:
			return nil
		}
	})
	select {
	case <-c.stopped:
		if errors.Is(c.own, ErrStop) {
			return nil
		}
		return c.own
	default:
	}
	if err == nil {
		err = context.Cause(ctx)
	}
	return err
}

func (c *Client) subscribe(ctx context.Context, l *link, filters []string, qos byte) error {
	id := c.nextID()
	if err := l.write(subscribePacket(id, filters, qos)); err != nil {
		return err
	}
	p, err := l.await(ctx, typeSubAck, id)
	if err != nil {
		return err
	}
	return subscribed(p, filters)
}

// subscribed reads a SUBACK.
func subscribed(p packet, filters []string) error {
	in := cutter{b: p.body}
	in.u16()
	text := in.reason()
	if in.bad || len(in.b) != len(filters) {
		return errPacket
	}
	for i, code := range in.b {
		if r := mqtt.Reason(code); r.Failed() {
			if text == "" {
				text = filters[i]
			}
			return &RefusedError{"subscribe", r, text}
		}
	}
	return nil
}

// Close takes leave; forget has the server forget the session too.
func (c *Client) Close(forget bool) {
	if c.l == nil {
		return
	}
	if c.l.write(goodbyePacket(forget)) == nil {
		if tcp, ok := c.l.net.(interface{ CloseWrite() error }); ok {
			_ = tcp.CloseWrite()
		}
	}
	// The server closes once it has heard all; not to wait for that could take
	// the farewell back.
	select {
	case <-c.l.done:
	case <-time.After(time.Second):
		_ = c.l.net.Close()
		<-c.l.done
	}
	c.l = nil
}
