package httpd

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hearth/engine/fault"
	"hearth/httpd/wire"
)

// patience bounds what a test waits for; nothing depends on its length.
const patience = 20 * time.Second

// start serves a few routes on a real socket.
func start(t *testing.T, o Options, conf *tls.Config) (*Server, string, *atomic.Int32) {
	t.Helper()
	o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	s := New(o)
	parked := new(atomic.Int32)
	m := wire.New(wire.Options{Log: o.Log, Done: s.Done(), BodyMemory: 4 << 20})
	m.Attach(s.Resume)
	err := m.Add([]wire.Route{
		{Method: "GET", Pattern: "/hello", Handle: func(r *wire.Req) error { return r.OK(append(r.Out(), `{"hello":true}`...)) }},
		{Method: "GET", Pattern: "/panic", Handle: func(*wire.Req) error { panic("ouch") }},
		{Method: "GET", Pattern: "/park", Handle: func(r *wire.Req) error {
			parked.Add(1)
			<-r.Done()
			return r.Empty()
		}},
		{Method: "POST", Pattern: "/poll", Handle: func(r *wire.Req) error {
			if _, err := r.Object(); err != nil {
				return err
			}
			return r.Wait(func(w *wire.Waiting) { w.Reply(200, []byte(`{"news":1}`)) })
		}},
		{Method: "POST", Pattern: "/json", Body: 1 << 20, Handle: func(r *wire.Req) error {
			b, err := r.Object()
			if err != nil {
				return err
			}
			return r.OK(fmt.Appendf(r.Out(), `{"bytes":%d}`, len(b)))
		}},
		{Method: "POST", Pattern: "/ignore", Handle: func(r *wire.Req) error { return r.Empty() }},
		{Method: "POST", Pattern: "/refuse", Handle: func(r *wire.Req) error { return fault.E(fault.MissingToken, "t", "") }},
		{Method: "POST", Pattern: "/upload", Handle: func(r *wire.Req) error {
			n, err := io.Copy(io.Discard, r.Stream())
			if err != nil {
				return fault.E(fault.Unknown, "t", "the upload ended early")
			}
			return r.OK(fmt.Appendf(r.Out(), `{"bytes":%d,"announced":%d}`, n, r.BodyLen()))
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	addr, err := s.Listen("127.0.0.1:0", conf, m.Serve)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(patience) })
	return s, addr.String(), parked
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// answer reads one response: its status and body, and whether the connection
// stays open.
func answer(t *testing.T, r *bufio.Reader) (string, bool) {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Errorf("no answer: %v", err)
		return "none", false
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	if resp.Header.Get("Access-Control-Allow-Origin") != "*" || resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("headers are %v", resp.Header)
	}
	var e struct{ Errcode string }
	if err := json.Unmarshal(b, &e); err != nil {
		t.Errorf("the body is %q", b)
	}
	if e.Errcode != "" {
		b = []byte(e.Errcode)
	}
	return strconv.Itoa(resp.StatusCode) + " " + string(b), !resp.Close
}

func post(path string, size int) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n", path, size)
}

// object is a JSON object of exactly n bytes.
func object(n int) string { return `{"a":"` + strings.Repeat("x", n-8) + `"}` }

// Each line is sent on a connection of its own, and then a small request, which
// is answered too where the connection stays open.
func TestRequests(t *testing.T) {
	_, addr, _ := start(t, Options{}, nil)
	chunks := "POST %s HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"
	for _, tt := range []struct {
		name, send, want string
		open             bool
	}{
		{"plain", "GET /hello HTTP/1.1\r\nHost: h\r\n\r\n", `200 {"hello":true}`, true},
		{"old", "GET /hello HTTP/1.0\r\n\r\n", `200 {"hello":true}`, false},
		{"unknown path", "GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n", "404 M_UNRECOGNIZED", true},
		{"wrong method", "PUT /hello HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", "405 M_UNRECOGNIZED", true},
		{"panic", "GET /panic HTTP/1.1\r\nHost: h\r\n\r\n", "500 M_UNKNOWN", false},
		{"long path", "GET /" + strings.Repeat("x", readBuffer) + " HTTP/1.1\r\nHost: h\r\n\r\n", "431 M_TOO_LARGE", false},
		{"long header", "GET /hello HTTP/1.1\r\nX: " + strings.Repeat("x", 200<<10) + "\r\n\r\n", "431 M_TOO_LARGE", false},
		{"path that just fits", "GET /" + strings.Repeat("x", readBuffer-100) + " HTTP/1.1\r\nHost: h\r\n\r\n", "404 M_UNRECOGNIZED", true},
		{"garbage", "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", "400 M_UNKNOWN", false},
		{"no version", "GET /hello\r\n\r\n", "400 M_UNKNOWN", false},
		{"bad length", "POST /json HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n", "400 M_UNKNOWN", false},
		{"two lengths", "POST /json HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "400 M_UNKNOWN", false},
		{"bad host", "GET /hello HTTP/1.1\r\nHost: a b\r\n\r\n", "400 M_UNKNOWN", false},

		{"short body", post("/json", 2) + "{}", `200 {"bytes":2}`, true},
		{"inline body", post("/json", wire.InlineBody) + object(wire.InlineBody), fmt.Sprintf(`200 {"bytes":%d}`, wire.InlineBody), true},
		{"long body", post("/json", 300<<10) + object(300<<10), `200 {"bytes":307200}`, true},
		{"body of a get", "GET /hello HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", `200 {"hello":true}`, true},
		{"long body of a get", "GET /hello HTTP/1.1\r\nHost: h\r\nContent-Length: 300000\r\n\r\n" + strings.Repeat("x", 300000), "413 M_TOO_LARGE", false},
		{"no body at all", "POST /json HTTP/1.1\r\nHost: h\r\n\r\n", "400 M_NOT_JSON", true},
		{"chunks", fmt.Sprintf(chunks, "/json", 1000, object(1000)), `200 {"bytes":1000}`, true},
		{"long chunks", fmt.Sprintf(chunks, "/json", 300<<10, object(300<<10)), `200 {"bytes":307200}`, true},
		{"broken chunks", "POST /json HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400 M_UNKNOWN", false},
		{"too long", post("/json", 24<<20) + object(24<<20), "413 M_TOO_LARGE", false},
		{"too long in chunks", fmt.Sprintf(chunks, "/json", 24<<20, object(24<<20)), "413 M_TOO_LARGE", false},
		{"a little too long", post("/json", 1<<20+1) + object(1<<20+1), "413 M_TOO_LARGE", false},
		{"ignored", post("/ignore", 200<<10) + object(200<<10), "200 {}", true},
		{"ignored in chunks", fmt.Sprintf(chunks, "/ignore", 100, object(100)), "200 {}", true},
		{"refused", post("/refuse", 24<<20) + object(24<<20), "401 M_MISSING_TOKEN", false},
		{"long, to nowhere", post("/nothing", 24<<20) + object(24<<20), "404 M_UNRECOGNIZED", false},
		{"upload", post("/upload", 24<<20) + object(24<<20), `200 {"bytes":25165824,"announced":25165824}`, true},
		{"upload in chunks", fmt.Sprintf(chunks, "/upload", 24<<20, object(24<<20)), `200 {"bytes":25165824,"announced":-1}`, true},
		{"poll", post("/poll", 2) + "{}", `200 {"news":1}`, true},
		{"poll in chunks", fmt.Sprintf(chunks, "/poll", 10, object(10)), `200 {"news":1}`, true},
		{"poll with a long body", post("/poll", 70<<10) + object(70<<10), `200 {"news":1}`, true},
		{"long and last", "POST /json HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 100000\r\n\r\n" + object(100000), `200 {"bytes":100000}`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, addr)
			in := bufio.NewReader(c)
			// As simple clients do: send all of it in pieces, and only then read.
			src := strings.NewReader(tt.send)
			if _, err := io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{src}, make([]byte, 64<<10)); err != nil {
				t.Fatalf("sending: %v", err)
			}
			got, open := answer(t, in)
			if got != tt.want || open != tt.open {
				t.Fatalf("%s, open %v; want %s, %v", got, open, tt.want, tt.open)
			}
			if !open {
				if n, err := in.Read(make([]byte, 1)); n != 0 || err != io.EOF {
					t.Errorf("after the answer: %d, %v", n, err)
				}
				return
			}
			if _, err := io.WriteString(c, "GET /hello HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			if got, _ := answer(t, in); got != `200 {"hello":true}` {
				t.Errorf("the next request: %s", got)
			}
		})
	}
}

// Requests sent behind a long body without waiting are all answered, in order.
func TestPipeline(t *testing.T) {
	_, addr, _ := start(t, Options{}, nil)
	c := dial(t, addr)
	hello := "GET /hello HTTP/1.1\r\nHost: h\r\n\r\n"
	all := hello + post("/json", 100<<10) + object(100<<10) + hello + hello + post("/poll", 2) + "{}" + post("/poll", 70<<10) + object(70<<10) + post("/json", 70<<10) + object(70<<10) + post("/ignore", 70<<10) + object(70<<10) + hello
	go func() { _, _ = io.WriteString(c, all) }()
	in := bufio.NewReader(c)
	for i, want := range []string{`{"hello":true}`, `{"bytes":102400}`, `{"hello":true}`, `{"hello":true}`, `{"news":1}`, `{"news":1}`, `{"bytes":71680}`, `{}`, `{"hello":true}`} {
		if got, _ := answer(t, in); got != "200 "+want {
			t.Fatalf("answer %d: %s, want %s", i, got, want)
		}
	}
}

// A client that asks first is told to go on only when the body is wanted.
func TestExpect(t *testing.T) {
	_, addr, _ := start(t, Options{}, nil)
	for _, tt := range []struct {
		path string
		size int
		goOn bool
		want string
	}{
		{"/json", 100, true, `200 {"bytes":100}`},
		{"/json", 200 << 10, true, `200 {"bytes":204800}`},
		{"/refuse", 200 << 10, false, "401 M_MISSING_TOKEN"},
		{"/json", 24 << 20, false, "413 M_TOO_LARGE"},
	} {
		c := dial(t, addr)
		in := bufio.NewReader(c)
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", tt.path, tt.size)
		line, err := in.Peek(12)
		if err != nil {
			t.Fatal(err)
		}
		if goOn := string(line) == "HTTP/1.1 100"; goOn != tt.goOn {
			t.Errorf("%s of %d bytes: the first answer is %s", tt.path, tt.size, line)
			continue
		} else if goOn {
			if _, err := in.Discard(len("HTTP/1.1 100 Continue\r\n\r\n")); err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(c, object(tt.size))
		}
		if got, _ := answer(t, in); got != tt.want {
			t.Errorf("%s of %d bytes: %s, want %s", tt.path, tt.size, got, tt.want)
		}
	}
}

func TestTooManyConnections(t *testing.T) {
	s, addr, _ := start(t, Options{Conns: 2}, nil)
	ask := func() (net.Conn, string) {
		c := dial(t, addr)
		_, _ = io.WriteString(c, "GET /hello HTTP/1.1\r\nHost: h\r\n\r\n")
		got, _ := answer(t, bufio.NewReader(c))
		return c, got
	}
	a, _ := ask()
	if _, got := ask(); got != `200 {"hello":true}` {
		t.Errorf("the second: %s", got)
	}
	c := dial(t, addr) // says nothing, since what it said would be unread
	if got, _ := answer(t, bufio.NewReader(c)); got != "503 M_UNKNOWN" {
		t.Errorf("the third: %s", got)
	}
	_ = a.Close()
	for s.Conns() > 1 {
		runtime.Gosched()
	}
	if _, got := ask(); got != `200 {"hello":true}` {
		t.Errorf("after one has gone: %s", got)
	}
}

// Ending answers those who wait, does not wait for those who idle or never
// spoke, and takes no more.
func TestClose(t *testing.T) {
	s, addr, parked := start(t, Options{}, nil)
	dial(t, addr) // never speaks
	idle := dial(t, addr)
	_, _ = io.WriteString(idle, "GET /hello HTTP/1.1\r\nHost: h\r\n\r\n")
	idleIn := bufio.NewReader(idle)
	answer(t, idleIn)
	waiting := dial(t, addr)
	_, _ = io.WriteString(waiting, "GET /park HTTP/1.1\r\nHost: h\r\n\r\n")
	stuck := dial(t, addr)
	_, _ = io.WriteString(stuck, post("/json", 1000)+"{")
	for parked.Load() == 0 {
		runtime.Gosched()
	}
	ended := make(chan struct{})
	go func() {
		s.Close(300 * time.Millisecond)
		close(ended)
	}()
	if got, open := answer(t, bufio.NewReader(waiting)); got != "200 {}" || open {
		t.Errorf("the one who waits: %s, open %v", got, open)
	}
	if _, err := idleIn.ReadByte(); err == nil {
		t.Error("the idle one stays")
	}
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		_ = c.Close()
		t.Error("it still listens")
	}
	s.Close(time.Second) // once more does no harm
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	cert, err := OwnCertificate(dir, "hub.example:8448")
	if err != nil {
		t.Fatal(err)
	}
	_, addr, _ := start(t, Options{}, cert.Config())
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, Timeout: patience}
	for _, size := range []int{100, 200 << 10, 100} {
		resp, err := client.Post("https://"+addr+"/json", "application/json", strings.NewReader(object(size)))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		if want := fmt.Sprintf(`{"bytes":%d}`, size); string(b) != want {
			t.Errorf("%s, want %s", b, want)
		}
		leaf := resp.TLS.PeerCertificates[0]
		if err := leaf.VerifyHostname("hub.example"); err != nil {
			t.Error(err)
		}
	}
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.Copy(c, strings.NewReader(post("/json", 24<<20)+object(24<<20))); err != nil {
		t.Fatalf("sending: %v", err)
	}
	if got, _ := answer(t, bufio.NewReader(c)); got != "413 M_TOO_LARGE" {
		t.Errorf("too long: %s", got)
	}

	again, err := OwnCertificate(dir, "hub.example")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.now.Certificate[0], cert.now.Certificate[0]) {
		t.Error("a second certificate was made")
	}
	if st, err := os.Stat(filepath.Join(dir, "self-signed.key")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", st.Mode(), err)
	}
	again.looked = time.Time{}
	again.changed = time.Time{}
	if err := os.WriteFile(filepath.Join(dir, "self-signed.crt"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := again.get(); err != nil || got == nil {
		t.Errorf("a certificate that is being replaced: %v", err)
	}
	if _, err := LoadCertificate(filepath.Join(dir, "none.crt"), "none"); err == nil || !strings.Contains(err.Error(), "none.crt") {
		t.Errorf("a missing certificate: %v", err)
	}
}

// What a parked connection costs the hub. A bare goroutine with an 8 KiB stack
// and fasthttp's own parts is 9 to 13 KiB; the rest of the limit is for a
// client's end of the socket, which lives in this process too.
func TestParkedMemory(t *testing.T) {
	const n, limit = 400, 16 << 10
	_, addr, parked := start(t, Options{}, nil)
	before := inUse()
	var all sync.WaitGroup
	for range n {
		c := dial(t, addr)
		all.Go(func() {
			_, _ = io.WriteString(c, "GET /park?since=x&timeout=30000 HTTP/1.1\r\nHost: hub.example\r\nAuthorization: Bearer abcdefgh\r\nUser-Agent: test\r\n\r\n")
		})
	}
	all.Wait()
	for parked.Load() < n {
		runtime.Gosched()
	}
	if each := (inUse() - before) / n; each > limit {
		t.Errorf("a parked connection takes %d bytes, %d are allowed", each, limit)
	} else {
		t.Logf("a parked connection takes %d bytes", each)
	}
}

func inUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
