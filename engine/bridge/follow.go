package bridge

import (
	"slices"
	"strings"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mqtt"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/stream"
)

// followStep is how many entries are read between two looks at stop.
const followStep = 200

// follow reads the log from its cursor on until stop is closed.
func (b *Bridge) follow(stop <-chan struct{}, fail func(error)) {
	at := b.from
	if b.p.Served { // a command that was read before there is a broker would be nobody's
		select {
		case <-stop:
			return
		case <-b.there:
		}
	}
	if err := b.takeUpShadows(); err != nil {
		fail(err)
	}
	saved := at
	follower := b.p.Log.Follow(b.mine)
	defer follower.Leave()
	for {
		if tip := b.p.Log.Tip(); at < tip {
			next, err := b.step(at, tip)
			if err != nil {
				fail(err)
				select {
				case <-stop:
					return
				case <-time.After(time.Second):
				}
			}
			at = next
			if err := b.save(at, &saved); err != nil && !fault.Is(err, fault.Full) {
				fail(err)
			}
			select {
			case <-stop:
				return
			default:
				continue
			}
		}
		select {
		case <-stop:
			return
		case <-follower.News():
		}
	}
}

// mine says whether an entry may be the bridge's business. A message is none where
// no mapping makes commands, but in the control room.
func (b *Bridge) mine(e *stream.Entry) bool {
	switch e.Kind {
	case stream.RoomEvent:
		if len(e.Diff) > 0 || len(b.table.Load().commands) > 0 {
			return true
		}
		control, err := b.p.Deeds.Control()
		return err != nil || control == room.Num(e.Room)
	case stream.ToDevice:
		return true
	}
	return false
}

// save writes the cursor. It is worth no sync: the commands that it stands behind
// are on disk, and a repeat can be told by its correlation data.
func (b *Bridge) save(at stream.Pos, saved *stream.Pos) error {
	if at == *saved {
		return nil
	}
	batch := b.p.Store.NewBatch()
	stream.SetCursor(batch, cursorName, at)
	if err := b.p.Store.Apply(batch); err != nil {
		return err
	}
	*saved = at
	return nil
}

// step handles some entries. On an error it gives the position before the entry
// that could not be handled, which is tried again.
func (b *Bridge) step(after, upto stream.Pos) (stream.Pos, error) {
	type work struct {
		pos stream.Pos
		do  func() error
	}
	at := after
	var broken error
	var todo []work
	err := b.p.Log.Read(after, upto, func(pos stream.Pos, e *stream.Entry) bool {
		switch e.Kind {
		case stream.RoomEvent:
			if len(e.Diff) > 0 {
				if broken = b.moved(room.Num(e.Room), e.Diff); broken != nil {
					return false
				}
			}
			num := room.EventNum(e.Event)
			todo = append(todo, work{pos, func() error { return b.event(num) }})
		case stream.ToDevice:
			user := e.User
			todo = append(todo, work{pos, func() error { return b.handDevice(user, pos) }})
		default:
			todo = append(todo, work{pos, nil})
		}
		return len(todo) < followStep
	})
	if err == nil {
		err = broken
	}
	if err != nil {
		return after, err
	}
	for _, w := range todo {
		if w.do != nil {
			if err := w.do(); lasting(err) {
				b.tellOnce("an event is passed over: " + plain(err))
			} else if err != nil {
				return at, err
			}
		}
		at = w.pos
	}
	return at, nil
}

// lasting says whether an error would be the same at the next try.
func lasting(err error) bool {
	switch fault.KindOf(err) {
	case fault.Internal, fault.Full, fault.Busy, fault.Limit, fault.Remote:
		return false
	}
	return err != nil
}

// moved drops what is known of a room whose state changed in what permissions are
// made of, and reads the mappings again where it is the control room's.
func (b *Bridge) moved(num room.Num, diff []byte) error {
	rights, mappings := false, false
	var failed error
	err := room.Changes(diff, func(c room.Change) {
		typ, _, err := b.p.Rooms.KeyName(c.Key)
		if err != nil {
			failed = err
		}
		rights = rights || slices.Contains([]string{"m.room.member", "m.room.power_levels", "m.room.encryption", "m.room.create"}, typ)
		mappings = mappings || typ == typeMapping
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return err
	}
	if rights {
		b.rights.forget(num)
		b.rejudge()
	}
	if mappings {
		return b.reload()
	}
	return nil
}

func (b *Bridge) rejudge() {
	if broker := b.broker.Load(); broker != nil {
		broker.Rejudge()
	}
}

// reload reads the mappings of the control room, behind those of the file.
func (b *Bridge) reload() error {
	list := slices.Clone(b.own)
	var faults []string
	num, err := b.p.Deeds.Control()
	if err != nil {
		return err
	}
	if num != 0 {
		head, err := b.p.Rooms.Head(num)
		if err != nil {
			return err
		}
		err = b.p.Rooms.EachOfType(head.State, typeMapping, func(e *room.Event) (bool, error) {
			if len(e.Content) <= 2 || e.Redacted() {
				return true, nil
			}
			m, err := ParseMapping(e.Content, "the control room's mapping "+e.StateKey)
			if err != nil {
				faults = append(faults, plain(err))
				return true, nil
			}
			m.By = e.Sender
			list = append(list, m)
			return true, nil
		})
		if err != nil {
			return err
		}
	}
	t := newTable(list)
	t.faults = append(t.faults, faults...)
	t.faults = append(t.faults, b.sealedRooms(t)...)
	b.table.Store(t)
	b.unseen()
	b.rejudge()
	for _, text := range t.faults {
		b.tellOnce(text)
	}
	return nil
}

// sealedRooms names the mappings that lead into encrypted rooms.
func (b *Bridge) sealedRooms(t *table) (faults []string) {
	for _, m := range slices.Concat(t.inbound, t.commands) {
		if m.Room == "" || !m.fixed() {
			continue
		}
		num, err := b.roomOf(m, "", false)
		if err != nil || num == 0 {
			continue
		}
		if _, sealed, _, err := b.of(num, b.p.Hub); err == nil && sealed {
			faults = append(faults, plain(sealedRoom(m)))
		}
	}
	return faults
}

// event does what an event asks for: a command, a wish for a shadow, or an answer
// in the control room.
func (b *Bridge) event(num room.EventNum) error {
	e, err := b.p.Rooms.Event(num)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if e.Type == typeDesired && e.IsState && e.Sender != b.p.Hub {
		return b.wish(e)
	}
	if e.Type == typeMessage && !b.fromThing(e) {
		if err := b.listen(e); err != nil {
			return err
		}
	}
	return b.order(e)
}

// wish takes a state event by which somebody says what a thing shall be: its state
// key is the topic, its content the patch.
func (b *Bridge) wish(e *room.Event) error {
	to := b.table.Load().find(e.StateKey)
	if to == nil || to.Mode != Shadow || e.Redacted() {
		return nil
	}
	num, err := b.roomOf(to, e.StateKey, false)
	if err != nil || num != e.In {
		return err
	}
	err = b.Desire(b.Owner(e.StateKey), e.StateKey, e.Content, 0)
	if fault.Is(err, fault.TooLarge) || fault.Is(err, fault.Limit) {
		b.tellOnce(plain(err))
		return nil
	}
	return err
}

// listen does what somebody with power says in the control room: "approve NAME",
// "deny NAME" or "revoke NAME".
func (b *Bridge) listen(e *room.Event) error {
	num, err := b.p.Deeds.Control()
	if err != nil || num == 0 || num != e.In || e.Sender == b.p.Hub {
		return err
	}
	body, _ := cjson.LookupString(e.Content, "body")
	words := strings.Fields(body)
	if len(words) != 2 || !slices.Contains([]string{"approve", "deny", "revoke"}, strings.ToLower(words[0])) {
		return nil
	}
	levels, _, joined, err := b.of(num, e.Sender)
	if err != nil {
		return err
	}
	if !joined || levels.UserLevel(e.Sender) < levels.EventLevel(typeMapping, true) {
		b.p.Deeds.Tell(string(e.Sender) + " lacks the power level for that")
		return nil
	}
	b.p.Deeds.Tell(b.p.Deeds.Order(strings.ToLower(words[0]), words[1]))
	return nil
}

// MayUser says whether a user of the hub may do something with a topic, by the
// same policy as over MQTT.
func (b *Bridge) MayUser(user mxid.UserID, op mqtt.Op, name string) bool {
	return b.May(mqtt.Identity{Name: string(user)}, op, name)
}
