package clientapi

import (
	"slices"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/ephemeral"
	"hearth/engine/fault"
	"hearth/engine/filter"
	"hearth/engine/history"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/sync"
	"hearth/httpd/wire"
)

// What clients asked before there was /sync. The answers are those of /sync,
// written in the older form: there is one place that knows what a user is told.

// Spec: client-server, events; room previews; r0.4.0, presence lists.
func (a *API) oldRoutes() []wire.Route {
	const list = "/_matrix/client/r0/presence/list/{userId}"
	return []wire.Route{
		{Method: "GET", Pattern: v3 + "/events", Handle: a.events, Flags: guest},
		{Method: "GET", Pattern: v3 + "/events/{eventId}", Handle: a.oneEvent, Flags: user},
		{Method: "GET", Pattern: v3 + "/initialSync", Handle: a.initialSync, Flags: user, Class: wire.Read},
		{Method: "GET", Pattern: v3 + "/rooms/{roomId}/initialSync", Handle: a.roomInitialSync, Flags: guest, Class: wire.Read},
		{Method: "GET", Pattern: list, Handle: a.presenceList, Flags: wire.Auth},
		{Method: "POST", Pattern: list, Handle: a.setPresenceList, Flags: wire.Auth, Class: wire.Send},
	}
}

// Spec: client-server, GET /events, in both forms.
func (a *API) events(r *wire.Req) error {
	timeout, err := r.QueryInt("timeout", 0, 0, sync.MaxTimeout.Milliseconds())
	if err != nil {
		return err
	}
	wait := time.Duration(timeout) * time.Millisecond
	if id, ok := r.Query("room_id"); ok {
		return a.eventsOf(r, mxid.RoomID(id), wait)
	}
	from := r.QueryOr("from", "")
	switch {
	case from == "":
		from = a.engine.Sync.Latest()
	case !sync.IsToken(from):
		return fault.E(fault.Invalid, "clientapi.events", "from is not a token of this server")
	}
	req := &sync.Request{User: r.Session.User, UserID: r.Session.UserID, Device: r.Session.DeviceNum, Since: from, Timeout: wait, Presence: ephemeral.Online}
	s := a.engine.Sync
	body, ready, err := s.Now(req)
	if err != nil {
		return err
	}
	if ready {
		err := r.OK(appendEvents(r.Out(), from, body))
		s.Done(body)
		return err
	}
	return r.Wait(func(w *wire.Waiting) {
		s.Wait(req, func(body []byte, err error) {
			if err != nil {
				w.Fail(err)
				return
			}
			w.Reply(fasthttp.StatusOK, appendEvents(nil, from, body))
		})
	})
}

// eventsOf serves who looks at one room, perhaps without being in it.
func (a *API) eventsOf(r *wire.Req, id mxid.RoomID, wait time.Duration) error {
	v, err := a.lookAt(r, id)
	if err != nil {
		return err
	}
	if err := v.Allowed(); err != nil {
		return err
	}
	from, err := place(r, "from")
	if err != nil {
		return err
	}
	if from == nil {
		end := v.End()
		from = &end
	}
	if from.Before(v.End()) || wait == 0 {
		dst, err := v.AppendSince(r.Out(), *from, maxPage)
		if err != nil {
			return err
		}
		return r.OK(dst)
	}
	session := r.Session
	return r.Wait(func(w *wire.Waiting) {
		a.engine.Watch(v.Room, *from, wait, func() {
			body, err := a.since(id, session.UserID, session.DeviceNum, *from)
			if err != nil {
				w.Fail(err)
				return
			}
			w.Reply(fasthttp.StatusOK, body)
		})
	})
}

func (a *API) since(id mxid.RoomID, user mxid.UserID, device uint64, from room.Key) ([]byte, error) {
	v, err := history.Open(a.engine.Rooms, id, user, device)
	if err != nil {
		return nil, err
	}
	if err := v.Allowed(); err != nil {
		return nil, err
	}
	return v.AppendSince(nil, from, maxPage)
}

// appendEvents makes one list of what an answer of /sync tells.
func appendEvents(dst []byte, from string, body []byte) []byte {
	dst = append(dst, `{"chunk":[`...)
	start := len(dst)
	add := func(event, room []byte) {
		if len(dst) > start {
			dst = append(dst, ',')
		}
		if room == nil {
			dst = append(dst, event...)
			return
		}
		dst = appendIn(dst, event, string(room))
	}
	eachIn(body, func(event []byte) { add(event, nil) }, "presence", "events")
	for _, section := range [...]struct {
		name  string
		lists [2]string
	}{{"invite", [2]string{"invite_state"}}, {"join", [2]string{"timeline", "ephemeral"}}, {"leave", [2]string{"timeline"}}} {
		rooms, _ := cjson.LookupPath(body, "rooms", section.name)
		_ = cjson.Object(rooms, func(id, told []byte) bool { // our own bytes
			for _, list := range section.lists {
				if list != "" {
					eachIn(told, func(event []byte) { add(event, id) }, list, "events")
				}
			}
			return true
		})
	}
	next, _ := cjson.LookupString(body, "next_batch")
	dst = cjson.AppendString(append(dst, `],"end":`...), next)
	dst = cjson.AppendString(append(dst, `,"start":`...), from)
	return append(dst, '}')
}

// appendIn appends an event of /sync with the room that it is in, which older
// clients look for in the event itself.
func appendIn(dst, event []byte, room string) []byte {
	dst = append(append(dst, event[:len(event)-1]...), `,"room_id":`...)
	return append(cjson.AppendString(dst, room), '}')
}

// appendAllIn appends the events at a path as an array, each with its room.
func appendAllIn(dst, obj []byte, room string, path ...string) []byte {
	dst = append(dst, '[')
	start := len(dst)
	eachIn(obj, func(event []byte) {
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = appendIn(dst, event, room)
	}, path...)
	return append(dst, ']')
}

// eachIn calls f for the elements of the array at a path, if there is one.
func eachIn(obj []byte, f func(val []byte), path ...string) {
	list, _ := cjson.LookupPath(obj, path...)
	_ = cjson.Array(list, func(val []byte) bool { // our own bytes
		f(val)
		return true
	})
}

// Spec: client-server, GET /events/{eventId}.
func (a *API) oneEvent(r *wire.Req) error {
	id := mxid.EventID(r.Path("eventId"))
	e, err := a.engine.Rooms.Lookup(id)
	if err != nil {
		return err
	}
	v, err := a.lookAt(r, e.Room)
	if fault.Is(err, fault.Forbidden) {
		return fault.E(fault.NotFound, "clientapi.event", "event not found")
	}
	if err != nil {
		return err
	}
	dst, err := v.AppendEvent(r.Out(), id)
	if err != nil {
		return err
	}
	return r.OK(dst)
}

// Spec: client-server, GET /initialSync.
func (a *API) initialSync(r *wire.Req) error {
	limit, err := r.QueryInt("limit", defaultPage, 0, maxPage)
	if err != nil {
		return err
	}
	archived, err := r.QueryBool("archived", false)
	if err != nil {
		return err
	}
	f, err := filter.Parse([]byte(`{"room":{"timeline":{"limit":` + strconv.FormatInt(limit, 10) + `},"include_leave":` + strconv.FormatBool(archived) + `}}`))
	if err != nil {
		return err
	}
	s := a.engine.Sync
	req := &sync.Request{User: r.Session.User, UserID: r.Session.UserID, Device: r.Session.DeviceNum, Filter: f, UseStateAfter: true, Presence: ephemeral.Online}
	body, _, err := s.Now(req)
	if err != nil {
		return err
	}
	dst, err := a.appendInitial(r.Out(), body)
	s.Done(body)
	if err != nil {
		return err
	}
	return r.OK(dst)
}

// appendInitial writes a first answer of /sync in the form of /initialSync.
func (a *API) appendInitial(dst, body []byte) (_ []byte, err error) {
	next, _ := cjson.LookupString(body, "next_batch")
	dst = appendArray(append(dst, `{"account_data":`...), body, "account_data", "events")
	dst = cjson.AppendString(append(dst, `,"end":`...), next)
	dst = appendArray(append(dst, `,"presence":`...), body, "presence", "events")
	dst = append(dst, `,"rooms":[`...)
	first := true
	for _, membership := range [...]string{"join", "invite", "leave"} {
		rooms, _ := cjson.LookupPath(body, "rooms", membership)
		_ = cjson.Object(rooms, func(id, told []byte) bool { // our own bytes
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst, err = a.appendOldRoom(dst, mxid.RoomID(id), membership, told, next)
			return err == nil
		})
		if err != nil {
			return dst, err
		}
	}
	return append(dst, `]}`...), nil
}

func (a *API) appendOldRoom(dst []byte, id mxid.RoomID, membership string, told []byte, end string) ([]byte, error) {
	dst = cjson.AppendString(append(dst, `{"room_id":`...), id)
	dst = cjson.AppendString(append(dst, `,"membership":`...), membership)
	if membership == "invite" {
		eachIn(told, func(event []byte) {
			if typ, _ := cjson.LookupString(event, "type"); typ != "m.room.member" {
				return
			}
			if content, ok := cjson.Lookup(event, "content"); ok && room.MembershipOf(content) == room.Invite {
				dst = append(append(dst, `,"invite":`...), event...)
			}
		}, "invite_state", "events")
		return append(dst, '}'), nil
	}
	dst = appendAllIn(append(dst, `,"messages":{"chunk":`...), told, string(id), "timeline", "events")
	dst = cjson.AppendString(append(dst, `,"end":`...), end)
	if val, ok := cjson.LookupPath(told, "timeline", "prev_batch"); ok {
		dst = append(append(dst, `,"start":`...), val...)
	}
	dst = appendAllIn(append(dst, `},"state":`...), told, string(id), "state_after", "events")
	dst = appendArray(append(dst, `,"account_data":`...), told, "account_data", "events")
	visibility, err := a.visibilityOf(id)
	if err != nil {
		return dst, err
	}
	return append(cjson.AppendString(append(dst, `,"visibility":`...), visibility), '}'), nil
}

// appendArray appends the array at a path, or an empty one.
func appendArray(dst, obj []byte, path ...string) []byte {
	if val, ok := cjson.LookupPath(obj, path...); ok {
		return append(dst, val...)
	}
	return append(dst, `[]`...)
}

// visibilityOf says how a room stands in the public list.
func (a *API) visibilityOf(id mxid.RoomID) (string, error) {
	num, err := a.engine.Rooms.Find(id)
	if err != nil {
		return "", err
	}
	listed, err := a.engine.Directory.IsPublished(uint32(num))
	if err != nil || !listed {
		return "private", err
	}
	return "public", nil
}

// Spec: client-server, GET /rooms/{roomId}/initialSync. For members, for those
// who were, and for all where the room is world readable.
func (a *API) roomInitialSync(r *wire.Req) error {
	v, err := a.view(r)
	if err != nil {
		return err
	}
	limit, err := r.QueryInt("limit", defaultPage, 1, maxPage)
	if err != nil {
		return err
	}
	dst := cjson.AppendString(append(r.Out(), `{"room_id":`...), v.Head.ID)
	if m := v.Member.Membership; m != room.None {
		dst = cjson.AppendString(append(dst, `,"membership":`...), m.String())
	}
	if dst, err = v.AppendRecent(append(dst, `,"messages":`...), int(limit)); err != nil {
		return err
	}
	if dst, err = v.AppendState(append(dst, `,"state":`...)); err != nil {
		return err
	}
	dst = append(dst, `,"presence":[],"receipts":[],"account_data":[`...)
	first := true
	err = a.accounts.RoomData(r.Session.User, uint32(v.Room), func(typ string, content []byte) {
		if account.IsDeleted(typ, content) {
			return
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(append(append(dst, `{"content":`...), content...), `,"type":`...)
		dst = append(cjson.AppendString(dst, typ), '}')
	})
	if err != nil {
		return err
	}
	visibility, err := a.visibilityOf(v.Head.ID)
	if err != nil {
		return err
	}
	return r.OK(append(cjson.AppendString(append(dst, `],"visibility":`...), visibility), '}'))
}

// typePresenceList holds, in a user's account data, whose presence they follow.
// Spec: client-server r0.4.0, presence lists.
const typePresenceList = "m.presence_list"

// maxFollowed bounds a presence list.
const maxFollowed = 500

// presenceList answers with the presence of those whom the user follows and
// shares a room with. The list of another is nobody's business.
func (a *API) presenceList(r *wire.Req) error {
	if err := me(r); err != nil {
		return err
	}
	list, err := a.followed(r)
	if err != nil {
		return err
	}
	dst := append(r.Out(), '[')
	first := true
	for _, id := range list {
		other, err := a.engine.Rooms.User(id)
		if err != nil {
			return err
		}
		if other == 0 {
			continue
		}
		if shared, err := a.engine.Shares(r.Session.User, other); err != nil {
			return err
		} else if !shared {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		if dst, err = a.engine.Ephemeral.AppendPresence(dst, other); err != nil {
			return err
		}
	}
	return r.OK(append(dst, ']'))
}

func (a *API) followed(r *wire.Req) (list []mxid.UserID, err error) {
	content, _, err := a.accounts.Data(nil, r.Session.User, 0, typePresenceList)
	eachIn(content, func(val []byte) {
		if s, ok := cjson.String(val); ok {
			list = append(list, mxid.UserID(s))
		}
	}, "users")
	return list, err
}

// presenceChange is the body of a change of a presence list.
type presenceChange struct {
	Invite []mxid.UserID `json:"invite"`
	Drop   []mxid.UserID `json:"drop"`
}

func (a *API) setPresenceList(r *wire.Req) error {
	var change presenceChange
	if err := r.Decode(&change); err != nil {
		return err
	}
	if err := me(r); err != nil {
		return err
	}
	list, err := a.followed(r)
	if err != nil {
		return err
	}
	if list, err = change.apply(list); err != nil {
		return err
	}
	content := []byte(`{"users":[`)
	for i, id := range list {
		if i > 0 {
			content = append(content, ',')
		}
		content = cjson.AppendString(content, id)
	}
	if _, err := a.accounts.SetData(r.Session.User, 0, typePresenceList, append(content, `]}`...)); err != nil {
		return err
	}
	return r.Empty()
}

func (c *presenceChange) apply(list []mxid.UserID) ([]mxid.UserID, error) {
	for _, id := range c.Invite {
		if _, err := mxid.ParseUser(string(id)); err != nil {
			return nil, fault.E(fault.Invalid, "clientapi.presenceList", "invite: %w", err)
		}
		if !slices.Contains(list, id) {
			list = append(list, id)
		}
	}
	if len(list) > maxFollowed {
		return nil, fault.E(fault.TooLarge, "clientapi.presenceList", "a presence list has at most %d users", maxFollowed)
	}
	return slices.DeleteFunc(list, func(id mxid.UserID) bool { return slices.Contains(c.Drop, id) }), nil
}
