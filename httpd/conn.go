package httpd

import (
	"crypto/tls"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// ip is an address as limits count it; the zero one is this machine.
type ip [16]byte

// address gives what a connection counts as. An IPv6 network of one customer
// counts as one.
func address(c net.Conn) (a ip) {
	tcp, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return a
	}
	addr := tcp.AddrPort().Addr().Unmap()
	if addr.IsLoopback() {
		return a
	}
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			addr = p.Addr()
		}
	}
	return addr.WithZone("").As16()
}

// conn is one connection. Read is called by one goroutine at a time; Close may
// come from another.
type conn struct {
	net.Conn // the TLS one on a TLS door
	srv      *Server
	door     *door
	ip       ip

	back   []byte      // read too far by large.go or a long poll; comes first
	used   atomic.Bool // a byte has come
	linger atomic.Bool // Close waits for the client to stop sending
	gone   atomic.Bool
}

func (c *conn) Read(p []byte) (int, error) {
	if len(c.back) > 0 {
		n := copy(p, c.back)
		c.back = c.back[n:]
		return n, nil
	}
	n, err := c.Conn.Read(p)
	if n > 0 && !c.used.Load() {
		c.used.Store(true)
	}
	return n, err
}

func (c *conn) Close() error {
	if c.gone.Swap(true) {
		return net.ErrClosed
	}
	if c.linger.Load() {
		c.drain()
	}
	err := c.Conn.Close()
	s := c.srv
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if c.ip != (ip{}) {
		if s.perIP[c.ip]--; s.perIP[c.ip] == 0 {
			delete(s.perIP, c.ip)
		}
	}
	if s.empty != nil && len(s.conns) == 0 {
		select {
		case <-s.empty:
		default:
			close(s.empty)
		}
	}
	return err
}

// rawClose breaks the connection under whoever is using it, who then closes it.
func (c *conn) rawClose() error {
	if t, ok := c.Conn.(*tls.Conn); ok {
		return t.NetConn().Close() // without the farewell, which could block
	}
	return c.Conn.Close()
}

// drain listens to a client that is still sending, so that it comes to read the
// answer: a socket that is closed on unread bytes takes the answer back.
func (c *conn) drain() {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	until := time.Now().Add(lingerTime)
	buf := make([]byte, 4<<10)
	for left := lingerBytes; left > 0; {
		pause := time.Now().Add(lingerPause)
		if pause.After(until) {
			pause = until
		}
		if c.SetReadDeadline(pause) != nil {
			return
		}
		n, err := c.Conn.Read(buf)
		if err != nil {
			return
		}
		left -= n
	}
}

// unread takes what r has read ahead of the requests, to be read again. The
// deadline in the past keeps r from asking the socket.
func (c *conn) unread(r io.Reader) error {
	if err := c.SetReadDeadline(time.Unix(1, 0)); err != nil {
		return err
	}
	var rest []byte
	buf := make([]byte, 512)
	for len(rest) <= 2*readBuffer {
		n, err := r.Read(buf)
		rest = append(rest, buf[:n]...)
		if err != nil {
			break
		}
	}
	c.back = rest
	return c.SetReadDeadline(time.Time{})
}
