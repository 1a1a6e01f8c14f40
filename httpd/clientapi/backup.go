package clientapi

import (
	"strconv"

	"hearth/engine/cjson"
	"hearth/engine/e2ee"
	"hearth/engine/fault"
	"hearth/httpd/wire"
)

// backupBody bounds an upload of room keys; clients send some hundreds at once.
const backupBody = 4 << 20

// Spec: client-server, server-side key backups.
func (a *API) backupRoutes() []wire.Route {
	var routes []wire.Route
	for _, base := range [...]string{v3, unstable} {
		version := base + "/room_keys/version"
		keys := base + "/room_keys/keys"
		routes = append(routes,
			wire.Route{Method: "POST", Pattern: version, Handle: a.newBackup, Flags: late},
			wire.Route{Method: "GET", Pattern: version, Handle: a.backup, Flags: late},
			wire.Route{Method: "GET", Pattern: version + "/{version}", Handle: a.backupVersion, Flags: late},
			wire.Route{Method: "PUT", Pattern: version + "/{version}", Handle: a.setBackup, Flags: late},
			wire.Route{Method: "DELETE", Pattern: version + "/{version}", Handle: a.deleteBackup, Flags: late},
			wire.Route{Method: "GET", Pattern: keys, Handle: a.roomKeys, Flags: late},
			wire.Route{Method: "PUT", Pattern: keys, Handle: a.setRoomKeys, Flags: late, Body: backupBody},
			wire.Route{Method: "DELETE", Pattern: keys, Handle: a.deleteRoomKeys, Flags: late},
			wire.Route{Method: "GET", Pattern: keys + "/{roomId}", Handle: a.roomKeysOf, Flags: late},
			wire.Route{Method: "PUT", Pattern: keys + "/{roomId}", Handle: a.setRoomKeysOf, Flags: late, Body: backupBody},
			wire.Route{Method: "DELETE", Pattern: keys + "/{roomId}", Handle: a.deleteRoomKeysOf, Flags: late},
			wire.Route{Method: "GET", Pattern: keys + "/{roomId}/{sessionId}", Handle: a.sessionKey, Flags: late},
			wire.Route{Method: "PUT", Pattern: keys + "/{roomId}/{sessionId}", Handle: a.setSessionKey, Flags: late},
			wire.Route{Method: "DELETE", Pattern: keys + "/{roomId}/{sessionId}", Handle: a.deleteSessionKey, Flags: late})
	}
	return routes
}

// Spec: client-server, POST /room_keys/version.
func (a *API) newBackup(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	version, err := a.engine.E2EE.NewBackup(r.Session.User, body)
	if err != nil {
		return err
	}
	dst := strconv.AppendUint(append(r.Out(), `{"version":"`...), uint64(version), 10)
	return r.OK(append(dst, '"', '}'))
}

// Spec: client-server, GET /room_keys/version.
func (a *API) backup(r *wire.Req) error {
	v, err := a.engine.E2EE.CurrentBackup(r.Session.User)
	if err != nil {
		return err
	}
	return a.showBackup(r, &v)
}

// Spec: client-server, GET /room_keys/version/{version}.
func (a *API) backupVersion(r *wire.Req) error {
	v, err := a.engine.E2EE.Backup(r.Session.User, e2ee.ParseVersion(r.Path("version")))
	if err != nil {
		return err
	}
	return a.showBackup(r, &v)
}

func (a *API) showBackup(r *wire.Req, v *e2ee.Backup) error {
	dst := cjson.AppendString(append(r.Out(), `{"algorithm":`...), v.Algorithm)
	dst = append(append(dst, `,"auth_data":`...), v.AuthData...)
	dst = appendEtag(append(dst, ','), v)
	dst = strconv.AppendUint(append(dst, `,"version":"`...), uint64(v.Version), 10)
	return r.OK(append(dst, '"', '}'))
}

func appendEtag(dst []byte, v *e2ee.Backup) []byte {
	dst = strconv.AppendUint(append(dst, `"count":`...), v.Count, 10)
	dst = strconv.AppendUint(append(dst, `,"etag":"`...), v.Etag, 10)
	return append(dst, '"')
}

// Spec: client-server, PUT /room_keys/version/{version}.
func (a *API) setBackup(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	if err := a.engine.E2EE.SetBackupAuth(r.Session.User, e2ee.ParseVersion(r.Path("version")), body); err != nil {
		return err
	}
	return r.Empty()
}

// Spec: client-server, DELETE /room_keys/version/{version}.
func (a *API) deleteBackup(r *wire.Req) error {
	if err := a.engine.E2EE.DeleteBackup(r.Session.User, e2ee.ParseVersion(r.Path("version"))); err != nil {
		return err
	}
	return r.Empty()
}

// keysVersion is the version in the query.
func keysVersion(r *wire.Req) (uint32, error) {
	v, ok := r.Query("version")
	if !ok {
		return 0, fault.E(fault.Missing, "clientapi.roomKeys", "which version?")
	}
	return e2ee.ParseVersion(v), nil
}

// Spec: client-server, GET /room_keys/keys.
func (a *API) roomKeys(r *wire.Req) error { return a.readKeys(r, "") }

// Spec: client-server, GET /room_keys/keys/{roomId}.
func (a *API) roomKeysOf(r *wire.Req) error { return a.readKeys(r, r.Path("roomId")) }

// readKeys streams the keys of a backup, which may be more than fit into memory.
func (a *API) readKeys(r *wire.Req, room string) error {
	version, err := keysVersion(r)
	if err != nil {
		return err
	}
	keys, err := a.engine.E2EE.Keys(r.Session.User, version, room)
	if err != nil {
		return err
	}
	if err := r.OK(nil); err != nil {
		return err
	}
	r.Ctx.Response.SetBodyStream(keys, -1)
	return nil
}

// Spec: client-server, PUT /room_keys/keys.
func (a *API) setRoomKeys(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	list, err := e2ee.ParseSessionKeys("", body)
	if err != nil {
		return err
	}
	return a.putKeys(r, list)
}

// Spec: client-server, PUT /room_keys/keys/{roomId}.
func (a *API) setRoomKeysOf(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	list, err := e2ee.ParseSessionKeys(r.Path("roomId"), body)
	if err != nil {
		return err
	}
	return a.putKeys(r, list)
}

// Spec: client-server, PUT /room_keys/keys/{roomId}/{sessionId}.
func (a *API) setSessionKey(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	k, err := e2ee.ParseSessionKey(r.Path("roomId"), r.Path("sessionId"), body)
	if err != nil {
		return err
	}
	return a.putKeys(r, []e2ee.SessionKey{k})
}

func (a *API) putKeys(r *wire.Req, list []e2ee.SessionKey) error {
	version, err := keysVersion(r)
	if err != nil {
		return err
	}
	v, err := a.engine.E2EE.PutSessionKeys(r.Session.User, version, list)
	if fault.Is(err, fault.WrongKeysVersion) {
		return r.Fail(err, `"current_version":"`+strconv.FormatUint(uint64(v.Version), 10)+`"`)
	}
	return a.keysChanged(r, &v, err)
}

// keysChanged answers a change of a backup's keys.
func (a *API) keysChanged(r *wire.Req, v *e2ee.Backup, err error) error {
	if err != nil {
		return err
	}
	return r.OK(append(appendEtag(append(r.Out(), '{'), v), '}'))
}

// Spec: client-server, GET /room_keys/keys/{roomId}/{sessionId}.
func (a *API) sessionKey(r *wire.Req) error {
	version, err := keysVersion(r)
	if err != nil {
		return err
	}
	dst, err := a.engine.E2EE.AppendSessionKey(r.Out(), r.Session.User, version, r.Path("roomId"), r.Path("sessionId"))
	if err != nil {
		return err
	}
	return r.OK(dst)
}

// Spec: client-server, DELETE /room_keys/keys.
func (a *API) deleteRoomKeys(r *wire.Req) error { return a.deleteKeys(r, "", "") }

// Spec: client-server, DELETE /room_keys/keys/{roomId}.
func (a *API) deleteRoomKeysOf(r *wire.Req) error { return a.deleteKeys(r, r.Path("roomId"), "") }

// Spec: client-server, DELETE /room_keys/keys/{roomId}/{sessionId}.
func (a *API) deleteSessionKey(r *wire.Req) error {
	return a.deleteKeys(r, r.Path("roomId"), r.Path("sessionId"))
}

func (a *API) deleteKeys(r *wire.Req, room, session string) error {
	version, err := keysVersion(r)
	if err != nil {
		return err
	}
	v, err := a.engine.E2EE.DeleteSessionKeys(r.Session.User, version, room, session)
	return a.keysChanged(r, &v, err)
}
