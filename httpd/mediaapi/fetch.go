package mediaapi

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"hearth/engine/fault"
)

// What one fetch may take.
const (
	maxHops   = 5
	maxURL    = 2 << 10
	fetchHead = 16 << 10 // bytes of an answer's head
)

// agent is what the hub calls itself. Many sites tell previews only to those who
// look like a browser.
const agent = "Mozilla/5.0 (compatible; Hearth; link preview)"

// fetcher gets what a link leads to. There is one connection for each request:
// links of one room seldom lead to one site, and nothing is kept open that way.
type fetcher struct {
	dial func(ctx context.Context, address string) (net.Conn, error)
	tls  *tls.Config // nil: the system's
}

// reply is an answer whose body is being read.
type reply struct {
	url  *url.URL // where the last redirect led to
	typ  string   // content type
	size int64    // of the body; -1 where it is not known
	body io.Reader

	conn net.Conn
	resp *fasthttp.Response
}

// Close ends the connection.
func (r *reply) Close() error {
	_ = r.resp.CloseBodyStream() // there is nothing to be saved
	return r.conn.Close()
}

// parseLink reads an address of the web.
func parseLink(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || len(raw) > maxURL || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return nil, fault.E(fault.Invalid, "mediaapi.preview", "url must be an address of the web")
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

// get follows redirects; each address on the way is judged when it is dialled.
func (f *fetcher) get(ctx context.Context, u *url.URL, accept string) (*reply, error) {
	for range maxHops {
		r, err := f.once(ctx, u, accept)
		if err != nil {
			return nil, err
		}
		code := r.resp.StatusCode()
		if code == fasthttp.StatusOK {
			return r, nil
		}
		to := string(r.resp.Header.Peek("Location"))
		_ = r.Close() // its body is of no use
		if code < 300 || code > 399 || to == "" {
			return nil, noAnswer("the page answered with status %d", code)
		}
		next, err := u.Parse(to)
		if err != nil {
			return nil, noAnswer("the page leads nowhere")
		}
		if u, err = parseLink(next.String()); err != nil {
			return nil, noAnswer("the page leads nowhere")
		}
	}
	return nil, noAnswer("the page leads on and on")
}

// noAnswer says that there is nothing to preview. What went wrong on the way is
// not told: it would tell what there is in the hub's own network.
func noAnswer(format string, args ...any) error {
	return fault.E(fault.Remote, "mediaapi.preview", format, args...)
}

var errSilent = noAnswer("the page cannot be reached")

// once makes one request. The context's deadline bounds all of it.
func (f *fetcher) once(ctx context.Context, u *url.URL, accept string) (*reply, error) {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	conn, err := f.dial(ctx, net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, errSilent
	}
	if until, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(until); err != nil {
			_ = conn.Close() // it is broken already
			return nil, errSilent
		}
	}
	if u.Scheme == "https" {
		conf := &tls.Config{}
		if f.tls != nil {
			conf = f.tls.Clone()
		}
		conf.ServerName, conf.MinVersion = u.Hostname(), tls.VersionTLS12
		conn = tls.Client(conn, conf)
	}
	r := &reply{url: u, conn: conn, resp: &fasthttp.Response{StreamBody: true}}
	if err := r.ask(u, accept); err != nil {
		_ = r.Close() // it said what it had to say
		return nil, errSilent
	}
	return r, nil
}

func (r *reply) ask(u *url.URL, accept string) error {
	var req fasthttp.Request
	req.Header.SetRequestURI(u.RequestURI()) // as it is: some sites mean what they escape
	req.Header.SetHost(u.Host)
	req.Header.SetUserAgent(agent)
	req.Header.Set("Accept", accept)
	req.Header.Set("Accept-Language", "en, *;q=0.5")
	req.SetConnectionClose()
	w := bufio.NewWriterSize(r.conn, maxURL)
	if err := req.Write(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := r.resp.ReadLimitBody(bufio.NewReaderSize(r.conn, fetchHead), 0); err != nil {
		return err
	}
	r.typ = strings.ToLower(string(r.resp.Header.ContentType()))
	if r.size = int64(r.resp.Header.ContentLength()); r.size < 0 {
		r.size = -1
	}
	if r.body = r.resp.BodyStream(); r.body == nil {
		r.body = strings.NewReader("")
	}
	if enc := r.resp.Header.Peek("Content-Encoding"); len(enc) > 0 && string(enc) != "identity" {
		return errSilent // nobody asked for that
	}
	return nil
}

// fetchTime bounds one preview, its picture included.
const fetchTime = 15 * time.Second
