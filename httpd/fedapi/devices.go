package fedapi

import (
	"hearth/engine/e2ee"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// Spec: server-server, end-to-end encryption; device management.
func (a *API) deviceRoutes() []wire.Route {
	return []wire.Route{
		{Method: "POST", Pattern: v1 + "/user/keys/query", Handle: a.signed(a.userKeys)},
		{Method: "POST", Pattern: v1 + "/user/keys/claim", Handle: a.signed(a.claimUserKeys)},
		{Method: "GET", Pattern: v1 + "/user/devices/{userId}", Handle: a.signed(a.userDevices)},
	}
}

// Spec: server-server, POST /user/keys/query.
func (a *API) userKeys(r *wire.Req, _ mxid.Server) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	list, err := e2ee.ParseQueries(body)
	if err != nil {
		return err
	}
	dst, err := a.engine.AppendKeys(append(r.Out(), '{'), 0, list)
	if err != nil {
		return err
	}
	return r.OK(append(dst, '}'))
}

// Spec: server-server, POST /user/keys/claim.
func (a *API) claimUserKeys(r *wire.Req, _ mxid.Server) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	list, err := e2ee.ParseClaims(body)
	if err != nil {
		return err
	}
	if err := a.engine.ClaimKeys(list); err != nil {
		return err
	}
	return r.OK(append(e2ee.AppendClaimed(append(r.Out(), `{"one_time_keys":`...), list), '}'))
}

// Spec: server-server, GET /user/devices/{userId}.
func (a *API) userDevices(r *wire.Req, _ mxid.Server) error {
	id, err := mxid.ParseUser(r.Path("userId"))
	if err != nil {
		return err
	}
	dst, err := a.fed.AppendUserDevices(r.Out(), id)
	if err != nil {
		return err
	}
	return r.OK(dst)
}
