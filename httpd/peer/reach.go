package peer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"hearth/engine/mxid"
	"hearth/httpd/peer/dns"
)

const (
	nextAddress = 250 * time.Millisecond // RFC 8305, 5: then the next one is tried beside it
	maxAddrs    = 8                      // of one host that are tried
	maxTargets  = 4                      // of one service
	maxTold     = 6                      // attempts that an error tells of
	leastGrave  = time.Second
	mostGrave   = 10 * time.Second
)

// unreached is the error of a server that could not be connected to. It tells
// what was tried.
type unreached struct {
	tried []string
	err   error // ErrRefused where nothing was dialled because nothing may be
	shown bool  // somebody showed a certificate, and it was no good
}

func (u *unreached) Error() string {
	told := u.tried[:min(len(u.tried), maxTold)]
	return "tried " + strings.Join(told, "; ")
}

func (u *unreached) Unwrap() error { return u.err }

// note adds an attempt.
func (u *unreached) note(at string, err error) {
	u.tried = append(u.tried, at+" ("+briefly(err)+")")
	if !errors.Is(err, ErrRefused) {
		u.err = nil
	} else if len(u.tried) == 1 {
		u.err = ErrRefused
	}
}

// briefly says what went wrong without what the reader has read already.
func briefly(err error) string {
	var number syscall.Errno
	var bad *tls.CertificateVerificationError
	var host x509.HostnameError
	switch {
	case errors.Is(err, ErrRefused):
		return "it is not public, and allow_networks does not have it"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.As(err, &number):
		return number.Error()
	case errors.As(err, &host):
		return "its certificate is for another name"
	case errors.As(err, &bad):
		return strings.TrimPrefix(bad.Err.Error(), "x509: ")
	}
	return strings.TrimPrefix(err.Error(), "dns: ")
}

// grave remembers for a moment that a name could not be reached, so that a dozen
// questions to a server that is away cost one attempt. It lasts about as long as
// the attempt took.
type grave struct {
	until time.Time
	err   error
}

// dialName connects to a server name that needs no more delegation; address is
// the one that pipe made of it.
func (s *Servers) dialName(ctx context.Context, address string) (net.Conn, error) {
	name, err := named(address)
	if err != nil {
		return nil, err
	}
	began := s.o.Now()
	s.mu.Lock()
	g, buried := s.dead[name]
	s.mu.Unlock()
	if buried && began.Before(g.until) {
		return nil, g.err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	c, err := s.greet(ctx, name)
	now := s.o.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		delete(s.dead, name)
	case !errors.Is(ctx.Err(), context.Canceled):
		for old, g := range s.dead {
			if len(s.dead) < maxDead && now.Before(g.until) {
				break
			}
			delete(s.dead, old)
		}
		s.dead[name] = grave{now.Add(min(max(now.Sub(began), leastGrave), mostGrave)), err}
	}
	return c, err
}

// greet tries all the places of a name until one has the right certificate.
func (s *Servers) greet(ctx context.Context, name mxid.Server) (net.Conn, error) {
	if err := s.slot(ctx); err != nil {
		return nil, err
	}
	failed := &unreached{}
	host, places := s.places(ctx, name, failed)
	for _, p := range places {
		raw, err := s.dialHost(ctx, p.Host, p.Port, failed)
		if err != nil {
			continue
		}
		conf := s.tls.Clone()
		conf.ServerName = host
		c := tls.Client(&counted{Conn: raw, slots: s.slots}, conf)
		hold, cancel := context.WithTimeout(ctx, handshakeTime)
		err = c.HandshakeContext(hold)
		cancel()
		if err == nil {
			return c, nil
		}
		failed.note(raw.RemoteAddr().String(), err)
		var bad *tls.CertificateVerificationError
		failed.shown = failed.shown || errors.As(err, &bad)
		_ = raw.Close() // not by c, which would give the slot back
	}
	<-s.slots
	if len(failed.tried) == 0 {
		failed.tried = []string{"nothing: its name says that it has no such service"}
	}
	return nil, failed
}

// slot waits until there may be one more connection. Those that nobody uses make
// room.
func (s *Servers) slot(ctx context.Context) error {
	select {
	case s.slots <- struct{}{}:
		return nil
	default:
	}
	s.pipes.CloseIdleConnections()
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("too many connections to other servers: %w", context.Cause(ctx))
	}
}

// counted gives its slot back when it is closed.
type counted struct {
	net.Conn
	slots chan struct{}
	once  sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() { <-c.slots })
	return c.Conn.Close()
}

// places gives the host whose certificate is wanted, and where to find it, best
// first. A service that cannot be looked up is passed over: many a home router
// does not know the type of record, and the certificate decides anyway.
//
// Spec: server-server, Resolving server names, steps 1, 2, 3.1 to 3.5 and 4 to 6.
func (s *Servers) places(ctx context.Context, name mxid.Server, failed *unreached) (string, []dns.Target) {
	host, port := split(name)
	if _, err := netip.ParseAddr(host); err == nil && port == 0 {
		port = s.fed
	}
	if port != 0 {
		return host, []dns.Target{{Host: host, Port: port}}
	}
	if !s.dns.Local(host) {
		for _, service := range []string{"_matrix-fed._tcp.", "_matrix._tcp."} {
			found, err := s.dns.Targets(ctx, service+host)
			if err == nil {
				return host, found[:min(len(found), maxTargets)]
			}
			if !errors.Is(err, dns.ErrNone) {
				failed.note(service+host, err)
			}
		}
	}
	return host, []dns.Target{{Host: host, Port: s.fed}}
}

// split parts a server name, which has been checked. A port of 0 is none.
func split(name mxid.Server) (host string, port uint16) {
	host = string(name)
	if h, p, err := net.SplitHostPort(host); err == nil {
		if n, err := strconv.ParseUint(p, 10, 16); err == nil {
			host, port = h, uint16(n)
		}
	}
	return strings.Trim(host, "[]"), port
}

// dialWeb connects for a request by HTTPS; address has a host and a port.
func (s *Servers) dialWeb(ctx context.Context, address string) (net.Conn, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, err
	}
	if port == 443 {
		port = uint64(s.web)
	}
	failed := &unreached{}
	if c, err := s.dialHost(ctx, host, uint16(port), failed); err == nil {
		return c, nil
	}
	return nil, failed
}

// dialHost connects to one of a host's addresses: the next is tried when one
// has failed, or beside it when it takes long.
//
// Spec: RFC 8305, 5.
func (s *Servers) dialHost(ctx context.Context, host string, port uint16, failed *unreached) (net.Conn, error) {
	addrs, err := s.dns.Addrs(ctx, host)
	if err != nil {
		failed.note(host, err)
		return nil, err
	}
	var may []netip.AddrPort
	for _, a := range mixed(addrs) {
		at := netip.AddrPortFrom(a, port)
		if !s.guard.Permits(at) {
			failed.note(at.String(), ErrRefused)
			continue
		}
		may = append(may, at)
	}
	if len(may) == 0 {
		return nil, failed
	}
	return s.race(ctx, may[:min(len(may), maxAddrs)], failed)
}

// attempt is how dialling one address ended.
type attempt struct {
	at  netip.AddrPort
	c   net.Conn
	err error
}

// race gives the first connection, and lets the others go.
func (s *Servers) race(ctx context.Context, addrs []netip.AddrPort, failed *unreached) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan attempt, len(addrs))
	wait := time.NewTimer(0)
	defer wait.Stop()
	for running := 0; ; {
		var next <-chan time.Time
		if len(addrs) > 0 {
			next = wait.C
		}
		select {
		case <-next:
			at := addrs[0]
			addrs = addrs[1:]
			running++
			go func() {
				c, err := s.guard.Dial(ctx, at.String())
				ended <- attempt{at, c, err}
			}()
			wait.Reset(nextAddress)
		case a := <-ended:
			running--
			if a.err == nil {
				go forget(ended, running)
				return a.c, nil
			}
			failed.note(a.at.String(), a.err)
			if running == 0 && len(addrs) == 0 {
				return nil, failed
			}
			wait.Reset(0)
		}
	}
}

// forget closes what came too late. Its n attempts end soon: their context has.
func forget(ended <-chan attempt, n int) {
	for range n {
		if a := <-ended; a.c != nil {
			_ = a.c.Close() // nothing was said on it
		}
	}
}

// mixed puts the two kinds of address in turn, those of version 6 first.
func mixed(all []netip.Addr) []netip.Addr {
	var six, four, out []netip.Addr
	for _, a := range all {
		if a.Unmap().Is4() {
			four = append(four, a)
		} else {
			six = append(six, a)
		}
	}
	for i := range max(len(six), len(four)) {
		if i < len(six) {
			out = append(out, six[i])
		}
		if i < len(four) {
			out = append(out, four[i])
		}
	}
	return out
}
