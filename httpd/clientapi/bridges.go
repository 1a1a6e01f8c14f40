package clientapi

import (
	"hearth/engine/fault"
	"hearth/httpd/wire"
)

// What application services offer to clients: bridges to other networks. This
// hub has none, and these endpoints say so as the specification wants it said:
// no protocol is known, nothing is found, and what only an application service
// may ask is refused to everybody.

// Spec: client-server, third-party networks; application-service, pinging and
// published room directories.
func (a *API) bridgeRoutes() []wire.Route {
	const third = v3 + "/thirdparty"
	return []wire.Route{
		{Method: "GET", Pattern: third + "/protocols", Handle: a.protocols, Flags: user},
		{Method: "GET", Pattern: third + "/protocol/{protocol}", Handle: a.noProtocol, Flags: user},
		{Method: "GET", Pattern: third + "/location", Handle: a.noThird("alias"), Flags: user},
		{Method: "GET", Pattern: third + "/location/{protocol}", Handle: a.noProtocol, Flags: user},
		{Method: "GET", Pattern: third + "/user", Handle: a.noThird("userid"), Flags: user},
		{Method: "GET", Pattern: third + "/user/{protocol}", Handle: a.noProtocol, Flags: user},
		{Method: "POST", Pattern: v1 + "/appservice/{appserviceId}/ping", Handle: a.servicesOnly, Flags: late | wire.EmptyBody},
		{Method: "PUT", Pattern: v3 + "/directory/list/appservice/{networkId}/{roomId}", Handle: a.servicesOnly, Flags: user},
	}
}

func (a *API) protocols(r *wire.Req) error { return r.Empty() }

func (a *API) noProtocol(r *wire.Req) error {
	return fault.E(fault.NotFound, "clientapi.thirdparty", "no network of the protocol %q is bridged here", r.Path("protocol"))
}

// noThird answers a look-up by a parameter that has to be given.
func (a *API) noThird(param string) wire.Handler {
	return func(r *wire.Req) error {
		if _, ok := r.Query(param); !ok {
			return fault.E(fault.Missing, "clientapi.thirdparty", "%s is missing", param)
		}
		return fault.E(fault.NotFound, "clientapi.thirdparty", "no network is bridged here")
	}
}

// servicesOnly judges the body first, as for those who may, and then refuses.
func (a *API) servicesOnly(r *wire.Req) error {
	var body struct {
		Visibility string `json:"visibility"`
	}
	if err := r.Decode(&body); err != nil {
		return err
	}
	return fault.E(fault.Forbidden, "clientapi.appservice", "only application services may ask for this")
}
