package simnet

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/valyala/fasthttp"

	"hearth/engine"
	"hearth/engine/account"
	"hearth/engine/federation"
	"hearth/engine/media"
	"hearth/engine/mxid"
	"hearth/engine/store"
	"hearth/httpd/clientapi"
	"hearth/httpd/fedapi"
	"hearth/httpd/hubtest"
	"hearth/httpd/idapi"
	"hearth/httpd/mediaapi"
	"hearth/httpd/wire"
)

// Hub is one hub of a net: an engine with both APIs before it.
type Hub struct {
	*engine.Engine
	Name mxid.Server
	Open engine.Options // what the engine is opened with

	// Mail makes the hub an identity server too, and is given the mails of both; set
	// by Options.Change.
	Mail func(to, subject, text string) error

	net  *Net
	i    int
	mux  *wire.Mux
	done chan struct{}
	disk disk
	down bool           // guarded by Net.mu: nobody reaches it
	busy sync.WaitGroup // requests of others that it is answering
}

func (n *Net) open(i int) (*Hub, error) {
	h := &Hub{Name: mxid.Server(fmt.Sprintf("%c.test", 'a'+i)), net: n, i: i, disk: disk{vfs.NewCrashableMem()}}
	now := time.Now
	if n.o.Now != nil {
		now = func() time.Time { return n.o.Now(i) }
	}
	h.Open = engine.Options{
		Dir: "data", FS: h.disk, Server: h.Name, Now: now, MemTable: 1 << 20, CacheBytes: 4 << 20,
		Accounts: account.Options{Cost: account.Cost{KiB: 64, Passes: 1}},
		Log:      func(format string, args ...any) { fmt.Fprintf(logged{h}, format, args...) },
	}
	h.Open.Federation.Peer = link{n, h.Name}
	h.Open.Identity = engine.IdentityWays{Ask: h.askIdentity, Get: h.askLink}
	if n.o.Change != nil {
		n.o.Change(i, h)
	}
	if err := h.writeKey(); err != nil {
		return nil, err
	}
	return h, h.start()
}

// writeKey lays the hub's key where its engine looks for it, so that the net
// knows it too.
func (h *Hub) writeKey() error {
	k := h.net.Key(h.Name)
	if err := h.disk.MkdirAll("data", 0o700); err != nil {
		return err
	}
	text := fmt.Appendf(nil, "ed25519 sim %s\n", base64.RawStdEncoding.EncodeToString(k.Key.Seed()))
	if err := store.WriteFile(h.disk, "data/signing.key", text); err != nil {
		return err
	}
	root, err := h.disk.OpenDir("/") // a power cut must not take the folder itself
	if err != nil {
		return err
	}
	return errors.Join(root.Sync(), root.Close())
}

func (h *Hub) start() (err error) {
	if h.Engine, err = engine.Open(h.Open); err != nil {
		return err
	}
	h.done = make(chan struct{})
	forClients := clientapi.Options{Engine: h.Engine, Registration: clientapi.Anyone, Now: h.Open.Now}
	if h.Mail != nil {
		forClients.Mail, forClients.PublicURL = h.Mail, "https://"+string(h.Name)
		forClients.IdentityAt = forClients.PublicURL
	}
	client := clientapi.New(forClients)
	h.mux = wire.New(wire.Options{Authenticate: client.Authenticate, Log: slog.New(slog.NewTextHandler(logged{h}, nil)), Done: h.done})
	if err := h.mux.Add(client.Routes()); err != nil {
		return err
	}
	servers := fedapi.New(fedapi.Options{Engine: h.Engine, Version: "sim"})
	files := mediaapi.New(mediaapi.Options{Media: h.Engine.Media, Server: h.Name,
		Remote: func(ctx context.Context, origin mxid.Server, id string) error {
			return h.Engine.FetchMedia(ctx, origin, id, nil)
		},
		RemoteThumb: func(ctx context.Context, origin mxid.Server, id string, want media.Want) error {
			return h.Engine.FetchThumbnail(ctx, origin, id, want, nil)
		},
	})
	lookups, err := h.identity()
	if err != nil {
		return err
	}
	for _, table := range [...][]wire.Route{files.Routes(), files.Federated(servers.Signed), servers.Routes(), lookups} {
		if err := h.mux.Add(table); err != nil {
			return err
		}
	}
	return nil
}

// identity is the hub's identity service, where it has one.
func (h *Hub) identity() ([]wire.Route, error) {
	if h.Mail == nil {
		return nil, nil
	}
	s, err := h.Engine.OpenIdentity()
	if err != nil {
		return nil, err
	}
	return idapi.New(idapi.Options{
		Records: s.Records, PublicURL: "https://" + string(h.Name), Mail: h.Mail, UserInfo: s.UserInfo, Authenticate: s.Authenticate,
	}).Routes(), nil
}

// askIdentity asks the identity server that a hub of the net is.
func (h *Hub) askIdentity(ctx context.Context, q *engine.IdentityQuestion) (int, []byte, error) {
	r := federation.Request{Dest: mxid.Server(q.Server), Method: q.Method, Path: "/_matrix/identity/v2" + q.Path, Body: q.Body, Authorization: "Bearer " + q.Token}
	if q.Token == "" {
		if err := h.Federation.Sign(&r); err != nil {
			return 0, nil, err
		}
	}
	a, err := link{h.net, h.Name}.Do(ctx, &r)
	if err != nil {
		return 0, nil, err
	}
	return a.Status, a.Body, nil
}

// askLink asks for what stands at a URL of a hub's of the net.
func (h *Hub) askLink(ctx context.Context, page string) (int, []byte, error) {
	u, err := url.Parse(page)
	if err != nil {
		return 0, nil, err
	}
	a, err := link{h.net, h.Name}.Do(ctx, &federation.Request{Dest: mxid.Server(u.Host), Method: "GET", Path: u.RequestURI()})
	if err != nil {
		return 0, nil, err
	}
	return a.Status, a.Body, nil
}

// logged writes a hub's log into the test's.
type logged struct{ h *Hub }

func (l logged) Write(b []byte) (int, error) {
	if l.h.net.o.Quiet {
		return len(b), nil
	}
	l.h.net.T.Logf("%s: %s", l.h.Name, bytes.TrimSpace(b))
	return len(b), nil
}

func (h *Hub) close() {
	close(h.done)
	h.busy.Wait()
	if err := h.Engine.Close(); err != nil {
		h.net.T.Error(err)
	}
}

// Restart closes the hub in good order and opens it again.
func (h *Hub) Restart() {
	h.net.T.Helper()
	h.again(func() {}, func() {})
}

// PowerCut opens the hub on what a power cut at this moment leaves of its disk:
// all that was synced, and a part of the rest. Whoever waits for an answer gets
// none.
func (h *Hub) PowerCut() {
	h.net.T.Helper()
	var left disk
	h.again(func() {
		h.net.mu.Lock()
		defer h.net.mu.Unlock()
		left = disk{h.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50 * h.net.rng.IntN(3), RNG: h.net.rng})}
	}, func() { h.disk, h.Open.FS = left, left })
}

// again opens the hub anew: at is called when nobody reaches it any more, before
// its engine closes, and between after that.
func (h *Hub) again(at, between func()) {
	n := h.net
	n.T.Helper()
	n.mu.Lock()
	h.down = true
	n.mu.Unlock()
	at()
	h.close()
	between()
	if err := h.start(); err != nil {
		n.T.Fatal(err)
	}
	n.mu.Lock()
	h.down = false
	n.mu.Unlock()
}

// User is somebody who has an account on a hub.
type User struct {
	Hub    *Hub
	ID     mxid.UserID
	Num    uint32
	Device uint64
	Token  string
}

// User makes an account with one device.
func (h *Hub) User(name string) *User {
	t := h.net.T
	t.Helper()
	num, err := h.Accounts.Create(account.NewUser{Localpart: name})
	if err != nil {
		t.Fatal(err)
	}
	tokens, s, err := h.Accounts.Login(num, account.NewSession{Device: "DEV"})
	if err != nil {
		t.Fatal(err)
	}
	return &User{Hub: h, ID: h.Accounts.ID(name), Num: num, Device: s.DeviceNum, Token: tokens.Access}
}

// Reply is the answer to a client.
type Reply struct {
	Status int
	Body   string
}

// Get looks up a member of the answer by a path of keys; nil where there is none.
func (r Reply) Get(keys ...string) any { return hubtest.Get(r.Body, keys...) }

// Str is Get of a string.
func (r Reply) Str(keys ...string) string {
	s, _ := r.Get(keys...).(string)
	return s
}

// Ask makes one request of the client-server API; body may be empty.
func (u *User) Ask(method, path, body string) Reply {
	u.Hub.net.T.Helper()
	var req fasthttp.Request
	req.Header.SetMethod(method)
	req.SetRequestURI(path)
	req.Header.SetHost(string(u.Hub.Name))
	req.Header.Set("Authorization", "Bearer "+u.Token)
	if body != "" {
		req.SetBodyString(body)
	}
	var ctx fasthttp.RequestCtx
	begin(&ctx, &req, 1)
	u.Hub.mux.Serve(&ctx)
	return Reply{ctx.Response.StatusCode(), string(ctx.Response.Body())}
}

// nowhere is the connection of a request that came by none.
type nowhere struct {
	net.Conn
	from net.Addr
}

func (nowhere) SetWriteDeadline(time.Time) error { return nil }
func (n nowhere) RemoteAddr() net.Addr           { return n.from }
func (n nowhere) LocalAddr() net.Addr            { return n.from }

// begin makes a request one that a handler can serve.
func begin(ctx *fasthttp.RequestCtx, req *fasthttp.Request, from byte) {
	ctx.Init2(nowhere{from: &net.TCPAddr{IP: net.IPv4(192, 0, 2, from), Port: 1}}, nil, true)
	req.CopyTo(&ctx.Request)
}

// Want is Ask that ends the test unless the answer has the status and, where one
// is named, the errcode.
func (u *User) Want(status int, errcode, method, path, body string) Reply {
	t := u.Hub.net.T
	t.Helper()
	r := u.Ask(method, path, body)
	if r.Status != status || errcode != "" && r.Str("errcode") != errcode {
		t.Fatalf("%s: %s %s %s: got %d %s, want %d %s", u.ID, method, path, body, r.Status, r.Body, status, errcode)
	}
	return r
}
