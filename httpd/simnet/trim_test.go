package simnet

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"hearth/engine"
	"hearth/engine/mxid"
)

// forgets has a hub remove a room's history before an event, and waits for the end.
func (h *Hub) forgets(id string, before mxid.EventID) {
	h.net.T.Helper()
	num, err := h.Rooms.Find(mxid.RoomID(id))
	if err == nil {
		_, err = h.PurgeHistory(num, engine.History{Event: before, Local: true})
	}
	if err != nil {
		h.net.T.Fatal(err)
	}
	if end := h.Rooms.TrimEnd(num); end != nil {
		<-end
	}
}

// state is the room's state as the hub has it, an event id for each key.
func (h *Hub) state(id string) string {
	h.net.T.Helper()
	num, err := h.Rooms.Find(mxid.RoomID(id))
	if err != nil {
		h.net.T.Fatal(err)
	}
	head, err := h.Rooms.Head(num)
	if err != nil {
		h.net.T.Fatal(err)
	}
	var lines []string
	for _, p := range head.State {
		typ, key, err := h.Rooms.KeyName(p.Key)
		if err != nil {
			h.net.T.Fatal(err)
		}
		e, err := h.Rooms.StateEvent(head.State, typ, key)
		if err != nil {
			h.net.T.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%s %s %s", typ, key, e.ID))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func (u *User) past(id string) string {
	return u.Want(200, "", "GET", inRoom(id, "/messages?dir=b&limit=100"), "").Body
}

// A hub that has removed the history of a room goes on in it with the others: it is
// of one mind with them about the state, gets what is new, also what was built on
// what it removed, and what went does not come back by itself.
func TestRemovedHistoryAmongServers(t *testing.T) {
	for _, version := range []string{"6", "12"} {
		t.Run(version, func(t *testing.T) {
			n := New(t, 2)
			a, b := n.Hubs[0], n.Hubs[1]
			amy, bob := a.User("amy"), b.User("bob")
			id := amy.create(`{"preset":"public_chat","room_version":"` + version + `","name":"Here"}`)
			bob.Want(200, "", "POST", joinPath(id, a.Name), `{}`)
			for i := range 30 {
				amy.say(id, fmt.Sprint("old ", i))
			}
			amy.Want(200, "", "PUT", inRoom(id, "/state/m.room.topic"), `{"topic":"one"}`)
			common := amy.say(id, "old common")
			n.Until("bob has all of it", func() bool { return strings.Contains(bob.past(id), "old common") })
			since := bob.since()
			// Apart from each other both go on, and what stands here for amy's server is not
			// removed before it has it.
			n.Cut(a.Name, b.Name)
			amy.Want(200, "", "PUT", inRoom(id, "/state/m.room.topic"), `{"topic":"two"}`)
			amy.say(id, "fork of amy")
			bob.say(id, "fork of bob")
			last := bob.say(id, "last of bob")
			b.forgets(id, last)
			page := bob.past(id)
			if strings.Contains(page, "old") || !strings.Contains(page, "fork of bob") || strings.Contains(page, `"end"`) {
				t.Fatal(page)
			}
			bob.Want(404, "M_NOT_FOUND", "GET", inRoom(id, "/event/"+url.PathEscape(string(common))), "")
			n.Heal(a.Name, b.Name)
			n.Until("each has what the other wrote", func() bool {
				return strings.Contains(bob.past(id), "fork of amy") && strings.Contains(amy.past(id), "last of bob")
			})
			// An old token gives what is there, and says that something is missing.
			r := bob.Want(200, "", "GET", v3+"/sync?since="+url.QueryEscape(since), "")
			if !strings.Contains(r.Body, "last of bob") || !strings.Contains(r.Body, "fork of amy") || !strings.Contains(r.Body, `"limited":true`) || strings.Contains(r.Body, "old") {
				t.Error(r.Body)
			}
			amy.say(id, "on")
			n.Until("bob has what is new", func() bool { return strings.Contains(bob.past(id), `"on"`) })
			bob.say(id, "on, too")
			n.Until("amy has what is new", func() bool { return strings.Contains(amy.past(id), "on, too") })
			if x, y := a.state(id), b.state(id); x != y || !strings.Contains(bob.Want(200, "", "GET", inRoom(id, "/state/m.room.topic"), "").Body, "two") {
				t.Errorf("one has\n%s\nthe other\n%s", x, y)
			}
			if page := bob.past(id); strings.Contains(page, "old") || strings.Contains(page, `"end"`) {
				t.Error("what was removed is there again: ", page)
			}
			if !strings.Contains(amy.past(id), "old 20") {
				t.Error("it is gone at the other hub too")
			}
			n.sound()
		})
	}
}

// Who joins by a hub that has removed a room's history gets the room, and what that
// has of its past.
func TestJoinByAHubThatForgot(t *testing.T) {
	n := New(t, 2)
	a, b := n.Hubs[0], n.Hubs[1]
	amy, bob := a.User("amy"), b.User("bob")
	id := amy.create(`{"preset":"public_chat","name":"Here"}`)
	for i := range 20 {
		amy.Want(200, "", "PUT", inRoom(id, "/state/m.room.topic"), fmt.Sprintf(`{"topic":"old %d"}`, i))
	}
	amy.say(id, "old")
	first := amy.say(id, "first")
	amy.say(id, "second")
	a.forgets(id, first)
	bob.Want(200, "", "POST", joinPath(id, a.Name), `{}`)
	page := bob.past(id)
	if !strings.Contains(page, `"first"`) || strings.Contains(page, `"old"`) {
		t.Error(page)
	}
	bob.say(id, "here I am")
	n.Until("amy hears bob", func() bool { return strings.Contains(amy.past(id), "here I am") })
	n.sound()
}

// A hole above what was removed is filled with what is missing there, and not with
// what was removed.
func TestHoleAboveWhatWasRemoved(t *testing.T) {
	n := New(t, 2)
	a, b := n.Hubs[0], n.Hubs[1]
	amy, bob := a.User("amy"), b.User("bob")
	id := amy.create(`{"preset":"public_chat","name":"Here"}`)
	bob.Want(200, "", "POST", joinPath(id, a.Name), `{}`)
	for i := range 60 {
		amy.say(id, fmt.Sprint("old ", i))
	}
	last := amy.say(id, "last")
	n.Until("bob has all of it", func() bool { return strings.Contains(bob.past(id), `"last"`) })
	b.forgets(id, last)
	bob.Want(200, "", "POST", inRoom(id, "/leave"), `{}`)
	for i := range 150 {
		amy.say(id, fmt.Sprint("missed ", i))
	}
	bob.Want(200, "", "POST", joinPath(id, a.Name), `{}`)
	amy.say(id, "again")
	n.Until("bob has what is new", func() bool { return strings.Contains(bob.past(id), `"again"`) })
	var all strings.Builder
	from := ""
	for range 40 {
		r := bob.Want(200, "", "GET", inRoom(id, "/messages?dir=b&limit=20"+from), "")
		all.WriteString(r.Body)
		if strings.Contains(r.Body, "old") {
			t.Fatal("what was removed is there again: ", r.Body)
		}
		end := r.Str("end")
		if end == "" {
			break
		}
		from = "&from=" + url.QueryEscape(end)
	}
	for i := range 150 {
		if !strings.Contains(all.String(), fmt.Sprintf(`"missed %d"`, i)) {
			t.Errorf("missed %d is not there", i)
		}
	}
	if !strings.Contains(all.String(), `"last"`) {
		t.Error("what was kept is not there")
	}
	n.sound()
}
