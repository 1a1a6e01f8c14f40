package clientapi

import (
	"slices"

	"hearth/engine"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// Spec: client-server, POST /knock/{roomIdOrAlias}.
func (a *API) knock(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	reason, _, err := text(body, "reason")
	if err != nil {
		return err
	}
	if err := active(r); err != nil {
		return err
	}
	ctx := r.Context()
	id, err := a.engine.KnockAt(ctx, engine.Reach{Room: r.Path("roomIdOrAlias"), Via: via(r)}, r.Session.UserID, reason)
	if err != nil {
		return incompatible(r, err)
	}
	return r.OK(append(cjson.AppendString(append(r.Out(), `{"room_id":`...), id), '}'))
}

// maxCreators bounds the creators that an upgrade names.
const maxCreators = 100

// Spec: client-server, POST /rooms/{roomId}/upgrade.
func (a *API) upgrade(r *wire.Req) error {
	const op = "clientapi.upgrade"
	body, err := r.Object()
	if err != nil {
		return err
	}
	q := engine.Upgrade{User: r.Session.User, UserID: r.Session.UserID}
	if q.Version, err = needText(body, "new_version"); err != nil {
		return err
	}
	if raw, ok := cjson.Lookup(body, "additional_creators"); ok && cjson.KindOf(raw) != cjson.NullKind {
		var bad error
		err := cjson.Array(raw, func(val []byte) bool {
			text, _ := cjson.String(val)
			id, err := mxid.ParseUser(text)
			switch {
			case err != nil:
				bad = fault.E(fault.Invalid, op, "additional_creators: %w", err)
			case len(q.Creators) == maxCreators:
				bad = fault.E(fault.TooLarge, op, "at most %d additional creators", maxCreators)
			case id != q.UserID && !slices.Contains(q.Creators, id):
				q.Creators = append(q.Creators, id)
			}
			return bad == nil
		})
		if err != nil {
			bad = fault.E(fault.BadJSON, op, "additional_creators must be a list of user ids")
		}
		if bad != nil {
			return bad
		}
	}
	if err := active(r); err != nil {
		return err
	}
	if q.Room, err = a.room(r); err != nil {
		return err
	}
	id, err := a.engine.UpgradeRoom(&q)
	if err != nil {
		return err
	}
	a.engine.Ephemeral.Acted(r.Session.User)
	return r.OK(append(cjson.AppendString(append(r.Out(), `{"replacement_room":`...), id), '}'))
}
