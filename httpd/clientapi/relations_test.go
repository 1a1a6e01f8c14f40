package clientapi

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// reply sends a message that relates to an event.
func (h *hub) reply(token, room, txn, typ, target, relType, more string) answer {
	h.t.Helper()
	body := fmt.Sprintf(`{"body":%q,"m.relates_to":{"event_id":%q,"rel_type":%q%s}}`, txn, target, relType, more)
	return h.do("PUT", inRoom(room, "/send/"+typ+"/"+txn), token, body)
}

func (h *hub) mustReply(token, room, txn, target, relType, more string) string {
	h.t.Helper()
	a := h.reply(token, room, txn, "m.room.message", target, relType, more)
	if a.status != 200 {
		h.t.Fatal(a)
	}
	return a.str("event_id")
}

const withNew = `},"m.new_content":{"body":"new"`

func v1In(room, rest string) string { return v1 + inRoom(room, rest)[len(v3):] }

func TestBundles(t *testing.T) {
	h := start(t, Anyone)
	amy, bob := h.join("amy"), h.join("bob")
	id := h.create(amy, `{"preset":"public_chat"}`)
	h.want(200, "", "POST", inRoom(id, "/join"), bob, `{}`)
	root := h.say(amy, id, "root", "x")
	told := func(token string, keys ...string) any {
		t.Helper()
		a := h.want(200, "", "GET", inRoom(id, "/event/"+root), token, "")
		return a.get(append([]string{"unsigned", "m.relations"}, keys...)...)
	}
	if told(amy) != nil {
		t.Fatal("relations of nothing")
	}
	h.mustReply(bob, id, "e0", root, "m.replace", withNew) // not bob's to edit
	edit := h.mustReply(amy, id, "e1", root, "m.replace", withNew)
	if got := told(bob, "m.replace", "event_id"); got != edit {
		t.Fatal("edit", got, edit)
	}
	h.clock.Pass(time.Second)
	edit2 := h.mustReply(amy, id, "e2", root, "m.replace", withNew)
	first := h.mustReply(bob, id, "t1", root, "m.thread", "")
	last := h.mustReply(bob, id, "t2", root, "m.thread", "")
	h.mustReply(bob, id, "r1", root, "m.reference", "")
	if told(amy, "m.replace", "event_id") != edit2 || told(amy, "m.thread", "latest_event", "event_id") != last ||
		told(amy, "m.thread", "count") != 2.0 || told(amy, "m.thread", "current_user_participated") != true || told(amy, "m.reference", "chunk") == nil {
		t.Fatal(told(amy))
	}
	a := h.want(200, "", "GET", v1In(id, "/relations/"+root+"/m.thread?dir=f"), amy, "")
	if got := a.list("chunk", "event_id"); !slices.Equal(got, []string{first, last}) {
		t.Fatal(got)
	}
	// What is redacted does not count from then on.
	h.want(200, "", "PUT", inRoom(id, "/redact/"+edit2+"/x1"), amy, `{}`)
	h.want(200, "", "PUT", inRoom(id, "/redact/"+last+"/x2"), bob, `{}`)
	if told(amy, "m.replace", "event_id") != edit || told(amy, "m.thread", "latest_event", "event_id") != first || told(amy, "m.thread", "count") != 1.0 {
		t.Fatal(told(amy))
	}
	// Nor what comes from somebody who is ignored.
	h.want(200, "", "PUT", v3+"/user/@amy:hub.test/account_data/m.ignored_user_list", amy, `{"ignored_users":{"@bob:hub.test":{}}}`)
	if told(amy, "m.thread") != nil || told(amy, "m.reference") != nil || told(amy, "m.replace", "event_id") != edit {
		t.Fatal(told(amy))
	}
	h.want(200, "", "PUT", inRoom(id, "/redact/"+root+"/x3"), amy, `{}`)
	if told(bob, "m.replace") != nil || told(bob, "m.thread", "count") != 1.0 {
		t.Fatal(told(bob))
	}
}

func TestAnnotatingTwice(t *testing.T) {
	h := start(t, Anyone)
	amy, bob := h.join("amy"), h.join("bob")
	id := h.create(amy, `{"preset":"public_chat"}`)
	h.want(200, "", "POST", inRoom(id, "/join"), bob, `{}`)
	root := h.say(amy, id, "root", "x")
	react := func(token, txn, key string) answer {
		t.Helper()
		return h.reply(token, id, txn, "m.reaction", root, "m.annotation", `,"key":"`+key+`"`)
	}
	one := react(amy, "1", "👍")
	if one.status != 200 || react(amy, "1", "👍").str("event_id") != one.str("event_id") {
		t.Fatal(one)
	}
	if a := react(amy, "2", "👍"); a.status != 400 || a.str("errcode") != "M_DUPLICATE_ANNOTATION" {
		t.Fatal(a)
	}
	for _, a := range []answer{react(amy, "3", "👎"), react(bob, "4", "👍")} {
		if a.status != 200 {
			t.Fatal(a)
		}
	}
	h.want(200, "", "PUT", inRoom(id, "/redact/"+one.str("event_id")+"/x"), amy, `{}`)
	if a := react(amy, "5", "👍"); a.status != 200 {
		t.Fatal("after its redaction", a)
	}
	h.want(200, `{"chunk":[]}`, "GET", v1In(id, "/relations/"+root+"/m.annotation/m.none"), amy, "")
	h.want(404, "M_NOT_FOUND", "GET", v1In(id, "/relations/$none"), amy, "")
	h.want(400, "M_INVALID_PARAM", "GET", v1In(id, "/relations/"+root+"?dir=x"), amy, "")
	h.want(400, "M_INVALID_PARAM", "GET", v1In(id, "/relations/"+root+"?from=x"), amy, "")
}

func TestRelationPages(t *testing.T) {
	h := start(t, Anyone)
	amy := h.join("amy")
	id := h.create(amy, `{}`)
	root := h.say(amy, id, "root", "x")
	var all []string
	for i := range 7 {
		all = append(all, h.mustReply(amy, id, fmt.Sprint("t", i), root, "m.thread", ""))
	}
	nested := h.mustReply(amy, id, "n", all[0], "m.reference", "")
	for _, dir := range []string{"f", "b"} {
		var got []string
		for from := ""; ; {
			a := h.want(200, "", "GET", v1In(id, "/relations/"+root+"?limit=3&dir="+dir+from), amy, "")
			got = append(got, a.list("chunk", "event_id")...)
			if a.str("next_batch") == "" {
				break
			}
			from = "&from=" + a.str("next_batch")
		}
		if dir == "b" {
			slices.Reverse(got)
		}
		if !slices.Equal(got, all) {
			t.Fatal(dir, got, all)
		}
	}
	a := h.want(200, "", "GET", v1In(id, "/relations/"+root+"?recurse=true&limit=1"), amy, "")
	if got := a.list("chunk", "event_id"); len(got) != 1 || got[0] != nested || a.get("recursion_depth") == nil {
		t.Fatal(a.body)
	}
	if a := h.reply(amy, id, "bad", "m.room.message", all[0], "m.thread", ""); a.status != 400 || a.str("errcode") != "M_UNKNOWN" {
		t.Fatal("a thread off a reply", a)
	}
}

func TestThreads(t *testing.T) {
	h := start(t, Anyone)
	amy, bob := h.join("amy"), h.join("bob")
	id := h.create(amy, `{"preset":"public_chat"}`)
	h.want(200, "", "POST", inRoom(id, "/join"), bob, `{}`)
	var roots []string
	for i := range 3 {
		roots = append(roots, h.say(amy, id, fmt.Sprint("root", i), "x"))
		h.mustReply(amy, id, fmt.Sprint("a", i), roots[i], "m.thread", "")
	}
	list := func(token, query string) []string {
		t.Helper()
		return h.want(200, "", "GET", v1In(id, "/threads"+query), token, "").list("chunk", "event_id")
	}
	if got := list(amy, ""); !slices.Equal(got, []string{roots[2], roots[1], roots[0]}) {
		t.Fatal(got, roots)
	}
	late := h.mustReply(bob, id, "b", roots[0], "m.thread", "")
	if got := list(amy, ""); !slices.Equal(got, []string{roots[0], roots[2], roots[1]}) {
		t.Fatal(got, roots)
	}
	if got := list(bob, "?include=participated"); !slices.Equal(got, roots[:1]) {
		t.Fatal(got, roots)
	}
	h.want(200, "", "PUT", inRoom(id, "/redact/"+late+"/x"), bob, `{}`)
	if got := list(amy, ""); !slices.Equal(got, []string{roots[2], roots[1], roots[0]}) {
		t.Fatal("after redaction", got, roots)
	}
	var paged []string
	for from := ""; ; {
		a := h.want(200, "", "GET", v1In(id, "/threads?limit=1"+from), amy, "")
		paged = append(paged, a.list("chunk", "event_id")...)
		if a.str("next_batch") == "" {
			break
		}
		from = "&from=" + a.str("next_batch")
	}
	if !slices.Equal(paged, []string{roots[2], roots[1], roots[0]}) {
		t.Fatal(paged)
	}
	h.want(400, "M_INVALID_PARAM", "GET", v1In(id, "/threads?include=x"), amy, "")
	if err := h.e.Verify(func(line string) { t.Error(line) }); err != nil {
		t.Fatal(err)
	}
}

// A thread that somebody began whom the user ignores is listed for what others
// say in it, without what the ignored one said.
func TestThreadsOfIgnored(t *testing.T) {
	h := start(t, Anyone)
	amy, bob := h.join("amy"), h.join("bob")
	id := h.create(amy, `{"preset":"public_chat"}`)
	h.want(200, "", "POST", inRoom(id, "/join"), bob, `{}`)
	root := h.say(bob, id, "root", "rubbish")
	h.mustReply(bob, id, "r1", root, "m.thread", "")
	reply := h.mustReply(amy, id, "r2", root, "m.thread", "")
	h.mustReply(bob, id, "r3", root, "m.thread", "")
	h.want(200, "", "PUT", v3+"/user/@amy:hub.test/account_data/m.ignored_user_list", amy, `{"ignored_users":{"@bob:hub.test":{}}}`)
	a := h.want(200, "", "GET", v1In(id, "/threads"), amy, "")
	chunk := a.get("chunk").([]any)
	if len(chunk) != 1 || strings.Contains(a.body, "rubbish") {
		t.Fatal(a)
	}
	first := chunk[0].(map[string]any)
	thread := first["unsigned"].(map[string]any)["m.relations"].(map[string]any)["m.thread"].(map[string]any)
	if first["event_id"] != root || len(first["content"].(map[string]any)) != 0 ||
		thread["count"] != 1.0 || thread["latest_event"].(map[string]any)["event_id"] != reply {
		t.Fatal(a)
	}
}
