package mediaapi

import (
	"context"
	"io"
	"net/url"
	"strings"
	"time"

	"hearth/engine/fault"
)

// Page is the answer to a request for a link preview. Its body is read as it
// comes, and closed.
type Page struct {
	URL    *url.URL // where the last redirect led to
	Status int
	Type   string // content type
	Size   int64  // of the body; -1 where it is not known
	Body   io.ReadCloser
}

// Get asks for a page of the web, and follows redirects. It judges each address
// when it is dialled, and ends with its context.
type Get func(ctx context.Context, link, accept string) (*Page, error)

// What one preview may take, its picture included.
const (
	maxLink   = 2 << 10
	fetchTime = 15 * time.Second
)

// parseLink reads an address of the web.
func parseLink(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || len(raw) > maxLink || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return nil, fault.E(fault.Invalid, "mediaapi.preview", "url must be an address of the web")
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

// noAnswer says that there is nothing to preview. What went wrong on the way is
// not told: it would tell what there is in the hub's own network.
func noAnswer(format string, args ...any) error {
	return fault.E(fault.Remote, "mediaapi.preview", format, args...)
}

// open asks for a page, and gives it if it is there.
func (p *previews) open(ctx context.Context, u *url.URL, accept string) (*Page, error) {
	r, err := p.get(ctx, u.String(), accept)
	if err != nil {
		return nil, noAnswer("the page cannot be reached")
	}
	if r.Status != 200 {
		_ = r.Body.Close() // it says why there is no page
		return nil, noAnswer("the page answered with status %d", r.Status)
	}
	r.Type = strings.ToLower(r.Type)
	return r, nil
}
