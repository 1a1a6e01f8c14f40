package wire

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"
)

// waiter serves /wait, whose requests come out of the channel, and /now.
func waiter(t *testing.T, secure bool) (dial func() net.Conn, waiting chan *Waiting, m *Mux) {
	t.Helper()
	waiting = make(chan *Waiting, 2000)
	m = New(Options{Done: make(chan struct{})})
	if err := m.Add([]Route{
		{Method: "GET", Pattern: "/wait", Handle: func(r *Req) error { return r.Wait(func(w *Waiting) { waiting <- w }) }},
		{Method: "GET", Pattern: "/now", Handle: func(r *Req) error { return r.Empty() }},
	}); err != nil {
		t.Fatal(err)
	}
	s := &fasthttp.Server{Handler: m.Serve, ReduceMemoryUsage: true, StreamRequestBody: true, ReadBufferSize: 16 << 10}
	attach(m, s)
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	dial = func() net.Conn {
		c, err := net.Dial("tcp4", addr)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if secure {
		cert, key, err := fasthttp.GenerateTestCertificate("localhost")
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{pair}})
		plain := dial
		dial = func() net.Conn { return tls.Client(plain(), &tls.Config{InsecureSkipVerify: true}) }
	}
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(func() { _ = s.Shutdown() })
	return dial, waiting, m
}

// attach lets waiting connections go back to a bare fasthttp server.
func attach(m *Mux, s *fasthttp.Server) {
	s.KeepHijackedConns = true
	m.Attach(func(c net.Conn, early []byte) {
		_ = s.ServeConn(&rereadConn{Conn: c, r: io.MultiReader(bytes.NewReader(early), c)})
	})
}

// rereadConn gives out again what was read too early.
type rereadConn struct {
	net.Conn
	r io.Reader
}

func (c *rereadConn) Read(p []byte) (int, error) { return c.r.Read(p) }

func get(t *testing.T, c net.Conn, path string) {
	t.Helper()
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: hub\r\n\r\n", path); err != nil {
		t.Fatal(err)
	}
}

func answerOf(t *testing.T, br *bufio.Reader) string {
	t.Helper()
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Header.Get("Access-Control-Allow-Origin") != "*" || resp.Header.Get("Content-Type") != contentJSON {
		t.Fatalf("headers %v", resp.Header)
	}
	return fmt.Sprint(resp.StatusCode, " ", string(body))
}

// A connection that waited goes on as before, also where the next request came
// while it waited, in plain and in TLS.
func TestWaitingAnswersAndGoesOn(t *testing.T) {
	for _, secure := range []bool{false, true} {
		dial, waiting, m := waiter(t, secure)
		c := dial()
		br := bufio.NewReader(c)
		for i := range 3 {
			get(t, c, "/now")
			if got := answerOf(t, br); got != "200 {}" {
				t.Fatal(got)
			}
			get(t, c, "/wait")
			w := <-waiting
			if m.Waiting() != 1 {
				t.Fatal(m.Waiting())
			}
			w.Reply(200, fmt.Append(nil, `{"n":`, i, `}`))
			if got := answerOf(t, br); got != fmt.Sprintf(`200 {"n":%d}`, i) {
				t.Fatal(got)
			}
		}
		if _, err := io.WriteString(c, strings.Repeat("GET /wait HTTP/1.1\r\nHost: hub\r\n\r\n", 1)+"GET /now HTTP/1.1\r\nHost: hub\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		(<-waiting).Reply(200, []byte(`{"first":1}`))
		if got := answerOf(t, br) + " " + answerOf(t, br); got != `200 {"first":1} 200 {}` {
			t.Fatal(got)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if m.Waiting() != 0 {
			t.Fatal(m.Waiting())
		}
	}
}

func TestWaitingHonoursClose(t *testing.T) {
	dial, waiting, _ := waiter(t, false)
	c := dial()
	if _, err := io.WriteString(c, "GET /wait HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	(<-waiting).Reply(200, []byte("{}"))
	all, err := io.ReadAll(c)
	if err != nil || !strings.HasSuffix(string(all), "\r\n\r\n{}") || !strings.Contains(string(all), "Connection: close") {
		t.Fatalf("%q %v", all, err)
	}
	gone := dial()
	get(t, gone, "/wait")
	w := <-waiting
	w.Drop()
	if _, err := gone.Read(make([]byte, 1)); err == nil {
		t.Fatal("a dropped connection is open")
	}
}

// What a waiting connection costs in heap and stacks, the two ends of its
// in-memory socket aside: a TCP one has about as much for its descriptor.
func TestWaitingIsCheap(t *testing.T) {
	const conns = 400
	const budget = 4 << 10
	waiting := make(chan *Waiting, conns)
	m := New(Options{})
	if err := m.Add([]Route{{Method: "GET", Pattern: "/wait", Handle: func(r *Req) error {
		return r.Wait(func(w *Waiting) { waiting <- w })
	}}}); err != nil {
		t.Fatal(err)
	}
	s := &fasthttp.Server{Handler: m.Serve, ReduceMemoryUsage: true, StreamRequestBody: true, ReadBufferSize: 16 << 10}
	attach(m, s)
	ln := fasthttputil.NewInmemoryListener()
	go func() { _ = s.Serve(ln) }()
	held := make([]*Waiting, 0, 2*conns)
	use := func() uint64 {
		for range 3 { // pools let go after two collections
			runtime.GC()
		}
		var ms runtime.MemStats
		runtime.ReadMemStats(&ms)
		return ms.HeapAlloc + ms.StackInuse
	}
	round := func() {
		for range conns {
			c, err := ln.Dial()
			if err != nil {
				t.Fatal(err)
			}
			get(t, c, "/wait?filter=%7B%22room%22%3A%7B%22timeline%22%3A%7B%22limit%22%3A100%7D%7D%7D")
			held = append(held, <-waiting)
		}
	}
	round() // fills what is kept however many wait
	before := use()
	round()
	if per := (int64(use()) - int64(before)) / conns; per > budget {
		t.Errorf("a waiting connection holds %d bytes, %d are allowed", per, budget)
	}
	for _, w := range held {
		w.Drop()
	}
}
