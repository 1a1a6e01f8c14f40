package fedapi

import (
	"hearth/engine/fault"
	"hearth/engine/keyring"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// keyRoutes are asked by servers that do not know each other's keys yet, so no
// request bears a signature. The forms with a key id are of older servers, and
// answer as those without: an answer tells of all keys.
func (a *API) keyRoutes() []wire.Route {
	const path = "/_matrix/key/v2"
	return []wire.Route{
		{Method: "GET", Pattern: path + "/server/{keyId}", Handle: a.ownKeys, Flags: wire.EmptyTail},
		{Method: "GET", Pattern: path + "/query/{serverName}", Handle: a.queryKeys, Class: wire.Read},
		{Method: "GET", Pattern: path + "/query/{serverName}/{keyId}", Handle: a.queryKeys, Class: wire.Read},
		{Method: "POST", Pattern: path + "/query", Handle: a.queryManyKeys, Class: wire.Read, Body: 256 << 10},
	}
}

// ownKeys publishes this hub's signing keys. Spec: GET /_matrix/key/v2/server.
func (a *API) ownKeys(r *wire.Req) error {
	obj, err := a.engine.Keys.Published()
	if err != nil {
		return err
	}
	return r.OK(append(r.Out(), obj...))
}

// queryKeys tells as a notary what another server publishes. Spec: GET
// /_matrix/key/v2/query/{serverName}.
func (a *API) queryKeys(r *wire.Req) error {
	server, err := mxid.ParseServer(r.Path("serverName"))
	if err != nil {
		return fault.E(fault.Invalid, "fedapi.queryKeys", "this is no server name")
	}
	at, err := r.QueryInt("minimum_valid_until_ts", a.fed.Now().UnixMilli(), 0, 1<<53)
	if err != nil {
		return err
	}
	return a.asNotary(r, []keyring.Query{{Server: server, At: at}})
}

// queryManyKeys does the same for many servers. Spec: POST
// /_matrix/key/v2/query.
func (a *API) queryManyKeys(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	queries, err := keyring.ParseQueries(body)
	if err != nil {
		return err
	}
	return a.asNotary(r, queries)
}

func (a *API) asNotary(r *wire.Req, queries []keyring.Query) error {
	ctx := r.Context()
	if err := a.notary.Enter(r.Done()); err != nil {
		return err
	}
	defer a.notary.Leave()
	list, err := a.engine.Keys.Answer(ctx, queries)
	if err != nil {
		return err
	}
	return r.OK(keyring.AppendAnswers(r.Out(), list))
}
