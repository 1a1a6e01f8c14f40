// Package adminapi is what the hub's owner may do over HTTP: users, devices,
// rooms and registration tokens.
//
// The specification has hardly anything of the kind, so the paths and bodies
// are those that existing tools already speak, under /_synapse/admin. It owns
// only that spelling; what is done is done by package engine. It refuses
// everybody who is no admin before it looks at anything, so that nobody learns
// from it who and what exists, and it leaves out what would mean nothing here
// rather than pretending.
package adminapi

import (
	"strings"
	"sync"
	"time"

	"hearth/engine"
	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/httpd/wire"
)

// The bases of the paths.
const (
	v1 = "/_synapse/admin/v1"
	v2 = "/_synapse/admin/v2"
	v3 = "/_synapse/admin/v3"
)

// Options are what the API is made with.
type Options struct {
	Engine  *engine.Engine
	Version string           // of this program
	Now     func() time.Time // nil: time.Now
	Updates *Updates         // nil: the hub runs on no box
}

// API is the handlers and what they share.
type API struct {
	engine   *engine.Engine
	accounts *account.Accounts
	version  string
	now      func() time.Time
	updates  *Updates

	mu     sync.Mutex
	closed []closing // guarded by mu; see closeRoom
}

// New makes the API over an open engine.
func New(o Options) *API {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &API{engine: o.Engine, accounts: o.Engine.Accounts, version: o.Version, now: o.Now, updates: o.Updates}
}

// Routes is the whole table.
func (a *API) Routes() []wire.Route {
	var all []wire.Route
	for _, part := range [...][]wire.Route{a.serverRoutes(), a.userRoutes(), a.deviceRoutes(), a.roomRoutes(), a.tokenRoutes(), a.reportRoutes(), a.mediaRoutes(), a.destinationRoutes(), a.bridgeRoutes(), a.updateRoutes()} {
		all = append(all, part...)
	}
	for i := range all {
		all[i].Flags |= wire.Auth | wire.Admin
		if all[i].Method == "POST" || all[i].Method == "DELETE" {
			all[i].Flags |= wire.EmptyBody // tools are of two minds about it
		}
	}
	return all
}

func (a *API) serverRoutes() []wire.Route {
	return []wire.Route{
		{Method: "GET", Pattern: v1 + "/server_version", Handle: a.serverVersion},
		{Method: "POST", Pattern: v1 + "/send_server_notice", Handle: a.notify, Class: wire.Create},
		{Method: "PUT", Pattern: v1 + "/send_server_notice/{txnId}", Handle: a.notify, Class: wire.Create},
	}
}

func (a *API) userRoutes() []wire.Route {
	const user = v2 + "/users/{userId}"
	return []wire.Route{
		{Method: "GET", Pattern: v2 + "/users", Handle: a.users},
		{Method: "GET", Pattern: v3 + "/users", Handle: a.users},
		{Method: "GET", Pattern: user, Handle: a.user},
		{Method: "PUT", Pattern: user, Handle: a.putUser},
		{Method: "GET", Pattern: v1 + "/users/{userId}/admin", Handle: a.isAdmin},
		{Method: "PUT", Pattern: v1 + "/users/{userId}/admin", Handle: a.setAdmin},
		{Method: "GET", Pattern: v1 + "/users/{userId}/joined_rooms", Handle: a.userRooms},
		{Method: "GET", Pattern: v1 + "/users/{userId}/accountdata", Handle: a.userData},
		{Method: "POST", Pattern: v1 + "/users/{userId}/login", Handle: a.loginAs},
		{Method: "POST", Pattern: v1 + "/deactivate/{userId}", Handle: a.deactivate},
		{Method: "POST", Pattern: v1 + "/reset_password/{userId}", Handle: a.resetPassword},
		{Method: "PUT", Pattern: v1 + "/suspend/{userId}", Handle: a.suspend},
		{Method: "GET", Pattern: v1 + "/whois/{userId}", Handle: a.whois},
		{Method: "GET", Pattern: v1 + "/username_available", Handle: a.available},
	}
}

func (a *API) deviceRoutes() []wire.Route {
	const devices = v2 + "/users/{userId}/devices"
	return []wire.Route{
		{Method: "GET", Pattern: devices, Handle: a.devices},
		{Method: "GET", Pattern: devices + "/{deviceId}", Handle: a.device},
		{Method: "PUT", Pattern: devices + "/{deviceId}", Handle: a.renameDevice},
		{Method: "DELETE", Pattern: devices + "/{deviceId}", Handle: a.deleteDevice},
		{Method: "POST", Pattern: v2 + "/users/{userId}/delete_devices", Handle: a.deleteDevices},
	}
}

func (a *API) roomRoutes() []wire.Route {
	const room = v1 + "/rooms/{roomId}"
	return []wire.Route{
		{Method: "GET", Pattern: v1 + "/rooms", Handle: a.rooms},
		{Method: "GET", Pattern: room, Handle: a.room},
		{Method: "GET", Pattern: room + "/members", Handle: a.members},
		{Method: "GET", Pattern: room + "/state", Handle: a.state},
		{Method: "GET", Pattern: room + "/block", Handle: a.blocked},
		{Method: "PUT", Pattern: room + "/block", Handle: a.block},
		{Method: "POST", Pattern: room + "/make_room_admin", Handle: a.crown},
		{Method: "POST", Pattern: v1 + "/join/{roomId}", Handle: a.join},
		{Method: "DELETE", Pattern: room, Handle: a.deleteRoom},
		{Method: "DELETE", Pattern: v2 + "/rooms/{roomId}", Handle: a.deleteRoomLater},
		{Method: "GET", Pattern: v2 + "/rooms/{roomId}/delete_status", Handle: a.deletions},
		{Method: "GET", Pattern: v2 + "/rooms/delete_status/{deleteId}", Handle: a.deletion},
		{Method: "POST", Pattern: v1 + "/purge_history/{roomId}", Handle: a.purgeHistory},
		{Method: "POST", Pattern: v1 + "/purge_history/{roomId}/{eventId}", Handle: a.purgeHistoryTo},
		{Method: "GET", Pattern: v1 + "/purge_history_status/{purgeId}", Handle: a.historyPurged},
	}
}

func (a *API) tokenRoutes() []wire.Route {
	const tokens = v1 + "/registration_tokens"
	return []wire.Route{
		{Method: "GET", Pattern: tokens, Handle: a.tokens},
		{Method: "POST", Pattern: tokens + "/new", Handle: a.newToken},
		{Method: "GET", Pattern: tokens + "/{token}", Handle: a.token},
		{Method: "PUT", Pattern: tokens + "/{token}", Handle: a.setToken},
		{Method: "DELETE", Pattern: tokens + "/{token}", Handle: a.dropToken},
	}
}

// Reports of events are what the tools know; the other two lists follow them.
func (a *API) reportRoutes() []wire.Route {
	var all []wire.Route
	for name, kind := range map[string]account.ReportKind{
		"event_reports": account.EventReport, "room_reports": account.RoomReport, "user_reports": account.UserReport,
	} {
		all = append(all,
			wire.Route{Method: "GET", Pattern: v1 + "/" + name, Handle: a.listReports(kind, name)},
			wire.Route{Method: "GET", Pattern: v1 + "/" + name + "/{reportId}", Handle: a.report},
			wire.Route{Method: "DELETE", Pattern: v1 + "/" + name + "/{reportId}", Handle: a.dropReport})
	}
	return all
}

func (a *API) serverVersion(r *wire.Req) error {
	return r.Answer(struct {
		Version string `json:"server_version"`
	}{"Hearth " + a.version})
}

// own finds a user of this hub by the id in the path.
func (a *API) own(r *wire.Req) (account.User, error) {
	id, err := a.ownID(r.Path("userId"))
	if err != nil {
		return account.User{}, err
	}
	num, err := a.accounts.Find(id)
	if err != nil {
		return account.User{}, err
	}
	if num == 0 {
		return account.User{}, fault.E(fault.NotFound, "adminapi.user", "there is no such user")
	}
	return a.accounts.User(num)
}

func (a *API) ownID(s string) (mxid.UserID, error) {
	id, err := mxid.ParseUser(s)
	if err != nil {
		return "", fault.E(fault.Invalid, "adminapi.user", "this is no user id: %w", err)
	}
	if id.Server() != a.engine.Server {
		return "", fault.E(fault.Invalid, "adminapi.user", "the user is not of this hub")
	}
	return id, nil
}

// known finds the room of the path, which may be named by an alias too.
func (a *API) known(r *wire.Req) (room.Num, error) { return a.engine.Resolve(r.Path("roomId")) }

// page is a part of a list that a tool asks for.
type page struct {
	from, limit int64
	back        bool
}

func readPage(r *wire.Req) (p page, err error) {
	if p.from, err = r.QueryInt("from", 0, 0, 1<<31); err != nil {
		return p, err
	}
	if p.limit, err = r.QueryInt("limit", 100, 0, 1000); err != nil {
		return p, err
	}
	switch dir := r.QueryOr("dir", "f"); dir {
	case "f":
	case "b":
		p.back = true
	default:
		err = fault.E(fault.Invalid, "adminapi.page", "dir must be f or b")
	}
	return p, err
}

// cut gives the bounds of the page in a list of that length.
func (p *page) cut(length int) (from, to int) {
	from = min(int(p.from), length)
	return from, min(from+int(p.limit), length)
}

// contains compares as people search: without regard to case.
func contains(text, part string) bool {
	return strings.Contains(strings.ToLower(text), strings.ToLower(part))
}

// notify sends a notice of the hub to one of its users.
func (a *API) notify(r *wire.Req) error {
	const op = "adminapi.notify"
	body, err := r.Object()
	if err != nil {
		return err
	}
	var q struct {
		User  *string `json:"user_id"`
		Type  string  `json:"type"`
		State *string `json:"state_key"`
	}
	if err := wire.Decode(body, &q); err != nil {
		return err
	}
	content, ok := cjson.Lookup(body, "content")
	switch {
	case q.User == nil || !ok:
		return fault.E(fault.Missing, op, "user_id and content are needed")
	case cjson.KindOf(content) != cjson.ObjectKind:
		return fault.E(fault.BadJSON, op, "content must be an object")
	}
	id, err := a.ownID(*q.User)
	if err != nil {
		return err
	}
	d := room.Draft{Type: q.Type, StateKey: q.State, Content: content}
	if d.Type == "" {
		d.Type = "m.room.message"
	}
	if r.Route().Method == "PUT" {
		if d.Txn = (room.Txn{Device: r.Session.DeviceNum, ID: r.Path("txnId")}); len(d.Txn.ID) > 255 {
			return fault.E(fault.Invalid, op, "a transaction id has at most 255 bytes")
		}
	}
	sent, err := a.engine.Notify(id, &d)
	if err != nil {
		return err
	}
	return r.Answer(struct {
		ID mxid.EventID `json:"event_id"`
	}{sent})
}
