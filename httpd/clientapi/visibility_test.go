package clientapi

import (
	"fmt"
	"strings"
	"testing"
)

// What a user sees of a room depends on its history visibility and on how far
// the user came. Moments: a before the invite, i between invite and join, j while
// joined, l after the leaving. Spec: client-server, room history visibility.
func TestHistoryVisibility(t *testing.T) {
	for _, c := range []struct{ visibility, never, invited, joined, left, banned string }{
		{"world_readable", "aijl", "aijl", "aijl", "aijl", "aijl"},
		{"shared", "", "", "aijl", "aij", "aij"},
		{"invited", "", "ijl", "ijl", "ij", "ij"},
		{"joined", "", "", "jl", "j", "j"},
	} {
		for come, want := range map[string]string{
			"never": c.never, "invited": c.invited, "joined": c.joined, "left": c.left, "banned": c.banned,
		} {
			t.Run(c.visibility+" "+come, func(t *testing.T) {
				h := start(t, Anyone)
				bob, eve := h.join("bob"), h.join("eve")
				id := h.create(bob, `{"preset":"private_chat","initial_state":[{"type":"m.room.history_visibility","content":{"history_visibility":"`+c.visibility+`"}}]}`)
				post := func(token, rest, body string) {
					t.Helper()
					h.want(200, "", "POST", inRoom(id, rest), token, body)
				}
				const her = `{"user_id":"@eve:hub.test"}`
				events := map[string]string{"a": h.say(bob, id, "a", "a")}
				if come != "never" {
					post(bob, "/invite", her)
				}
				events["i"] = h.say(bob, id, "i", "i")
				in := come == "joined" || come == "left" || come == "banned"
				if in {
					post(eve, "/join", ``)
				}
				events["j"] = h.say(bob, id, "j", "j")
				switch come {
				case "left":
					post(eve, "/leave", ``)
				case "banned":
					post(bob, "/ban", her)
				}
				events["l"] = h.say(bob, id, "l", "l")

				got := ""
				for _, moment := range []string{"a", "i", "j", "l"} {
					if a := h.do("GET", inRoom(id, "/event/"+events[moment]), eve, ""); a.status == 200 {
						got += moment
					} else if a.status != 404 {
						t.Error(a.status, a.body)
					}
				}
				if got != want {
					t.Errorf("single events: %q, want %q", got, want)
				}
				if !in && c.visibility != "world_readable" {
					h.want(403, "M_FORBIDDEN", "GET", inRoom(id, "/messages?dir=b"), eve, "")
					return
				}
				for _, dir := range []string{"b", "f"} {
					a := h.want(200, "", "GET", inRoom(id, fmt.Sprintf("/messages?dir=%s&limit=100", dir)), eve, "")
					for moment, event := range events {
						if strings.Contains(a.body, event) != strings.Contains(want, moment) {
							t.Errorf("page %s: %s, want %q", dir, moment, want)
						}
					}
				}
			})
		}
	}
}

// Who left and is banned later sees what was there until the leaving, and not
// what was said between the two.
func TestBanAfterLeavingShowsNothingNew(t *testing.T) {
	h := start(t, Anyone)
	bob, eve := h.join("bob"), h.join("eve")
	id := h.create(bob, `{"preset":"public_chat","name":"before"}`)
	h.want(200, "", "POST", inRoom(id, "/join"), eve, ``)
	seen := h.say(bob, id, "seen", "seen")
	joined := h.want(200, "", "GET", "/_matrix/client/v3/sync", eve, "").str("next_batch")
	h.want(200, "", "POST", inRoom(id, "/leave"), eve, ``)
	left := h.want(200, "", "GET", "/_matrix/client/v3/sync?since="+joined, eve, "").str("next_batch")
	hidden := h.say(bob, id, "hidden", "hidden")
	h.want(200, "", "PUT", inRoom(id, "/state/m.room.name"), bob, `{"name":"after"}`)
	h.want(200, "", "POST", inRoom(id, "/ban"), bob, `{"user_id":"@eve:hub.test"}`)

	h.want(200, "", "GET", inRoom(id, "/event/"+seen), eve, "")
	h.want(404, "M_NOT_FOUND", "GET", inRoom(id, "/event/"+hidden), eve, "")
	for _, path := range []string{
		inRoom(id, "/messages?dir=b&limit=100"), inRoom(id, "/state"), "/_matrix/client/v3/sync?since=" + joined,
		"/_matrix/client/v3/sync?since=" + left, "/_matrix/client/v3/sync?filter=" + `{"room":{"include_leave":true}}`,
		"/_matrix/client/v3/sync?use_state_after=true&since=" + joined,
	} {
		a := h.want(200, "", "GET", path, eve, "")
		if strings.Contains(a.body, hidden) || strings.Contains(a.body, `"after"`) {
			t.Errorf("%s shows what came after the leaving: %s", path, a.body)
		}
		if strings.Contains(path, "sync?since") && !strings.Contains(a.body, `"ban"`) {
			t.Errorf("%s does not tell of the ban: %s", path, a.body)
		}
	}
}
