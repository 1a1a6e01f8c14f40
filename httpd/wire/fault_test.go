package wire

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"hearth/engine/fault"
)

// Every kind has an answer, and only the hub's own faults are a 5xx.
func TestAnswers(t *testing.T) {
	for k := range fault.NumKinds {
		a := answers[k]
		if a.code == "" || a.text == "" || a.status < 400 {
			t.Errorf("kind %d has no answer", k)
		}
		own := k == fault.Internal || k == fault.Corrupt || k == fault.Busy || k == fault.NotYetUploaded ||
			k == fault.ServiceTimeout || k == fault.ServiceUnreachable || k == fault.ServiceStatus // that is what they are for
		if own != (a.status >= 500) {
			t.Errorf("%s answers %d", a.code, a.status)
		}
	}
}

func TestFail(t *testing.T) {
	var log bytes.Buffer
	var err error
	fails := func(r *Req) error { return err }
	m := newTest(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil)), AdminContact: "mailto:me@x"},
		Route{Method: "GET", Pattern: "/c/{secret}", Handle: fails},
		Route{Method: "GET", Pattern: "/f", Handle: fails, Flags: Federation},
		Route{Method: "GET", Pattern: "/panic", Handle: func(*Req) error { panic("ouch") }},
		Route{Method: "GET", Pattern: "/late", Handle: func(r *Req) error {
			_ = r.Empty()
			panic("ouch")
		}},
		Route{Method: "GET", Pattern: "/more", Handle: func(r *Req) error {
			return r.Fail(fault.E(fault.IncompatibleRoom, "t", "no"), `"room_version":"99"`)
		}})
	for _, tt := range []struct {
		path string
		err  error
		want string
	}{
		{"/c/x", errors.New("secret cause"), "500 M_UNKNOWN"},
		{"/c/x", fault.E(fault.Internal, "room.Send", "secret cause"), "500 M_UNKNOWN"},
		{"/c/x", fmt.Errorf("on the way: %w", fault.E(fault.Forbidden, "t", "no")), "403 M_FORBIDDEN"},
		{"/c/x", fault.E(fault.Unauthorised, "t", ""), "403 M_FORBIDDEN"},
		{"/f", fault.E(fault.Unauthorised, "t", ""), "401 M_UNAUTHORIZED"},
		{"/c/x", fault.E(fault.Full, "t", ""), "403 M_RESOURCE_LIMIT_EXCEEDED"},
		{"/f", fault.E(fault.Full, "t", ""), "507 M_RESOURCE_LIMIT_EXCEEDED"},
		{"/panic", nil, "500 M_UNKNOWN"},
		{"/late", nil, "500 M_UNKNOWN"},
		{"/more", nil, "400 M_INCOMPATIBLE_ROOM_VERSION"},
	} {
		log.Reset()
		err = tt.err
		ctx := ask(m, "GET", tt.path, "")
		if got := outcome(ctx); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.err, got, tt.want)
		}
		body := string(ctx.Response.Body())
		if strings.Contains(body, "secret") || strings.Contains(body, "ouch") {
			t.Errorf("the cause was shown: %s", body)
		}
		if strings.HasPrefix(tt.want, "500") != (log.Len() > 0) {
			t.Errorf("%v: log %q", tt.err, log.String())
		}
		if strings.Contains(tt.want, "RESOURCE") && !strings.Contains(body, `"admin_contact":"mailto:me@x"`) {
			t.Errorf("no contact: %s", body)
		}
		if tt.path == "/more" && !strings.Contains(body, `"room_version":"99"`) {
			t.Errorf("no room version: %s", body)
		}
		if string(ctx.Response.Header.Peek("Access-Control-Allow-Origin")) != "*" {
			t.Errorf("%s: no CORS headers", tt.path)
		}
	}
	if got := ask(m, "OPTIONS", "/anywhere/at/all", ""); got.Response.StatusCode() != 200 ||
		!strings.Contains(string(got.Response.Header.Peek("Access-Control-Allow-Headers")), "Authorization") {
		t.Error("preflight: ", got.Response.String())
	}
}

func TestLimits(t *testing.T) {
	now := time.Unix(1000, 0)
	m := newTest(t, Options{Limits: NewLimits(func() time.Time { return now })},
		Route{Method: "POST", Pattern: "/login", Class: Login, Handle: func(r *Req) error { return r.Empty() }},
		Route{Method: "POST", Pattern: "/free", Handle: func(r *Req) error { return r.Empty() }})
	tries := func(path, from string) (n int) {
		for ; n < 1000; n++ {
			ctx := ask(m, "POST", path, "", "X-Forwarded-For", from)
			if got := outcome(ctx); got == "429 M_LIMIT_EXCEEDED" {
				if h := string(ctx.Response.Header.Peek("Retry-After")); h != "3" {
					t.Errorf("Retry-After is %q, want 3", h)
				}
				if !bytes.Contains(ctx.Response.Body(), []byte(`"retry_after_ms":3000`)) {
					t.Errorf("no wait in %s", ctx.Response.Body())
				}
				break
			}
		}
		return n
	}
	if n := tries("/login", ""); n != 10 {
		t.Errorf("%d tries at once, want 10", n)
	}
	now = now.Add(9 * time.Second)
	if n := tries("/login", "198.51.100.3"); n != 3 { // not from a proxy here: the header is ignored
		t.Errorf("%d tries after nine seconds, want 3", n)
	}
	now = now.Add(time.Hour)
	if n := tries("/login", ""); n != 10 {
		t.Errorf("%d tries after an hour, want 10", n)
	}
	if n := tries("/free", ""); n != 1000 {
		t.Errorf("free route limited after %d", n)
	}
}

// Many askers share a table of fixed size: the one who asks all the time stays
// limited while others come and go.
func TestLimitsBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	l := NewLimits(func() time.Time { return now })
	rt := rates[Login]
	for range rt.burst {
		l.spend(sets, rt)
	}
	for k := uint64(2); k < 5000; k++ {
		l.spend(k*sets, rt) // all fall into one set
		if k%4 == 0 && l.spend(sets, rt) == 0 {
			t.Fatalf("forgotten after %d others", k)
		}
	}
}

func TestAsker(t *testing.T) {
	same := func(a, b string) bool { return Network(netip.MustParseAddr(a)) == Network(netip.MustParseAddr(b)) }
	if !same("2001:db8::1", "2001:db8::ffff") || same("2001:db8::1", "2001:db8:0:1::1") || same("192.0.2.1", "192.0.2.2") {
		t.Error("addresses are told apart wrongly")
	}
	_ = Network(netip.Addr{}) // no address at all is an asker too
}

func TestGate(t *testing.T) {
	g := NewGate(1, 1, time.Hour)
	if err := g.Enter(nil); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	waited := make(chan error)
	go func() { waited <- g.Enter(done) }()
	for g.waiting.Load() == 0 {
	}
	if err := g.Enter(nil); !fault.Is(err, fault.Limit) {
		t.Errorf("the third: %v", err)
	}
	g.Leave()
	if err := <-waited; err != nil {
		t.Errorf("the second: %v", err)
	}
	go func() { waited <- g.Enter(done) }()
	close(done)
	if err := <-waited; !fault.Is(err, fault.Busy) {
		t.Errorf("stopping: %v", err)
	}
}

func FuzzServe(f *testing.F) {
	m := newTest(f, Options{}, append(tableForTest(), Route{Method: "POST", Pattern: "/j", Handle: func(r *Req) error {
		var v struct{ A, B string }
		return r.Decode(&v)
	}})...)
	f.Add("PUT", client+"/rooms/%21a:b/state/x/?a=%41", "")
	f.Add("POST", "/j", `{"A":1}`)
	f.Fuzz(func(t *testing.T, method, uri, body string) {
		if ctx := ask(m, method, uri, body); ctx.Response.StatusCode() >= 500 {
			t.Errorf("%s", ctx.Response.Body())
		}
	})
}
