package clientapi

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"sync"
	"testing"
)

// pages walks through a room and gives all event ids in order of time.
func (h *hub) pages(token, room, dir, more string, limit func() int) (ids []string) {
	h.t.Helper()
	from := ""
	for range 10_000 {
		a := h.want(200, "", "GET", inRoom(room, fmt.Sprintf("/messages?dir=%s&limit=%d%s%s", dir, limit(), from, more)), token, "")
		ids = append(ids, a.list("chunk", "event_id")...)
		if a.str("end") == "" {
			if dir == "b" {
				slices.Reverse(ids)
			}
			return ids
		}
		from = "&from=" + a.str("end")
	}
	h.t.Fatal("the pages have no end")
	return nil
}

// Whatever is sent at the same moment, each event comes once, whichever way the
// pages go and however long they are; also while others go on sending.
func TestEveryEventOnce(t *testing.T) {
	h := start(t, Anyone)
	bob := h.join("bob")
	id := h.create(bob, `{}`)
	var mu sync.Mutex
	var sent []string
	burst := func(name string) {
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for j := range 6 {
					event := h.say(bob, id, fmt.Sprintf("%s-%d-%d", name, i, j), "x")
					mu.Lock()
					sent = append(sent, event)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
	}
	burst("a")
	seed := rand.Uint64()
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	limit := func() int { return 1 + rng.IntN(9) }
	whole := h.pages(bob, id, "f", "", func() int { return 100 })
	check := func(got []string, all bool) {
		t.Helper()
		seen := map[string]int{}
		for _, event := range got {
			seen[event]++
		}
		for event, n := range seen {
			if n != 1 {
				t.Fatal(event, "came", n, "times")
			}
		}
		for _, event := range sent {
			if all && seen[event] == 0 {
				t.Fatal(event, "is missing")
			}
		}
	}
	check(whole, true)
	for range 5 {
		if forth := h.pages(bob, id, "f", "", limit); !slices.Equal(forth, whole) {
			t.Fatal("forwards", forth, whole)
		}
		if back := h.pages(bob, id, "b", "", limit); !slices.Equal(back, whole) {
			t.Fatal("backwards", back, whole)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		burst("b")
	}()
	back := h.pages(bob, id, "b", "", func() int { return 3 })
	forth := h.pages(bob, id, "f", "", func() int { return 3 })
	<-done
	check(back, false)
	check(forth, false)
	whole = h.pages(bob, id, "b", "", limit)
	check(whole, true)
	if !slices.Equal(back, whole[:len(back)]) || !slices.Equal(forth, whole[:len(forth)]) {
		t.Fatal("pages read while others sent have gaps")
	}
}

func TestMessages(t *testing.T) {
	h := start(t, Anyone)
	bob, eve, mal := h.join("bob"), h.join("eve"), h.join("mal")
	id := h.create(bob, `{"preset":"public_chat","initial_state":[{"type":"m.room.history_visibility","content":{"history_visibility":"joined"}}]}`)
	early := h.say(bob, id, "1", "early")
	h.want(200, "", "POST", inRoom(id, "/join"), eve, "")
	both := h.say(bob, id, "2", "both")
	h.want(200, "", "POST", inRoom(id, "/leave"), eve, "")
	late := h.say(bob, id, "3", "late")
	h.want(200, "", "PUT", inRoom(id, "/state/m.room.name"), bob, `{"name":"after"}`)
	h.want(200, "", "POST", inRoom(id, "/join"), mal, "")

	one := func() int { return 1 }
	hers := h.pages(eve, id, "b", "", one)
	if slices.Contains(hers, early) || !slices.Contains(hers, both) || slices.Contains(hers, late) {
		t.Error("who was there for a while sees", hers)
	}
	if forth := h.pages(eve, id, "f", "", one); !slices.Equal(forth, hers) {
		t.Error(forth, hers)
	}
	h.want(404, "M_NOT_FOUND", "GET", inRoom(id, "/state/m.room.name"), eve, "")
	h.want(200, "", "GET", inRoom(id, "/state/m.room.name"), bob, "")
	h.want(404, "M_NOT_FOUND", "GET", inRoom(id, "/event/"+late), eve, "")
	h.want(200, "", "GET", inRoom(id, "/event/"+both), eve, "")
	h.want(403, "M_FORBIDDEN", "GET", inRoom(id, "/joined_members"), eve, "")
	a := h.want(200, "", "GET", inRoom(id, "/members"), eve, "")
	if got := a.list("chunk", "state_key"); len(got) != 2 {
		t.Error("members at the leaving:", a.body)
	}
	h.want(200, "{}", "POST", inRoom(id, "/forget"), eve, "")
	h.want(403, "M_FORBIDDEN", "GET", inRoom(id, "/messages"), eve, "")
	h.want(404, "M_NOT_FOUND", "GET", inRoom(id, "/event/"+both), eve, "")

	for query, code := range map[string]string{
		"": "M_MISSING_PARAM", "?dir=x": "M_INVALID_PARAM", "?dir=b&limit=-99x%7B": "M_INVALID_PARAM", "?dir=b&from=-99x%7B": "M_INVALID_PARAM",
		"?dir=b&to=x": "M_INVALID_PARAM", "?dir=b&filter=%7B": "M_NOT_JSON", "?dir=b&filter=%7B%22types%22%3A7%7D": "M_BAD_JSON",
	} {
		h.want(400, code, "GET", inRoom(id, "/messages"+query), bob, "")
	}
	types := url.QueryEscape(`{"types":["m.room.message"]}`)
	if got := h.pages(bob, id, "b", "&filter="+types, one); !slices.Equal(got, []string{early, both, late}) {
		t.Error("filtered", got)
	}
	a = h.want(200, "", "GET", inRoom(id, "/messages?dir=b&limit=100000"), bob, "")
	if a.str("end") != "" || len(a.list("chunk", "type")) < 10 {
		t.Error("a page of all", a.body)
	}
}

// A token of one way is good for the other, and to ends a page.
func TestTokens(t *testing.T) {
	h := start(t, Anyone)
	bob := h.join("bob")
	id := h.create(bob, `{}`)
	var said []string
	for i := range 6 {
		said = append(said, h.say(bob, id, fmt.Sprint(i), "x"))
	}
	get := func(query string) answer {
		t.Helper()
		return h.want(200, "", "GET", inRoom(id, "/messages?"+query), bob, "")
	}
	a := get("dir=b&limit=2")
	mid := a.str("end")
	if got := get("dir=f&from="+mid).list("chunk", "event_id"); !slices.Equal(got, said[4:]) {
		t.Error(got)
	}
	older := get("dir=b&limit=2&from=" + mid)
	if got := older.list("chunk", "event_id"); !slices.Equal(got, []string{said[3], said[2]}) || older.str("start") != mid {
		t.Error(older.body)
	}
	if got := get("dir=f&from="+older.str("end")+"&to="+mid).list("chunk", "event_id"); !slices.Equal(got, said[2:4]) {
		t.Error(got)
	}
	if got := get("dir=b&to="+mid).list("chunk", "event_id"); !slices.Equal(got, []string{said[5], said[4]}) {
		t.Error(got)
	}
	c := h.want(200, "", "GET", inRoom(id, "/context/"+said[2]+"?limit=3"), bob, "")
	if got := c.list("events_before", "event_id"); !slices.Equal(got, said[1:2]) || c.str("event", "event_id") != said[2] {
		t.Error(c.body)
	}
	if got := c.list("events_after", "event_id"); !slices.Equal(got, said[3:5]) {
		t.Error(c.body)
	}
	if got := get("dir=f&from="+c.str("end")).list("chunk", "event_id"); !slices.Equal(got, said[5:]) {
		t.Error(got)
	}
	if got := get("dir=b&limit=1&from="+c.str("start")).list("chunk", "event_id"); !slices.Equal(got, said[:1]) {
		t.Error(got)
	}
	c = h.want(200, "", "GET", inRoom(id, "/context/"+said[2]+"?limit=0"), bob, "")
	if len(c.list("events_before"))+len(c.list("events_after")) != 0 || len(c.list("state")) == 0 {
		t.Error(c.body)
	}
	h.want(404, "M_NOT_FOUND", "GET", inRoom(id, "/context/$none"), bob, "")
}

func TestLazyMembers(t *testing.T) {
	h := start(t, Anyone)
	bob, eve := h.join("bob"), h.join("eve")
	mal := h.join("mal")
	id := h.create(bob, `{"preset":"public_chat"}`)
	start := h.want(200, "", "GET", inRoom(id, "/messages?dir=b&limit=1"), bob, "").str("start")
	h.want(200, "", "POST", inRoom(id, "/join"), eve, "")
	h.want(200, "", "POST", inRoom(id, "/join"), mal, "")
	from := h.want(200, "", "GET", inRoom(id, "/messages?dir=b&limit=1"), bob, "").str("start")
	event := h.say(eve, id, "1", "x")
	lazy := url.QueryEscape(`{"lazy_load_members":true}`)
	a := h.want(200, "", "GET", inRoom(id, "/messages?dir=f&filter="+lazy+"&from="+from), bob, "")
	if got := a.list("state", "state_key"); !slices.Equal(got, []string{"@eve:hub.test"}) {
		t.Error(a.body)
	}
	a = h.want(200, "", "GET", inRoom(id, "/context/"+event+"?limit=0&filter="+lazy), bob, "")
	if got := a.list("state", "state_key"); !slices.Contains(got, "@eve:hub.test") || slices.Contains(got, "@mal:hub.test") {
		t.Error(a.body)
	}
	members := func(query string, want ...string) {
		t.Helper()
		a := h.want(200, "", "GET", inRoom(id, "/members"+query), bob, "")
		got := a.list("chunk", "state_key")
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Error(query, a.body)
		}
	}
	h.want(200, "", "POST", inRoom(id, "/leave"), mal, "")
	members("", "@bob:hub.test", "@eve:hub.test", "@mal:hub.test")
	members("?membership=join", "@bob:hub.test", "@eve:hub.test")
	members("?membership=leave", "@mal:hub.test")
	members("?not_membership=leave", "@bob:hub.test", "@eve:hub.test")
	members("?membership=leave&not_membership=join", "@mal:hub.test")
	members("?at="+start, "@bob:hub.test")
	members("?at=t0_0", "@bob:hub.test")
	h.want(400, "M_INVALID_PARAM", "GET", inRoom(id, "/members?membership=x"), bob, "")
	h.want(400, "M_INVALID_PARAM", "GET", inRoom(id, "/members?at=x"), bob, "")
	a = h.want(200, "", "GET", inRoom(id, "/joined_members"), bob, "")
	if a.body != `{"joined":{"@bob:hub.test":{"avatar_url":null,"display_name":null},"@eve:hub.test":{"avatar_url":null,"display_name":null}}}` {
		t.Error(a.body)
	}
}

func TestRelatedFilter(t *testing.T) {
	h := start(t, Anyone)
	bob, eve := h.join("bob"), h.join("eve")
	id := h.create(bob, `{"preset":"public_chat"}`)
	h.want(200, "", "POST", inRoom(id, "/join"), eve, "")
	root, other := h.say(bob, id, "1", "root"), h.say(bob, id, "2", "other")
	relate := func(token, typ, to string) {
		h.want(200, "", "PUT", inRoom(id, "/send/m.room.message/"+typ), token, fmt.Sprintf(`{"m.relates_to":{"rel_type":%q,"event_id":%q}}`, typ, to))
	}
	relate(eve, "m.thread", root)
	relate(bob, "m.reference", other)
	for filter, want := range map[string][]string{
		`{"related_by_rel_types":["m.thread"]}`:                                          {root},
		`{"related_by_senders":["@bob:hub.test"]}`:                                       {other},
		`{"related_by_senders":["@bob:hub.test"],"related_by_rel_types":["m.thread"]}`:   nil,
		`{"related_by_rel_types":["m.thread","m.reference"],"types":["m.room.message"]}`: {root, other},
	} {
		if got := h.pages(bob, id, "f", "&filter="+url.QueryEscape(filter), func() int { return 100 }); !slices.Equal(got, want) {
			t.Error(filter, got)
		}
	}
}
