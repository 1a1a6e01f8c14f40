package wire

import (
	"fmt"
	"io"
	"runtime/debug"

	"github.com/valyala/fasthttp"

	"hearth/engine/fault"
)

// pieces is a body that is made while it is written, so that no more than a piece
// of it is in memory.
type pieces struct {
	mux  *Mux
	now  []byte
	next func() (piece []byte, more bool, err error) // nil: now is the last
}

// Pieces answers 200 with a JSON body of which first is the beginning; next gives
// the rest. It is called when the piece before was written, so it may take that
// back, and after the handler has returned. An error of it breaks the connection:
// the client sees that the answer is not whole.
func (r *Req) Pieces(first []byte, next func() (piece []byte, more bool, err error)) error {
	if !r.Ctx.Request.Header.IsHTTP11() { // such a client knows no bodies without a length
		body := append(r.Out(), first...)
		for more := true; more; {
			var err error
			if first, more, err = next(); err != nil {
				return err
			}
			body = append(body, first...)
		}
		return r.OK(body)
	}
	r.Ctx.Response.SetStatusCode(fasthttp.StatusOK)
	r.Ctx.Response.Header.SetContentType(contentJSON)
	r.Ctx.Response.SetBodyStream(&pieces{r.mux, first, next}, -1)
	return nil
}

// SupportsBodyWriteTo tells fasthttp to use WriteTo, which writes each piece as one
// chunk.
func (p *pieces) SupportsBodyWriteTo() bool { return true }

func (p *pieces) WriteTo(w io.Writer) (n int64, err error) {
	for {
		k, err := w.Write(p.now)
		n += int64(k)
		if err != nil || p.next == nil {
			return n, err
		}
		if err := p.turn(); err != nil {
			return n, err
		}
	}
}

// turn goes on to the next piece. No handler's guard is around it any more.
func (p *pieces) turn() (err error) {
	defer func() {
		if caught := recover(); caught != nil {
			err = fault.E(fault.Internal, "wire.Pieces", "panicked: %v", caught)
			p.mux.log.Error("an answer panicked", "panic", fmt.Sprint(caught), "stack", string(debug.Stack()))
		}
	}()
	var more bool
	if p.now, more, err = p.next(); !more {
		p.next = nil
	}
	return err
}

// Read is WriteTo for who has no writer.
func (p *pieces) Read(b []byte) (int, error) {
	for len(p.now) == 0 {
		if p.next == nil {
			return 0, io.EOF
		}
		if err := p.turn(); err != nil {
			return 0, err
		}
	}
	n := copy(b, p.now)
	p.now = p.now[n:]
	return n, nil
}
