package wire

import (
	"bytes"
	"net"

	"github.com/valyala/fasthttp"
)

// Question is a request that the hub makes of itself.
type Question struct {
	Method, Path  string // with the query
	Authorization string // the header; empty: none
	Body          []byte
}

// Ask serves a request without a connection, for parts of the hub that could be
// on another machine and happen to be on this one. It counts as from this machine.
func (m *Mux) Ask(q *Question) (status int, answer []byte) {
	var req fasthttp.Request
	req.Header.SetMethod(q.Method)
	req.SetRequestURI(q.Path)
	if q.Authorization != "" {
		req.Header.Set("Authorization", q.Authorization)
	}
	if q.Body != nil {
		req.Header.SetContentType(contentJSON)
		req.SetBody(q.Body)
	}
	var ctx fasthttp.RequestCtx
	ctx.Init(&req, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, nil)
	m.Serve(&ctx)
	return ctx.Response.StatusCode(), bytes.Clone(ctx.Response.Body())
}
