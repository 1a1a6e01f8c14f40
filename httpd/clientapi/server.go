package clientapi

import (
	"strconv"
	"strings"

	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/httpd/wire"
)

// specVersions are the releases of the specification that the hub follows:
// nothing was taken away between them that an older client would miss.
const specVersions = `"r0.0.1","r0.1.0","r0.2.0","r0.3.0","r0.4.0","r0.5.0","r0.6.0","r0.6.1",` +
	`"v1.1","v1.2","v1.3","v1.4","v1.5","v1.6","v1.7","v1.8","v1.9","v1.10","v1.11","v1.12","v1.13","v1.14","v1.15","v1.16","v1.17","v1.18","v1.19"`

// features are what the hub does beyond the specification, or did before it was
// in there: clients look for these names.
const features = `"org.matrix.e2e_cross_signing":true,"org.matrix.msc3391":true,"org.matrix.msc3440.stable":true,` +
	`"org.matrix.msc3757":true,"org.matrix.msc3814":true,"org.matrix.msc3874":true,"org.matrix.msc3890":true,` +
	`"org.matrix.msc4140":true,"org.matrix.msc4155":true,"org.matrix.msc4222":true,"org.matrix.msc4306":true,` +
	`"org.matrix.simplified_msc3575":true,` +
	`"uk.half-shot.msc2666.query_mutual_rooms":true,"uk.half-shot.msc2666.query_mutual_rooms.stable":true`

// Spec: client-server, GET /_matrix/client/versions.
func (a *API) versions(r *wire.Req) error {
	return r.OK(append(r.Out(), `{"unstable_features":{`+features+`},"versions":[`+specVersions+`]}`...))
}

// appendWellKnown appends the discovery object.
func (a *API) appendWellKnown(dst []byte) []byte {
	dst = append(dst, `{"m.homeserver":{"base_url":`...)
	dst = append(cjson.AppendString(dst, strings.TrimSuffix(a.o.PublicURL, "/")), '}')
	if a.o.IdentityAt != "" {
		dst = cjson.AppendString(append(dst, `,"m.identity_server":{"base_url":`...), strings.TrimSuffix(a.o.IdentityAt, "/"))
		dst = append(dst, '}')
	}
	return append(dst, '}')
}

// Spec: client-server, GET /.well-known/matrix/client. A hub that was not told
// its address cannot know how others reach it: it says nothing.
func (a *API) wellKnown(r *wire.Req) error {
	if a.o.PublicURL == "" {
		return fault.E(fault.NotFound, "clientapi.wellKnown", "the hub has no public address set")
	}
	return r.OK(a.appendWellKnown(r.Out()))
}

// Spec: server-server, GET /.well-known/matrix/server. It stands beside the one
// for clients because both are asked at the address that the server's name leads
// to, not at the one where servers speak.
func (a *API) wellKnownServer(r *wire.Req) error {
	if a.o.ServerAt == "" {
		return fault.E(fault.NotFound, "clientapi.wellKnownServer", "the hub is where its name leads")
	}
	return r.OK(append(cjson.AppendString(append(r.Out(), `{"m.server":`...), a.o.ServerAt), '}'))
}

// Spec: client-server, GET /.well-known/matrix/support.
func (a *API) support(r *wire.Req) error {
	if len(a.o.Support) == 0 {
		return fault.E(fault.NotFound, "clientapi.support", "the hub has no contacts set")
	}
	return r.OK(append(r.Out(), a.o.Support...))
}

// Spec: client-server, GET /capabilities.
func (a *API) capabilities(r *wire.Req) error {
	dst := append(r.Out(), `{"capabilities":{`...)
	if r.Session.Admin {
		dst = append(dst, `"m.account_moderation":{"lock":true,"suspend":true},`...)
	}
	dst = append(dst, `"m.3pid_changes":{"enabled":`...)
	own := r.Session.Client == "" // a client that signed in by OAuth leads people to their account page
	dst = strconv.AppendBool(dst, own && (a.mails() || a.texts()))
	dst = strconv.AppendBool(append(dst, `},"m.change_password":{"enabled":`...), own)
	dst = strconv.AppendBool(append(dst, `},"m.forget_forced_upon_leave":{"enabled":false},"m.get_login_token":{"enabled":`...), own)
	dst = append(dst, `},"m.profile_fields":{"enabled":true},"m.room_versions":{"available":{`...)
	for i, id := range event.Versions() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(cjson.AppendString(dst, id), `:"stable"`...)
	}
	for _, id := range event.Drafts() {
		dst = append(cjson.AppendString(append(dst, ','), id), `:"unstable"`...)
	}
	dst = cjson.AppendString(append(dst, `},"default":`...), a.engine.RoomVersion)
	return r.OK(append(dst, `},"m.set_avatar_url":{"enabled":true},"m.set_displayname":{"enabled":true}}}`...))
}
