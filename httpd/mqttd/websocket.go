package mqttd

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// webPath is where MQTT is spoken over WebSocket, with the subprotocol webProtocol.
const (
	webPath     = "/mqtt"
	webProtocol = "mqtt"
	pongTime    = 10 * time.Second
	webSalt     = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" // RFC 6455, 1.3
)

// WebSocket takes the requests for MQTT over WebSocket out of those for next.
// A few hundred lines of framing are all that a server needs of RFC 6455; the
// known libraries bring a client, compression and buffers for each connection.
//
// Spec: MQTT 5, 6.
func (s *Server) WebSocket(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		if string(ctx.Path()) != webPath {
			next(ctx)
			return
		}
		key := ctx.Request.Header.Peek("Sec-WebSocket-Key")
		raw, err := base64.StdEncoding.DecodeString(string(key))
		switch h := &ctx.Request.Header; {
		case !ctx.IsGet() || !listed(h.Peek("Connection"), "upgrade") || !listed(h.Peek("Upgrade"), "websocket") || err != nil || len(raw) != 16:
			ctx.Error("MQTT is spoken here over WebSocket", fasthttp.StatusUpgradeRequired)
			ctx.Response.Header.Set("Upgrade", "websocket")
			return
		case string(h.Peek("Sec-WebSocket-Version")) != "13":
			ctx.Error("WebSocket of another version", fasthttp.StatusUpgradeRequired)
			ctx.Response.Header.Set("Sec-WebSocket-Version", "13")
			return
		case !listed(h.Peek("Sec-WebSocket-Protocol"), webProtocol):
			ctx.Error("the subprotocol is "+webProtocol, fasthttp.StatusBadRequest) // [MQTT-6.0.0-3]
			return
		}
		sum := sha1.Sum(append(key, webSalt...))
		ctx.SetStatusCode(fasthttp.StatusSwitchingProtocols)
		ctx.Response.Header.Set("Upgrade", "websocket")
		ctx.Response.Header.Set("Connection", "Upgrade")
		ctx.Response.Header.Set("Sec-WebSocket-Accept", base64.StdEncoding.EncodeToString(sum[:]))
		ctx.Response.Header.Set("Sec-WebSocket-Protocol", webProtocol) // [MQTT-6.0.0-4]
		secure := ctx.IsTLS()
		ctx.Hijack(func(c net.Conn) { s.Serve(newWebConn(c), secure) })
	}
}

// listed says whether a header that is a list has the word in it.
func listed(header []byte, word string) bool {
	for part := range strings.SplitSeq(string(header), ",") {
		if strings.EqualFold(strings.TrimSpace(part), word) {
			return true
		}
	}
	return false
}

// webConn is the bytes within the binary frames of a WebSocket connection.
type webConn struct {
	net.Conn
	early []byte // read too far by the HTTP server

	buf  [64]byte // of what was read
	b    []byte   // not yet used, in buf
	left uint64   // of the frame's payload
	mask [4]byte
	at   int // in mask
	over bool

	mu sync.Mutex // of writing
}

var errFrame = errors.New("not a frame that a client sends")

// newWebConn takes the connection from the HTTP server without its buffers.
func newWebConn(c net.Conn) *webConn {
	w := &webConn{Conn: c}
	if c.SetReadDeadline(time.Unix(1, 0)) == nil {
		var b [512]byte
		for {
			n, err := c.Read(b[:]) // what is buffered comes at once, the deadline stops the rest
			w.early = append(w.early, b[:n]...)
			if err != nil || n == 0 {
				break
			}
		}
	}
	if h, ok := c.(interface{ UnsafeConn() net.Conn }); ok {
		w.Conn = h.UnsafeConn()
	}
	_ = w.Conn.SetReadDeadline(time.Time{}) // the next user sets its own
	return w
}

// pull reads raw bytes.
func (w *webConn) pull(p []byte) (int, error) {
	if len(w.early) > 0 {
		n := copy(p, w.early)
		if w.early = w.early[n:]; len(w.early) == 0 {
			w.early = nil
		}
		return n, nil
	}
	return w.Conn.Read(p)
}

// need has at least n bytes in b.
func (w *webConn) need(n int) error {
	if len(w.b) >= n {
		return nil
	}
	have := copy(w.buf[:], w.b)
	for have < n {
		more, err := w.pull(w.buf[have:])
		have += more
		if err != nil && have < n {
			w.b = w.buf[:have]
			return err
		}
	}
	w.b = w.buf[:have]
	return nil
}

// Read gives what binary frames hold; where frames begin and end means nothing
// [MQTT-6.0.0-2].
func (w *webConn) Read(p []byte) (int, error) {
	for w.left == 0 {
		if err := w.frame(); err != nil {
			return 0, err
		}
	}
	if uint64(len(p)) > w.left {
		p = p[:w.left]
	}
	var n int
	var err error
	if len(w.b) > 0 {
		n = copy(p, w.b)
		w.b = w.b[n:]
	} else {
		n, err = w.pull(p)
	}
	for i := range p[:n] {
		p[i] ^= w.mask[w.at&3]
		w.at++
	}
	w.left -= uint64(n)
	return n, err
}

// frame reads the head of the next frame, and deals with it where it is not one
// of data.
func (w *webConn) frame() error {
	if w.over {
		return io.EOF
	}
	if err := w.need(2); err != nil {
		return err
	}
	first, second := w.b[0], w.b[1]
	code, size := first&15, uint64(second&0x7f)
	if first&0x70 != 0 || second < 0x80 || code >= 8 && (first < 0x80 || size > 125) {
		return errFrame
	}
	head := 2
	switch size {
	case 126:
		head = 4
	case 127:
		head = 10
	}
	if err := w.need(head + 4); err != nil {
		return err
	}
	switch head {
	case 4:
		size = uint64(binary.BigEndian.Uint16(w.b[2:]))
	case 10:
		size = binary.BigEndian.Uint64(w.b[2:])
	}
	copy(w.mask[:], w.b[head:])
	w.b, w.at = w.b[head+4:], 0
	switch code {
	case 0, 2:
		w.left = size
		return nil
	case 8, 9, 10:
		return w.control(code, int(size))
	}
	return errFrame // text: [MQTT-6.0.0-1]
}

// control reads a short frame that is not data, and answers it.
func (w *webConn) control(code byte, size int) error {
	text := make([]byte, 0, 125)
	for len(text) < size {
		if err := w.need(1); err != nil {
			return err
		}
		n := min(len(w.b), size-len(text))
		text = append(text, w.b[:n]...)
		w.b = w.b[n:]
	}
	for i := range text {
		text[i] ^= w.mask[i&3]
	}
	switch code {
	case 8:
		w.over = true
		_, _ = w.send(8, text[:min(2, size)]) // it is leaving anyway
		return io.EOF
	case 9:
		// Who pings and does not read would hold this goroutine for as long as it
		// wants: no deadline of reading ends a write.
		if err := w.Conn.SetWriteDeadline(time.Now().Add(pongTime)); err != nil {
			return err
		}
		_, err := w.send(10, text)
		return err
	}
	return nil
}

// Write sends one binary frame.
func (w *webConn) Write(p []byte) (int, error) { return w.send(2, p) }

func (w *webConn) send(code byte, p []byte) (int, error) {
	b := buffers.Get().(*[bufSize]byte)
	defer buffers.Put(b)
	out := append(b[:0], 0x80|code)
	switch n := len(p); {
	case n < 126:
		out = append(out, byte(n))
	case n < 1<<16:
		out = binary.BigEndian.AppendUint16(append(out, 126), uint16(n))
	default:
		out = binary.BigEndian.AppendUint64(append(out, 127), uint64(n))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := w.Conn.Write(append(out, p...)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close takes leave where that does not have to wait.
func (w *webConn) Close() error {
	if w.mu.TryLock() {
		if !w.over && w.Conn.SetWriteDeadline(time.Now().Add(closeTime)) == nil {
			_, _ = w.Conn.Write([]byte{0x88, 2, 0x03, 0xe8}) // 1000, and nobody has to hear it
		}
		w.mu.Unlock()
	}
	return w.Conn.Close()
}
