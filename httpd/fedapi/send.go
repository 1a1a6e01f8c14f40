package fedapi

import (
	"hearth/engine/federation"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

func (a *API) sendRoutes() []wire.Route {
	return []wire.Route{
		{Method: "PUT", Pattern: v1 + "/send/{txnId}", Handle: a.signed(a.send), Body: federation.MaxTransaction},
	}
}

// send takes in a transaction. Spec: server-server, PUT /send/{txnId}.
func (a *API) send(r *wire.Req, origin mxid.Server) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	ctx := r.Context()
	answer, err := a.fed.Receive(ctx, origin, r.Path("txnId"), body)
	if err != nil {
		return err
	}
	return r.OK(append(r.Out(), answer...))
}
