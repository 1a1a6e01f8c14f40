package wire

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valyala/fasthttp"
)

// slowly gives its text a piece at a time, and rests before each.
type slowly struct {
	text string
	rest time.Duration
	n    int
}

func (s *slowly) Read(p []byte) (int, error) {
	if s.text == "" {
		return 0, io.EOF
	}
	time.Sleep(s.rest) // of the bubble's time
	n := copy(p, s.text[:min(s.n, len(s.text))])
	s.text = s.text[n:]
	return n, nil
}

func (a *allowance) all() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.held
}

// A body that comes slowly counts as far as it has come, and not for ever.
func TestSlowBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 6 << 20
		m := newTest(t, Options{BodyMemory: 8 << 20}, Route{Method: "POST", Pattern: "/b", Body: limit, Handle: func(r *Req) error {
			_, err := r.Body(0)
			return err
		}})
		ended := make(chan string)
		var req fasthttp.Request
		req.Header.SetMethod("POST")
		req.SetRequestURI("/b")
		go func() {
			ctx := &fasthttp.RequestCtx{}
			ctx.Init(&req, nil, nil)
			ctx.Request.SetBodyStream(&slowly{strings.Repeat("x", limit), 20 * time.Second, 10}, limit)
			m.Serve(ctx)
			ended <- outcome(ctx)
		}()
		synctest.Wait()
		if got := m.bodies.all(); got == 0 || got > bodyStep {
			t.Errorf("%d bytes are held for a few that came", got)
		}
		began := time.Now()
		if got := <-ended; got != "400 M_UNKNOWN" || time.Since(began) > 2*bodyTime {
			t.Errorf("%s after %v", got, time.Since(began))
		}
		if got := m.bodies.all(); got != 0 {
			t.Errorf("%d bytes are held by nobody", got)
		}
	})
}

// One address leaves something for the others, and those that all look alike share
// all of it.
func TestAllowance(t *testing.T) {
	var a allowance
	const most = 8 << 20
	one, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	if !a.take(one, 6<<20, most) || a.take(one, 1, most) {
		t.Error("one address has more than its part, or less")
	}
	if !a.take(other, 2<<20, most) || a.take(other, 1, most) {
		t.Error("there is more than all, or less")
	}
	a.give(one, 6<<20)
	a.give(other, 2<<20)
	if len(a.by) != 0 || a.held != 0 {
		t.Error(a.by, a.held)
	}
	near, _ := netip.AddrFromSlice(net.IPv4(127, 0, 0, 1))
	if !a.take(near.Unmap(), most, most) {
		t.Error("what comes by a proxy on this machine has not all")
	}
}
