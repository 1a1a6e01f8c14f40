package engine

import (
	"slices"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

const typeCanonicalAlias = "m.room.canonical_alias"

// Resolve finds a room by its id or by an alias of this hub.
//
// Errors: Invalid for what is neither; NotFound.
func (e *Engine) Resolve(idOrAlias string) (room.Num, error) {
	if len(idOrAlias) == 0 || idOrAlias[0] != '#' {
		id, err := mxid.ParseRoom(idOrAlias)
		if err != nil {
			return 0, fault.E(fault.Invalid, "engine.Resolve", "not a room id or alias: %w", err)
		}
		return e.Rooms.Find(id)
	}
	alias, err := mxid.ParseAlias(idOrAlias)
	if err != nil {
		return 0, fault.E(fault.Invalid, "engine.Resolve", "not a room alias: %w", err)
	}
	num, _, err := e.Directory.Resolve(alias)
	return room.Num(num), err
}

// ownAlias reads an alias that this hub answers for.
func (e *Engine) ownAlias(op, s string) (mxid.Alias, error) {
	alias, err := mxid.ParseAlias(s)
	if err != nil {
		return "", fault.E(fault.Invalid, op, "not a room alias: %w", err)
	}
	if alias.Server() != e.Server {
		return "", fault.E(fault.Invalid, op, "the alias belongs to another server")
	}
	return alias, nil
}

// AddAlias points an alias to a room its maker is in.
//
// Errors: Invalid; AliasInUse; Forbidden for who is not in the room, which is
// also what the hub says of rooms it does not know.
// Spec: client-server, PUT /directory/room/{roomAlias}.
func (e *Engine) AddAlias(user uint32, text string, id mxid.RoomID) error {
	const op = "engine.AddAlias"
	alias, err := e.ownAlias(op, text)
	if err != nil {
		return err
	}
	if _, err := mxid.ParseRoom(string(id)); err != nil {
		return fault.E(fault.Invalid, op, "room_id: %w", err)
	}
	maker, err := e.Rooms.UserID(user)
	if err != nil {
		return err
	}
	if err := e.exclusiveAlias(alias, maker); err != nil {
		return err
	}
	num, err := e.mustBeIn(op, user, id)
	if err != nil {
		return err
	}
	e.aliases.Lock()
	defer e.aliases.Unlock()
	_, _, err = e.Directory.Resolve(alias)
	if err == nil {
		return fault.E(fault.AliasInUse, op, "the alias %s is taken", alias)
	}
	if !fault.Is(err, fault.NotFound) {
		return err
	}
	b := e.st.NewBatch()
	e.Directory.Put(b, alias, uint32(num), user)
	return e.st.Commit(b)
}

// mustBeIn finds a room that the user has to be joined to.
func (e *Engine) mustBeIn(op string, user uint32, id mxid.RoomID) (room.Num, error) {
	num, err := e.Rooms.Find(id)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return 0, err
	}
	m := room.Member{}
	if err == nil {
		if m, err = e.Rooms.MemberOf(num, user); err != nil {
			return 0, err
		}
	}
	if m.Membership != room.Join {
		return 0, fault.E(fault.Forbidden, op, "you are not in the room")
	}
	return num, nil
}

// DropAlias removes an alias and takes it out of the room's canonical alias
// event, if the user may change that. The maker of an alias may remove it, and
// who may set the room's canonical alias.
// Spec: client-server, DELETE /directory/room/{roomAlias}.
func (e *Engine) DropAlias(user uint32, id mxid.UserID, text string) error {
	const op = "engine.DropAlias"
	alias, err := e.ownAlias(op, text)
	if err != nil {
		return err
	}
	num, err := e.dropAlias(user, id, alias)
	if err != nil {
		return err
	}
	err = e.dropCanonical(room.Num(num), id, alias)
	if fault.Is(err, fault.Forbidden) {
		return nil
	}
	return err
}

func (e *Engine) dropAlias(user uint32, id mxid.UserID, alias mxid.Alias) (uint32, error) {
	e.aliases.Lock()
	defer e.aliases.Unlock()
	num, maker, err := e.Directory.Resolve(alias)
	if err != nil {
		return 0, err
	}
	if maker != user {
		head, err := e.mayList("engine.DropAlias", room.Num(num), user, id)
		if err != nil {
			return 0, err
		}
		num = uint32(head.Room)
	}
	b := e.st.NewBatch()
	e.Directory.Drop(b, alias, num)
	return num, e.st.Commit(b)
}

// mayList asks whether a user may say how a room stands in the directory: a
// member with the power to set the canonical alias.
func (e *Engine) mayList(op string, num room.Num, user uint32, id mxid.UserID) (*room.Head, error) {
	head, err := e.Rooms.Head(num)
	if err != nil {
		return nil, err
	}
	m, err := e.Rooms.MemberOf(num, user)
	if err != nil {
		return nil, err
	}
	if need := head.Levels.EventLevel(typeCanonicalAlias, true); m.Membership != room.Join || head.Levels.UserLevel(id) < need {
		return nil, fault.E(fault.Forbidden, op, "this takes power level %d in the room", need)
	}
	return head, nil
}

// dropCanonical takes an alias out of the canonical alias event.
func (e *Engine) dropCanonical(num room.Num, id mxid.UserID, alias mxid.Alias) error {
	w, err := e.Rooms.Write(num)
	if err != nil {
		return err
	}
	defer func() { w.End() }() // of the writer that is there then
	old, err := w.State(typeCanonicalAlias, "")
	if err != nil || old == nil {
		return err
	}
	have := namedAliases(old.Content)
	if !slices.Contains(have.all(), string(alias)) {
		return nil
	}
	content, err := without(old.Content, "alias", "alt_aliases")
	if err != nil {
		return err
	}
	content = merge(content, have.minus(string(alias)))
	empty := ""
	_, pending, err := e.commit(&w, &room.Draft{Type: typeCanonicalAlias, StateKey: &empty, Sender: id, Content: content})
	if err != nil {
		return err
	}
	return pending.Wait()
}

// canonical is what a canonical alias event names.
type canonical struct {
	main string
	alt  []string
	odd  bool // something in it has the wrong type
}

// namedAliases reads the content of a canonical alias event. A null or empty
// alias is none.
func namedAliases(content []byte) (c canonical) {
	if val, ok := cjson.Lookup(content, "alias"); ok && cjson.KindOf(val) != cjson.NullKind {
		c.main, ok = cjson.String(val)
		c.odd = !ok
	}
	if val, ok := cjson.Lookup(content, "alt_aliases"); ok && cjson.KindOf(val) != cjson.NullKind {
		err := cjson.Array(val, func(elem []byte) bool {
			text, ok := cjson.String(elem)
			c.odd = c.odd || !ok
			c.alt = append(c.alt, text)
			return true
		})
		c.odd = c.odd || err != nil
	}
	return c
}

func (c canonical) all() []string {
	if c.main == "" {
		return c.alt
	}
	return append([]string{c.main}, c.alt...)
}

// minus is the content without one alias.
func (c canonical) minus(alias string) []byte {
	out := []byte{'{'}
	if c.main != "" && c.main != alias {
		out = cjson.AppendString(append(out, `"alias":`...), c.main)
	}
	first := true
	for _, a := range c.alt {
		if a == alias {
			continue
		}
		if first {
			if len(out) > 1 {
				out = append(out, ',')
			}
			out = append(out, `"alt_aliases":[`...)
		} else {
			out = append(out, ',')
		}
		first = false
		out = cjson.AppendString(out, a)
	}
	if !first {
		out = append(out, ']')
	}
	return append(out, '}')
}

// canonicalState sends a canonical alias event. Each alias that is new in it has
// to point to the room, and goes on doing so until the event is there.
//
// Errors: Invalid for what is no alias; BadAlias for one that points elsewhere.
// Spec: client-server, PUT /rooms/{roomId}/state/{eventType}/{stateKey}.
func (e *Engine) canonicalState(num room.Num, d *room.Draft) (mxid.EventID, error) {
	const op = "engine.State"
	e.aliases.Lock()
	defer e.aliases.Unlock()
	head, err := e.Rooms.Head(num)
	if err != nil {
		return "", err
	}
	var had []string
	if old, err := e.Rooms.StateEvent(head.State, typeCanonicalAlias, ""); err != nil {
		return "", err
	} else if old != nil {
		had = namedAliases(old.Content).all()
	}
	named := namedAliases(d.Content)
	if named.odd {
		return "", fault.E(fault.BadJSON, op, "alias must be a string and alt_aliases a list of strings")
	}
	for _, text := range named.all() {
		if slices.Contains(had, text) {
			continue
		}
		alias, err := mxid.ParseAlias(text)
		if err != nil {
			return "", fault.E(fault.Invalid, op, "not a room alias: %w", err)
		}
		to, _, err := e.Directory.Resolve(alias)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return "", err
		}
		if err != nil || to != uint32(num) {
			return "", fault.E(fault.BadAlias, op, "the alias %s does not point to this room", alias)
		}
	}
	return e.post(num, d)
}

// SetPublished puts a room into the public list, or takes it out.
//
// Errors: NotFound for an unknown room, Forbidden for who may not.
// Spec: client-server, PUT /directory/list/room/{roomId}.
func (e *Engine) SetPublished(num room.Num, user uint32, id mxid.UserID, on bool) error {
	if _, err := e.mayList("engine.SetPublished", num, user, id); err != nil {
		return err
	}
	b := e.st.NewBatch()
	e.Directory.Publish(b, uint32(num), on)
	return e.st.Commit(b)
}
