package engine

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"

	"hearth/engine/account"
	"hearth/engine/auth"
	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/pushrule"
	"hearth/engine/room"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// Upgrade asks for a room that takes another's place.
// Spec: client-server, POST /rooms/{roomId}/upgrade.
type Upgrade struct {
	Room     room.Num
	User     uint32
	UserID   mxid.UserID
	Version  string
	Creators []mxid.UserID // beside the user, where the version knows such
}

// carried is the state that goes along; power levels come last, so that
// whoever makes the room may set the rest. Spec: client-server, room upgrades.
var carried = [...]string{"m.room.join_rules", "m.room.history_visibility", "m.room.guest_access", "m.room.name", "m.room.topic",
	"m.room.avatar", "m.room.encryption", "m.room.server_acl", "m.room.pinned_events"}

// maxCarriedBans and maxCarriedChildren bound the one batch in which it all happens.
const (
	maxCarriedBans     = 2000
	maxCarriedChildren = 2000
)

// upgrade is an upgrade under way.
type upgrade struct {
	e        *Engine
	q        *Upgrade
	v        *event.Version
	old, new *room.Writer
	create   *room.Event // of the old room
	aliases  []mxid.Alias
	public   bool

	policed bool          // the old room has a policy server
	after   []*room.Draft // of the old room, which follow the tombstone once that was committed
}

// UpgradeRoom makes a room of another version that takes the place of an old
// one. Both rooms change in one batch, with the aliases: no power cut leaves half
// of it.
//
// Errors: UnsupportedVersion; Forbidden for who may not end the old room.
func (e *Engine) UpgradeRoom(q *Upgrade) (mxid.RoomID, error) {
	u := upgrade{e: e, q: q}
	if u.v = event.LookupVersion(q.Version); u.v == nil {
		return "", fault.E(fault.UnsupportedVersion, "engine.UpgradeRoom", "room version %q is not supported", q.Version)
	}
	e.aliases.Lock()
	defer e.aliases.Unlock()
	var err error
	if u.aliases, err = e.Directory.Aliases(uint32(q.Room)); err != nil {
		return "", err
	}
	if u.public, err = e.Directory.IsPublished(uint32(q.Room)); err != nil {
		return "", err
	}
	if u.old, err = e.Rooms.Write(q.Room); err != nil {
		return "", err
	}
	defer func() { u.old.End() }() // of the writer that is there then
	p, err := e.Rooms.Policy(u.old.Head())
	if err != nil {
		return "", err
	}
	u.policed = p != nil
	var id mxid.RoomID
	if !u.v.RoomIDIsCreate {
		id = mxid.RoomID("!" + randomID(18) + ":" + string(e.Server))
	}
	u.new = e.Rooms.New(u.v, id)
	defer u.new.End()
	if err := u.begin(id); err != nil {
		return "", err
	}
	if err := u.carry(); err != nil {
		return "", err
	}
	if err := u.restrict(); err != nil {
		return "", err
	}
	pending, err := e.Rooms.CommitAll(u.move, u.new, u.old)
	if err != nil {
		return "", err
	}
	if err := pending.Wait(); err != nil {
		return "", err
	}
	for _, d := range u.after {
		if _, err := e.post(q.Room, d); err != nil {
			e.say("what else ends %s is not said: %v", u.old.Head().ID, err)
		}
	}
	head := u.new.Head()
	return head.ID, e.carryOver(head.Room, q.User, q.UserID)
}

func (u *upgrade) state(w *room.Writer, typ, key string, content []byte) (*room.Event, error) {
	return w.Add(&room.Draft{Type: typ, StateKey: &key, Sender: u.q.UserID, Content: content})
}

// begin stages the end of the old room and the beginning of the new one. Each
// names the other: where the new room's id is its first event's hash, only that
// event can come first, and then it cannot name the tombstone.
func (u *upgrade) begin(id mxid.RoomID) (err error) {
	if u.create, err = u.old.State("m.room.create", ""); err != nil {
		return err
	}
	if u.create == nil {
		return fault.E(fault.Corrupt, "engine.UpgradeRoom", "a room without a create event")
	}
	var last mxid.EventID
	if id != "" {
		tombstone, err := u.bury(id)
		if err != nil {
			return err
		}
		last = tombstone.ID
	}
	content, err := u.createContent(last)
	if err != nil {
		return err
	}
	empty := ""
	if _, err := u.new.Add(&room.Draft{
		Type: "m.room.create", StateKey: &empty, Sender: u.q.UserID, Content: content, Time: u.e.createTime(),
	}); err != nil {
		return err
	}
	if id == "" {
		if _, err := u.bury(u.new.Head().ID); err != nil {
			return err
		}
	}
	member, err := u.e.memberContent(u.q.UserID, "join", "", false)
	if err != nil {
		return err
	}
	_, err = u.state(u.new, "m.room.member", string(u.q.UserID), member)
	return err
}

func (u *upgrade) bury(in mxid.RoomID) (*room.Event, error) {
	content := append(cjson.AppendString([]byte(`{"body":"This room has been replaced","replacement_room":`), string(in)), '}')
	if !u.policed {
		return u.state(u.old, "m.room.tombstone", "", content)
	}
	empty := ""
	return u.e.show(&u.old, &room.Draft{Type: "m.room.tombstone", StateKey: &empty, Sender: u.q.UserID, Content: content})
}

// last stages what goes with the end of the old room, as far as the user may say
// it. A policy server is asked about one event after the other.
func (u *upgrade) last(typ string, content []byte) error {
	if u.policed {
		empty := ""
		u.after = append(u.after, &room.Draft{Type: typ, StateKey: &empty, Sender: u.q.UserID, Content: content})
		return nil
	}
	if _, err := u.state(u.old, typ, "", content); err != nil && !passedOver(err) {
		return err
	}
	return nil
}

// createContent is the content of the new room's first event.
func (u *upgrade) createContent(last mxid.EventID) ([]byte, error) {
	content, err := without(u.create.Content, "creator", "room_version", "predecessor", "additional_creators")
	if err != nil {
		return nil, err
	}
	dst := append(cjson.AppendString([]byte(`{"room_version":`), u.v.ID), `,"predecessor":{`...)
	if last != "" {
		dst = append(cjson.AppendString(append(dst, `"event_id":`...), string(last)), ',')
	}
	dst = append(cjson.AppendString(append(dst, `"room_id":`...), string(u.old.Head().ID)), '}')
	if !u.v.ImplicitCreator {
		dst = cjson.AppendString(append(dst, `,"creator":`...), string(u.q.UserID))
	}
	if u.v.Creators && len(u.q.Creators) > 0 {
		list, err := json.Marshal(u.q.Creators)
		if err != nil {
			return nil, err
		}
		dst = append(append(dst, `,"additional_creators":`...), list...)
	}
	return merge(content, append(dst, '}')), nil
}

// carry stages what the new room has from the old one.
func (u *upgrade) carry() error {
	for _, typ := range carried {
		old, err := u.old.State(typ, "")
		if err != nil {
			return err
		}
		if old == nil {
			continue
		}
		if _, err := u.state(u.new, typ, "", old.Content); err != nil && !passedOver(err) {
			return err
		}
	}
	if err := u.carryLists(); err != nil {
		return err
	}
	if old, err := u.old.State(typeCanonicalAlias, ""); err != nil {
		return err
	} else if old != nil {
		if _, err := u.state(u.new, typeCanonicalAlias, "", old.Content); err != nil && !passedOver(err) {
			return err
		}
		// The aliases move away, so the old room names them no more. It may be that
		// only others may say so.
		if err := u.last(typeCanonicalAlias, []byte(`{}`)); err != nil {
			return err
		}
	}
	levels, err := u.levels()
	if err != nil || levels == nil {
		return err
	}
	_, err = u.state(u.new, "m.room.power_levels", "", levels)
	return err
}

// carryLists stages who is banned and, for a space, what is in it.
func (u *upgrade) carryLists() error {
	var list []*room.Event
	bans, children := 0, 0
	typ, _ := cjson.LookupString(u.create.Content, "type")
	err := u.e.Rooms.Each(u.e.committed(u.old), func(e *room.Event) (bool, error) {
		switch {
		case e.Type == "m.room.member" && room.MembershipOf(e.Content) == room.Ban && bans < maxCarriedBans:
			bans++
		case e.Type == "m.space.child" && typ == "m.space" && cjson.KindOf(lookup(e.Content, "via")) == cjson.ArrayKind && children < maxCarriedChildren:
			children++
		default:
			return true, nil
		}
		list = append(list, e)
		return true, nil
	})
	if err != nil {
		return err
	}
	for _, e := range list {
		content := e.Content
		if e.Type == "m.room.member" {
			reason, _ := cjson.LookupString(content, "reason")
			if content, err = u.e.memberContent(mxid.UserID(e.StateKey), "ban", reason, false); err != nil {
				return err
			}
		}
		if _, err := u.state(u.new, e.Type, e.StateKey, content); err != nil && !passedOver(err) {
			return err
		}
	}
	return nil
}

func lookup(obj []byte, key string) []byte {
	val, _ := cjson.Lookup(obj, key)
	return val
}

// committed is a room's state without what a writer has staged.
func (e *Engine) committed(w *room.Writer) room.State {
	if h, err := e.Rooms.Head(w.Head().Room); err == nil {
		return h.State
	}
	return nil
}

// levels is the content of the new room's power levels: the old ones, without
// those who stand above all levels in the new room, and with those who did in the
// old one. nil where the old room had none.
func (u *upgrade) levels() ([]byte, error) {
	old, err := u.old.State("m.room.power_levels", "")
	if err != nil || old == nil {
		return nil, err
	}
	var content map[string]json.RawMessage
	if err := json.Unmarshal(old.Content, &content); err != nil {
		return nil, fault.E(fault.Corrupt, "engine.UpgradeRoom", "power levels that are no object: %w", err)
	}
	if u.v.IntegerPL {
		whole(content)
	}
	users := map[string]json.RawMessage{}
	_ = json.Unmarshal(content["users"], &users) // what is no object names nobody
	if u.create.Version.Creators && !u.v.Creators {
		top := strconv.AppendInt(nil, highest(content), 10)
		for _, c := range auth.Creators(u.create.Event) {
			users[string(c)] = top
		}
	}
	if u.v.Creators {
		delete(users, string(u.q.UserID))
		for _, c := range u.q.Creators {
			delete(users, string(c))
		}
	}
	if content["users"], err = json.Marshal(users); err != nil {
		return nil, err
	}
	return json.Marshal(content)
}

// highest is the highest level that power levels name, and at least 100. Who made
// a room of version 12 stands above all of them; with less than the highest they
// could not do in an older version what that is asked for, as upgrading again.
func highest(content map[string]json.RawMessage) int64 {
	top := int64(100)
	for _, val := range content {
		if n, ok := cjson.Int(val); ok {
			top = max(top, n)
		}
		_ = cjson.Object(val, func(_, val []byte) bool { // what is no object names no levels
			if n, ok := cjson.Int(val); ok {
				top = max(top, n)
			}
			return true
		})
	}
	return top
}

// whole makes numbers of the levels that old rooms may hold as text.
// Spec: rooms v10, values in m.room.power_levels events must be integers.
func whole(content map[string]json.RawMessage) {
	for key, val := range content {
		switch cjson.KindOf(val) {
		case cjson.StringKind:
			text, _ := cjson.String(val)
			if n, err := strconv.ParseInt(text, 10, 54); err == nil {
				content[key] = strconv.AppendInt(nil, n, 10)
			} else {
				delete(content, key)
			}
		case cjson.NumberKind:
			if n, ok := cjson.IntLenient(val); ok {
				content[key] = strconv.AppendInt(nil, n, 10)
			}
		case cjson.ObjectKind:
			var inner map[string]json.RawMessage
			if json.Unmarshal(val, &inner) == nil {
				whole(inner)
				content[key], _ = json.Marshal(inner) // raw values that were just read
			}
		}
	}
}

// restrict keeps people from talking and inviting in the old room, where the
// user may say so.
func (u *upgrade) restrict() error {
	old, err := u.old.State("m.room.power_levels", "")
	if err != nil || old == nil {
		return err
	}
	var usersDefault int64
	if val, ok := cjson.Lookup(old.Content, "users_default"); ok {
		usersDefault, _ = cjson.IntLenient(val)
	}
	level := strconv.FormatInt(max(50, usersDefault+1), 10)
	content := merge(old.Content, []byte(`{"events_default":`+level+`,"invite":`+level+`}`))
	return u.last("m.room.power_levels", content)
}

// move adds to the batch what the directory says of the rooms.
func (u *upgrade) move(tx *stream.Tx) error {
	old, to := uint32(u.q.Room), uint32(u.new.Head().Room)
	for _, alias := range u.aliases {
		_, maker, err := u.e.Directory.Resolve(alias)
		if err != nil {
			return err
		}
		u.e.Directory.Drop(tx.Batch, alias, old)
		u.e.Directory.Put(tx.Batch, alias, to, maker)
	}
	if u.public {
		u.e.Directory.Publish(tx.Batch, old, false)
		u.e.Directory.Publish(tx.Batch, to, true)
	}
	return nil
}

// errNothing says that there is nothing to write.
var errNothing = errors.New("nothing to carry over")

// carryOver gives a user who has come into a room that takes another's place
// what they have set for the old one: push rules, tags, and that it is direct.
// Any room can name another as the one it follows; that one has to name it too,
// unless the user made the new one.
// Spec: client-server, room upgrades, server behaviour.
func (e *Engine) carryOver(num room.Num, user uint32, id mxid.UserID) error {
	head, err := e.Rooms.Head(num)
	if err != nil {
		return err
	}
	create, err := e.Rooms.StateEvent(head.State, "m.room.create", "")
	if err != nil || create == nil {
		return err
	}
	raw, _ := cjson.LookupPath(create.Content, "predecessor", "room_id")
	from, _ := cjson.String(raw)
	old, err := e.Rooms.Find(mxid.RoomID(from))
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	m, err := e.Rooms.MemberOf(old, user)
	if err != nil || m.Membership == room.None || m.Forgotten {
		return err
	}
	if create.Sender != id {
		was, err := e.Rooms.Head(old)
		if err != nil {
			return err
		}
		if to, err := e.stateText(was, "m.room.tombstone", "replacement_room"); err != nil || to != string(head.ID) {
			return err
		}
	}
	err = e.Accounts.EditPushRules(user, id, func(rules *pushrule.Ruleset) error {
		carried, err := rules.Carry(from, string(head.ID))
		if err == nil && !carried {
			err = errNothing
		}
		return err
	})
	if err != nil && err != errNothing {
		return err
	}
	return e.carryData(user, uint32(old), uint32(num), from, string(head.ID))
}

// carryData copies a user's tags, and the room's place among the direct ones.
func (e *Engine) carryData(user, old, num uint32, from, to string) error {
	_, err := e.log.Commit(func(tx *stream.Tx) error {
		_, has, err := e.Accounts.Data(nil, user, num, account.TypeTag)
		if err != nil {
			return err
		}
		tags, ok, err := e.Accounts.Data(nil, user, old, account.TypeTag)
		if err != nil {
			return err
		}
		if ok && !has {
			if err := e.Accounts.PutData(tx, user, num, account.TypeTag, tags); err != nil {
				return err
			}
		}
		direct, ok, err := e.Accounts.Data(nil, user, 0, typeDirect)
		if err != nil || !ok {
			return err
		}
		next, changed, err := addDirect(direct, from, to)
		if err != nil || !changed {
			return err
		}
		return e.Accounts.PutData(tx, user, 0, typeDirect, next)
	})
	return err
}

const typeDirect = "m.direct"

// addDirect adds a room wherever another stands in the content of m.direct.
func addDirect(content []byte, from, to string) (next []byte, changed bool, err error) {
	var lists map[string]json.RawMessage
	if json.Unmarshal(content, &lists) != nil {
		return nil, false, nil // a client's own business
	}
	for user, raw := range lists {
		var rooms []string
		if json.Unmarshal(raw, &rooms) != nil || !slices.Contains(rooms, from) || slices.Contains(rooms, to) {
			continue
		}
		if lists[user], err = json.Marshal(append(rooms, to)); err != nil {
			return nil, false, err
		}
		changed = true
	}
	if !changed {
		return nil, false, nil
	}
	if next, err = json.Marshal(lists); err != nil {
		return nil, false, err
	}
	next, err = cjson.Canonical(nil, next, false)
	return next, true, err
}

// settleIn is carryOver for who is perhaps no user of this hub. The join is done
// by then, so what of it may fail is passed over.
func (e *Engine) settleIn(num room.Num, id mxid.UserID) error {
	if id.Server() != e.Server {
		return nil
	}
	user, err := e.names.Find(store.Users, string(id))
	if err != nil || user == 0 {
		return err
	}
	err = e.carryOver(num, user, id)
	if fault.Is(err, fault.TooLarge) || passedOver(err) {
		return nil
	}
	return err
}
