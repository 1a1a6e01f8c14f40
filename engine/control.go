package engine

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"hearth/engine/account"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/store"
)

// The control room is where the hub's owners and the hub meet about things: the
// hub tells there who knocks, and its members' levels say who may use topics that
// are mapped to no room. It has the alias #control. Where things are served it is
// made with the first admin, elsewhere when it is first needed; the hub's admins
// are made its members, and who leaves it is not brought back.

const (
	metaControl   = "control_room"
	aliasControl  = "control"
	controlLevels = `{"users_default":0,"events_default":50,"events":{"m.room.message":0}}`
)

// controlRoom finds the control room; 0 where there is none yet. It is asked with
// each message of a thing, so it is kept in memory.
func (e *Engine) controlRoom() (room.Num, error) {
	if num := e.control.num.Load(); num != 0 {
		return room.Num(num), nil
	}
	if e.control.none.Load() {
		return 0, nil
	}
	val, ok, err := e.st.Meta(metaControl)
	if err != nil {
		return 0, err
	}
	if !ok || len(val) != 4 {
		e.control.none.Store(true)
		return 0, nil
	}
	num := binary.BigEndian.Uint32(val)
	e.control.num.Store(num)
	return room.Num(num), nil
}

// ControlRoom gives the control room, and makes it where there is none.
func (e *Engine) ControlRoom() (room.Num, error) {
	e.control.mu.Lock()
	defer e.control.mu.Unlock()
	if num, err := e.controlRoom(); err != nil || num != 0 {
		return num, err
	}
	hub, err := e.hubUser()
	if err != nil {
		return 0, err
	}
	admins, err := e.admins()
	if err != nil {
		return 0, err
	}
	levels := `"` + string(hub) + `":100`
	for _, id := range admins {
		levels += fmt.Sprintf(`,%q:100`, id)
	}
	n := &NewRoom{
		Creator: hub, Preset: "private_chat", Name: "Control room of " + string(e.Server), Alias: aliasControl,
		Topic:  "What this hub's things do, and who may use their topics",
		Invite: admins, Version: controlVersion, PowerOverride: []byte(strings.Replace(controlLevels, "{", `{"users":{`+levels+`},`, 1)),
	}
	id, err := e.CreateRoom(n)
	if fault.Is(err, fault.RoomInUse) { // somebody has the alias
		n.Alias = ""
		id, err = e.CreateRoom(n)
	}
	if err != nil {
		return 0, err
	}
	num, err := e.Rooms.Find(id)
	if err != nil {
		return 0, err
	}
	b := e.st.NewBatch()
	b.SetMeta(metaControl, store.U32(nil, uint32(num)))
	if err := e.st.Commit(b); err != nil {
		return 0, err
	}
	e.control.num.Store(uint32(num))
	e.control.none.Store(false)
	for _, id := range admins {
		if err := e.Join(num, id, nil); err != nil {
			return 0, err
		}
	}
	return num, nil
}

// admins lists those of the hub, its own user left out.
func (e *Engine) admins() (list []mxid.UserID, err error) {
	hub := e.Accounts.ID(noticesName)
	for after := uint32(0); ; {
		page, err := e.Accounts.Users(after, 500)
		if err != nil {
			return nil, err
		}
		for _, u := range page {
			if after = u.Num; u.Admin && !u.Deactivated && u.ID != hub {
				list = append(list, u.ID)
			}
		}
		if len(page) < 500 {
			return list, nil
		}
	}
}

// greetAdmins makes admins members of the control room as they come, until the
// engine ends.
func (e *Engine) greetAdmins() {
	for {
		e.note(e.greet())
		select {
		case <-e.stop:
			return
		case <-e.crowned:
		}
	}
}

// greet makes all admins who never were in the control room members of it. Where
// there is no admin there is no room yet.
func (e *Engine) greet() error {
	admins, err := e.admins()
	if err != nil || len(admins) == 0 || e.st.ReadOnly() {
		return err
	}
	num, err := e.ControlRoom()
	if err != nil {
		return err
	}
	hub := e.Accounts.ID(noticesName)
	for _, id := range admins {
		user, err := e.Rooms.User(id)
		if err != nil {
			return err
		}
		if m, err := e.Rooms.MemberOf(num, user); err != nil || m.Membership != room.None {
			if err != nil {
				return err
			}
			continue
		}
		if err := e.crown(num, id, 100, func(by mxid.UserID) (bool, error) { return by == hub, nil }); err != nil {
			return err
		}
		if err := e.Join(num, id, nil); err != nil {
			return err
		}
	}
	return nil
}

// controlVersion is one in which the hub's user can be named in the power levels.
const controlVersion = "11"

// hubUser gives the hub's own user, who is made where it is not there.
func (e *Engine) hubUser() (mxid.UserID, error) {
	id := e.Accounts.ID(noticesName)
	num, err := e.Accounts.Find(id)
	if err != nil || num != 0 {
		return id, err
	}
	e.notices.mu.Lock()
	defer e.notices.mu.Unlock()
	if num, err = e.Accounts.Create(account.NewUser{Hub: true}); err != nil {
		return id, err
	}
	return id, e.SetProfile(num, id, account.DisplayName, []byte(`"Notices"`))
}

// TellControl writes a line into the control room.
func (e *Engine) TellControl(text string) error {
	num, err := e.ControlRoom()
	if err != nil {
		return err
	}
	hub, err := e.hubUser()
	if err != nil {
		return err
	}
	_, err = e.Send(num, &room.Draft{Type: "m.room.message", Sender: hub, Content: notice(text)})
	return err
}

// enter makes a user of this hub a member of a room; where it takes an invite, it
// is given in the name of who wrote the mapping, see speaksFor.
func (e *Engine) enter(num room.Num, user, by mxid.UserID) error {
	err := e.Join(num, user, nil)
	if !fault.Is(err, fault.Forbidden) {
		return err
	}
	head, herr := e.Rooms.Head(num)
	if herr != nil {
		return herr
	}
	for _, local := range head.Local {
		id, uerr := e.Rooms.UserID(local)
		if uerr != nil {
			return uerr
		}
		if head.Levels.UserLevel(id) < head.Levels.Invite() {
			continue
		}
		if ok, uerr := e.speaksFor(id, by); uerr != nil || !ok {
			if uerr != nil {
				return uerr
			}
			continue
		}
		if ierr := e.Invite(num, id, user, ""); ierr != nil {
			return ierr
		}
		return e.Join(num, user, nil)
	}
	return err
}

// createFor makes a room for a mapping, in the hub's name, with the members of the
// control room as its members: they said yes to the hub when they entered that.
func (e *Engine) createFor(alias mxid.Alias) (room.Num, error) {
	const op = "engine.createFor"
	if alias.Server() != e.Server {
		return 0, fault.E(fault.NotFound, op, "%s is no alias of this hub", alias)
	}
	control, err := e.ControlRoom()
	if err != nil {
		return 0, err
	}
	hub, err := e.hubUser()
	if err != nil {
		return 0, err
	}
	if made := e.control.made.Add(1); made > maxMade {
		return 0, fault.E(fault.Limit, op, "mappings have made %d rooms since the start: no more until the next", maxMade)
	}
	n := &NewRoom{Creator: hub, Preset: "private_chat", Alias: alias.Localpart(), Name: alias.Localpart(), Version: controlVersion}
	levels := `"` + string(hub) + `":100`
	var in []mxid.UserID
	err = e.Rooms.Members(control, func(m room.Member) bool {
		id, uerr := e.Rooms.UserID(m.User)
		if uerr == nil && id != hub && (m.Membership == room.Join || m.Membership == room.Invite) {
			n.Invite = append(n.Invite, id)
			levels += fmt.Sprintf(`,%q:100`, id)
			if m.Membership == room.Join && m.Local {
				in = append(in, id)
			}
		}
		return true
	})
	if err != nil {
		return 0, err
	}
	n.PowerOverride = []byte(`{"users":{` + levels + `}}`)
	id, err := e.CreateRoom(n)
	if err != nil {
		return 0, err
	}
	num, err := e.Rooms.Find(id)
	if err != nil {
		return 0, err
	}
	for _, id := range in {
		if err := e.Join(num, id, nil); err != nil {
			return 0, err
		}
	}
	return num, nil
}

// maxMade bounds the rooms that mappings make in one run: their names come from
// topics, which things make up.
const maxMade = 256

// knocked has the owner told of a thing that wants in.
func (e *Engine) knocked(name, client, from string) {
	text := fmt.Sprintf("A thing that calls itself %s (client %q, from %s) wants in at %s. Write \"approve %s\" to let it in, \"deny %s\" to hear no more of it.",
		name, client, from, e.clock.now().UTC().Format(time.DateTime), name, name)
	_ = e.TellControl(text) // hearth thing list shows it all the same
}

// orderThing does what somebody with power said in the control room.
func (e *Engine) orderThing(word, name string) string {
	var err error
	done := ""
	switch word {
	case "approve":
		k, kerr := e.Things.Knocking(name)
		if kerr == nil && (len(k.Secret) == 0 || k.Others) {
			return name + " brought no password that will do, or several came with its name: hearth thing approve " + name + " on the hub makes one for it."
		}
		_, err = e.ApproveThing(name, nil)
		done = name + " is let in."
	case "deny":
		err = e.Things.Deny(name)
		done = name + " is not told of again."
	case "revoke":
		err = e.RevokeThing(name)
		done = name + " is revoked."
	}
	if err != nil {
		return "That did not work: " + err.Error()
	}
	return done
}
