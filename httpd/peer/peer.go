package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"hearth/engine/fault"
)

// Options are what a client is made with. No environment variable puts a proxy
// in between: it would be the one that dials.
type Options struct {
	Allow []netip.Prefix // networks that may be asked though they are not public
	Agent string         // the User-Agent
	// Roots are the certificates that others are judged by; nil: the system's, or
	// those that SSL_CERT_FILE and SSL_CERT_DIR name.
	Roots *x509.CertPool
	Time  time.Duration // one exchange may take; 0: 30 s
	Conns int           // to one host at once; 0: 8
}

// Client is the connections to others. All methods may be called at the same time.
type Client struct {
	o      Options
	client http.Client
	pipes  *http.Transport
}

const (
	keepIdle  = 90 * time.Second // as long as most servers do
	maxIdle   = 32               // connections in all
	maxHeader = 64 << 10
	// DefaultAnswer is how much of an answer is read where the request does not say.
	DefaultAnswer = 1 << 20
)

// New makes a client that has no connection yet.
func New(o Options) *Client {
	if o.Time == 0 {
		o.Time = 30 * time.Second
	}
	if o.Conns == 0 {
		o.Conns = 8
	}
	c := &Client{o: o}
	guard := &Guard{Allow: o.Allow}
	c.pipes = &http.Transport{
		DialContext:     func(ctx context.Context, _, address string) (net.Conn, error) { return guard.Dial(ctx, address) },
		TLSClientConfig: &tls.Config{RootCAs: o.Roots, MinVersion: tls.VersionTLS12},
		MaxConnsPerHost: o.Conns, MaxIdleConnsPerHost: 1, MaxIdleConns: maxIdle, IdleConnTimeout: keepIdle,
		TLSHandshakeTimeout: dialTime, MaxResponseHeaderBytes: maxHeader, ForceAttemptHTTP2: true,
	}
	c.client = http.Client{Transport: c.pipes, CheckRedirect: follow}
	return c
}

// Close ends the connections that nobody uses.
func (c *Client) Close() { c.pipes.CloseIdleConnections() }

// Request is one question.
type Request struct {
	Method    string
	URL       string // http or https
	Type      string // of the body; empty: application/json where there is one
	Header    http.Header
	Body      []byte
	MaxAnswer int64         // more than that is an error; 0: DefaultAnswer
	Redirects int           // how many are followed; 0: a redirect is the answer
	Time      time.Duration // may take; 0: the client's
}

// Answer is what came back, whatever its status.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do asks, and reads the whole answer. Errors are of kind Remote, and of kind
// Forbidden where an address may not be asked.
func (c *Client) Do(ctx context.Context, r *Request) (*Answer, error) {
	long := r.Time
	if long == 0 {
		long = c.o.Time
	}
	ctx, cancel := context.WithTimeout(ctx, long)
	defer cancel()
	resp, err := c.Open(ctx, r)
	if err != nil {
		return nil, err
	}
	body, err := whole(resp, r.MaxAnswer)
	if err != nil {
		return nil, err
	}
	return &Answer{Status: resp.StatusCode, Header: resp.Header, Body: body}, nil
}

// PostJSON is Do for a question that is a short exchange of JSON.
func (c *Client) PostJSON(ctx context.Context, url string, body []byte) (status int, answer []byte, err error) {
	a, err := c.Do(ctx, &Request{Method: http.MethodPost, URL: url, Body: body, MaxAnswer: 64 << 10})
	if err != nil {
		return 0, nil, err
	}
	return a.Status, a.Body, nil
}

// Open asks, and leaves the answer's body to be read and closed by the caller,
// who bounds it; ctx bounds the time, also that of reading. Errors are those of Do.
func (c *Client) Open(ctx context.Context, r *Request) (*http.Response, error) {
	const op = "peer.Open"
	if err := CheckURL(r.URL); err != nil {
		return nil, err
	}
	ctx = context.WithValue(ctx, redirects{}, r.Redirects)
	var body io.Reader
	if r.Body != nil {
		body = bytes.NewReader(r.Body)
	}
	q, err := http.NewRequestWithContext(ctx, r.Method, r.URL, body)
	if err != nil {
		return nil, fault.E(fault.Invalid, op, "not a request: %w", err)
	}
	for k, v := range r.Header {
		q.Header[k] = v
	}
	if c.o.Agent != "" && q.Header.Get("User-Agent") == "" {
		q.Header.Set("User-Agent", c.o.Agent)
	}
	switch {
	case r.Type != "":
		q.Header.Set("Content-Type", r.Type)
	case r.Body != nil:
		q.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.client.Do(q)
	if err == nil {
		return resp, nil
	}
	if errors.Is(err, ErrRefused) {
		return nil, fault.E(fault.Forbidden, op, "%w: it is not public, and no setting allows it", ErrRefused)
	}
	var u *url.Error // it repeats the address, which may hold a secret
	if errors.As(err, &u) {
		err = u.Err
	}
	return nil, fault.E(fault.Remote, op, "no answer: %w", err)
}

// CheckURL judges an address by its form only. Error: Invalid.
func CheckURL(s string) error {
	const op = "peer.CheckURL"
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return fault.E(fault.Invalid, op, "not a URL")
	case u.Scheme != "https" && u.Scheme != "http":
		return fault.E(fault.Invalid, op, "the URL must begin with https:// or http://")
	case u.Hostname() == "" || u.User != nil:
		return fault.E(fault.Invalid, op, "the URL must name a host, and no user")
	}
	return nil
}

// redirects is the key of the number that a request allows.
type redirects struct{}

// follow ends at the redirect that is one too many, which is the answer then.
func follow(q *http.Request, via []*http.Request) error {
	most, _ := q.Context().Value(redirects{}).(int) // absent: none
	if len(via) > most || q.URL.Scheme != "https" && q.URL.Scheme != "http" {
		return http.ErrUseLastResponse
	}
	if via[len(via)-1].URL.Scheme == "https" && q.URL.Scheme == "http" {
		return http.ErrUseLastResponse // nothing that was asked in secret is asked again in the clear
	}
	return nil
}
