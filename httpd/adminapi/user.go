package adminapi

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/httpd/wire"
)

// userJSON is a user as the tools read one.
type userJSON struct {
	Name        mxid.UserID `json:"name"`
	Guest       bool        `json:"is_guest"`
	Admin       bool        `json:"admin"`
	Type        *string     `json:"user_type"` // always null: users here have no types
	Deactivated bool        `json:"deactivated"`
	Erased      bool        `json:"erased"`
	Locked      bool        `json:"locked"`
	Suspended   bool        `json:"suspended"`
	Banned      bool        `json:"shadow_banned"` // always false
	Display     *string     `json:"displayname"`
	Avatar      *string     `json:"avatar_url"`
	Created     int64       `json:"creation_ts"`
	Seen        *int64      `json:"last_seen_ts"`
}

func (a *API) describe(u *account.User) (userJSON, error) {
	j := userJSON{
		Name: u.ID, Guest: u.Guest, Admin: u.Admin, Deactivated: u.Deactivated, Erased: u.Erased,
		Locked: u.Locked, Suspended: u.Suspended, Created: u.Created.UnixMilli(),
	}
	name, avatar, err := a.accounts.NameAndAvatar(u.Num)
	if err != nil {
		return j, err
	}
	j.Display, j.Avatar = orNull(name), orNull(avatar)
	devices, err := a.accounts.Devices(u.Num)
	for i := range devices {
		if seen := devices[i].Seen; !seen.IsZero() && (j.Seen == nil || *j.Seen < seen.UnixMilli()) {
			ms := seen.UnixMilli()
			j.Seen = &ms
		}
	}
	return j, err
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// maxListed bounds the users that are sorted for one answer.
const maxListed = 10_000

// userQuery is what a list of users is asked for.
type userQuery struct {
	page
	name          string
	id            string
	guests, ended bool
	admins        string
	locked        bool
	order         string
}

func readUserQuery(r *wire.Req) (q userQuery, err error) {
	if q.page, err = readPage(r); err != nil {
		return q, err
	}
	q.name, q.id, q.order, q.admins = r.QueryOr("name", ""), r.QueryOr("user_id", ""), r.QueryOr("order_by", "name"), r.QueryOr("admins", "")
	if q.guests, err = r.QueryBool("guests", true); err != nil {
		return q, err
	}
	if q.locked, err = r.QueryBool("locked", true); err != nil {
		return q, err
	}
	q.ended, err = r.QueryBool("deactivated", false)
	return q, err
}

// wants says whether a user belongs into the list. The name is sought in the
// display name too.
func (q *userQuery) wants(u *account.User, display string) bool {
	switch {
	case u.Guest && !q.guests, u.Deactivated && !q.ended, u.Locked && !q.locked:
		return false
	case q.admins == "true" && !u.Admin, q.admins == "false" && u.Admin:
		return false
	case q.id != "" && !contains(string(u.ID), q.id):
		return false
	}
	return q.name == "" || contains(u.ID.Localpart(), q.name) || contains(display, q.name)
}

func (a *API) users(r *wire.Req) error {
	q, err := readUserQuery(r)
	if err != nil {
		return err
	}
	type found struct {
		account.User
		display string
	}
	var all []found
	for after := uint32(0); len(all) < maxListed; {
		list, err := a.accounts.Users(after, 500)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			break
		}
		after = list[len(list)-1].Num
		for _, u := range list {
			display, _, err := a.accounts.NameAndAvatar(u.Num)
			if err != nil {
				return err
			}
			if q.wants(&u, display) {
				all = append(all, found{u, display})
			}
		}
	}
	slices.SortStableFunc(all, func(x, y found) int {
		n := 0
		switch q.order {
		case "creation_ts":
			n = x.Created.Compare(y.Created)
		case "displayname":
			n = cmp.Compare(x.display, y.display)
		case "admin":
			n = compareBool(x.Admin, y.Admin)
		case "is_guest":
			n = compareBool(x.Guest, y.Guest)
		case "deactivated":
			n = compareBool(x.Deactivated, y.Deactivated)
		}
		return cmp.Or(n, cmp.Compare(x.ID, y.ID))
	})
	if q.back {
		slices.Reverse(all)
	}
	answer := struct {
		Users []userJSON `json:"users"`
		Next  string     `json:"next_token,omitempty"`
		Total int        `json:"total"`
	}{Users: []userJSON{}, Total: len(all)}
	from, to := q.cut(len(all))
	for i := range all[from:to] {
		j, err := a.describe(&all[from+i].User)
		if err != nil {
			return err
		}
		answer.Users = append(answer.Users, j)
	}
	if to < len(all) {
		answer.Next = strconv.Itoa(to)
	}
	return r.Answer(answer)
}

func compareBool(x, y bool) int {
	switch {
	case x == y:
		return 0
	case y:
		return -1
	}
	return 1
}

func (a *API) user(r *wire.Req) error {
	u, err := a.own(r)
	if err != nil {
		return err
	}
	return a.answerUser(r, 200, u.Num)
}

func (a *API) answerUser(r *wire.Req, status int, num uint32) error {
	u, err := a.accounts.User(num)
	if err != nil {
		return err
	}
	j, err := a.describe(&u)
	if err != nil {
		return err
	}
	type external struct {
		Provider string `json:"auth_provider"`
		ID       string `json:"external_id"`
	}
	type threepid struct {
		Medium    string `json:"medium"`
		Address   string `json:"address"`
		Added     int64  `json:"added_at"`
		Validated int64  `json:"validated_at"`
	}
	externals, threepids := []external{}, []threepid{}
	list, err := a.accounts.Externals(num)
	for _, t := range list {
		externals = append(externals, external{t.Medium, t.Address})
	}
	if err == nil {
		list, err = a.accounts.Threepids(num)
	}
	if err != nil {
		return err
	}
	for _, t := range list {
		threepids = append(threepids, threepid{t.Medium, t.Address, t.Added.UnixMilli(), t.Validated.UnixMilli()})
	}
	out, err := json.Marshal(struct {
		userJSON
		External  []external `json:"external_ids"`
		Threepids []threepid `json:"threepids"`
	}{j, externals, threepids})
	if err != nil {
		return err
	}
	return r.Reply(status, append(r.Out(), out...))
}

// userChange is what PUT may change.
type userChange struct {
	Password    *string `json:"password"`
	Logout      *bool   `json:"logout_devices"`
	Display     *string `json:"displayname"`
	Avatar      *string `json:"avatar_url"`
	Admin       *bool   `json:"admin"`
	Deactivated *bool   `json:"deactivated"`
	Locked      *bool   `json:"locked"`
	Suspended   *bool   `json:"suspended"`
}

func (a *API) putUser(r *wire.Req) error {
	const op = "adminapi.putUser"
	var q userChange
	if err := r.Decode(&q); err != nil {
		return err
	}
	id, err := a.ownID(r.Path("userId"))
	if err != nil {
		return err
	}
	num, err := a.accounts.Find(id)
	if err != nil {
		return err
	}
	status := 200
	if num == 0 {
		n := account.NewUser{Localpart: id.Localpart(), Admin: q.Admin != nil && *q.Admin}
		if q.Password != nil {
			n.Password, q.Password = *q.Password, nil
		}
		q.Admin, status = nil, 201
		if num, err = a.accounts.Create(n); err != nil {
			return err
		}
	}
	u, err := a.accounts.User(num)
	if err != nil {
		return err
	}
	switch {
	case u.Num == r.Session.User && (q.Admin != nil && !*q.Admin || q.Deactivated != nil && *q.Deactivated || q.Locked != nil && *q.Locked):
		return fault.E(fault.Invalid, op, "admins do not take away what makes them admins: another has to")
	case u.Deactivated && q.Deactivated != nil && !*q.Deactivated:
		return fault.E(fault.Invalid, op, "a deactivated account cannot come back: its data are gone")
	}
	if err := a.change(&u, &q); err != nil {
		return err
	}
	return a.answerUser(r, status, num)
}

// change does what is asked, the end of the account last.
func (a *API) change(u *account.User, q *userChange) error {
	if q.Password != nil {
		logout := q.Logout == nil || *q.Logout
		if err := a.engine.SetPassword(u.Num, *q.Password, logout, ""); err != nil {
			return err
		}
	}
	for field, val := range map[string]*string{account.DisplayName: q.Display, account.AvatarURL: q.Avatar} {
		if val == nil {
			continue
		}
		var value []byte
		if *val != "" {
			value = cjson.AppendString(nil, *val)
		}
		if err := a.engine.SetProfile(u.Num, u.ID, field, value); err != nil {
			return err
		}
	}
	for _, flag := range [...]struct {
		to  *bool
		is  bool
		set func(user uint32, on bool) error
	}{{q.Admin, u.Admin, a.accounts.SetAdmin}, {q.Locked, u.Locked, a.accounts.SetLocked}, {q.Suspended, u.Suspended, a.accounts.SetSuspended}} {
		if flag.to != nil && *flag.to != flag.is {
			if err := flag.set(u.Num, *flag.to); err != nil {
				return err
			}
		}
	}
	if q.Deactivated != nil && *q.Deactivated && !u.Deactivated {
		_, err := a.engine.Retire(u.Num, u.ID, false)
		return err
	}
	return nil
}

func (a *API) isAdmin(r *wire.Req) error {
	u, err := a.own(r)
	if err != nil {
		return err
	}
	return r.Answer(struct {
		Admin bool `json:"admin"`
	}{u.Admin})
}

func (a *API) setAdmin(r *wire.Req) error {
	var q struct {
		Admin *bool `json:"admin"`
	}
	if err := r.Decode(&q); err != nil {
		return err
	}
	u, err := a.own(r)
	switch {
	case err != nil:
		return err
	case q.Admin == nil:
		return fault.E(fault.Missing, "adminapi.setAdmin", "the body has no admin")
	case u.Num == r.Session.User && !*q.Admin:
		return fault.E(fault.Invalid, "adminapi.setAdmin", "admins do not demote themselves")
	}
	if err := a.accounts.SetAdmin(u.Num, *q.Admin); err != nil {
		return err
	}
	return r.Empty()
}

func (a *API) suspend(r *wire.Req) error {
	var q struct {
		Suspend *bool `json:"suspend"`
	}
	if err := r.Decode(&q); err != nil {
		return err
	}
	u, err := a.own(r)
	switch {
	case err != nil:
		return err
	case q.Suspend == nil:
		return fault.E(fault.Missing, "adminapi.suspend", "the body has no suspend")
	}
	if err := a.accounts.SetSuspended(u.Num, *q.Suspend); err != nil {
		return err
	}
	return r.Answer(map[string]bool{"user_" + string(u.ID) + "_suspended": *q.Suspend})
}

func (a *API) userRooms(r *wire.Req) error {
	u, err := a.own(r)
	if err != nil {
		return err
	}
	answer := struct {
		Rooms []mxid.RoomID `json:"joined_rooms"`
		Total int           `json:"total"`
	}{Rooms: []mxid.RoomID{}}
	var nums []room.Num
	err = a.engine.Rooms.Of(u.Num, func(m room.Member) bool {
		if m.Membership == room.Join {
			nums = append(nums, m.Room)
		}
		return true
	})
	for _, num := range nums {
		if err != nil {
			break
		}
		var id mxid.RoomID
		id, err = a.engine.Rooms.RoomID(num)
		answer.Rooms = append(answer.Rooms, id)
	}
	if err != nil {
		return err
	}
	answer.Total = len(answer.Rooms)
	return r.Answer(answer)
}

func (a *API) userData(r *wire.Req) error {
	u, err := a.own(r)
	if err != nil {
		return err
	}
	global, rooms := map[string]json.RawMessage{}, map[string]map[string]json.RawMessage{}
	err = a.accounts.AllData(u.Num, func(c *account.Change) error {
		to := global
		if c.Room != 0 {
			id, err := a.engine.Rooms.RoomID(room.Num(c.Room))
			if err != nil {
				return err
			}
			if to = rooms[string(id)]; to == nil {
				to = map[string]json.RawMessage{}
				rooms[string(id)] = to
			}
		}
		to[c.Type] = c.Content
		return nil
	})
	if err != nil {
		return err
	}
	type data struct {
		Global map[string]json.RawMessage            `json:"global"`
		Rooms  map[string]map[string]json.RawMessage `json:"rooms"`
	}
	return r.Answer(struct {
		Data data `json:"account_data"`
	}{data{global, rooms}})
}

func (a *API) loginAs(r *wire.Req) error {
	var q struct {
		Until *int64 `json:"valid_until_ms"`
	}
	if err := r.Decode(&q); err != nil {
		return err
	}
	u, err := a.own(r)
	if err != nil {
		return err
	}
	n := account.NewSession{Name: "an admin of the hub", From: r.Remote()}
	if q.Until != nil {
		if n.Life = time.UnixMilli(*q.Until).Sub(a.now()); n.Life <= 0 {
			return fault.E(fault.Invalid, "adminapi.loginAs", "valid_until_ms has passed")
		}
	}
	tokens, _, err := a.accounts.Login(u.Num, n)
	if err != nil {
		return err
	}
	return r.Answer(struct {
		Token string `json:"access_token"`
	}{tokens.Access})
}

func (a *API) deactivate(r *wire.Req) error {
	var q struct {
		Erase bool `json:"erase"`
	}
	if err := r.Decode(&q); err != nil {
		return err
	}
	u, err := a.own(r)
	switch {
	case err != nil:
		return err
	case u.Num == r.Session.User:
		return fault.E(fault.Invalid, "adminapi.deactivate", "admins do not deactivate themselves here")
	}
	unbound, err := a.engine.Retire(u.Num, u.ID, q.Erase)
	switch {
	case err != nil:
		return err
	case !unbound:
		return r.OK(append(r.Out(), `{"id_server_unbind_result":"no-support"}`...))
	}
	return r.OK(append(r.Out(), `{"id_server_unbind_result":"success"}`...))
}

func (a *API) resetPassword(r *wire.Req) error {
	var q struct {
		Password *string `json:"new_password"`
		Logout   *bool   `json:"logout_devices"`
	}
	if err := r.Decode(&q); err != nil {
		return err
	}
	u, err := a.own(r)
	switch {
	case err != nil:
		return err
	case q.Password == nil:
		return fault.E(fault.Missing, "adminapi.resetPassword", "which new_password?")
	}
	if err := a.engine.SetPassword(u.Num, *q.Password, q.Logout == nil || *q.Logout, ""); err != nil {
		return err
	}
	return r.Empty()
}

func (a *API) available(r *wire.Req) error {
	name, ok := r.Query("username")
	if !ok {
		return fault.E(fault.Missing, "adminapi.available", "which username?")
	}
	if err := a.accounts.CheckName(mxid.LowerLocalpart(name)); err != nil {
		return err
	}
	return r.OK(append(r.Out(), `{"available":true}`...))
}
