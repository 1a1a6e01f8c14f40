package httpd

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"hearth/engine/fault"
	"hearth/httpd/wire"
)

// The way of a long body, or of one whose length is unknown. When its head has
// been read, aside hides the body from fasthttp, behind a method that no client
// can send: "PUT 123456" with a space. handle sees that method, takes the
// connection over, and serves the one request with a body that is read from the
// connection as the handler asks for it. Then fasthttp gets the connection back.
// So the token is looked at before the body is, the body is never held whole
// unless the handler wants it so, and all other requests stay as cheap as they
// are without streaming.

// aside hides a long body. It is called when the head has been read.
func aside(h *fasthttp.RequestHeader) (conf fasthttp.RequestConfig) {
	n := h.ContentLength()
	if n >= 0 && n <= wire.InlineBody || n < -1 || h.IsGet() || h.IsHead() {
		return conf
	}
	mark := append(append([]byte{}, h.Method()...), ' ')
	mark = strconv.AppendInt(mark, int64(n), 10)
	if h.IsHTTP11() && bytes.EqualFold(h.Peek("Expect"), []byte("100-continue")) {
		mark = append(mark, ' ') // and the client waits to be told to go on
	}
	h.Del("Expect")
	h.SetMethodBytes(mark)
	h.SetContentLength(0)
	return conf
}

// handle serves a request that fasthttp has read, or takes its connection.
func (d *door) handle(ctx *fasthttp.RequestCtx, h fasthttp.RequestHandler) {
	method, rest, ok := bytes.Cut(ctx.Method(), []byte{' '})
	if !ok {
		h(ctx)
		if d.srv.stopping() {
			ctx.SetConnectionClose()
		}
		return
	}
	size, waits := bytes.CutSuffix(rest, []byte{' '})
	n, err := strconv.Atoi(string(size))
	base, mine := ctx.Conn().(*conn)
	if err != nil || !mine {
		wire.RefuseRaw(ctx, fasthttp.StatusBadRequest, fault.Unknown, "not an HTTP request that can be read")
		return
	}
	l := &large{door: d, conn: base, handler: h, size: n, waits: waits}
	ctx.Request.Header.SetMethodBytes(bytes.Clone(method))
	ctx.Request.Header.CopyTo(&l.head)
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(l.serve)
}

// large is one request with a long body.
type large struct {
	door    *door
	conn    *conn
	handler fasthttp.RequestHandler
	head    fasthttp.RequestHeader
	size    int  // of the body; -1 where it is chunked
	waits   bool // for "100 Continue"

	in    *bufio.Reader
	body  io.Reader // set by the first Read
	ended bool      // the body has been read to its end
	until time.Time
}

// serve runs the request on a connection that is no longer fasthttp's. hijacked
// reads what fasthttp had read ahead, and then the connection.
func (l *large) serve(hijacked net.Conn) {
	l.in = bufio.NewReader(hijacked)
	l.until = time.Now().Add(largeTime)
	ctx := &fasthttp.RequestCtx{}
	ctx.Init2(l.conn, quiet{l.door.srv.log}, true)
	l.head.CopyTo(&ctx.Request.Header)
	ctx.Request.SetBodyStream(l, l.size)
	l.handler(ctx)
	if taken := wire.Taken(ctx); taken != nil {
		l.park(taken)
		return
	}

	keep := !l.head.ConnectionClose() && !ctx.Response.Header.ConnectionClose() && !l.door.srv.stopping() && l.rest()
	if !keep {
		ctx.Response.SetConnectionClose()
	}
	ctx.Response.Header.SetServer(l.door.http.Name)
	if l.answer(ctx) != nil || !keep || l.conn.unread(l.in) != nil {
		l.conn.linger.Store(!l.ended)
		_ = l.conn.Close() // the answer has been written or cannot be
		return
	}
	_ = l.door.http.ServeConn(l.conn) // it closes the connection; its errors are the client's
}

// rest reads the end of a body that the handler did not want, where that is
// little, and says whether the next request can be read behind it. A client
// that waits to be told to go on has sent none of it.
func (l *large) rest() bool {
	if l.body == nil && l.waits {
		return false
	}
	_, _ = io.CopyN(io.Discard, l, 4*wire.InlineBody) // ended says what came of it
	return l.ended
}

// park leaves the connection to a request that will be answered later.
func (l *large) park(taken func(net.Conn)) {
	if !l.rest() {
		_ = l.conn.Close() // the body went on and on, though the handler is content
	}
	taken(&aheadConn{conn: l.conn, in: l.in})
}

// aheadConn is a connection with what has been read ahead of it.
type aheadConn struct {
	*conn
	in io.Reader
}

func (c *aheadConn) Read(p []byte) (int, error) { return c.in.Read(p) }

// UnsafeConn gives the bare connection, as fasthttp's hijacked ones do.
func (c *aheadConn) UnsafeConn() net.Conn { return c.conn }

func (l *large) answer(ctx *fasthttp.RequestCtx) error {
	if err := l.conn.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	w := bufio.NewWriter(l.conn)
	if err := ctx.Response.Write(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return l.conn.SetWriteDeadline(time.Time{})
}

// Read reads the body, for fasthttp's request.
func (l *large) Read(p []byte) (int, error) {
	if l.ended {
		return 0, io.EOF
	}
	if err := l.begin(); err != nil {
		return 0, err
	}
	pause := time.Now().Add(largePause)
	if pause.After(l.until) {
		pause = l.until
	}
	if err := l.conn.SetReadDeadline(pause); err != nil {
		return 0, err
	}
	n, err := l.body.Read(p)
	if err == io.EOF {
		if short, ok := l.body.(*io.LimitedReader); ok && short.N > 0 {
			return n, io.ErrUnexpectedEOF
		}
		l.ended = true
	}
	return n, err
}

// begin tells a waiting client to go on, and finds the body's form.
func (l *large) begin() error {
	if l.body != nil {
		return nil
	}
	if l.waits {
		if _, err := io.WriteString(l.conn, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
			return err
		}
	}
	if l.size >= 0 {
		l.body = io.LimitReader(l.in, int64(l.size))
		return nil
	}
	var chunked fasthttp.Request // fasthttp knows chunks, but only on a request
	chunked.Header.SetMethod(fasthttp.MethodPost)
	chunked.Header.SetContentLength(-1)
	if err := chunked.ContinueReadBodyStream(l.in, 0, false); err != nil {
		return err
	}
	l.body = chunked.BodyStream()
	return nil
}
