package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"hearth/engine/ephemeral"
	"hearth/engine/room"
)

// Typing, receipts and presence are told of the rooms in which a service has
// users, in the form that clients know, with the room; private receipts only of
// the service's own users. Spec: application-service, pushing ephemeral data.
func TestServiceIsToldWhatPasses(t *testing.T) {
	l := &listener{}
	e := openListened(t, l)
	nums := map[string]uint32{}
	for _, name := range []string{"amy", "ben", "_b_ghost"} {
		num, err := e.Accounts.Find(e.Accounts.ID(name))
		if err != nil {
			t.Fatal(err)
		}
		nums[name] = num
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	id, num := newRoom(t, e, NewRoom{Creator: "@_b_ghost:hub", Preset: "public_chat"})
	ok(e.Join(num, "@amy:hub", nil))
	other, _ := newRoom(t, e, NewRoom{Creator: "@ben:hub", Preset: "public_chat"})
	sent, err := e.Send(num, &room.Draft{Type: "m.room.message", Sender: "@amy:hub", Content: []byte(`{"body":"x"}`)})
	ok(err)
	hears := func(what string) {
		t.Helper()
		l.until(t, what, func(one *told) bool {
			for _, e := range one.Ephemeral {
				if s := string(e); strings.Contains(s, string(other)) || strings.Contains(s, "@ben:hub") {
					t.Errorf("told of what is not its business: %s", s)
				} else if s == what {
					return true
				}
			}
			return false
		})
	}
	const typing = `{"room_id":"%s","content":{"user_ids":[%s]},"type":"m.typing"}`
	ok(e.Typing(nums["ben"], other, true, time.Minute))
	ok(e.Typing(nums["amy"], id, true, time.Minute))
	hears(fmt.Sprintf(typing, id, `"@amy:hub"`))
	ok(e.Typing(nums["amy"], id, false, 0))
	hears(fmt.Sprintf(typing, id, ""))

	for _, name := range []string{"ben", "amy", "_b_ghost"} {
		status := "here"
		ok(e.Ephemeral.SetPresence(nums[name], 1, ephemeral.Online, &status))
	}
	seen := map[string]bool{}
	l.until(t, "presence", func(one *told) bool {
		for _, e := range one.Ephemeral {
			s := string(e)
			if strings.Contains(s, "@ben:hub") {
				t.Errorf("told of somebody else's presence: %s", s)
			}
			for _, name := range []string{"amy", "_b_ghost"} {
				if strings.Contains(s, `"m.presence"`) && strings.Contains(s, `"sender":"@`+name+`:hub"`) && strings.Contains(s, `"status_msg":"here"`) {
					seen[name] = true
				}
			}
		}
		return len(seen) == 2
	})

	private := func(name string, marks Marks, shown bool) {
		t.Helper()
		ok(e.Mark(nums[name], id, &marks))
		say(t, e, id, "@amy:hub", "after "+name)
		l.until(t, "the receipt of "+name, func(one *told) bool {
			for _, ev := range one.Ephemeral {
				s := string(ev)
				if !strings.Contains(s, `"m.receipt"`) {
					continue
				}
				if !strings.Contains(s, `"room_id":"`+string(id)+`"`) || !strings.Contains(s, string(sent)) {
					t.Error(s)
				}
				if got := strings.Contains(s, `"m.read.private":{"@`+name+`:hub"`); got != (shown && marks.Private != "") {
					t.Errorf("the private receipt of %s: %s", name, s)
				}
				if shown {
					return true
				}
			}
			return !shown && len(one.Events) > 0 && one.Events[len(one.Events)-1].Content.Body == "after "+name
		})
	}
	private("amy", Marks{Private: sent}, false)
	private("amy", Marks{Read: sent}, true)
	private("_b_ghost", Marks{Private: sent}, true)
}
