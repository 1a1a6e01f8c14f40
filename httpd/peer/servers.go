package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"hearth/engine/fault"
	"hearth/engine/federation"
	"hearth/engine/mxid"
	"hearth/httpd/peer/dns"
)

// ServersOptions are what the way to other Matrix servers is made with.
type ServersOptions struct {
	Allow []netip.Prefix // networks that may be asked though they are not public
	Agent string         // the User-Agent
	// Roots are the certificates that servers are judged by; nil: the system's, or
	// those that SSL_CERT_FILE and SSL_CERT_DIR name.
	Roots    *x509.CertPool
	Resolver *dns.Resolver    // nil: one of its own
	Conns    int              // connections in all; 0: 64
	PerHost  int              // connections to one server; 0: 8
	Now      func() time.Time // by which certificates are judged; nil: time.Now
}

// Servers asks other Matrix servers, each where its name says that it is. All
// methods may be called at the same time. It is the federation.Peer of the
// network.
//
// It speaks HTTP/1.1: a server is asked a few things at a time, each in one
// packet or two, and connections that are kept do for that what streams would.
// A connection belongs to a name that needs no more delegation; servers that
// delegate to the same one share it, because it has proven itself by the same
// certificate.
type Servers struct {
	o      ServersOptions
	dns    *dns.Resolver
	guard  Guard
	tls    *tls.Config
	pipes  *http.Transport
	wells  http.Client   // for .well-known
	slots  chan struct{} // connections
	asking chan struct{} // .well-known requests under way

	web, fed uint16        // the ports 443 and 8448, others in tests
	patience time.Duration // with a .well-known

	mu      sync.Mutex
	known   table
	flights map[mxid.Server]*flight
	dead    map[mxid.Server]grave // names that could not be reached just now
}

const (
	exchangeTime  = 30 * time.Second
	connectTime   = 20 * time.Second // for one connection with all that is tried
	handshakeTime = 10 * time.Second
	serverIdle    = 60 * time.Second
	serverHead    = 16 << 10 // bytes of an answer's header
	maxDead       = 1024
)

// NewServers makes the way to other servers. It has no connection yet.
func NewServers(o ServersOptions) *Servers {
	if o.Conns == 0 {
		o.Conns = 64
	}
	if o.PerHost == 0 {
		o.PerHost = 8
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Servers{
		o: o, dns: o.Resolver,
		// Any port will do: the first bytes are a TLS greeting in which others choose
		// nothing but a host name, and what is to be said is said only to a certificate
		// that proves it. Nothing that speaks anything else can be talked to that way.
		guard: Guard{Allow: o.Allow, AnyPort: true},
		tls: &tls.Config{
			RootCAs: o.Roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, Time: o.Now,
			ClientSessionCache: tls.NewLRUClientSessionCache(o.Conns),
		},
		slots: make(chan struct{}, o.Conns), asking: make(chan struct{}, maxAsking),
		web: 443, fed: 8448, patience: wellTime,
		known: table{most: tableBytes}, flights: map[mxid.Server]*flight{}, dead: map[mxid.Server]grave{},
	}
	if s.dns == nil {
		s.dns = dns.New(dns.Options{})
	}
	s.pipes = &http.Transport{
		DialTLSContext:  func(ctx context.Context, _, address string) (net.Conn, error) { return s.dialName(ctx, address) },
		MaxConnsPerHost: o.PerHost, MaxIdleConnsPerHost: 2, IdleConnTimeout: serverIdle,
		MaxIdleConns:           max(1, o.Conns*3/4), // so that a new server finds room without all that is kept going
		MaxResponseHeaderBytes: serverHead, DisableCompression: true,
	}
	s.wells = http.Client{CheckRedirect: followWell, Transport: &http.Transport{
		DialContext:     func(ctx context.Context, _, address string) (net.Conn, error) { return s.dialWeb(ctx, address) },
		TLSClientConfig: &tls.Config{RootCAs: o.Roots, MinVersion: tls.VersionTLS12, Time: o.Now}, TLSHandshakeTimeout: handshakeTime,
		MaxResponseHeaderBytes: serverHead, DisableKeepAlives: true, DisableCompression: true,
	}}
	return s
}

// Close ends the connections that nobody uses.
func (s *Servers) Close() { s.pipes.CloseIdleConnections() }

// Do asks and reads the whole answer, whatever its status. Errors are of kind
// Remote, and Forbidden where no address of the server may be dialled.
func (s *Servers) Do(ctx context.Context, r *federation.Request) (*federation.Answer, error) {
	long := r.Time
	if long == 0 {
		long = exchangeTime
	}
	ctx, cancel := context.WithTimeout(ctx, long)
	defer cancel()
	resp, err := s.open(ctx, r)
	if err != nil {
		return nil, err
	}
	body, err := whole(resp, r.MaxAnswer)
	if err != nil {
		return nil, err
	}
	return &federation.Answer{Status: resp.StatusCode, Body: body}, nil
}

// Open asks and leaves the body to the caller, who bounds and closes it; ctx
// bounds the time, also that of reading. Errors are those of Do.
func (s *Servers) Open(ctx context.Context, r *federation.Request) (*federation.Stream, error) {
	resp, err := s.open(ctx, r)
	if err != nil {
		return nil, err
	}
	return &federation.Stream{
		Status: resp.StatusCode, Type: resp.Header.Get("Content-Type"), Length: resp.ContentLength, Body: resp.Body,
	}, nil
}

func (s *Servers) open(ctx context.Context, r *federation.Request) (*http.Response, error) {
	const op = "peer.Servers"
	if _, err := mxid.ParseServer(string(r.Dest)); err != nil {
		return nil, fault.E(fault.Remote, op, "%q is not a server name", r.Dest)
	}
	if !target(r.Path) {
		return nil, fault.E(fault.Internal, op, "%q is no path to ask for", r.Path)
	}
	name, err := s.delegate(ctx, r.Dest)
	if err != nil {
		return nil, fault.E(fault.Remote, op, "%s was not found: %w", r.Dest, err)
	}
	resp, err := s.pipes.RoundTrip(compose(ctx, r, name, s.o.Agent))
	if err == nil {
		return resp, nil
	}
	switch why := context.Cause(ctx); {
	case errors.Is(why, context.DeadlineExceeded):
		err = fmt.Errorf("it took too long: %w", why)
	case why != nil:
		err = why // what the transport says of it is no clearer
	}
	var failed *unreached
	if errors.As(err, &failed) {
		s.doubt(r.Dest)
	}
	kind := fault.Remote
	if errors.Is(err, ErrRefused) {
		kind = fault.Forbidden
	}
	return nil, fault.E(kind, op, "no answer from %s: %w", r.Dest, err)
}

// compose makes the request. Its URL carries the name that is dialled in a form
// that no two names share, unlike host and port, where a missing port and 443
// would be one; the path goes out as it was signed, byte by byte.
func compose(ctx context.Context, r *federation.Request, name mxid.Server, agent string) *http.Request {
	q := &http.Request{
		Method: r.Method, URL: &url.URL{Scheme: "https", Host: pipe(name), Opaque: r.Path}, Host: string(name),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"User-Agent": {agent}},
	}
	if r.Body != nil {
		q.Header["Content-Type"] = []string{"application/json"}
		q.ContentLength = int64(len(r.Body))
		q.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(r.Body)), nil }
		q.Body = io.NopCloser(bytes.NewReader(r.Body))
	}
	if r.Authorization != "" {
		q.Header["Authorization"] = []string{r.Authorization}
	}
	if r.Accept != "" {
		q.Header["Accept"] = []string{r.Accept}
	}
	if r.Method == http.MethodPut {
		// All that is put has an id of its own: it may be said again on a new connection
		// where a kept one has died. The empty list says so to the transport alone.
		q.Header["Idempotency-Key"] = nil
	}
	return q.WithContext(ctx)
}

// target says whether a path may stand in the first line of a request.
func target(path string) bool {
	if len(path) < 2 || path[0] != '/' || path[1] == '/' {
		return false
	}
	for i := range len(path) {
		if c := path[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return false
		}
	}
	return true
}

// pipe is the name as the transport's key, and named is its inverse.
func pipe(name mxid.Server) string { return hex.EncodeToString([]byte(name)) + ".peer" }

func named(address string) (mxid.Server, error) {
	host, _, _ := net.SplitHostPort(address)
	if len(host) > 5 {
		if b, err := hex.DecodeString(host[:len(host)-5]); err == nil {
			return mxid.ParseServer(string(b))
		}
	}
	return "", errors.New("not an address of this transport")
}

// whole reads an answer to its end, and closes it.
func whole(resp *http.Response, most int64) ([]byte, error) {
	const op = "peer.Do"
	defer func() { _ = resp.Body.Close() }() // it was read, or is not wanted
	if most == 0 {
		most = DefaultAnswer
	}
	if resp.ContentLength > most {
		return nil, fault.E(fault.Remote, op, "the answer has more than %d bytes", most)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	if err != nil {
		return nil, fault.E(fault.Remote, op, "the answer broke off: %w", err)
	}
	if int64(len(body)) > most {
		return nil, fault.E(fault.Remote, op, "the answer has more than %d bytes", most)
	}
	return body, nil
}
