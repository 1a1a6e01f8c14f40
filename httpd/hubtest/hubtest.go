// Package hubtest is what tests of the APIs share: an engine in memory whose clock
// stands still, and requests that reach a mux without a socket. It knows no API, so
// that the packages of all of them can be tested with it; hubs that talk to each
// other are simnet's.
package hubtest

import (
	"encoding/json"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/valyala/fasthttp"

	"hearth/engine"
	"hearth/engine/account"
	"hearth/httpd/wire"
)

// Clock stands still until it is moved. The engine's goroutines read it too.
type Clock struct{ since atomic.Int64 }

var start = time.UnixMilli(1_700_000_000_000)

// Now is the time.
func (c *Clock) Now() time.Time { return start.Add(time.Duration(c.since.Load())) }

// Pass lets time go by.
func (c *Clock) Pass(d time.Duration) { c.since.Add(int64(d)) }

// Open opens an engine that the test's end closes: hub.test, in memory and with a
// clock of its own where o has no folder or clock, and with passwords that cost
// nothing.
func Open(t *testing.T, o engine.Options) *engine.Engine {
	t.Helper()
	if o.FS == nil {
		o.Dir, o.FS = "data", vfs.NewMem()
	}
	if o.Now == nil {
		o.Now = new(Clock).Now
	}
	o.Server, o.Accounts = "hub.test", account.Options{Cost: account.Cost{KiB: 64, Passes: 1}}
	e, err := engine.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// Ask makes one request; token and body may be empty. What is no JSON fails the
// test, and so does a fault of the hub.
func Ask(t *testing.T, mux *wire.Mux, method, path, token, body string) (status int, answer string) {
	t.Helper()
	var req fasthttp.Request
	req.Header.SetMethod(method)
	req.SetRequestURI(path)
	req.Header.SetHost("hub.test")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.SetBodyString(body)
	}
	var ctx fasthttp.RequestCtx
	ctx.Init(&req, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, nil)
	mux.Serve(&ctx)
	status, answer = ctx.Response.StatusCode(), string(ctx.Response.Body())
	if status >= 500 && status != 502 && status != 504 || !json.Valid([]byte(answer)) {
		t.Fatalf("%s %s: %d %s", method, path, status, answer)
	}
	return status, answer
}

// Fits says whether a body is what is expected: an errcode with an explanation where
// that begins with M_, else the whole body; anything where it is empty.
func Fits(body, expect string) bool {
	if strings.HasPrefix(expect, "M_") {
		text, _ := Get(body, "error").(string)
		return Get(body, "errcode") == expect && text != ""
	}
	return expect == "" || body == expect
}

// Get looks up a member of an answer by a path of keys; nil where there is none.
func Get(body string, keys ...string) any {
	var v any
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		return nil
	}
	for _, k := range keys {
		obj, _ := v.(map[string]any)
		v = obj[k]
	}
	return v
}
