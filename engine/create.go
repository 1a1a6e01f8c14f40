package engine

import (
	"crypto/rand"
	"encoding/json"
	"slices"
	"strconv"

	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/stream"
)

// StateDraft is a state event that a client asks for.
type StateDraft struct {
	Type     string
	StateKey string
	Content  []byte // JSON object
}

// NewRoom is what a client asks for when it creates a room.
// Spec: client-server, POST /createRoom.
type NewRoom struct {
	Creator  mxid.UserID
	Version  string // empty: the engine's RoomVersion
	Preset   string // empty: follows from Public
	Public   bool   // visibility: stands in the public list
	Alias    string // local part of an alias; empty: none
	Name     string
	Topic    string
	Invite   []mxid.UserID
	IsDirect bool

	CreationContent []byte // JSON object or nil
	PowerOverride   []byte // JSON object or nil
	InitialState    []StateDraft
}

// preset is what a preset sets. Spec: client-server, createRoom presets.
type preset struct {
	joinRule, visibility string
	guests               string // guest access; empty: none, which goes without an event
	invite               int    // power that inviting takes
	equals               bool   // who is invited has the creator's power
}

func presetOf(name string, public bool) (preset, bool) {
	if name == "" {
		name = "private_chat"
		if public {
			name = "public_chat"
		}
	}
	switch name {
	case "private_chat":
		return preset{"invite", "shared", "can_join", 0, false}, true
	case "trusted_private_chat":
		return preset{"invite", "shared", "can_join", 0, true}, true
	case "public_chat":
		// Who may invite may also vouch for others where the room is restricted later:
		// in a room that everybody can enter that is for its moderators.
		return preset{"public", "shared", "", 50, false}, true
	}
	return preset{}, false
}

// creation is a room being made.
type creation struct {
	e *Engine
	n *NewRoom
	p preset
	v *event.Version
	w *room.Writer
}

// CreateRoom makes a room with all its first events in one batch: there is no
// moment, and no power cut, that leaves half a room.
//
// Errors: UnsupportedVersion; RoomInUse where the alias is taken; Invalid for
// an unknown preset; BadRoomState where the first events are not allowed,
// given those before them.
func (e *Engine) CreateRoom(n *NewRoom) (mxid.RoomID, error) {
	id, num, err := e.createRoom(n)
	if err == nil {
		e.inviteOthers(num, n)
	}
	return id, err
}

func (e *Engine) createRoom(n *NewRoom) (mxid.RoomID, room.Num, error) {
	const op = "engine.CreateRoom"
	c := creation{e: e, n: n}
	version := n.Version
	if version == "" {
		version = e.RoomVersion
	}
	if c.v = event.LookupVersion(version); c.v == nil {
		return "", 0, fault.E(fault.UnsupportedVersion, op, "room version %q is not supported", version)
	}
	var ok bool
	if c.p, ok = presetOf(n.Preset, n.Public); !ok {
		return "", 0, fault.E(fault.Invalid, op, "unknown preset %q", n.Preset)
	}
	for _, u := range n.Invite {
		if _, err := mxid.ParseUser(string(u)); err != nil {
			return "", 0, fault.E(fault.Invalid, op, "invite: %w", err)
		}
		if err := e.mayInvite(n.Creator, u); err != nil {
			return "", 0, err
		}
	}
	var alias mxid.Alias
	if n.Alias != "" {
		var err error
		if alias, err = mxid.NewAlias(n.Alias, e.Server); err != nil {
			return "", 0, fault.E(fault.Invalid, op, "room_alias_name: %w", err)
		}
		if err := e.exclusiveAlias(alias, n.Creator); err != nil {
			return "", 0, err
		}
		e.aliases.Lock()
		defer e.aliases.Unlock()
		if _, _, err := e.Directory.Resolve(alias); err == nil {
			return "", 0, fault.E(fault.RoomInUse, op, "the alias %s is taken", alias)
		} else if !fault.Is(err, fault.NotFound) {
			return "", 0, err
		}
	}
	var id mxid.RoomID
	if !c.v.RoomIDIsCreate {
		id = mxid.RoomID("!" + randomID(18) + ":" + string(e.Server))
	}
	c.w = e.Rooms.New(c.v, id)
	defer c.w.End()
	if err := c.events(alias); err != nil {
		return "", 0, err
	}
	id = c.w.Head().ID
	creator, err := e.Rooms.User(n.Creator)
	if err != nil {
		return "", 0, err
	}
	pending, err := c.w.Commit(func(tx *stream.Tx) error {
		num := uint32(c.w.Head().Room)
		if alias != "" {
			e.Directory.Put(tx.Batch, alias, num, creator)
		}
		if n.Public {
			e.Directory.Publish(tx.Batch, num, true)
		}
		return nil
	})
	if err != nil {
		return "", 0, err
	}
	if err := pending.Wait(); err != nil {
		return "", 0, err
	}
	num := c.w.Head().Room
	return id, num, e.settleIn(num, n.Creator)
}

// events stages the room's first events in the order the specification gives.
func (c *creation) events(alias mxid.Alias) error {
	n := c.n
	create, err := c.createContent()
	if err != nil {
		return err
	}
	empty := ""
	if _, err := c.w.Add(&room.Draft{
		Type: "m.room.create", StateKey: &empty, Sender: n.Creator, Content: create, Time: c.e.createTime(),
	}); err != nil {
		return err
	}
	member, err := c.e.memberContent(n.Creator, "join", "", false)
	if err != nil {
		return err
	}
	if err := c.state("m.room.member", string(n.Creator), member); err != nil {
		return err
	}
	levels, err := c.powerLevels()
	if err != nil {
		return err
	}
	if err := c.state("m.room.power_levels", "", levels); err != nil {
		return err
	}
	if alias != "" {
		if err := c.state("m.room.canonical_alias", "", appendField(nil, "alias", string(alias))); err != nil {
			return err
		}
	}
	for _, s := range [...][3]string{
		{"m.room.join_rules", "join_rule", c.p.joinRule},
		{"m.room.history_visibility", "history_visibility", c.p.visibility},
		{"m.room.guest_access", "guest_access", c.p.guests},
	} {
		if s[2] == "" || c.overridden(s[0], "") {
			continue
		}
		if err := c.state(s[0], "", appendField(nil, s[1], s[2])); err != nil {
			return err
		}
	}
	for _, s := range n.InitialState {
		if err := c.state(s.Type, s.StateKey, s.Content); err != nil {
			return err
		}
	}
	if n.Name != "" {
		if err := c.state("m.room.name", "", appendField(nil, "name", n.Name)); err != nil {
			return err
		}
	}
	if n.Topic != "" {
		if err := c.state("m.room.topic", "", topicContent(n.Topic)); err != nil {
			return err
		}
	}
	for _, u := range n.Invite {
		if c.e.elsewhere(u) {
			continue // when the room is there
		}
		member, err := c.e.memberContent(u, "invite", "", n.IsDirect)
		if err != nil {
			return err
		}
		if err := c.state("m.room.member", string(u), member); err != nil {
			return err
		}
	}
	return nil
}

// createTime is the time of a create event: now, and never the same twice. From
// version 12 on the event's hash is the room's id, so two rooms made by one user
// in one millisecond would be one.
func (e *Engine) createTime() int64 {
	now := e.clock.now().UnixMilli()
	for {
		last := e.created.Load()
		t := max(now, last+1)
		if e.created.CompareAndSwap(last, t) {
			return t
		}
	}
}

// overridden says whether the client's own state replaces a preset's.
func (c *creation) overridden(typ, stateKey string) bool {
	return slices.ContainsFunc(c.n.InitialState, func(s StateDraft) bool { return s.Type == typ && s.StateKey == stateKey })
}

// state stages an event. What the rules refuse here is a contradiction in what
// the client asks for, as a name that its own power levels leave nobody to set.
func (c *creation) state(typ, stateKey string, content []byte) error {
	_, err := c.w.Add(&room.Draft{Type: typ, StateKey: &stateKey, Sender: c.n.Creator, Content: content})
	if fault.Is(err, fault.Forbidden) {
		return fault.E(fault.BadRoomState, "engine.CreateRoom", "%s: %w", typ, err)
	}
	return err
}

// topicContent is a topic with its plain text block. Spec: m.room.topic since v1.15.
func topicContent(topic string) []byte {
	dst := append([]byte(nil), `{"m.topic":{"m.text":[{"body":`...)
	dst = cjson.AppendString(dst, topic)
	dst = append(dst, `,"mimetype":"text/plain"}]},"topic":`...)
	return append(cjson.AppendString(dst, topic), '}')
}

// createContent is the create event's content: what the client asks for, with
// what is the server's to say.
func (c *creation) createContent() ([]byte, error) {
	content := map[string]json.RawMessage{}
	if len(c.n.CreationContent) > 0 {
		if err := json.Unmarshal(c.n.CreationContent, &content); err != nil {
			return nil, fault.E(fault.BadJSON, "engine.CreateRoom", "creation_content is not an object")
		}
	}
	content["room_version"] = cjson.AppendString(nil, c.v.ID)
	delete(content, "creator")
	if !c.v.ImplicitCreator {
		content["creator"] = cjson.AppendString(nil, string(c.n.Creator))
	}
	if c.v.Creators && c.p.equals && len(c.n.Invite) > 0 {
		var extra []mxid.UserID
		if old, ok := content["additional_creators"]; ok {
			if err := json.Unmarshal(old, &extra); err != nil {
				return nil, fault.E(fault.BadJSON, "engine.CreateRoom", "additional_creators is not a list of user ids")
			}
		}
		for _, u := range c.n.Invite {
			if !slices.Contains(extra, u) {
				extra = append(extra, u)
			}
		}
		list, err := json.Marshal(extra)
		if err != nil {
			return nil, err
		}
		content["additional_creators"] = list
	}
	return json.Marshal(content)
}

// powerLevels is the first power levels event: the defaults, the creator's
// power, and over them what the client asks for, key by key.
// Spec: client-server, createRoom and m.room.power_levels.
func (c *creation) powerLevels() ([]byte, error) {
	tombstone := 100
	users := map[string]int{}
	if c.v.Creators {
		tombstone = 150
	} else {
		users[string(c.n.Creator)] = 100
		if c.p.equals {
			for _, u := range c.n.Invite {
				users[string(u)] = 100
			}
		}
	}
	content := map[string]json.RawMessage{
		"users_default": json.RawMessage("0"), "events_default": json.RawMessage("0"), "state_default": json.RawMessage("50"),
		"ban": json.RawMessage("50"), "kick": json.RawMessage("50"), "redact": json.RawMessage("50"),
		"invite":     json.RawMessage(strconv.Itoa(c.p.invite)),
		"historical": json.RawMessage("100"),
	}
	content["events"] = json.RawMessage(`{"m.room.name":50,"m.room.power_levels":100,"m.room.history_visibility":100,` +
		`"m.room.canonical_alias":50,"m.room.avatar":50,"m.room.tombstone":` + strconv.Itoa(tombstone) +
		`,"m.room.server_acl":100,"m.room.encryption":100}`)
	list, err := json.Marshal(users)
	if err != nil {
		return nil, err
	}
	content["users"] = list
	if len(c.n.PowerOverride) > 0 {
		var over map[string]json.RawMessage
		if err := json.Unmarshal(c.n.PowerOverride, &over); err != nil {
			return nil, fault.E(fault.BadJSON, "engine.CreateRoom", "power_level_content_override is not an object")
		}
		for k, v := range over {
			content[k] = v
		}
	}
	return json.Marshal(content)
}

// appendField appends an object of one string.
func appendField(dst []byte, key, val string) []byte {
	dst = append(cjson.AppendString(append(dst, '{'), key), ':')
	return append(cjson.AppendString(dst, val), '}')
}

// randomID makes an opaque identifier of n letters.
func randomID(n int) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	buf := make([]byte, n)
	if _, err := rand.Read(buf); err != nil {
		panic("engine: no randomness: " + err.Error())
	}
	for i, b := range buf {
		buf[i] = letters[int(b)%len(letters)]
	}
	return string(buf)
}
