package clientapi

import (
	"strconv"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/filter"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// dataRoom finds the room that account data is of.
func (a *API) dataRoom(r *wire.Req) (uint32, error) {
	num, err := a.engine.Rooms.Find(mxid.RoomID(r.Path("roomId")))
	return uint32(num), err
}

// Spec: client-server, GET /user/{userId}/account_data/{type}.
func (a *API) accountData(r *wire.Req) error {
	if err := me(r); err != nil {
		return err
	}
	if r.Path("type") == account.TypePushRules {
		return a.pushRules(r)
	}
	return a.answerData(r, 0)
}

// Spec: client-server, GET /user/{userId}/rooms/{roomId}/account_data/{type}.
func (a *API) roomAccountData(r *wire.Req) error {
	if err := me(r); err != nil {
		return err
	}
	room, err := a.dataRoom(r)
	if err != nil {
		return err
	}
	return a.answerData(r, room)
}

func (a *API) answerData(r *wire.Req, room uint32) error {
	typ := r.Path("type")
	dst, ok, err := a.accounts.Data(r.Out(), r.Session.User, room, typ)
	if err != nil {
		return err
	}
	if !ok || account.IsDeleted(typ, dst) {
		return fault.E(fault.NotFound, "clientapi.accountData", "there is no account data of this type")
	}
	return r.OK(dst)
}

// Spec: client-server, PUT /user/{userId}/account_data/{type}.
func (a *API) setAccountData(r *wire.Req) error { return a.putData(r, false) }

// Spec: client-server, PUT /user/{userId}/rooms/{roomId}/account_data/{type}.
func (a *API) setRoomAccountData(r *wire.Req) error { return a.putData(r, true) }

func (a *API) putData(r *wire.Req, ofRoom bool) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	if err := me(r); err != nil {
		return err
	}
	typ := r.Path("type")
	if account.ServerOwned(typ) {
		return fault.E(fault.ServerOwned, "clientapi.setAccountData", "%s has requests of its own to set it", typ)
	}
	var room uint32
	if ofRoom {
		if room, err = a.dataRoom(r); err != nil {
			return err
		}
	}
	if _, err := a.accounts.SetData(r.Session.User, room, typ, body); err != nil {
		return err
	}
	return r.Empty()
}

// Spec: MSC3391, DELETE of account data.
func (a *API) deleteAccountData(r *wire.Req) error { return a.dropData(r, false) }

func (a *API) deleteRoomAccountData(r *wire.Req) error { return a.dropData(r, true) }

func (a *API) dropData(r *wire.Req, ofRoom bool) error {
	if err := me(r); err != nil {
		return err
	}
	typ := r.Path("type")
	if account.ServerOwned(typ) {
		return fault.E(fault.ServerOwned, "clientapi.deleteAccountData", "%s has requests of its own to set it", typ)
	}
	var room uint32
	if ofRoom {
		var err error
		if room, err = a.dataRoom(r); err != nil {
			return err
		}
	}
	if err := a.accounts.DeleteData(r.Session.User, room, typ); err != nil {
		return err
	}
	return r.Empty()
}

// Spec: client-server, GET /user/{userId}/rooms/{roomId}/tags.
func (a *API) tags(r *wire.Req) error {
	if err := me(r); err != nil {
		return err
	}
	room, err := a.dataRoom(r)
	if err != nil {
		return err
	}
	dst, err := a.accounts.AppendTags(r.Out(), r.Session.User, room)
	if err != nil {
		return err
	}
	return r.OK(dst)
}

// Spec: client-server, PUT /user/{userId}/rooms/{roomId}/tags/{tag}.
func (a *API) setTag(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	return a.putTag(r, body)
}

// Spec: client-server, DELETE /user/{userId}/rooms/{roomId}/tags/{tag}.
func (a *API) deleteTag(r *wire.Req) error { return a.putTag(r, nil) }

func (a *API) putTag(r *wire.Req, content []byte) error {
	if err := me(r); err != nil {
		return err
	}
	room, err := a.dataRoom(r)
	if err != nil {
		return err
	}
	if _, err := a.accounts.SetTag(r.Session.User, room, r.Path("tag"), content); err != nil {
		return err
	}
	return r.Empty()
}

// Spec: client-server, POST /user/{userId}/filter.
func (a *API) addFilter(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	if err := me(r); err != nil {
		return err
	}
	if _, err := filter.Parse(body); err != nil {
		return err
	}
	content, err := cjson.Canonical(nil, body, false)
	if err != nil {
		return fault.E(fault.BadJSON, "clientapi.addFilter", "%w", err)
	}
	num, err := a.accounts.AddFilter(r.Session.User, content)
	if err != nil {
		return err
	}
	dst := strconv.AppendUint(append(r.Out(), `{"filter_id":"`...), uint64(num), 10)
	return r.OK(append(dst, `"}`...))
}

// Spec: client-server, GET /user/{userId}/filter/{filterId}.
func (a *API) filter(r *wire.Req) error {
	if err := me(r); err != nil {
		return err
	}
	num, err := strconv.ParseUint(r.Path("filterId"), 10, 32)
	if err != nil {
		return fault.E(fault.NotFound, "clientapi.filter", "there is no such filter")
	}
	content, err := a.accounts.Filter(r.Session.User, uint32(num))
	if err != nil {
		return err
	}
	return r.OK(append(r.Out(), content...))
}
