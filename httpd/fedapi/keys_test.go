package fedapi

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/valyala/fasthttp"

	"hearth/engine"
	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/federation"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// keyNet is some hubs that reach each other by name without a socket.
type keyNet map[mxid.Server]*keyHub

type keyHub struct {
	*engine.Engine
	mux *wire.Mux
}

func (n keyNet) add(t *testing.T, name mxid.Server, o engine.Options) *keyHub {
	t.Helper()
	o.Dir, o.FS, o.Server, o.Accounts.Cost = "data", vfs.NewMem(), name, account.Cost{KiB: 64, Passes: 1}
	if o.Federation.Peer == nil {
		o.Federation.Peer = n
	}
	e, err := engine.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	h := &keyHub{Engine: e, mux: wire.New(wire.Options{Log: slog.New(slog.DiscardHandler), Gate: wire.NewGate(2, 2, 100*time.Millisecond)})}
	if err := h.mux.Add(New(Options{Engine: e, Version: "test"}).Routes()); err != nil {
		t.Fatal(err)
	}
	n[name] = h
	return h
}

func (h *keyHub) ask(method, target, body, authorization string) (int, []byte) {
	var ctx fasthttp.RequestCtx
	ctx.Request.Header.SetMethod(method)
	ctx.Request.SetRequestURI(target)
	ctx.Request.Header.Set("Authorization", authorization)
	if body != "" {
		ctx.Request.SetBodyString(body)
	}
	h.mux.Serve(&ctx)
	return ctx.Response.StatusCode(), append([]byte(nil), ctx.Response.Body()...)
}

// Do brings a request to the hub of that name.
func (n keyNet) Do(_ context.Context, r *federation.Request) (*federation.Answer, error) {
	h := n[r.Dest]
	if h == nil {
		return nil, errors.New("no such host")
	}
	status, body := h.ask(r.Method, r.Path, string(r.Body), r.Authorization)
	return &federation.Answer{Status: status, Body: body}, nil
}

// Open is not what keys are asked by.
func (n keyNet) Open(context.Context, *federation.Request) (*federation.Stream, error) {
	return nil, errors.New("not here")
}

// holds checks a server's signature on its object, with the key that the object
// itself lists.
func holds(t *testing.T, obj []byte, server mxid.Server, own *engine.Engine) {
	t.Helper()
	for _, s := range own.OwnKeys().Current {
		if err := event.VerifyJSON(obj, string(server), s.KeyID, s.Key.Public().(ed25519.PublicKey)); err != nil {
			t.Errorf("signature of %s: %v", server, err)
		}
	}
}

func TestOwnKeysPublished(t *testing.T) {
	hub := keyNet{}.add(t, "a", engine.Options{})
	for _, path := range []string{"/_matrix/key/v2/server", "/_matrix/key/v2/server/", "/_matrix/key/v2/server/ed25519:x"} {
		status, obj := hub.ask("GET", path, "", "")
		if name, _ := cjson.LookupString(obj, "server_name"); status != 200 || name != "a" {
			t.Fatalf("%s: %d %s", path, status, obj)
		}
		val, _ := cjson.Lookup(obj, "valid_until_ts")
		if until, _ := cjson.Int(val); time.Until(time.UnixMilli(until)) < time.Hour {
			t.Errorf("%s: valid until %s", path, val)
		}
		holds(t, obj, "a", hub.Engine)
	}
}

func TestNotary(t *testing.T) {
	net := keyNet{}
	a, b := net.add(t, "a", engine.Options{}), net.add(t, "b", engine.Options{})
	for _, c := range []struct {
		method, path, body string
		servers            int
	}{
		{"GET", "/_matrix/key/v2/query/b", "", 1},
		{"GET", "/_matrix/key/v2/query/b/ed25519:x?minimum_valid_until_ts=5", "", 1},
		{"GET", "/_matrix/key/v2/query/a", "", 1},
		{"GET", "/_matrix/key/v2/query/gone", "", 0},
		{"POST", "/_matrix/key/v2/query", `{"server_keys":{"b":{},"a":{},"gone":{"ed25519:1":{"minimum_valid_until_ts":1}}}}`, 2},
		{"POST", "/_matrix/key/v2/query", `{"server_keys":{}}`, 0},
	} {
		status, body := a.ask(c.method, c.path, c.body, "")
		if status != 200 {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, body)
			continue
		}
		list, ok := cjson.Lookup(body, "server_keys")
		if !ok {
			t.Errorf("%s: %s", c.path, body)
		}
		n := 0
		_ = cjson.Array(list, func(obj []byte) bool {
			n++
			holds(t, obj, "a", a.Engine)
			if name, _ := cjson.LookupString(obj, "server_name"); name == "b" {
				holds(t, obj, "b", b.Engine)
			}
			return true
		})
		if n != c.servers {
			t.Errorf("%s %s: %d objects", c.method, c.path, n)
		}
	}
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/_matrix/key/v2/query/-no_server-%2f", "", 400},
		{"GET", "/_matrix/key/v2/query/b?minimum_valid_until_ts=x", "", 400},
		{"POST", "/_matrix/key/v2/query", `{}`, 400},
		{"POST", "/_matrix/key/v2/query", `{"server_keys":[]}`, 400},
		{"POST", "/_matrix/key/v2/query", `[`, 400},
	} {
		if status, body := a.ask(c.method, c.path, c.body, ""); status != c.status {
			t.Errorf("%s %s %s: %d %s", c.method, c.path, c.body, status, body)
		}
	}
}

// A signed request of one hub is known for its own by another, which asks for
// the keys on the way.
func TestSignedRequest(t *testing.T) {
	net := keyNet{}
	a := net.add(t, "a", engine.Options{})
	net.add(t, "b", engine.Options{})
	obj, err := event.SignJSON(nil, []byte(`{"destination":"a","method":"GET","origin":"b","uri":"/x"}`), &net["b"].OwnKeys().Current[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Keys.VerifyJSON(context.Background(), "b", obj, time.Now()); err != nil {
		t.Error(err)
	}
	forged, err := event.SignJSON(nil, []byte(`{"destination":"a","method":"GET","origin":"b","uri":"/y"}`), &a.OwnKeys().Current[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Keys.VerifyJSON(context.Background(), "b", forged, time.Now()); err == nil {
		t.Error("a signature of another server was taken")
	}
}

// slowNet has servers that take their time.
type slowNet struct {
	keyNet
	begun, free chan struct{}
}

func (n *slowNet) Do(ctx context.Context, r *federation.Request) (*federation.Answer, error) {
	if strings.HasPrefix(string(r.Dest), "slow") {
		n.begun <- struct{}{}
		<-n.free
		return nil, errors.New("no answer")
	}
	return n.keyNet.Do(ctx, r)
}

// Requests that name servers which do not tell their keys take no place from those
// that are signed.
func TestUnsignedHoldUpNobody(t *testing.T) {
	const slow = 12
	n := &slowNet{keyNet{}, make(chan struct{}, slow), make(chan struct{})}
	a := n.add(t, "a", engine.Options{Federation: federation.Options{Peer: n}})
	b := n.add(t, "b", engine.Options{})
	const path = "/_matrix/federation/v1/state/%21r%3Ab?event_id=%24e"
	var all sync.WaitGroup
	for i := range slow {
		all.Go(func() {
			auth := fmt.Sprintf(`X-Matrix origin="slow%d",destination="a",key="ed25519:1",sig="%s"`, i, strings.Repeat("A", 86))
			if status, body := a.ask("GET", path, "", auth); status != 401 {
				t.Errorf("%d %s", status, body)
			}
		})
	}
	for range slow {
		<-n.begun
	}
	signer := &b.OwnKeys().Current[0]
	obj, err := event.SignJSON(nil, fmt.Appendf(nil, `{"destination":"a","method":"GET","origin":"b","uri":%q}`, path), signer)
	if err != nil {
		t.Fatal(err)
	}
	sig := base64.RawStdEncoding.EncodeToString(event.Signatures(obj, "b")[0].Sig)
	if status, body := a.ask("GET", path, "", fmt.Sprintf(`X-Matrix origin="b",destination="a",key=%q,sig=%q`, signer.KeyID, sig)); status != 404 {
		t.Errorf("%d %s", status, body)
	}
	close(n.free)
	all.Wait()
}
