// Package httpd owns the hub's listeners: plain and TLS, the limits of each
// connection, the way of long bodies, and the orderly end.
//
// It refuses to hold anything for a connection that waits. fasthttp in its mode
// of least memory gives buffers back between requests, but in its mode that
// streams bodies it keeps the read buffer for as long as a handler runs, which
// for a parked /sync is most of the time. So bodies are not streamed by
// fasthttp: short ones are read before the handler is called, and a long one
// takes its connection aside (large.go). Answers to what cannot be read as a
// request are JSON as all others are, and a client that is still sending is
// listened to until it has stopped, because it would otherwise never see them.
package httpd

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"hearth/engine/fault"
	"hearth/httpd/wire"
)

// Options are what a Server is made of.
type Options struct {
	Conns int           // connections at one time, on all doors; 0: 4096
	PerIP int           // connections from one address that is not this machine; 0: 256
	Log   *slog.Logger  // nil: slog.Default
	Done  chan struct{} // closed by Close, for those who wait; nil: made
}

// What a connection may take.
const (
	readBuffer   = 16 << 10         // all of a request's head
	readTime     = 30 * time.Second // for a head and a short body
	writeTime    = 60 * time.Second // for an answer
	idleTime     = 5 * time.Minute
	lingerTime   = 30 * time.Second // for a client that sends on after its answer
	lingerPause  = 5 * time.Second  // without a byte from it
	lingerBytes  = 64 << 20
	largeTime    = 15 * time.Minute // for a long body
	largePause   = 30 * time.Second // without a byte of it
	acceptPause  = 100 * time.Millisecond
	keepAliveGap = time.Minute
)

// Server is a set of doors that share one limit and end together.
type Server struct {
	log  *slog.Logger
	done chan struct{}
	most int
	per  int // connections of one address

	mu    sync.Mutex
	conns map[*conn]struct{} // all that are open
	perIP map[ip]int         // those not from this machine
	doors []*door
	empty chan struct{} // closed when conns is empty and Close waits for it
}

// door is one listener.
type door struct {
	net.Listener
	srv  *Server
	tls  *tls.Config
	http *fasthttp.Server
	over chan struct{} // closed when its accept loop has ended
}

// New makes a server without doors.
func New(o Options) *Server {
	s := &Server{log: o.Log, done: o.Done, most: o.Conns, per: o.PerIP, conns: map[*conn]struct{}{}, perIP: map[ip]int{}}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.done == nil {
		s.done = make(chan struct{})
	}
	if s.most == 0 {
		s.most = 4096
	}
	if s.per == 0 {
		s.per = 256
	}
	return s
}

// Done is closed when the server begins to end.
func (s *Server) Done() chan struct{} { return s.done }

// Listen opens a door at an address and serves it; conf makes it a TLS one.
// The address that it gives is the real one, where the port was 0.
func (s *Server) Listen(addr string, conf *tls.Config, h fasthttp.RequestHandler) (net.Addr, error) {
	lc := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepAliveGap, Interval: keepAliveGap, Count: 3}}
	ln, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, err
	}
	s.Open(ln, conf, h)
	return ln.Addr(), nil
}

// Open serves a listener, which the server closes when it ends.
func (s *Server) Open(ln net.Listener, conf *tls.Config, h fasthttp.RequestHandler) {
	d := &door{Listener: ln, srv: s, tls: conf, over: make(chan struct{})}
	d.http = &fasthttp.Server{
		Handler:            func(ctx *fasthttp.RequestCtx) { d.handle(ctx, h) },
		ErrorHandler:       refuse,
		HeaderReceived:     aside,
		Name:               "hearth",
		Concurrency:        2 * s.most, // the door counts by itself, and answers in JSON
		ReadBufferSize:     readBuffer,
		ReadTimeout:        readTime,
		WriteTimeout:       writeTime,
		IdleTimeout:        idleTime,
		MaxRequestBodySize: wire.InlineBody,
		ReduceMemoryUsage:  true,
		CloseOnShutdown:    true,
		KeepHijackedConns:  true, // large.go and long polls close their own
		LazyRequestTime:    true,
		Logger:             quiet{s.log},

		DisablePreParseMultipartForm: true,
		SecureErrorLogMessage:        true,
	}
	s.mu.Lock()
	s.doors = append(s.doors, d)
	s.mu.Unlock()
	go func() {
		defer close(d.over)
		if err := d.http.Serve(d); err != nil {
			s.log.Error("a listener ended", "address", ln.Addr().String(), "err", err)
		}
	}()
}

// quiet takes fasthttp's log lines, which tell of broken clients, at the level
// that nobody reads by default.
type quiet struct{ log *slog.Logger }

func (q quiet) Printf(format string, args ...any) {
	q.log.Debug("http: " + format) // without the arguments: they quote what was sent
}

// Accept gives the next connection that is within the limits.
func (d *door) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil, err
		case err != nil: // out of file descriptors, most likely: it passes
			d.srv.log.Warn("no connection accepted", "err", err)
			select {
			case <-d.srv.done:
			case <-time.After(acceptPause):
			}
			continue
		}
		if got := d.admit(c); got != nil {
			return got, nil
		}
	}
}

// admit counts the connection in, or sends it away and gives nil.
func (d *door) admit(raw net.Conn) *conn {
	c := &conn{Conn: raw, srv: d.srv, door: d, ip: address(raw)}
	if d.tls != nil {
		c.Conn = tls.Server(raw, d.tls)
	}
	s := d.srv
	s.mu.Lock()
	full := len(s.conns) >= s.most
	if n := s.perIP[c.ip]; c.ip != (ip{}) && n >= s.per {
		full = true
	}
	if !full {
		s.conns[c] = struct{}{}
		if c.ip != (ip{}) {
			s.perIP[c.ip]++
		}
	}
	s.mu.Unlock()
	if !full {
		return c
	}
	if d.tls == nil {
		turnAway(raw)
	}
	_ = raw.Close() // nothing was promised
	return nil
}

// turnAway tells a client that there are too many, in what the socket takes at
// once.
func turnAway(c net.Conn) {
	if c.SetWriteDeadline(time.Now().Add(acceptPause)) != nil {
		return
	}
	body := wire.AppendError(nil, fault.Busy, "too many connections")
	head := "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nAccess-Control-Allow-Origin: *\r\n" +
		"Retry-After: 5\r\nConnection: close\r\n\r\n"
	_, _ = c.Write(append([]byte(head), body...)) // it is leaving anyway
}

// Resume serves the next request of a connection whose long poll has been
// answered; early is what came of it meanwhile. It returns when the connection
// has closed or waits again. For wire's Mux.Attach.
func (s *Server) Resume(bare net.Conn, early []byte) {
	c, ok := bare.(*conn)
	if !ok {
		_ = bare.Close()
		return
	}
	c.back = early
	_ = c.door.http.ServeConn(c) // its errors are the client's
}

// refuse answers what fasthttp could not read as a request.
func refuse(ctx *fasthttp.RequestCtx, err error) {
	var small *fasthttp.ErrSmallBuffer
	var timeout net.Error
	switch {
	case errors.As(err, &small):
		wire.RefuseRaw(ctx, fasthttp.StatusRequestHeaderFieldsTooLarge, fault.TooLarge, "the path and headers are too long")
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		wire.RefuseRaw(ctx, fasthttp.StatusRequestEntityTooLarge, fault.TooLarge, "the body is too long for this method")
	case errors.As(err, &timeout) && timeout.Timeout():
		wire.RefuseRaw(ctx, fasthttp.StatusRequestTimeout, fault.Unknown, "the request did not arrive in time")
	default:
		wire.RefuseRaw(ctx, fasthttp.StatusBadRequest, fault.Unknown, "not an HTTP request that can be read")
	}
	if c, ok := ctx.Conn().(*conn); ok {
		c.linger.Store(true)
	}
}

// Close ends all: it takes no more connections, wakes those who wait on Done,
// lets running handlers finish for at most wait, and then cuts the rest.
func (s *Server) Close(wait time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	s.mu.Lock()
	doors := s.doors
	s.doors = nil
	select {
	case <-s.done:
	default:
		close(s.done)
	}
	s.empty = make(chan struct{})
	if len(s.conns) == 0 {
		close(s.empty)
	}
	s.mu.Unlock()

	var all sync.WaitGroup
	for _, d := range doors {
		all.Go(func() {
			_ = d.Listener.Close() // also where fasthttp has not begun to serve it
			_ = d.http.ShutdownWithContext(ctx)
			<-d.over
		})
	}
	s.cut(func(c *conn) bool { return !c.used.Load() }) // never said a word
	select {
	case <-s.empty:
	case <-ctx.Done():
		s.cut(func(*conn) bool { return true })
	}
	all.Wait()
}

// stopping says whether the end has begun.
func (s *Server) stopping() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// cut closes the connections that which picks, without a word.
func (s *Server) cut(which func(*conn) bool) {
	s.mu.Lock()
	var picked []*conn
	for c := range s.conns {
		if which(c) {
			picked = append(picked, c)
		}
	}
	s.mu.Unlock()
	for _, c := range picked {
		_ = c.rawClose() // its own goroutine sees the error
	}
}

// Conns is how many connections are open, for metrics.
func (s *Server) Conns() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}
