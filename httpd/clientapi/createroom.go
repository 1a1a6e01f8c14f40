package clientapi

import (
	"encoding/json"

	"hearth/engine"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// newRoom is the body of a request for a room.
type newRoom struct {
	Visibility  string          `json:"visibility"`
	Alias       string          `json:"room_alias_name"`
	Name        string          `json:"name"`
	Topic       string          `json:"topic"`
	Invite      []mxid.UserID   `json:"invite"`
	Addresses   []invited       `json:"invite_3pid"`
	Version     string          `json:"room_version"`
	Creation    json.RawMessage `json:"creation_content"`
	State       []newState      `json:"initial_state"`
	Preset      string          `json:"preset"`
	Direct      bool            `json:"is_direct"`
	PowerLevels json.RawMessage `json:"power_level_content_override"`
}

type newState struct {
	Type    *string         `json:"type"`
	Key     string          `json:"state_key"`
	Content json.RawMessage `json:"content"`
}

// A room comes into being in one batch, which has to stay small.
const (
	maxInvites = 500
	maxInitial = 500
	// Each address is a talk with an identity server, for which the client waits.
	maxAddresses = 10
)

// Spec: client-server, POST /createRoom.
func (a *API) createRoom(r *wire.Req) error {
	var q newRoom
	if err := r.Decode(&q); err != nil {
		return err
	}
	if err := active(r); err != nil {
		return err
	}
	n, err := q.room()
	if err == nil {
		err = a.checkInvited(q.Addresses)
	}
	if err != nil {
		return err
	}
	n.Creator = r.Session.UserID
	a.provide(r, n.Invite...)
	id, err := a.engine.CreateRoom(n)
	if err != nil {
		return err
	}
	a.inviteAddresses(r, id, q.Addresses)
	a.engine.Ephemeral.Acted(r.Session.User)
	return r.OK(append(cjson.AppendString(append(r.Out(), `{"room_id":`...), id), '}'))
}

// checkInvited judges addresses before there is a room.
func (a *API) checkInvited(list []invited) error {
	if len(list) > 0 && !a.engine.AsksIdentity() {
		return errNobodyToAsk
	}
	for i := range list {
		if err := list[i].check(); err != nil {
			return err
		}
		if err := a.identityServer(*list[i].Server); err != nil {
			return err
		}
	}
	return nil
}

// inviteAddresses invites people by their addresses into a room that is there now.
// What comes to nothing is no reason to say that the room was not made.
func (a *API) inviteAddresses(r *wire.Req, id mxid.RoomID, list []invited) {
	if len(list) == 0 {
		return
	}
	num, err := a.engine.Rooms.Find(id)
	for i := range list {
		if err == nil {
			err = a.inviteAddress(num, &r.Session, &list[i], "")
		}
		if err != nil && a.o.Failed != nil {
			a.o.Failed("inviting somebody by an address", err)
		}
		if num != 0 {
			err = nil // one is no reason to leave out the next
		}
	}
}

// room checks what only the request can get wrong.
func (q *newRoom) room() (*engine.NewRoom, error) {
	const op = "clientapi.createRoom"
	switch {
	case q.Visibility != "" && q.Visibility != "public" && q.Visibility != "private":
		return nil, fault.E(fault.Invalid, op, "visibility must be public or private")
	case len(q.Addresses) > maxAddresses:
		return nil, fault.E(fault.TooLarge, op, "at most %d people are invited by their addresses at once", maxAddresses)
	case len(q.Invite) > maxInvites || len(q.State) > maxInitial:
		return nil, fault.E(fault.TooLarge, op, "at most %d invites and %d state events at once", maxInvites, maxInitial)
	}
	n := &engine.NewRoom{
		Version: q.Version, Preset: q.Preset, Public: q.Visibility == "public", Alias: q.Alias, Name: q.Name, Topic: q.Topic,
		Invite: q.Invite, IsDirect: q.Direct,
	}
	var err error
	if n.CreationContent, err = object("creation_content", q.Creation); err != nil {
		return nil, err
	}
	if n.PowerOverride, err = object("power_level_content_override", q.PowerLevels); err != nil {
		return nil, err
	}
	for _, s := range q.State {
		content, err := object("the content of initial_state", s.Content)
		if err != nil {
			return nil, err
		}
		if s.Type == nil || *s.Type == "" || content == nil {
			return nil, fault.E(fault.BadJSON, op, "an event of initial_state needs a type and content")
		}
		n.InitialState = append(n.InitialState, engine.StateDraft{Type: *s.Type, StateKey: s.Key, Content: content})
	}
	return n, nil
}

// object checks that a member is an object; nil where it is absent or null.
func object(what string, raw json.RawMessage) ([]byte, error) {
	switch {
	case len(raw) == 0, cjson.KindOf(raw) == cjson.NullKind:
		return nil, nil
	case cjson.KindOf(raw) != cjson.ObjectKind:
		return nil, fault.E(fault.BadJSON, "clientapi.createRoom", "%s must be an object", what)
	}
	return raw, nil
}
