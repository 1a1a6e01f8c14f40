package clientapi

import (
	"strings"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// who reads the user whose profile is asked for. A user of another server has the
// number 0, and what that server says of the user.
func (a *API) who(r *wire.Req) (num uint32, away []byte, err error) {
	const op = "clientapi.profile"
	id, err := mxid.ParseUser(r.Path("userId"))
	if err != nil {
		return 0, nil, fault.E(fault.Invalid, op, "this is no user id: %w", err)
	}
	ctx := r.Context()
	if a.engine.Federation.Reaches(id.Server()) {
		away, err = a.engine.Federation.Profile(ctx, id)
		return 0, away, err
	}
	num, err = a.engine.FindUser(ctx, id)
	if err == nil && num == 0 {
		err = fault.E(fault.NotFound, op, "the user is not known here")
	}
	return num, nil, err
}

// field is the name of the profile field that the path ends with.
func field(r *wire.Req) string {
	pattern := r.Route().Pattern
	if last := pattern[strings.LastIndexByte(pattern, '/')+1:]; last[0] != '{' {
		return last
	}
	return r.Path("keyName")
}

// Spec: client-server, GET /profile/{userId}.
func (a *API) profile(r *wire.Req) error {
	num, away, err := a.who(r)
	if err != nil {
		return err
	}
	if away != nil {
		return r.OK(append(r.Out(), away...))
	}
	dst, err := a.accounts.AppendProfile(r.Out(), num)
	if err != nil {
		return err
	}
	return r.OK(dst)
}

// Spec: client-server, GET /profile/{userId}/{keyName}.
func (a *API) profileField(r *wire.Req) error {
	name := field(r)
	num, away, err := a.who(r)
	if err != nil {
		return err
	}
	dst := append(cjson.AppendString(append(r.Out(), '{'), name), ':')
	var ok bool
	if away != nil {
		var val []byte
		if val, ok = cjson.Lookup(away, name); ok {
			dst = append(dst, val...)
		}
	} else if dst, ok, err = a.accounts.ProfileField(dst, num, name); err != nil {
		return err
	}
	if !ok {
		return fault.E(fault.NotFound, "clientapi.profile", "the profile has no such field")
	}
	return r.OK(append(dst, '}'))
}

// me refuses a path whose user is not the one who asks.
func me(r *wire.Req) error {
	if r.Path("userId") != string(r.Session.UserID) {
		return fault.E(fault.Forbidden, "clientapi.me", "this belongs to another user")
	}
	return nil
}

// mine refuses a profile that the user must not change: another's, or of a
// guest's what is not the display name. Spec: client-server, guest access.
func mine(r *wire.Req) error {
	if r.Session.Guest && field(r) != account.DisplayName {
		return fault.E(fault.GuestAccess, "clientapi.mine", "guests have a display name only")
	}
	return me(r)
}

// Spec: client-server, PUT /profile/{userId}/{keyName}.
func (a *API) setProfileField(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	if err := mine(r); err != nil {
		return err
	}
	name := field(r)
	value, ok := cjson.Lookup(body, name)
	if !ok {
		return fault.E(fault.Missing, "clientapi.setProfileField", "the body has no %s", name)
	}
	if name == account.DisplayName || name == account.AvatarURL {
		// Older clients take their name or picture away by an empty one.
		if cjson.KindOf(value) == cjson.NullKind || cjson.Is(value, "") {
			value = nil
		}
	}
	if err := a.engine.SetProfile(r.Session.User, r.Session.UserID, name, value); err != nil {
		return err
	}
	return r.Empty()
}

// Spec: client-server, DELETE /profile/{userId}/{keyName}.
func (a *API) deleteProfileField(r *wire.Req) error {
	if err := mine(r); err != nil {
		return err
	}
	if err := a.engine.SetProfile(r.Session.User, r.Session.UserID, field(r), nil); err != nil {
		return err
	}
	return r.Empty()
}
