package clientapi

import (
	"net/url"
	"slices"
	"strings"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// What application services offer to clients: bridges to other networks.

// Spec: client-server, third-party networks; application-service, pinging and
// published room directories.
func (a *API) bridgeRoutes() []wire.Route {
	const third = v3 + "/thirdparty"
	return []wire.Route{
		{Method: "GET", Pattern: third + "/protocols", Handle: a.protocols, Flags: user},
		{Method: "GET", Pattern: third + "/protocol/{protocol}", Handle: a.protocol, Flags: user},
		{Method: "GET", Pattern: third + "/location", Handle: a.third("location", "alias"), Flags: user, Class: wire.Read},
		{Method: "GET", Pattern: third + "/location/{protocol}", Handle: a.third("location", ""), Flags: user, Class: wire.Read},
		{Method: "GET", Pattern: third + "/user", Handle: a.third("user", "userid"), Flags: user, Class: wire.Read},
		{Method: "GET", Pattern: third + "/user/{protocol}", Handle: a.third("user", ""), Flags: user, Class: wire.Read},
		{Method: "POST", Pattern: v1 + "/appservice/{appserviceId}/ping", Handle: a.pingService, Flags: late | wire.EmptyBody},
		{Method: "PUT", Pattern: v3 + "/directory/list/appservice/{networkId}/{roomId}", Handle: a.listForNetwork, Flags: user},
	}
}

// protocolObject asks the bridges of a network what it is; of several the first
// describes it, and all tell their instances.
func (a *API) protocolObject(r *wire.Req, name string) []byte {
	ctx := r.Context()
	list := a.engine.AppServices.ThirdParty(ctx, []byte{'['}, name, "protocol/"+url.PathEscape(name), "")
	if len(list) == 1 {
		return nil
	}
	var first []byte
	var instances []string
	_ = cjson.Array(append(list, ']'), func(obj []byte) bool { // it was checked
		if first == nil {
			first = obj
		}
		if items, ok := cjson.Lookup(obj, "instances"); ok && cjson.KindOf(items) == cjson.ArrayKind {
			_ = cjson.Array(items, func(item []byte) bool {
				instances = append(instances, string(item))
				return true
			})
		}
		return true
	})
	out := []byte(`{"instances":[` + strings.Join(instances, ",") + `]`)
	_ = cjson.Object(first, func(key, val []byte) bool {
		if string(key) != "instances" {
			out = append(append(cjson.AppendString(append(out, ','), string(key)), ':'), val...)
		}
		return true
	})
	return append(out, '}')
}

// Spec: client-server, GET /thirdparty/protocols.
func (a *API) protocols(r *wire.Req) error {
	dst := append(r.Out(), '{')
	for _, name := range a.engine.AppServices.Services().Protocols() {
		obj := a.protocolObject(r, name)
		if obj == nil {
			continue
		}
		if len(dst) > 1 {
			dst = append(dst, ',')
		}
		dst = append(append(cjson.AppendString(dst, name), ':'), obj...)
	}
	return r.OK(append(dst, '}'))
}

// Spec: client-server, GET /thirdparty/protocol/{protocol}.
func (a *API) protocol(r *wire.Req) error {
	name := r.Path("protocol")
	if !slices.Contains(a.engine.AppServices.Services().Protocols(), name) {
		return noProtocol(name)
	}
	obj := a.protocolObject(r, name)
	if obj == nil {
		return fault.E(fault.NotFound, "clientapi.thirdparty", "the bridge of %q does not answer", name)
	}
	return r.OK(obj)
}

func noProtocol(name string) error {
	return fault.E(fault.NotFound, "clientapi.thirdparty", "no network of the protocol %q is bridged here", name)
}

// third looks for users or locations of other networks: by the fields of one, or
// the other way round, by a parameter that has to be given.
func (a *API) third(kind, param string) wire.Handler {
	return func(r *wire.Req) error {
		const op = "clientapi.thirdparty"
		path, protocol := kind, ""
		if param == "" {
			protocol = r.Path("protocol")
			if !slices.Contains(a.engine.AppServices.Services().Protocols(), protocol) {
				return noProtocol(protocol)
			}
			path += "/" + url.PathEscape(protocol)
		} else if _, ok := r.Query(param); !ok {
			return fault.E(fault.Missing, op, "%s is missing", param)
		}
		ctx := r.Context()
		query := string(r.Ctx.URI().QueryString())
		if strings.Contains(query, "access_token=") {
			return fault.E(fault.Invalid, op, "send the access token in the Authorization header: the query is passed on")
		}
		list := a.engine.AppServices.ThirdParty(ctx, append(r.Out(), '['), protocol, path, query)
		if len(list) == 1 {
			return fault.E(fault.NotFound, op, "nothing was found")
		}
		return r.OK(append(list, ']'))
	}
}

// listForNetwork shows a room among those of a network, which this hub lists
// with all others. Spec: application-service, published room directories.
func (a *API) listForNetwork(r *wire.Req) error {
	const op = "clientapi.appservice"
	var q struct {
		Visibility string `json:"visibility"`
	}
	if err := r.Decode(&q); err != nil {
		return err
	}
	if r.Session.Service == "" {
		return fault.E(fault.Forbidden, op, "only application services may ask for this")
	}
	if q.Visibility != "public" && q.Visibility != "private" {
		return fault.E(fault.Invalid, op, "visibility is public or private")
	}
	num, err := a.engine.Rooms.Find(mxid.RoomID(r.Path("roomId")))
	if err != nil {
		return err
	}
	if err := a.engine.SetPublished(num, r.Session.User, r.Session.UserID, q.Visibility == "public"); err != nil {
		return err
	}
	return r.Empty()
}
