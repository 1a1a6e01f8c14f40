package clientapi

import (
	"fmt"
	"slices"
	"testing"
)

func TestSearch(t *testing.T) {
	h := start(t, Anyone)
	amy, bob := h.join("amy"), h.join("bob")
	id := h.create(amy, `{"preset":"public_chat","name":"The Martian Club","topic":"Red, and dusty"}`)
	other := h.create(amy, `{}`)
	h.want(200, "", "POST", inRoom(id, "/join"), bob, `{}`)
	say := func(token, room, txn, text string) string {
		t.Helper()
		return h.want(200, "", "PUT", inRoom(room, "/send/m.room.message/"+txn), token, fmt.Sprintf(`{"msgtype":"m.text","body":%q}`, text)).str("event_id")
	}
	a1 := say(amy, id, "1", "Martians like MEN, and men like martians.")
	a2 := say(bob, id, "2", "a long tale in which men meet some martians at a bar far away")
	secret := say(amy, other, "3", "martians and men in secret")
	find := func(token, rest string) answer {
		t.Helper()
		return h.want(200, "", "POST", v3+"/search", token, `{"search_categories":{"room_events":{`+rest+`}}}`)
	}
	ids := func(a answer) []string {
		var out []string
		list, _ := a.get("search_categories", "room_events", "results").([]any)
		for _, r := range list {
			out = append(out, r.(map[string]any)["result"].(map[string]any)["event_id"].(string))
		}
		return out
	}
	is := func(a answer, want ...string) {
		t.Helper()
		if got := ids(a); !slices.Equal(got, want) {
			t.Fatal(got, want, a.body)
		}
	}
	is(find(bob, `"search_term":"martians men"`), a1, a2)
	is(find(bob, `"search_term":"martians men","order_by":"recent"`), a2, a1)
	is(find(amy, `"search_term":"martians men","order_by":"recent"`), secret, a2, a1)
	is(find(amy, `"search_term":"MEN","filter":{"rooms":["`+id+`"],"senders":["@bob:hub.test"]}`), a2)
	is(find(amy, `"search_term":"women"`))
	is(find(amy, `"search_term":"dusty","keys":["content.body"]`))
	if got := ids(find(amy, `"search_term":"dusty","keys":["content.topic"]`)); len(got) != 1 {
		t.Fatal(got)
	}
	a := find(bob, `"search_term":"tale","event_context":{"before_limit":1,"include_profile":true},"groupings":{"group_by":[{"key":"room_id"},{"key":"sender"}]},"include_state":true`)
	events := a.get("search_categories", "room_events").(map[string]any)
	around := events["results"].([]any)[0].(map[string]any)["context"].(map[string]any)
	if before := around["events_before"].([]any); len(before) != 1 || before[0].(map[string]any)["event_id"] != a1 || around["profile_info"] == nil {
		t.Fatal(a)
	}
	for id, shown := range around["profile_info"].(map[string]any) {
		for field, val := range shown.(map[string]any) {
			if _, ok := val.(string); !ok {
				t.Errorf("%s of %s is %v", field, id, val)
			}
		}
	}
	if a.get("search_categories", "room_events", "groups", "sender", "@bob:hub.test") == nil || a.get("search_categories", "room_events", "state", id) == nil {
		t.Fatal(a)
	}
	// What is redacted is found no more, whether it was indexed before or not.
	h.want(200, "", "PUT", inRoom(id, "/redact/"+a1+"/x"), amy, `{}`)
	is(find(bob, `"search_term":"martians"`), a2)
	a4 := say(amy, id, "4", "martians again")
	h.want(200, "", "PUT", inRoom(id, "/redact/"+a4+"/y"), amy, `{}`)
	is(find(bob, `"search_term":"martians"`), a2)

	h.want(400, "M_MISSING_PARAM", "POST", v3+"/search", amy, `{}`)
	h.want(400, "M_MISSING_PARAM", "POST", v3+"/search", amy, `{"search_categories":{"room_events":{}}}`)
	h.want(400, "M_INVALID_PARAM", "POST", v3+"/search?next_batch=x", amy, `{"search_categories":{"room_events":{"search_term":"x"}}}`)
	h.want(400, "M_INVALID_PARAM", "POST", v3+"/search", amy, `{"search_categories":{"room_events":{"search_term":"x","order_by":"y"}}}`)
}

func TestSearchPages(t *testing.T) {
	h := start(t, Anyone)
	amy := h.join("amy")
	id := h.create(amy, `{}`)
	for i := range 25 {
		h.want(200, "", "PUT", inRoom(id, fmt.Sprint("/send/m.room.message/", i)), amy, fmt.Sprintf(`{"body":"number %d of many"}`, i))
	}
	for _, order := range []string{"recent", "rank"} {
		seen := map[string]bool{}
		pages := 0
		for from := ""; ; pages++ {
			a := h.want(200, "", "POST", v3+"/search"+from, amy,
				`{"search_categories":{"room_events":{"search_term":"number","order_by":"`+order+`","filter":{"limit":10}}}}`)
			if a.get("search_categories", "room_events", "count") != 25.0 {
				t.Fatal(a)
			}
			for _, r := range a.get("search_categories", "room_events", "results").([]any) {
				seen[r.(map[string]any)["result"].(map[string]any)["event_id"].(string)] = true
			}
			next := a.str("search_categories", "room_events", "next_batch")
			if next == "" {
				break
			}
			from = "?next_batch=" + next
		}
		if len(seen) != 25 || pages != 2 {
			t.Fatal(order, len(seen), pages)
		}
	}
}

// The count is of what the user may read: what the index knows besides would
// tell them which words a past holds that is not theirs. A full page names
// another, as clients expect, and one that is not full none.
func TestSearchCountsWhatIsSeen(t *testing.T) {
	h := start(t, Anyone)
	amy, bob := h.join("amy"), h.join("bob")
	id := h.create(amy, `{"preset":"public_chat","initial_state":[{"type":"m.room.history_visibility","content":{"history_visibility":"joined"}}]}`)
	for i := range 3 {
		h.say(amy, id, fmt.Sprint("before", i), "the treasure is under the oak")
	}
	h.want(200, "", "POST", inRoom(id, "/join"), bob, `{}`)
	h.say(bob, id, "own", "what treasure")
	h.say(bob, id, "own2", "no treasure")
	for _, order := range []string{"recent", "rank"} {
		for limit, next := range map[int]bool{1: true, 2: true, 3: false} {
			a := h.want(200, "", "POST", v3+"/search", bob, fmt.Sprintf(
				`{"search_categories":{"room_events":{"search_term":"treasure","order_by":"%s","filter":{"limit":%d}}}}`, order, limit))
			if n := a.get("search_categories", "room_events", "count"); n != 2.0 {
				t.Errorf("%s, %d a page: %v results, want 2", order, limit, n)
			}
			if got := a.str("search_categories", "room_events", "next_batch") != ""; got != next {
				t.Errorf("%s, %d a page: another page is %v", order, limit, got)
			}
		}
	}
}
