package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// maxAnswer bounds what is read of one answer. A full page is 100 events of at most 64 KiB.
const maxAnswer = 16 << 20

// patience is how long one request may take besides the time it was asked to wait.
const patience = 30 * time.Second

// Options says which server to talk to and how.
type Options struct {
	Server string         // base URL, http or https
	Token  string         // access token; empty until Login
	Roots  *x509.CertPool // who may vouch for the server; nil is the system's
	// Notice is told when the server goes away and when it is back; nil is silence.
	Notice func(text string)
	// FirstPause and LongestPause bound the pause between two tries, which doubles. 0 means 250 ms and 30 s.
	FirstPause, LongestPause time.Duration
}

// Client speaks for one device of one user.
type Client struct {
	base   string
	token  string
	http   *http.Client
	notice func(string)
	first  time.Duration
	most   time.Duration

	run     string // makes the transaction ids of this run unlike those of any other
	counter atomic.Uint64
}

// New checks the options; it does not talk to the server yet.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.Server)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("server %q: want a URL such as http://127.0.0.1:8008", o.Server)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("server %q: only scheme, host, port and path belong into it", u.Redacted())
	}
	c := &Client{
		base:   strings.TrimRight(u.String(), "/"),
		token:  o.Token,
		http:   &http.Client{},
		notice: o.Notice,
		first:  o.FirstPause,
		most:   o.LongestPause,
	}
	if o.Roots != nil {
		t := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
		t.TLSClientConfig = &tls.Config{RootCAs: o.Roots}
		c.http.Transport = t
	}
	if c.notice == nil {
		c.notice = func(string) {}
	}
	if c.first <= 0 {
		c.first = 250 * time.Millisecond
	}
	if c.most <= 0 {
		c.most = 30 * time.Second
	}
	var seed [9]byte
	rand.Read(seed[:])
	c.run = hex.EncodeToString(seed[:])
	return c, nil
}

// Transaction gives an id that no other event of this device has.
func (c *Client) Transaction() string {
	return c.run + "-" + strconv.FormatUint(c.counter.Add(1), 10)
}

// Error is an answer that is no success.
type Error struct {
	Status int
	Code   string // errcode; empty where the answer was not Matrix JSON
	Text   string
	After  time.Duration // how long the server asks to wait, 0 when it does not say
}

// Error gives status, code and the server's words.
func (e *Error) Error() string {
	s := strconv.Itoa(e.Status)
	if e.Code != "" {
		s += " " + e.Code
	}
	if e.Text != "" {
		s += ": " + e.Text
	}
	return s
}

// Refused reports whether the server gave this error code.
func Refused(err error, code string) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == code
}

// call is one request.
type call struct {
	method string
	path   string // below /_matrix/client/v3, escaped
	query  url.Values
	body   any           // marshalled, or json.RawMessage as it is; nil is none
	wait   time.Duration // how long the server is asked to hold the request
	// through marks a request that changes something: once it is on its way its answer is worth waiting for.
	through bool
}

// once makes one request and decodes a success into out.
func (c *Client) once(ctx context.Context, r call, out any) error {
	ctx, cancel := context.WithTimeout(ctx, r.wait+patience)
	defer cancel()
	var body io.Reader
	if r.body != nil {
		b, err := json.Marshal(r.body)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	target := c.base + "/_matrix/client/v3" + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return &away{err}
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return &away{err}
	}
	if len(answer) > maxAnswer {
		return fmt.Errorf("%s: the answer is larger than %d bytes", r.path, maxAnswer)
	}
	if resp.StatusCode/100 != 2 {
		return refusal(resp, answer)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("the answer to %s is not what Matrix promises; is %s a Matrix server? %w", r.path, c.base, err)
	}
	return nil
}

// refusal turns an answer that is no success into an Error.
func refusal(resp *http.Response, answer []byte) *Error {
	e := &Error{Status: resp.StatusCode}
	var standard struct {
		Code    string `json:"errcode"`
		Text    string `json:"error"`
		AfterMS int64  `json:"retry_after_ms"`
	}
	if json.Unmarshal(answer, &standard) == nil {
		e.Code, e.Text = standard.Code, standard.Text
		e.After = time.Duration(min(max(standard.AfterMS, 0), 3_600_000)) * time.Millisecond
	}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s >= 0 && s <= 3600 {
		e.After = max(e.After, time.Duration(s)*time.Second)
	}
	if e.Code == "" && e.Text == "" {
		e.Text = http.StatusText(resp.StatusCode)
	}
	return e
}
