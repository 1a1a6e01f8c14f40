package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/stream"
)

// check holds an engine that was opened after a power cut to what had been
// acknowledged before it.
func check(h *hub, l *ledger) error {
	if err := verify(h); err != nil {
		return err
	}
	for _, step := range [...]func(*hub, *ledger) error{checkPositions, checkRegisters, checkMessages, checkEvents, checkJoined, checkTokens, checkAgain, checkSync} {
		if err := step(h, l); err != nil {
			return err
		}
	}
	return verify(h)
}

// verify asks the tables.
func verify(h *hub) error {
	var lines []string
	err := h.Verify(func(line string) { lines = append(lines, line) })
	if err == nil && len(lines) > 0 {
		err = fmt.Errorf("the tables do not agree:\n%s", strings.Join(lines[:min(len(lines), 20)], "\n"))
	}
	return err
}

// checkPositions: the tip is never behind what was told, and the next position
// is one that nobody was told before.
func checkPositions(h *hub, l *ledger) error {
	told := uint64(0)
	for _, f := range l.acked {
		if f.kind == register || f.kind == position || f.kind == seen {
			told = max(told, f.pos)
		}
	}
	if tip := h.Tip(); tip < told {
		return fmt.Errorf("position %d was told, after the cut the log ends at %d", told, tip)
	}
	users, err := h.Accounts.Users(0, 1)
	if err != nil || len(users) == 0 {
		return err
	}
	pos, err := h.Accounts.SetData(users[0].Num, 0, "sim.after", []byte(`{}`))
	if err == nil && uint64(pos) <= told {
		err = fmt.Errorf("position %d was told before the cut and is given again as %d", told, pos)
	}
	return err
}

// checkRegisters: each holds its last acknowledged value or one that was on its way.
func checkRegisters(h *hub, l *ledger) error {
	asked, acked := l.last()
	for name, last := range asked {
		got, err := value(h, name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if got < acked[name] || got > last {
			return fmt.Errorf("%s is %d: %d was acknowledged, %d asked for", name, got, acked[name], last)
		}
	}
	return nil
}

// value reads a register; 0 where it was never set.
func value(h *hub, name string) (int, error) {
	f := strings.Fields(name)
	switch f[0] {
	case "room":
		if _, _, err := h.Directory.Resolve(mxid.Alias("#" + f[1] + ":" + server)); fault.Is(err, fault.NotFound) {
			return 0, nil
		} else if err != nil {
			return 0, err
		}
		return strconv.Atoi(f[1][1:])
	case "profile":
		user, err := h.Accounts.Find(mxid.UserID(f[1]))
		if err != nil {
			return 0, err
		}
		name, _, err := h.Accounts.NameAndAvatar(user)
		if err != nil || name == "" {
			return 0, err
		}
		return strconv.Atoi(name)
	case "data":
		user, err := h.Accounts.Find(mxid.UserID(f[1]))
		if err != nil {
			return 0, err
		}
		content, ok, err := h.Accounts.Data(nil, user, 0, f[2])
		if err != nil || !ok {
			return 0, err
		}
		return number(content, "seq")
	}
	typ, field := "sim.value", "seq"
	if f[0] == "member" {
		typ, field = "m.room.member", "reason"
	}
	num, err := h.Rooms.Find(mxid.RoomID(f[1]))
	if err != nil {
		return 0, err
	}
	head, err := h.Rooms.Head(num)
	if err != nil {
		return 0, err
	}
	e, err := h.Rooms.StateEvent(head.State, typ, f[2])
	if err != nil || e == nil {
		return 0, err
	}
	return number(e.Content, field)
}

// number reads a field that is a number, or text that spells one.
func number(content []byte, field string) (int, error) {
	var c map[string]any
	if err := json.Unmarshal(content, &c); err != nil {
		return 0, err
	}
	switch v := c[field].(type) {
	case float64:
		return int(v), nil
	case string:
		return strconv.Atoi(v)
	}
	return 0, nil // the creator's own join has no reason
}

// timeline lists the ids of a room's events up to the tip, oldest first.
func timeline(h *hub, id mxid.RoomID, back bool) (list []mxid.EventID, bodies map[string]int, err error) {
	num, err := h.Rooms.Find(id)
	if err != nil {
		return nil, nil, err
	}
	bodies = map[string]int{}
	err = h.Rooms.Timeline(num, room.Key{}, room.After(stream.Pos(h.Tip())), back, func(_ room.Key, n room.EventNum) (bool, error) {
		e, err := h.Rooms.Event(n)
		if err != nil {
			return false, err
		}
		list = append(list, e.ID)
		var c struct{ Body string }
		if err := json.Unmarshal(e.Content, &c); err != nil {
			return false, err
		}
		if c.Body != "" {
			bodies[c.Body]++
		}
		return true, nil
	})
	if back {
		slices.Reverse(list)
	}
	return list, bodies, err
}

// checkMessages: every acknowledged message and every event that was seen is
// there once, nothing is there twice or unasked, and both directions agree.
func checkMessages(h *hub, l *ledger) error {
	want := map[mxid.RoomID][]fact{}
	for _, f := range l.acked {
		if f.kind == message || f.kind == seen {
			want[f.room] = append(want[f.room], f)
		}
	}
	asked := map[string]bool{}
	for _, f := range l.asked {
		if f.kind == message {
			asked[f.name] = true
		}
	}
	for id, facts := range want {
		list, bodies, err := timeline(h, id, false)
		if err != nil {
			return err
		}
		back, _, err := timeline(h, id, true)
		if err != nil {
			return err
		}
		if !slices.Equal(list, back) {
			return fmt.Errorf("room %s reads\n%v\nforward and\n%v\nback", id, list, back)
		}
		count := map[mxid.EventID]int{}
		for _, e := range list {
			if count[e]++; count[e] > 1 {
				return fmt.Errorf("event %s stands twice in room %s", e, id)
			}
		}
		for _, f := range facts {
			if count[f.event] != 1 {
				return fmt.Errorf("event %s (%s) was acknowledged and is lost", f.event, f.name)
			}
		}
		for body, n := range bodies {
			if n != 1 || !asked[body] {
				return fmt.Errorf("message %q stands %d times in room %s", body, n, id)
			}
		}
	}
	return nil
}

// checkEvents: what was redacted stays empty.
func checkEvents(h *hub, l *ledger) error {
	asked := map[mxid.EventID]bool{}
	for _, f := range l.asked {
		if f.kind == redacted {
			asked[f.event] = true
		}
	}
	acked := map[mxid.EventID]bool{}
	for _, f := range l.acked {
		if f.kind == redacted {
			acked[f.event] = true
		}
	}
	for _, f := range l.acked {
		if f.kind != message {
			continue
		}
		e, err := h.Rooms.Lookup(f.event)
		if err != nil {
			return err
		}
		if e.Redacted() && !asked[f.event] || !e.Redacted() && acked[f.event] {
			return fmt.Errorf("event %s: redacted %v, asked %v, acknowledged %v", f.event, e.Redacted(), asked[f.event], acked[f.event])
		}
	}
	return nil
}

// checkJoined: who has joined is in the room, and every room shows the profile
// that the user has now, also where the power failed between two rooms.
func checkJoined(h *hub, l *ledger) error {
	for _, f := range l.acked {
		if f.kind != joined {
			continue
		}
		user, err := h.Accounts.Find(mxid.UserID(f.name))
		if err != nil {
			return err
		}
		num, err := h.Rooms.Find(f.room)
		if err != nil {
			return err
		}
		if m, err := h.Rooms.MemberOf(num, user); err != nil || m.Membership != room.Join {
			return fmt.Errorf("%s is not in %s any more, %w", f.name, f.room, err)
		}
		name, _, err := h.Accounts.NameAndAvatar(user)
		if err != nil {
			return err
		}
		head, err := h.Rooms.Head(num)
		if err != nil {
			return err
		}
		e, err := h.Rooms.StateEvent(head.State, "m.room.member", f.name)
		if err != nil {
			return err
		}
		if shown, _ := cjson.LookupString(e.Content, "displayname"); shown != name {
			return fmt.Errorf("%s is called %q, room %s shows %q", f.name, name, f.room, shown)
		}
	}
	return nil
}

// checkTokens: a token holds until its logout, and never after it.
func checkTokens(h *hub, l *ledger) error {
	leaving, gone := map[string]bool{}, map[string]bool{}
	for _, f := range l.asked {
		leaving[f.token] = leaving[f.token] || f.kind == logout
	}
	for _, f := range l.acked {
		gone[f.token] = gone[f.token] || f.kind == logout
	}
	for _, f := range l.acked {
		if f.kind != login {
			continue
		}
		_, err := h.Accounts.Authenticate([]byte(f.token))
		if err != nil && !leaving[f.token] {
			return fmt.Errorf("the token of login %s %d: %w", f.name, f.seq, err)
		}
		if err == nil && gone[f.token] {
			return fmt.Errorf("the token of %s %d lives on after its logout", f.name, f.seq)
		}
	}
	return nil
}

// checkAgain sends the last messages' transactions again, as clients do that got
// no answer: each must be there once.
func checkAgain(h *hub, l *ledger) error {
	ids := map[string]mxid.EventID{}
	for _, f := range l.acked {
		if f.kind == message {
			ids[f.name] = f.event
		}
	}
	tried := 0
	for _, f := range slices.Backward(l.asked) {
		if f.kind != message {
			continue
		}
		id, err := f.again(h)
		if err != nil {
			return fmt.Errorf("%s again: %w", f.name, err)
		}
		if old := ids[f.name]; old != "" && old != id {
			return fmt.Errorf("%s was acknowledged as %s, and again as %s", f.name, old, id)
		}
		_, bodies, err := timeline(h, f.room, false)
		if err != nil {
			return err
		}
		if e, err := h.Rooms.Lookup(id); err != nil || bodies[f.name] != 1 && !e.Redacted() {
			return fmt.Errorf("%s stands %d times after it was sent again, %w", f.name, bodies[f.name], err)
		}
		if tried++; tried == 4 {
			break
		}
	}
	return nil
}

// checkSync goes on from the last token that reached each user: every event of
// the rooms the user is in was told before or is told now, and none twice.
func checkSync(h *hub, l *ledger) error {
	last, before := map[string]fact{}, map[string]map[mxid.EventID]bool{}
	for _, f := range l.acked {
		if f.kind != told {
			continue
		}
		if before[f.name] == nil {
			before[f.name] = map[mxid.EventID]bool{}
		}
		for _, id := range f.list {
			if before[f.name][id] {
				return fmt.Errorf("%s was told %s twice before the cut", f.name, id)
			}
			before[f.name][id] = true
		}
		last[f.name] = f
	}
	for user, f := range last {
		now, limited, err := h.sync(mxid.UserID(user), uint32(f.seq), f.pos, f.token)
		if err != nil {
			return err
		}
		for _, id := range now.list {
			if before[user][id] {
				return fmt.Errorf("%s, on from %s, is told %s again", user, f.token, id)
			}
			before[user][id] = true
		}
		if err := checkTold(h, uint32(f.seq), limited, before[user]); err != nil {
			return fmt.Errorf("%s, on from %s: %w", user, f.token, err)
		}
	}
	return nil
}

// checkTold: of the rooms a user is in nothing is missing.
func checkTold(h *hub, user uint32, limited map[mxid.RoomID]bool, told map[mxid.EventID]bool) error {
	var rooms []mxid.RoomID
	var err error
	if e := h.Rooms.Of(user, func(m room.Member) bool {
		var id mxid.RoomID
		if id, err = h.Rooms.RoomID(m.Room); m.Membership == room.Join && !limited[id] {
			rooms = append(rooms, id)
		}
		return err == nil
	}); e != nil || err != nil {
		return errors.Join(e, err)
	}
	for _, id := range rooms {
		list, _, err := timeline(h, id, false)
		if err != nil {
			return err
		}
		for _, e := range list {
			if !told[e] {
				return fmt.Errorf("%s in %s is never told", e, id)
			}
		}
	}
	return nil
}
