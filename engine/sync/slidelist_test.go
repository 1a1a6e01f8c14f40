package sync

import (
	"fmt"
	"strings"
	"testing"

	"hearth/engine/event"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// rooms lists what a list with a filter shows, and its count.
func (p *phone) filtered(filter string) string {
	p.h.t.Helper()
	p.pos = ""
	p.asks(fmt.Sprintf(`{"lists":{"a":{"ranges":[[0,99]],"timeline_limit":1,"filters":{%s}}}}`, filter))
	return fmt.Sprintf("%d: %s", p.slid.Lists["a"].Count, p.told())
}

// space makes a room of a type.
func (h *hub) typed(creator mxid.UserID, typ string) room.Num {
	h.t.Helper()
	h.made++
	w := h.rooms.New(event.LookupVersion("11"), mxid.RoomID("!"+string(rune('a'+h.made))+":hub"))
	create := room.Draft{Type: "m.room.create", StateKey: new(string), Content: []byte(`{"room_version":"11","type":"` + typ + `"}`)}
	for _, d := range []room.Draft{create, member(creator, creator, "join")} {
		d.Sender = creator
		_, err := w.Add(&d)
		h.must(err)
	}
	p, err := w.Commit(nil)
	h.must(err)
	h.must(p.Wait())
	return w.Head().Room
}

func (h *hub) put(num room.Num, typ, content string) {
	h.t.Helper()
	_, err := h.acc.SetData(h.user(alice), uint32(num), typ, []byte(content))
	h.must(err)
}

func TestSlideFilters(t *testing.T) {
	h := start(t)
	plain, crypt, dm, invited := h.create(alice, ""), h.create(alice, ""), h.create(alice, ""), h.create(bob, "")
	space, other := h.typed(alice, "m.space"), h.typed(alice, "x.other")
	h.send(crypt, room.Draft{Type: "m.room.encryption", StateKey: new(string), Sender: alice, Content: []byte(`{"algorithm":"x"}`)})
	h.state(plain, alice, "m.room.name", "", "The Kitchen")
	h.send(invited, member(bob, alice, "invite"))
	h.put(0, "m.direct", `{"@bob:hub":["`+h.id(dm)+`","!gone:hub"],"x":1}`)
	h.put(plain, "m.tag", `{"tags":{"m.favourite":{},"x":{}}}`)
	h.put(crypt, "m.tag", `{"tags":{"x":{}}}`)
	for num, via := range map[room.Num]string{plain: `"via":["hub"]`, invited: `"via":["hub"]`, crypt: `"via":1`} {
		key := h.id(num)
		h.send(space, room.Draft{Type: "m.space.child", StateKey: &key, Sender: alice, Content: []byte(`{` + via + `}`)})
	}
	p := h.phone(alice)
	for filter, shows := range map[string]string{
		``:                                        "6: 1 2 3 4 5 6",
		`"is_dm":true`:                            "1: 3",
		`"is_dm":false`:                           "5: 1 2 4 5 6",
		`"is_encrypted":true`:                     "1: 2",
		`"is_encrypted":false`:                    "5: 1 3 4 5 6",
		`"is_invite":true`:                        "1: 4",
		`"is_invited":false`:                      "5: 1 2 3 5 6",
		`"room_types":["m.space"]`:                "1: 5",
		`"room_types":[null,"x.other"]`:           "5: 1 2 3 4 6",
		`"not_room_types":["m.space"]`:            "5: 1 2 3 4 6",
		`"not_room_types":[null,"m.space"]`:       "1: 6",
		`"tags":["x"]`:                            "2: 1 2",
		`"tags":["x"],"not_tags":["m.favourite"]`: "1: 2",
		`"not_tags":["x"]`:                        "4: 3 4 5 6",
		`"spaces":["` + h.id(space) + `"]`:        "2: 1 4",
		`"spaces":["` + h.id(plain) + `","!nowhere:hub"]`: "0: ",
		`"room_name_like":"kitch"`:                        "1: 1",
		`"is_dm":true,"is_encrypted":true`:                "0: ",
	} {
		want(t, filter+" "+p.filtered(filter), filter+" "+shows)
	}
	// What filters ask for changes.
	p.filtered(`"tags":["x"]`)
	h.put(crypt, "m.tag", `{}`)
	h.put(0, "m.direct", `{"@bob:hub":["`+h.id(plain)+`"]}`)
	h.send(plain, room.Draft{Type: "m.room.encryption", StateKey: new(string), Sender: alice, Content: []byte(`{"algorithm":"x"}`)})
	h.send(invited, member(alice, alice, "join"))
	want(t, p.filtered(`"tags":["x"]`), "1: 1")
	want(t, p.filtered(`"is_dm":true`), "1: 1")
	want(t, p.filtered(`"is_encrypted":true`), "2: 1 2")
	want(t, p.filtered(`"is_invite":true`), "0: ")
	// Nobody has so many tags; who makes them up does not have each looked for in each room.
	var tags []string
	for i := range maxTags + 50 {
		tags = append(tags, fmt.Sprintf(`"t%03d":{}`, i))
	}
	h.put(other, "m.tag", `{"tags":{`+strings.Join(tags, ",")+`}}`)
	want(t, p.filtered(`"tags":["t000"]`), "1: 6")
	want(t, p.filtered(fmt.Sprintf(`"tags":["t%03d"]`, maxTags)), "0: ")
}

// Whom the user ignores does not get into the list by an invite, and does not show
// in timelines.
func TestSlideIgnored(t *testing.T) {
	h := start(t)
	invite, shared := h.create(carol, ""), h.create(alice, "")
	h.join(shared, carol)
	h.send(invite, member(carol, alice, "invite"))
	p := h.phone(alice)
	body := all(5, "")
	p.asks(body)
	want(t, p.told(), "1 2")
	h.put(0, "m.ignored_user_list", `{"ignored_users":{"@carol:hub":{}}}`)
	h.say(shared, carol, "noise")
	h.say(shared, alice, "word")
	p.asks(body)
	want(t, bodies(p.room(shared).Timeline), "word")
	if p.slid.Lists["a"].Count != 1 {
		t.Fatalf("%s", p.raw)
	}
	h.put(0, "m.ignored_user_list", `{"ignored_users":{}}`)
	if p.asks(body); p.slid.Lists["a"].Count != 2 {
		t.Fatalf("%s", p.raw)
	}
}

// What is asked for of the state grows and shrinks.
func TestSlideRequiredStateChanges(t *testing.T) {
	h := start(t)
	r := h.create(alice, "")
	h.state(r, alice, "m.room.name", "", "n")
	h.state(r, alice, "m.room.topic", "", "t")
	p := h.phone(alice)
	p.asks(all(1, `["m.room.name",""]`))
	want(t, bodies(p.room(r).Required), "m.room.name=n")
	p.asks(all(1, `["m.room.name",""],["m.room.topic",""]`)) // at once, without anything happening
	want(t, bodies(p.room(r).Required), "m.room.topic=t")
	p.asks(all(1, `["m.room.name",""]`))
	want(t, p.told(), "")
	p.asks(all(1, `["m.room.name",""],["m.room.topic",""]`)) // nothing happened: the client has it
	want(t, p.told(), "")
	p.asks(all(1, `["m.room.name",""]`))
	h.state(r, alice, "m.room.topic", "", "u")
	p.asks(all(1, `["m.room.name",""]`))
	want(t, bodies(p.room(r).Required), "")
	p.asks(all(1, `["m.room.name",""],["m.room.topic",""]`))
	want(t, bodies(p.room(r).Required), "m.room.topic=u")
	p.asks(all(1, `["*","*"]`))
	want(t, bodies(p.room(r).Required), "m.room.create a:join m.room.power_levels m.room.join_rules")
	// Two rules on one room are put together.
	p.pos = ""
	p.asks(fmt.Sprintf(`{"lists":{"a":{"timeline_limit":1,"required_state":[["m.room.name",""]]},"b":{"timeline_limit":2,"required_state":[["m.room.topic",""]]}},`+
		`"room_subscriptions":{%q:{"timeline_limit":3,"required_state":[["m.room.create",""]]},"!nowhere:hub":{},"no room":{}}}`, h.id(r)))
	want(t, bodies(p.room(r).Required), "m.room.create m.room.name=n m.room.topic=u")
	want(t, bodies(p.room(r).Timeline), "m.room.name=n m.room.topic=t m.room.topic=u")
}

// A subscription to what is not the user's to see tells nothing.
func TestSlideSubscriptions(t *testing.T) {
	h := start(t)
	secret, left := h.create(alice, ""), h.create(alice, "")
	h.join(left, bob)
	h.say(left, alice, "then")
	h.send(left, member(bob, bob, "leave"))
	h.say(left, alice, "since")
	p := h.phone(bob)
	p.asks(fmt.Sprintf(`{"room_subscriptions":{%q:{"timeline_limit":9},%q:{"timeline_limit":2}}}`, h.id(secret), h.id(left)))
	want(t, p.told(), fmt.Sprint(left))
	want(t, bodies(p.room(left).Timeline), "then b:leave")
}

// An answer is bounded: what does not fit comes with the next.
func TestSlideLongAnswer(t *testing.T) {
	h := start(t)
	var rooms []room.Num
	for range 6 {
		r := h.create(alice, "")
		for range 10 {
			h.say(r, alice, strings.Repeat("x", 40_000))
		}
		rooms = append(rooms, r)
	}
	p := h.phone(alice)
	body := all(10, "")
	seen := ""
	for range 10 {
		if p.asks(body); len(p.raw) > 2*slideBytes {
			t.Fatalf("%d bytes", len(p.raw))
		}
		seen += p.told() + "|"
	}
	want(t, seen, "4 5 6|1 2 3"+strings.Repeat("|", 9))
	for _, r := range rooms {
		for range 10 {
			h.say(r, alice, strings.Repeat("y", 40_000))
		}
		h.say(r, alice, "last")
	}
	p.asks(body)
	want(t, p.told(), "4 5 6")
	p.asks(body)
	want(t, p.told(), "1 2 3")
	got := p.room(rooms[0])
	if got.Initial || !got.Limited || got.Live != 0 {
		t.Fatalf("%.300s", p.raw)
	}
}

// After a long absence the log is not read: the answer is the same.
func TestSlideLongAbsence(t *testing.T) {
	h := start(t)
	quiet, r, far := h.create(alice, ""), h.create(alice, ""), h.create(alice, "")
	for _, num := range []room.Num{quiet, r, far} {
		h.join(num, bob)
	}
	p := h.phone(bob)
	body := `{"lists":{"a":{"timeline_limit":1,"required_state":[["*","*"]]}},"extensions":{"account_data":{"enabled":true},"receipts":{"enabled":true}}}`
	p.asks(body)
	read := h.say(r, alice, "read")
	h.receipt(r, alice, 1, read)
	h.state(r, alice, "m.room.name", "", "n")
	_, err := h.acc.SetData(h.user(bob), uint32(quiet), "x.y", []byte(`{"a":1}`))
	h.must(err)
	for range shortLag + 10 {
		h.say(far, alice, "noise")
	}
	p.asks(body)
	want(t, p.told(), fmt.Sprintf("%d %d", r, far))
	want(t, bodies(p.room(r).Timeline), "m.room.name=n")
	want(t, bodies(p.room(r).Required), "m.room.name=n")
	if p.slid.Ext.Receipts.Rooms[h.id(r)].Type != "m.receipt" || len(p.slid.Ext.Data.Rooms[h.id(quiet)]) != 1 || len(p.slid.Ext.Data.Rooms) != 1 {
		t.Fatalf("%s", p.raw)
	}
	if p.asks(body); len(p.slid.Rooms) != 0 || len(p.slid.Ext.Data.Rooms) != 0 || p.slid.Ext.Receipts != nil {
		t.Fatalf("%s", p.raw)
	}
}
