package wire

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	"github.com/valyala/fasthttp"

	"hearth/engine/account"
	"hearth/engine/crew"
	"hearth/engine/fault"
)

// Options are what a Mux is made of.
type Options struct {
	// Authenticate finds the session of a request's token; it may look at the
	// query as well. Nil refuses every token.
	Authenticate func(r *Req) (account.Session, error)
	Log          *slog.Logger  // nil: slog.Default
	Limits       *Limits       // nil: nobody is limited
	Gate         *Gate         // nil: no gate for heavy routes
	BodyMemory   int64         // bytes of long bodies held at once; 0: 8 MiB
	AdminContact string        // told when the disk is full
	Done         chan struct{} // closed when the hub stops; nil: never
}

// Mux finds the route of a request and calls its handler.
type Mux struct {
	tree      tree
	auth      func(r *Req) (account.Session, error)
	log       *slog.Logger
	limits    *Limits
	gate      *Gate
	maxBodies int64
	contact   string
	done      chan struct{}
	ctx       context.Context // ends with the hub

	reqs    sync.Pool
	bodies  allowance              // for long bodies
	crew    *crew.Crew             // serves the connections that waited
	waiting atomic.Int32           // connections that wait for an answer
	heads   sync.Pool              // of *[]byte, for what they are answered
	resume  func(net.Conn, []byte) // gives one back to the server; nil until Attach
}

// New makes a Mux without routes.
func New(o Options) *Mux {
	m := &Mux{
		auth: o.Authenticate, log: o.Log, limits: o.Limits, gate: o.Gate,
		maxBodies: o.BodyMemory, contact: o.AdminContact, done: o.Done, crew: crew.New(o.Done),
	}
	if m.auth == nil {
		m.auth = func(*Req) (account.Session, error) {
			return account.Session{}, fault.E(fault.UnknownToken, "wire.Serve", "")
		}
	}
	if m.log == nil {
		m.log = slog.Default()
	}
	if m.maxBodies == 0 {
		m.maxBodies = 8 << 20
	}
	m.ctx = context.Background()
	if o.Done != nil {
		ctx, cancel := context.WithCancel(m.ctx)
		m.ctx = ctx
		go func() { // one for all requests, ends with the hub
			<-o.Done
			cancel()
		}()
	}
	m.reqs.New = func() any { return &Req{mux: m} }
	return m
}

// Add enters a table of routes, before the first request is served. Two routes
// for one method and path are an error.
func (m *Mux) Add(routes []Route) error {
	for i := range routes {
		rt := &routes[i]
		patterns, err := rt.prepare()
		if err != nil {
			return err
		}
		for _, p := range patterns {
			if err := m.tree.add(rt, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// Serve answers one request. It is a fasthttp.RequestHandler.
func (m *Mux) Serve(ctx *fasthttp.RequestCtx) {
	cors(&ctx.Response.Header)
	if ctx.IsOptions() {
		// Preflight: everywhere, without a token. Spec: client-server, web browser clients.
		ctx.SetContentType(contentJSON)
		ctx.Response.SetBodyString("{}")
		return
	}
	r := m.reqs.Get().(*Req)
	r.Ctx = ctx
	defer r.end()
	if err := r.serve(); err != nil {
		_ = r.Fail(err, "") // Fail returns nil
	}
}

// end gives the Req back, and answers for a handler that panicked.
func (r *Req) end() {
	if p := recover(); p != nil {
		r.caught(p)
	}
	m := r.mux
	if r.held != 0 {
		m.bodies.give(r.holder, r.held)
	}
	*r = Req{mux: m}
	m.reqs.Put(r)
}

// serve is the way of one request: route, token, limits, handler.
func (r *Req) serve() error {
	if err := r.find(); err != nil {
		return err
	}
	if err := r.identify(); err != nil {
		return err
	}
	if err := r.mux.limits.take(r, r.route.Class); err != nil {
		return err
	}
	if r.route.Flags&Heavy != 0 && r.mux.gate != nil {
		if err := r.mux.gate.Enter(r.mux.done); err != nil {
			return err
		}
		defer r.mux.gate.Leave()
	}
	return r.route.Handle(r)
}

// find sets the route and its parameters.
func (r *Req) find() error {
	path := r.Ctx.URI().PathOriginal()
	var f find
	if len(path) > 0 && path[0] == '/' {
		r.route = r.mux.tree.match(&f, path[1:], r.Ctx.Method())
	}
	switch {
	case r.route == nil && f.known:
		r.Ctx.SetStatusCode(fasthttp.StatusMethodNotAllowed)
		return fault.E(fault.Unrecognised, "wire.Serve", "this path has no such method")
	case r.route == nil:
		return fault.E(fault.Unrecognised, "wire.Serve", "no such path")
	}
	if q := r.Ctx.URI().QueryString(); !plain(q) && !clean(unescape(nil, q, true)) {
		return fault.E(fault.Invalid, "wire.Serve", "the query must be UTF-8 without NUL")
	}
	return r.setParams(&f)
}

// identify sets the session where the route asks for one.
func (r *Req) identify() error {
	flags := r.route.Flags
	if flags&(Auth|AuthMaybe) == 0 {
		return nil
	}
	if flags&Auth == 0 && r.Token() == nil {
		return nil
	}
	if r.Token() == nil {
		return fault.E(fault.MissingToken, "wire.Serve", "")
	}
	s, err := r.mux.auth(r)
	if err != nil && !(fault.Is(err, fault.Locked) && flags&LockedOK != 0 && s.User != 0) {
		return err
	}
	switch {
	case s.Guest && flags&(GuestOK|AuthMaybe) == 0:
		return fault.E(fault.GuestAccess, "wire.Serve", "")
	case s.Suspended && flags&Active != 0:
		return fault.E(fault.Suspended, "wire.Serve", "")
	case !s.Admin && flags&Admin != 0:
		return fault.E(fault.Forbidden, "wire.Serve", "this is for admins of the hub")
	}
	r.Session, r.LoggedIn = s, true
	return nil
}

// cors lets web clients from everywhere read the answer.
// Spec: client-server, web browser clients.
func cors(h *fasthttp.ResponseHeader) {
	h.SetCanonical([]byte("Access-Control-Allow-Origin"), []byte(corsOrigin))
	h.SetCanonical([]byte("Access-Control-Allow-Methods"), []byte(corsMethods))
	h.SetCanonical([]byte("Access-Control-Allow-Headers"), []byte(corsHeaders))
}

// What cors says.
const (
	corsOrigin  = "*"
	corsMethods = "GET, POST, PUT, DELETE, OPTIONS"
	corsHeaders = "X-Requested-With, Content-Type, Authorization"
)
