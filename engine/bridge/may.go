package bridge

import (
	"strings"
	"sync"

	"hearth/engine/auth"
	"hearth/engine/mqtt"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/thing"
	"hearth/engine/topic"
)

// shadowPrefix begins the topics by which shadows are read and set.
const shadowPrefix = "$shadow/"

// pushPrefix begins the topics on which users are notified: the local part and a
// device id follow.
const pushPrefix = "$push/"

// rights are what rooms let users do, as far as it was asked for. An entry goes
// when the log tells of a change in its room.
type rights struct {
	mu    sync.Mutex
	gen   uint64 // raised with each change: what was read before it is not kept
	rooms map[room.Num]*roomRights
}

type roomRights struct {
	levels    *auth.PowerLevels
	encrypted bool
	made      bool // by the hub
	joined    map[mxid.UserID]bool
}

const (
	maxRightsRooms = 512
	maxRightsUsers = 4096 // of one room
)

// forget drops what is known of a room.
func (r *rights) forget(num room.Num) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gen++
	delete(r.rooms, num)
}

// of gives the rights of a room, and whether a user is joined to it.
func (b *Bridge) of(num room.Num, user mxid.UserID) (levels *auth.PowerLevels, encrypted, joined bool, err error) {
	r := &b.rights
	r.mu.Lock()
	gen, have := r.gen, r.rooms[num]
	if have != nil {
		if joined, ok := have.joined[user]; ok {
			defer r.mu.Unlock()
			return have.levels, have.encrypted, joined, nil
		}
	}
	r.mu.Unlock()
	head, err := b.p.Rooms.Head(num)
	if err != nil {
		return nil, false, false, err
	}
	sealed, err := b.p.Rooms.StateEvent(head.State, "m.room.encryption", "")
	if err != nil {
		return nil, false, false, err
	}
	create, err := b.p.Rooms.StateEvent(head.State, "m.room.create", "")
	if err != nil {
		return nil, false, false, err
	}
	known, err := b.p.Rooms.User(user)
	if err != nil {
		return nil, false, false, err
	}
	if known != 0 {
		m, err := b.p.Rooms.MemberOf(num, known)
		if err != nil {
			return nil, false, false, err
		}
		joined = m.Membership == room.Join
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gen == gen {
		if have = r.rooms[num]; have == nil || len(have.joined) >= maxRightsUsers {
			if len(r.rooms) >= maxRightsRooms {
				clear(r.rooms)
			}
			have = &roomRights{head.Levels, sealed != nil, create != nil && create.Sender == b.p.Hub, map[mxid.UserID]bool{}}
			r.rooms[num] = have
		}
		have.joined[user] = joined
	}
	return head.Levels, sealed != nil, joined, nil
}

// made says whether the hub made a room.
func (b *Bridge) made(num room.Num) (bool, error) {
	if _, _, _, err := b.of(num, b.p.Hub); err != nil {
		return false, err
	}
	b.rights.mu.Lock()
	defer b.rights.mu.Unlock()
	have := b.rights.rooms[num]
	return have != nil && have.made, nil
}

// userOf is the Matrix user behind an identity: things have their name, people
// their whole id.
func (b *Bridge) userOf(name string) mxid.UserID {
	if strings.HasPrefix(name, "@") {
		return mxid.UserID(name)
	}
	return b.p.Accounts.ID(name)
}

// May is the one policy; see the package comment. The owner is told of the first
// topic that somebody asks for in vain: what a client of MQTT 3.1.1 may not
// publish is acknowledged all the same, for want of another answer.
func (b *Bridge) May(id mqtt.Identity, op mqtt.Op, name string) bool {
	ok := id.Name == "" || b.may(id, op, name) // the hub itself has no name
	switch {
	case ok || op == mqtt.Receive:
	case op == mqtt.Publish:
		b.tellOnceOf("publish "+id.Name, id.Name+" may not publish to "+name+". More of that kind is not told of before the hub's next start.")
	default:
		b.tellOnceOf("subscribe "+id.Name, id.Name+" may not subscribe to "+name+". More of that kind is not told of before the hub's next start.")
	}
	return ok
}

func (b *Bridge) may(id mqtt.Identity, op mqtt.Op, name string) bool {
	if t, ok := strings.CutPrefix(name, shadowPrefix); ok {
		if op == mqtt.Publish {
			if i := strings.LastIndexByte(t, '/'); i > 0 {
				t = t[:i]
			}
			return b.mayTopic(id, op, t)
		}
		return b.mayShadow(id, op, t)
	}
	if t, ok := strings.CutPrefix(name, pushPrefix); ok {
		return op != mqtt.Publish && b.mayPush(id, t)
	}
	if strings.HasPrefix(name, "$") {
		return op != mqtt.Publish && b.mayControl(id, op)
	}
	return b.mayTopic(id, op, name)
}

// mayPush lets users read what they are notified of, and nobody else.
func (b *Bridge) mayPush(id mqtt.Identity, t string) bool {
	name, _, more := strings.Cut(t, "/")
	return more && name != "" && !strings.ContainsAny(name, "+#") && b.p.Accounts.ID(name) == b.userOf(id.Name)
}

// mayShadow judges reading the topics of a shadow by the topic that it is of.
func (b *Bridge) mayShadow(id mqtt.Identity, op mqtt.Op, t string) bool {
	if i := strings.LastIndexByte(t, '/'); i > 0 && !strings.HasSuffix(t, "#") {
		t = t[:i]
	}
	return b.mayTopic(id, op, t)
}

func (b *Bridge) mayTopic(id mqtt.Identity, op mqtt.Op, name string) bool {
	if one, err := b.p.Things.Find(id.Name); err == nil {
		access := thing.Read
		if op == mqtt.Publish {
			access = thing.Write
		}
		if one.Revoked {
			return false
		}
		if one.May(name, access) {
			return true
		}
	}
	if op == mqtt.Subscribe {
		return b.mayControl(id, op) || b.maySubscribe(id, name)
	}
	m := b.table.Load().any(name)
	if m == nil || m.Room == "" {
		return b.mayControl(id, op)
	}
	num, err := b.roomOf(m, name, false)
	switch {
	case err != nil || num == 0 && !m.Create:
		return false
	case num == 0: // it is made by the first message, for those in the control room
		return b.mayControl(id, op)
	}
	return b.mayIn(num, id, op, m.Type, m.Mode == Shadow)
}

// mayIn judges by one room: who receives is joined, who publishes may send the
// type of event.
func (b *Bridge) mayIn(num room.Num, id mqtt.Identity, op mqtt.Op, typ string, state bool) bool {
	user := b.userOf(id.Name)
	levels, _, joined, err := b.of(num, user)
	if err != nil || !joined {
		return false
	}
	return op != mqtt.Publish || levels.UserLevel(user) >= levels.EventLevel(typ, state)
}

func (b *Bridge) mayControl(id mqtt.Identity, op mqtt.Op) bool {
	num, err := b.p.Deeds.Control()
	return err == nil && num != 0 && b.mayIn(num, id, op, typePublish, false)
}

// maySubscribe lets those ask for a filter who are in the room of some mapping
// that it meets: each message is judged again before it is handed out.
func (b *Bridge) maySubscribe(id mqtt.Identity, filter string) bool {
	t := b.table.Load()
	for _, list := range [...][]*Mapping{t.inbound, t.commands} {
		for _, m := range list {
			if m.Room == "" || !topic.Overlap(m.filter, filter) && !topic.Overlap(m.filter+replySuffix, filter) {
				continue
			}
			if !m.fixed() {
				return true
			}
			if num, err := b.roomOf(m, "", false); err == nil && num != 0 && b.mayIn(num, id, mqtt.Receive, "", false) {
				return true
			}
		}
	}
	return false
}
