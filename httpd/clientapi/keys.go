package clientapi

import (
	"errors"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/e2ee"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// unstable is where clients of before version 1.1 look for what r0 did not have.
const unstable = "/_matrix/client/unstable"

// Spec: client-server, end-to-end encryption; send-to-device messaging.
func (a *API) keyRoutes() []wire.Route {
	routes := []wire.Route{
		{Method: "POST", Pattern: v3 + "/keys/upload", Handle: a.uploadKeys, Flags: guest},
		{Method: "POST", Pattern: v3 + "/keys/query", Handle: a.queryKeys, Flags: guest},
		{Method: "POST", Pattern: v3 + "/keys/claim", Handle: a.claimKeys, Flags: guest},
		{Method: "GET", Pattern: v3 + "/keys/changes", Handle: a.keyChanges, Flags: user},
		{Method: "PUT", Pattern: v3 + "/sendToDevice/{eventType}/{txnId}", Handle: a.sendToDevice, Flags: guest},
	}
	for _, base := range [...]string{v3, unstable} {
		routes = append(routes,
			wire.Route{Method: "POST", Pattern: base + "/keys/device_signing/upload", Handle: a.uploadCrossKeys, Flags: late, Class: wire.Login},
			wire.Route{Method: "POST", Pattern: base + "/keys/signatures/upload", Handle: a.uploadSignatures, Flags: late})
	}
	return append(append(routes, a.backupRoutes()...), a.dehydratedRoutes()...)
}

// Spec: client-server, POST /keys/upload.
func (a *API) uploadKeys(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	if r.Session.Device == "" {
		return fault.E(fault.Missing, "clientapi.keys", "whose keys? an application service has to name a device_id")
	}
	if err := a.engine.UploadKeys(&r.Session, body); err != nil {
		return err
	}
	dst, err := a.engine.E2EE.AppendCounts(append(r.Out(), `{"one_time_key_counts":`...), r.Session.DeviceNum)
	if err != nil {
		return err
	}
	return r.OK(append(dst, '}'))
}

// Spec: client-server, POST /keys/query.
func (a *API) queryKeys(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	list, err := e2ee.ParseQueries(body)
	if err != nil {
		return err
	}
	dst, failed, err := a.engine.QueryKeys(append(r.Out(), '{'), r.Session.User, list, askedTime(body))
	if err != nil {
		return err
	}
	return r.OK(append(appendFailures(dst, failed), '}'))
}

// Spec: client-server, POST /keys/claim.
func (a *API) claimKeys(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	list, err := e2ee.ParseClaims(body)
	if err != nil {
		return err
	}
	failed, err := a.engine.ClaimAnyKeys(list, askedTime(body))
	if err != nil {
		return err
	}
	dst := e2ee.AppendClaimed(append(r.Out(), `{"one_time_keys":`...), list)
	return r.OK(append(appendFailures(dst, failed), '}'))
}

// askedTime is how long a client wants other servers to be waited for. Spec:
// client-server, POST /keys/query and /keys/claim: timeout, 10 seconds are recommended.
func askedTime(body []byte) time.Duration {
	val, _ := cjson.Lookup(body, "timeout")
	ms, ok := cjson.Int(val)
	if !ok || ms < 0 {
		return 10 * time.Second
	}
	return time.Duration(min(ms, 60_000)) * time.Millisecond
}

// appendFailures appends the member failures: the servers that did not answer.
func appendFailures(dst []byte, failed map[mxid.Server]fault.Kind) []byte {
	dst = append(dst, `,"failures":{`...)
	first := true
	for server, kind := range failed {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		if kind == fault.Internal {
			kind = fault.Remote
		}
		dst = append(cjson.AppendString(dst, server), ':')
		dst = wire.AppendError(dst, kind, "the server was not reached")
	}
	return append(dst, '}')
}

// Spec: client-server, GET /keys/changes.
func (a *API) keyChanges(r *wire.Req) error {
	from, ok := r.Query("from")
	to, ok2 := r.Query("to")
	if !ok || !ok2 {
		return fault.E(fault.Missing, "clientapi.keyChanges", "from which token, and to which?")
	}
	dst, err := a.engine.Sync.KeyChanges(r.Out(), r.Session.User, r.Session.UserID, from, to)
	if err != nil {
		return err
	}
	return r.OK(dst)
}

// Spec: client-server, POST /keys/device_signing/upload.
func (a *API) uploadCrossKeys(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	keys, err := e2ee.ParseCrossKeys(r.Session.UserID, body)
	if err != nil {
		return err
	}
	needs, err := a.engine.E2EE.NeedsProof(r.Session.User, keys)
	if err != nil {
		return err
	}
	// The auth alone means the keys of the request that its session began with.
	if _, has := cjson.Lookup(body, "auth"); has && len(keys.IDs()) == 0 {
		needs = true
	}
	var x *exchange
	if needs {
		var full []byte
		if x, full, err = a.mayReset(r, body); x == nil {
			return err
		}
		if keys, err = e2ee.ParseCrossKeys(r.Session.UserID, full); err != nil {
			return err
		}
	}
	if err := a.engine.UploadCrossKeys(&r.Session, keys, needs); err != nil {
		return err
	}
	if x != nil {
		a.uia.end(x)
		a.renewals.used(r.Session.User)
	}
	return r.Empty()
}

// mayReset asks who wants to replace their keys to prove who they are. A user whose
// client signed in by OAuth does so on their account page, and then the client
// asks once more, with the session of the exchange or anew.
// Spec: client-server, OAuth authentication.
func (a *API) mayReset(r *wire.Req, body []byte) (x *exchange, full []byte, err error) {
	const op = "cross-signing keys"
	s := &r.Session
	if s.Client == "" {
		return a.proved(r, op, body)
	}
	if _, has := cjson.Lookup(body, "auth"); !has && a.renewals.allowed(s.User, a.o.Now().UnixMilli()) {
		return &exchange{got: proof{who: s.User}}, body, nil
	}
	url := append(cjson.AppendString([]byte(`{"url":`), a.base(r)+accountPath+"?action="+toReset), '}')
	params := append(append([]byte(`{"`+stageOAuth+`":`), url...), `,"`+stageOAuthOld+`":`...)
	x, full, err = a.uia.prove(&question{
		op: op, user: s.User, id: s.UserID, flows: [][]string{{stageOAuth}, {stageOAuthOld}}, body: body, params: string(append(append(params, url...), '}')),
	})
	if err != nil {
		return nil, nil, a.challenged(r, err)
	}
	return x, full, nil
}

// Spec: client-server, POST /keys/signatures/upload.
func (a *API) uploadSignatures(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	list, err := e2ee.ParseSignatures(body)
	if err != nil {
		return err
	}
	failures, err := a.engine.UploadSignatures(&r.Session, list)
	if err != nil {
		return err
	}
	dst := append(r.Out(), `{"failures":{`...)
	for i := range failures {
		f := &failures[i]
		switch {
		case i > 0 && failures[i-1].User == f.User:
			dst = append(dst, ',')
		case i > 0:
			dst = append(dst, '}', ',')
			fallthrough
		default:
			dst = append(cjson.AppendString(dst, f.User), ':', '{')
		}
		dst = append(cjson.AppendString(dst, f.Key), ':')
		var why *fault.Error
		text := ""
		if errors.As(f.Err, &why) {
			text = why.Text
		}
		dst = wire.AppendError(dst, fault.KindOf(f.Err), text)
	}
	if len(failures) > 0 {
		dst = append(dst, '}')
	}
	return r.OK(append(dst, '}', '}'))
}
