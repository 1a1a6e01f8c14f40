package simnet

import (
	"fmt"
	"net/url"
	"testing"

	"hearth/engine/mxid"
)

// Threads that began before the hub came to the room are listed too, the latest
// first, and none comes twice; where nobody has the past any more, those that are
// here are.
func TestThreadsOfThePast(t *testing.T) {
	n := New(t, 2)
	amy, bob := n.Hubs[0].User("amy"), n.Hubs[1].User("bob")
	id := amy.create(`{"preset":"public_chat"}`)
	reply := func(u *User, root mxid.EventID, k int) {
		u.Want(200, "", "PUT", inRoom(id, fmt.Sprintf("/send/m.room.message/%s-%d", root, k)),
			fmt.Sprintf(`{"body":"in it","msgtype":"m.text","m.relates_to":{"rel_type":"m.thread","event_id":%q}}`, root))
	}
	var want []string // the latest first
	var first mxid.EventID
	for k := range 5 {
		root := amy.say(id, fmt.Sprint("root ", k))
		if k == 0 {
			first = root
		} else {
			reply(amy, root, k)
			want = append([]string{string(root)}, want...)
		}
		for j := range 170 {
			amy.say(id, fmt.Sprintf("talk %d %d", k, j))
		}
	}
	bob.Want(200, "", "POST", joinPath(id, n.Hubs[0].Name), `{}`)
	// This one's first event lies deepest in the past, and its reply is new.
	reply(amy, first, 0)
	want = append([]string{string(first)}, want...)
	n.Until("the reply is there", func() bool { return len(bob.threads(id, "?limit=1")) == 1 })
	for _, limit := range []int{1, 2, 20} {
		var got []string
		for from := ""; ; {
			r := bob.Want(200, "", "GET", fmt.Sprintf("/_matrix/client/v1/rooms/%s/threads?limit=%d%s", url.PathEscape(id), limit, from), "")
			got = append(got, roots(r)...)
			next := r.Str("next_batch")
			if next == "" {
				break
			}
			from = "&from=" + url.QueryEscape(next)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("by %d: %q, want %q", limit, got, want)
		}
	}
	n.sound()
}

// Where the past is not to be had, what is here is told, and the list ends.
func TestThreadsWithoutThePast(t *testing.T) {
	n := New(t, 2)
	amy, bob := n.Hubs[0].User("amy"), n.Hubs[1].User("bob")
	id := amy.create(`{"preset":"public_chat"}`)
	amy.say(id, "before")
	bob.Want(200, "", "POST", joinPath(id, n.Hubs[0].Name), `{}`)
	n.Cut(n.Hubs[0].Name, n.Hubs[1].Name)
	root := bob.say(id, "root")
	bob.Want(200, "", "PUT", inRoom(id, "/send/m.room.message/1"),
		fmt.Sprintf(`{"body":"in it","msgtype":"m.text","m.relates_to":{"rel_type":"m.thread","event_id":%q}}`, root))
	r := bob.Want(200, "", "GET", "/_matrix/client/v1/rooms/"+url.PathEscape(id)+"/threads", "")
	if got := roots(r); fmt.Sprint(got) != fmt.Sprint([]mxid.EventID{root}) || r.Str("next_batch") != "" {
		t.Error(r.Body)
	}
}

func (u *User) threads(id, query string) []string {
	return roots(u.Want(200, "", "GET", "/_matrix/client/v1/rooms/"+url.PathEscape(id)+"/threads"+query, ""))
}

// roots are the ids of the events of a page.
func roots(r Reply) (ids []string) {
	list, _ := r.Get("chunk").([]any)
	for _, one := range list {
		e, _ := one.(map[string]any)
		ids = append(ids, fmt.Sprint(e["event_id"]))
	}
	return ids
}
