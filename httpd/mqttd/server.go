// Package mqttd owns the sockets of things that speak MQTT: listeners, packets,
// and the limits of each connection. What packets mean is package engine/mqtt's.
//
// It refuses to hold a buffer for a connection that is idle: one is a goroutine
// that waits in a read, and buffers come from pools while a packet is under way.
// It refuses a second goroutine too; whoever has something for a socket appends
// it to what goes out, and a hand that writes is called when there is none.
package mqttd

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"hearth/engine/crew"
	"hearth/engine/mqtt"
)

// Options are what a Server is made of.
type Options struct {
	Broker *mqtt.Broker
	Log    *slog.Logger // nil: slog.Default
	Conns  int          // connections at one time; 0: 4096
	PerIP  int          // of one address that is not this machine; 0: 2048
	Bytes  int64        // of long packets that are being read, all together; 0: 4 MiB
	Out    int64        // of packets that wait for their sockets, all together; 0: 8 MiB
	Packet int          // longest packet from a client; 0: 1 MiB

	KeepAlive    uint16        // longest that is granted, seconds; 0: whatever is asked for
	ConnectTime  time.Duration // until CONNECT has come; 0: 10 s
	WriteTime    time.Duration // for a client to take what it is sent; 0: 30 s
	PacketTime   time.Duration // for the rest of a packet whose beginning has come; 0: 30 s
	TopicAliases uint16        // that a client may use; 0: 16
}

// Server is a set of listeners that share one limit and end together.
type Server struct {
	o      Options
	broker *mqtt.Broker
	log    *slog.Logger
	crew   *crew.Crew
	done   chan struct{}
	ctx    context.Context
	cancel context.CancelFunc

	mu        sync.Mutex
	listeners []net.Listener
	conns     map[*conn]struct{}
	perIP     map[[16]byte]int
	strangers map[*conn]struct{} // of conns, those who were not let in yet
	named     map[string]int     // the others, by whose they are
	closed    bool
	running   sync.WaitGroup

	reading  budget
	greeting budget // what strangers have of their own, so that they do not hold up the others
	out      atomic.Int64
}

// New makes a server without listeners.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	fill(&o.Conns, 4096)
	fill(&o.PerIP, 2048)
	fill(&o.Bytes, 4<<20)
	fill(&o.Out, 8<<20)
	fill(&o.Packet, 1<<20)
	fill(&o.ConnectTime, 10*time.Second)
	fill(&o.WriteTime, 30*time.Second)
	fill(&o.PacketTime, 30*time.Second)
	fill(&o.TopicAliases, 16)
	s := &Server{o: o, broker: o.Broker, log: o.Log, done: make(chan struct{}), conns: map[*conn]struct{}{}, perIP: map[[16]byte]int{},
		strangers: map[*conn]struct{}{}, named: map[string]int{}}
	s.crew = crew.New(s.done)
	s.reading, s.greeting = newBudget(o.Bytes), newBudget(max(longestConnect, o.Bytes/8))
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

func fill[T int | int64 | uint16 | time.Duration](v *T, otherwise T) {
	if *v == 0 {
		*v = otherwise
	}
}

// Listen takes connections at an address; conf makes it one for TLS. The
// address that it gives is the real one, where the port was 0.
func (s *Server) Listen(addr string, conf *tls.Config) (net.Addr, error) {
	lc := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: time.Minute, Count: 3}}
	ln, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.listeners = append(s.listeners, ln)
	s.mu.Unlock()
	s.running.Go(func() { s.accept(ln, conf) })
	return ln.Addr(), nil
}

const acceptPause = 100 * time.Millisecond

func (s *Server) accept(ln net.Listener, conf *tls.Config) {
	for {
		raw, err := ln.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // out of file descriptors, most likely: it passes
			s.log.Warn("no MQTT connection accepted", "err", err)
			select {
			case <-s.done:
				return
			case <-time.After(acceptPause):
			}
			continue
		}
		c := newConn(s, raw)
		if conf != nil {
			c.net, c.secure = tls.Server(raw, conf), true
		} else if tcp, ok := raw.(*net.TCPConn); ok {
			c.raw, _ = tcp.SyscallConn()
		}
		if !s.admit(c) {
			_ = raw.Close() // nothing was promised
			continue
		}
		go c.serve()
	}
}

// Serve serves one connection that somebody else accepted, as the WebSocket
// listener does, and returns when it has ended.
func (s *Server) Serve(raw net.Conn, secure bool) {
	c := newConn(s, raw)
	c.secure, c.web = secure, true
	if !s.admit(c) {
		_ = raw.Close()
		return
	}
	c.serve()
}

// admit counts a connection in, if there is room. Strangers have a quarter of it:
// a handshake takes memory, and who says nothing is not to keep things out. Where
// they are too many, the one that has been silent for longest makes place, if it had
// time enough.
func (s *Server) admit(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.conns) >= s.o.Conns || !c.remote.IsLoopback() && s.perIP[c.remote.As16()] >= s.o.PerIP {
		return false
	}
	if len(s.strangers) >= max(1, s.o.Conns/4) {
		old := s.longest()
		if c.since.Sub(old.since) < s.o.ConnectTime/5 {
			return false
		}
		delete(s.strangers, old)
		old.cut()
	}
	s.conns[c], s.strangers[c] = struct{}{}, struct{}{}
	s.perIP[c.remote.As16()]++
	s.running.Add(1)
	return true
}

// longest is the stranger that came first. It needs mu.
func (s *Server) longest() (old *conn) {
	for c := range s.strangers {
		if old == nil || c.since.Before(old.since) {
			old = c
		}
	}
	return old
}

// known counts a connection as somebody's, who may have half of all there may be.
func (s *Server) known(c *conn, name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.strangers, c)
	if s.named[name] >= max(1, s.o.Conns/2) {
		return false
	}
	c.whose = &name
	s.named[name]++
	return true
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	delete(s.strangers, c)
	if c.whose != nil {
		if s.named[*c.whose]--; s.named[*c.whose] <= 0 {
			delete(s.named, *c.whose)
		}
	}
	a := c.remote.As16()
	if s.perIP[a]--; s.perIP[a] <= 0 {
		delete(s.perIP, a)
	}
	s.running.Done()
}

// Conns is how many connections are open, for metrics.
func (s *Server) Conns() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Close ends all connections; clients of MQTT 5 are told why. It waits until
// they have ended, at most for wait until it cuts them.
func (s *Server) Close(wait time.Duration) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	for _, ln := range s.listeners {
		_ = ln.Close()
	}
	s.mu.Unlock()
	s.broker.Leave()
	s.each(func(c *conn) { c.close(mqtt.ShuttingDown, "") }) // who had no session yet
	s.cancel()
	over := make(chan struct{})
	go func() {
		s.running.Wait()
		close(over)
	}()
	select {
	case <-over:
	case <-time.After(wait):
		s.each(func(c *conn) { c.cut() })
		<-over
	}
	close(s.done)
}

func (s *Server) each(f func(c *conn)) {
	s.mu.Lock()
	all := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		f(c)
	}
}

// budget is bytes that many share; who finds none left waits.
type budget struct {
	mu   *sync.Mutex
	more *sync.Cond
	left int64
}

func newBudget(n int64) budget {
	mu := &sync.Mutex{}
	return budget{mu: mu, more: sync.NewCond(mu), left: n}
}

func (b *budget) take(n int) {
	b.mu.Lock()
	for b.left < int64(n) {
		b.more.Wait()
	}
	b.left -= int64(n)
	b.mu.Unlock()
}

func (b *budget) give(n int) {
	b.mu.Lock()
	b.left += int64(n)
	b.more.Broadcast()
	b.mu.Unlock()
}
