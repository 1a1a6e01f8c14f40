package wire

import (
	"net"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"hearth/engine/fault"
)

// Waiting is a request that will be answered later, a long poll. The handler
// has returned: its goroutine, its stack, the request and its buffers were given
// back, so that waiting costs the connection and what the waiter itself keeps.
// (A handler that simply blocked would hold 12 KiB and more for each.)
//
// Exactly one call of Reply, Fail or Drop ends it.
type Waiting struct {
	mux   *Mux
	conn  net.Conn
	early []byte // of the next request, where that came already
	close bool   // the client wants the connection closed after the answer
}

// maxWaiting bounds the connections that wait at one time; each is a file
// descriptor and about a kilobyte.
const maxWaiting = 8192

// joinBody is the longest body that is written together with its head: copying
// it costs less than a second packet.
const joinBody = 32 << 10

// keepHead is how long an answer may be for its buffer to be used again.
const keepHead = 8 << 10

// writeWait bounds how long a peer may take to accept an answer.
const writeWait = 30 * time.Second

// Wait turns the request into a Waiting and hands it to start once the handler
// has returned; start runs on a goroutine of its own and must not block. The
// result is for the handler to return. Error: Limit where too many wait.
func (r *Req) Wait(start func(w *Waiting)) error {
	m := r.mux
	if m.resume == nil {
		return fault.E(fault.Internal, "wire.Wait", "no server is attached")
	}
	if m.waiting.Add(1) > maxWaiting {
		m.waiting.Add(-1)
		return fault.Wait("wire.Wait", retryWhenBusy)
	}
	w := &Waiting{mux: m, close: r.Ctx.Request.Header.ConnectionClose() || !r.Ctx.Request.Header.IsHTTP11()}
	taken := func(c net.Conn) {
		w.take(c)
		start(w)
	}
	if r.Ctx.Request.IsBodyStream() {
		// The server took the connection from fasthttp to read a long body, and
		// hands it on by itself.
		r.Ctx.SetUserValue(takenKey, taken)
		return nil
	}
	r.Ctx.HijackSetNoResponse(true)
	r.Ctx.Hijack(taken)
	return nil
}

const takenKey = "wire.taken"

// Taken is what takes the connection of a request with a streamed body whose
// handler has called Wait, and nil of any other: for the server in package httpd.
func Taken(ctx *fasthttp.RequestCtx) func(net.Conn) {
	f, _ := ctx.UserValue(takenKey).(func(net.Conn))
	return f
}

// take keeps the bare connection, and what was read from it beyond the request:
// the server's read buffer goes back with the request.
func (w *Waiting) take(c net.Conn) {
	var buf [512]byte
	if err := c.SetReadDeadline(time.Unix(1, 0)); err == nil {
		for {
			n, err := c.Read(buf[:]) // what is buffered comes at once, the deadline stops the rest
			w.early = append(w.early, buf[:n]...)
			if err != nil || n == 0 {
				break
			}
		}
	}
	w.conn = c
	if h, ok := c.(interface{ UnsafeConn() net.Conn }); ok {
		w.conn = h.UnsafeConn()
	}
	_ = w.conn.SetReadDeadline(time.Time{}) // a dead connection shows itself when it is written to
}

// Reply answers and gives the connection back to the server for the next
// request. It may block for as long as the peer takes the answer.
func (w *Waiting) Reply(status int, body []byte) {
	defer w.mux.waiting.Add(-1)
	joined := len(body) <= joinBody
	buf, _ := w.mux.heads.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	head := append((*buf)[:0], "HTTP/1.1 "...)
	head = strconv.AppendInt(head, int64(status), 10)
	head = append(append(head, ' '), fasthttp.StatusMessage(status)...)
	head = append(head, "\r\nContent-Type: "+contentJSON+
		"\r\nAccess-Control-Allow-Origin: "+corsOrigin+
		"\r\nAccess-Control-Allow-Methods: "+corsMethods+
		"\r\nAccess-Control-Allow-Headers: "+corsHeaders+
		"\r\nContent-Length: "...)
	head = strconv.AppendInt(head, int64(len(body)), 10)
	if w.close {
		head = append(head, "\r\nConnection: close"...)
	}
	head = append(head, "\r\n\r\n"...)
	if joined {
		head, body = append(head, body...), nil
	}
	*buf = head
	// The deadline stays: the server sets its own before it writes again.
	err := w.conn.SetWriteDeadline(time.Now().Add(writeWait))
	for _, part := range [...][]byte{head, body} {
		if err == nil && len(part) > 0 {
			_, err = w.conn.Write(part)
		}
	}
	if cap(*buf) <= keepHead {
		w.mux.heads.Put(buf)
	}
	if err != nil || w.close || w.mux.stopping() {
		_ = w.conn.Close() // the peer is gone or told to go
		return
	}
	w.mux.crew.Go(func() { w.mux.resume(w.conn, w.early) }) // the connection is closed at its end
}

// Fail answers with an error.
func (w *Waiting) Fail(err error) {
	kind := fault.KindOf(err)
	status, _ := Errcode(kind)
	if status >= 500 {
		w.mux.log.Error("a waiting request failed", "err", err)
	}
	w.Reply(status, AppendError(nil, kind, textOf(kind, err)))
}

// Drop closes the connection without an answer.
func (w *Waiting) Drop() {
	w.mux.waiting.Add(-1)
	_ = w.conn.Close() // nobody is left to tell
}

// Attach tells the mux how a waiting connection goes back to its server, with
// what was read of the next request.
func (m *Mux) Attach(resume func(c net.Conn, early []byte)) { m.resume = resume }

// Waiting counts the requests that wait, for metrics.
func (m *Mux) Waiting() int { return int(m.waiting.Load()) }

// stopping says whether the hub is going down.
func (m *Mux) stopping() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}
