package wire

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

// A body in pieces comes whole, also to who knows no chunks; one that breaks off is
// seen to.
func TestPieces(t *testing.T) {
	var m *Mux
	answer := func(fail func() error) func(r *Req) error {
		return func(r *Req) error {
			n := 0
			return r.Pieces([]byte("["), func() ([]byte, bool, error) {
				if n++; n == 5 {
					if err := fail(); err != nil {
						return nil, false, err
					}
					return []byte("0]"), false, nil
				}
				return []byte(strings.Repeat("1,", 50_000)), true, nil
			})
		}
	}
	m = New(Options{Done: make(chan struct{})})
	if err := m.Add([]Route{
		{Method: "GET", Pattern: "/whole", Handle: answer(func() error { return nil })},
		{Method: "GET", Pattern: "/cut", Handle: answer(func() error { return errors.New("the disk") })},
		{Method: "GET", Pattern: "/panic", Handle: answer(func() error { panic("oops") })},
	}); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &fasthttp.Server{Handler: m.Serve, Logger: nothingSaid{}}
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(func() { _ = s.Shutdown() })
	for _, c := range []struct {
		path, version string
		whole         bool
	}{{"/whole", "1.1", true}, {"/whole", "1.0", true}, {"/cut", "1.1", false}, {"/panic", "1.1", false}} {
		conn, err := net.Dial("tcp4", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET %s HTTP/%s\r\nHost: x\r\n\r\n", c.path, c.version)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if (err == nil) != c.whole || c.whole && string(body) != "["+strings.Repeat("1,", 200_000)+"0]" {
			t.Errorf("%s in HTTP/%s: %d bytes, %v", c.path, c.version, len(body), err)
		}
		if c.version == "1.0" && resp.TransferEncoding != nil {
			t.Errorf("chunks for HTTP/1.0")
		}
		_ = conn.Close()
	}
}

type nothingSaid struct{}

func (nothingSaid) Printf(string, ...any) {}
