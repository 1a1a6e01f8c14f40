// Package fedapi is the server-server API as other servers ask it: one table of
// routes, and thin handlers that read a request, ask package engine, and append
// the answer.
//
// It owns who is asking: a request is answered once its signature was checked,
// and a handler is told the name of the server that made it. It refuses to know
// a rule; what a server may see and do is for the engine to say.
//
// Spec: server-server.
package fedapi

import (
	"time"

	"hearth/engine"
	"hearth/engine/federation"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// Options are what the API is made with.
type Options struct {
	Engine  *engine.Engine
	Version string // of the hub, told to whoever asks
}

// API is the handlers and what they share.
type API struct {
	engine *engine.Engine
	fed    *federation.Federation
	o      Options

	// What works hard for other servers passes gates of its own: they ask much, and
	// some of it with no proof of who they are.
	gate, notary *wire.Gate
}

// Few work at once; more wait for a moment.
const (
	atWork   = 2
	waiting  = 16
	waitTime = 2 * time.Second
	notaries = 4 // these wait for others themselves
)

// New makes the API over an open engine.
func New(o Options) *API {
	return &API{
		engine: o.Engine, fed: o.Engine.Federation, o: o,
		gate: wire.NewGate(atWork, waiting, waitTime), notary: wire.NewGate(notaries, waiting, waitTime),
	}
}

// Routes is the whole table.
func (a *API) Routes() []wire.Route {
	var all []wire.Route
	for _, part := range [...][]wire.Route{a.serverRoutes(), a.keyRoutes(), a.sendRoutes(), a.eventRoutes(), a.membershipRoutes(),
		a.inviteRoutes(), a.deviceRoutes(), a.queryRoutes()} {
		all = append(all, part...)
	}
	for i := range all {
		all[i].Flags |= wire.Federation
	}
	return all
}

const v1, v2 = "/_matrix/federation/v1", "/_matrix/federation/v2"

func (a *API) serverRoutes() []wire.Route {
	return []wire.Route{
		{Method: "GET", Pattern: v1 + "/version", Handle: a.version},
	}
}

// Signed is signed for the routes of other packages.
func (a *API) Signed(handle func(r *wire.Req, origin mxid.Server) error) wire.Handler {
	return a.signed(handle)
}

// signed is a handler of requests that another server has to have signed: it
// is given that server's name.
func (a *API) signed(handle func(r *wire.Req, origin mxid.Server) error) wire.Handler {
	return func(r *wire.Req) error {
		s := federation.Signed{
			Header: string(r.Ctx.Request.Header.Peek("Authorization")),
			Method: string(r.Ctx.Method()),
			URI:    string(r.Ctx.Request.Header.RequestURI()),
		}
		if r.BodyLen() != 0 {
			var err error
			if s.Content, err = r.Object(); err != nil {
				return err
			}
		}
		ctx := r.Context()
		origin, err := a.fed.Authenticate(ctx, &s)
		if err != nil {
			return err
		}
		return handle(r, origin)
	}
}

// heavy is a handler that works hard. It passes the gate when it is known who asks:
// to find that out may take as long as another server likes.
func (a *API) heavy(handle func(r *wire.Req, origin mxid.Server) error) func(r *wire.Req, origin mxid.Server) error {
	return func(r *wire.Req, origin mxid.Server) error {
		if err := a.gate.Enter(r.Done()); err != nil {
			return err
		}
		defer a.gate.Leave()
		return handle(r, origin)
	}
}

// version says what answers here. Spec: GET /_matrix/federation/v1/version.
func (a *API) version(r *wire.Req) error {
	return r.Answer(struct {
		Server struct {
			Name    string `json:"name"`
			Version string `json:"version"`
		} `json:"server"`
	}{struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	}{"Hearth", a.o.Version}})
}
