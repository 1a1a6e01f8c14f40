package fedapi_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"hearth/engine/auth"
	"hearth/engine/event"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/httpd/simnet"
)

// joinBy has a user of one hub join a room of another, as servers do it: the
// joining hub makes the event on what the other tells, keeps the state and the
// auth chain, and sends the event back.
func joinBy(t testing.TB, n *simnet.Net, from *simnet.Hub, u *simnet.User, id mxid.RoomID) room.Num {
	t.Helper()
	to := u.Hub
	num, err := from.Rooms.Find(id)
	if err != nil {
		t.Fatal(err)
	}
	h, err := from.Rooms.Head(num)
	if err != nil {
		t.Fatal(err)
	}
	key := string(u.ID)
	ext, depth := h.Extremities()
	d := event.Draft{Room: id, Type: "m.room.member", StateKey: &key, Sender: u.ID, Time: time.Now().UnixMilli(), Depth: depth + 1, Prev: ext,
		Content: []byte(`{"membership":"join"}`)}
	for _, k := range auth.Needed(h.Version, d.Type, d.StateKey, d.Sender, d.Content) {
		if e, err := from.Rooms.StateEvent(h.State, k.Type, k.StateKey); err != nil {
			t.Fatal(err)
		} else if e != nil {
			d.Auth = append(d.Auth, e.ID)
		}
	}
	join, err := event.Build(h.Version, &d, n.Key(to.Name))
	if err != nil {
		t.Fatal(err)
	}
	w := to.Rooms.New(h.Version, id)
	defer w.End()
	var given []mxid.EventID
	if err := from.Rooms.Timeline(num, room.Key{}, room.After(1<<40), false, func(_ room.Key, en room.EventNum) (bool, error) {
		e, err := from.Rooms.Event(en)
		if err != nil || !e.IsState {
			return true, err
		}
		_, _, err = w.Keep(e.Event)
		return true, err
	}); err != nil {
		t.Fatal(err)
	}
	if err := from.Rooms.Each(h.State, func(e *room.Event) (bool, error) { given = append(given, e.ID); return true, nil }); err != nil {
		t.Fatal(err)
	}
	if out, gap, err := w.Accept(join, given); err != nil || out != room.Accepted {
		t.Fatal(out, gap, err)
	}
	p, err := w.Commit(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, h := range n.Hubs {
		if _, err := h.Rooms.Find(id); err == nil && h != to {
			send(t, h, to.Name, join)
		}
	}
	return w.Head().Room
}

// send hands a hub a transaction of another server and gives the answer.
func send(t testing.TB, to *simnet.Hub, origin mxid.Server, events ...*event.Event) string {
	t.Helper()
	body := []byte(`{"pdus":[`)
	for i, e := range events {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, e.JSON...)
	}
	body = append(body, `]}`...)
	answer, err := to.Federation.Receive(context.Background(), origin, fmt.Sprint(time.Now().UnixNano()), body)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

// until waits for a condition.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
		wait := time.NewTimer(5 * time.Millisecond)
		<-wait.C
	}
}

func has(h *simnet.Hub, id mxid.EventID) bool {
	e, err := h.Rooms.Lookup(id)
	return err == nil && e.At != room.Key{}
}

func say(t testing.TB, u *simnet.User, num room.Num, text string) mxid.EventID {
	t.Helper()
	id, err := u.Hub.Rooms.Send(num, &room.Draft{Type: "m.room.message", Sender: u.ID, Content: fmt.Appendf(nil, `{"body":%q,"msgtype":"m.text"}`, text)})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// Messages of two hubs reach each other, also those that were said while the
// link was cut.
func TestMessagesBothWays(t *testing.T) {
	n := simnet.New(t, 2)
	a, b := n.Hubs[0], n.Hubs[1]
	alice, bob := a.User("alice"), b.User("bob")
	id := mxid.RoomID(alice.Want(200, "", "POST", "/_matrix/client/v3/createRoom", `{"preset":"public_chat"}`).Str("room_id"))
	onA, err := a.Rooms.Find(id)
	if err != nil {
		t.Fatal(err)
	}
	onB := joinBy(t, n, a, bob, id)
	first := say(t, alice, onA, "one")
	until(t, "a's message is on b", func() bool { return has(b, first) })
	second := say(t, bob, onB, "two")
	until(t, "b's message is on a", func() bool { return has(a, second) })
	n.Cut(a.Name, b.Name)
	var said []mxid.EventID
	for i := range 5 {
		said = append(said, say(t, alice, onA, fmt.Sprint("apart ", i)), say(t, bob, onB, fmt.Sprint("alone ", i)))
	}
	n.Heal(a.Name, b.Name)
	// What is sent after the cut lacks what was said during it, and brings it.
	e, err := a.Rooms.Lookup(said[len(said)-2])
	if err != nil {
		t.Fatal(err)
	}
	send(t, b, a.Name, e.Event)
	if e, err = b.Rooms.Lookup(said[len(said)-1]); err != nil {
		t.Fatal(err)
	}
	send(t, a, b.Name, e.Event)
	for _, id := range said {
		until(t, "what was said apart is on both", func() bool { return has(a, id) && has(b, id) })
	}
}

// bodies lists the texts of a chunk of events, in its order.
func bodies(t *testing.T, r simnet.Reply) (list []string) {
	t.Helper()
	chunk, ok := r.Get("chunk").([]any)
	if !ok {
		t.Fatal(r.Body)
	}
	for _, e := range chunk {
		ev, _ := e.(map[string]any)
		content, _ := ev["content"].(map[string]any)
		if text, ok := content["body"].(string); ok {
			list = append(list, text)
		}
	}
	return list
}

// Who joins late reads what was said before, page by page, to the beginning of
// the room; also after a restart.
func TestPastIsFetched(t *testing.T) {
	n := simnet.New(t, 2)
	a, b := n.Hubs[0], n.Hubs[1]
	alice, bob := a.User("alice"), b.User("bob")
	id := mxid.RoomID(alice.Want(200, "", "POST", "/_matrix/client/v3/createRoom", `{"preset":"public_chat"}`).Str("room_id"))
	onA, err := a.Rooms.Find(id)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 250 {
		say(t, alice, onA, fmt.Sprint(i))
		want = append(want, fmt.Sprint(i))
	}
	slices.Reverse(want)
	joinBy(t, n, a, bob, id)
	var got []string
	from, created := "", false
	for page := range 50 {
		path := "/_matrix/client/v3/rooms/" + string(id) + "/messages?dir=b&limit=30"
		if from != "" {
			path += "&from=" + from
		}
		if page == 3 {
			b.Restart()
		}
		r := bob.Want(200, "", "GET", path, "")
		got = append(got, bodies(t, r)...)
		created = created || strings.Contains(r.Body, "m.room.create")
		if from = r.Str("end"); from == "" {
			break
		}
	}
	if !slices.Equal(got, want) || !created {
		t.Fatalf("%d messages of %d, the beginning %v: %v", len(got), len(want), created, got)
	}
	// All of it is here now, and reads the same from the other end.
	n.Cut(a.Name, b.Name)
	slices.Reverse(want)
	got, from = nil, ""
	for range 50 {
		path := "/_matrix/client/v3/rooms/" + string(id) + "/messages?dir=f&limit=100"
		if from != "" {
			path += "&from=" + from
		}
		r := bob.Want(200, "", "GET", path, "")
		got = append(got, bodies(t, r)...)
		if from = r.Str("end"); from == "" {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("forwards %d messages of %d: %v", len(got), len(want), got)
	}
	if err := b.Rooms.Verify(func(format string, args ...any) { t.Errorf(format, args...) }); err != nil {
		t.Fatal(err)
	}
}
