package clientapi

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"hearth/engine/account"
)

// found searches the directory and gives the ids, without the server.
func (h *hub) found(token, body string) string {
	h.t.Helper()
	a := h.want(200, "", "POST", v3+"/user_directory/search", token, body)
	list, _ := a.get("results").([]any)
	var ids []string
	for _, u := range list {
		ids = append(ids, strings.TrimSuffix(u.(map[string]any)["user_id"].(string), ":hub.test"))
	}
	return strings.Join(ids, " ")
}

// Users are found by id and by profile name, by those who share a room with
// them or if they are in an open one; never by what they call themselves in a
// room.
func TestUserDirectory(t *testing.T) {
	h := start(t, Anyone)
	alice, bob, eve := h.join("alice"), h.join("bob"), h.join("eve")
	h.want(200, "", "PUT", v3+"/profile/@alice:hub.test/displayname", alice, `{"displayname":"Alice Cooper"}`)
	search := func(token, term, want string) {
		t.Helper()
		if got := h.found(token, fmt.Sprintf(`{"search_term":%q}`, term)); got != want {
			t.Fatalf("%q found %q, want %q", term, got, want)
		}
	}
	search(eve, "alice", "")
	private := h.want(200, "", "POST", v3+"/createRoom", bob, `{"preset":"private_chat","invite":["@alice:hub.test"]}`).str("room_id")
	search(bob, "alice", "") // invited, not there yet
	h.want(200, "", "POST", v3+"/rooms/"+private+"/join", alice, `{}`)
	h.want(200, "", "PUT", v3+"/rooms/"+private+"/state/m.room.member/@alice:hub.test", alice, `{"membership":"join","displayname":"Freddy"}`)
	for _, term := range []string{"alice", "COOP", "cooper alice", "@alice", "@alice:hub.test", "Alice Cooper"} {
		search(bob, term, "@alice")
		search(eve, term, "")
	}
	search(bob, "Freddy", "")
	search(bob, "cooper nobody", "")
	search(bob, " ", "")
	search(alice, "@", "@bob") // not oneself
	h.want(200, "", "POST", v3+"/createRoom", alice, `{"preset":"public_chat"}`)
	search(eve, "cooper", "@alice")
	if a := h.want(200, "", "POST", v3+"/user_directory/search", bob, `{"search_term":"alice"}`); a.body !=
		`{"limited":false,"results":[{"display_name":"Alice Cooper","user_id":"@alice:hub.test"}]}` {
		t.Fatal(a.body)
	}
	carol := h.join("carol")
	h.want(200, "", "POST", v3+"/createRoom", carol, `{"preset":"public_chat"}`)
	h.want(200, "", "POST", v3+"/createRoom", h.join("car"), `{"preset":"public_chat"}`)
	search(eve, "car", "@car @carol") // the whole name comes first
	if a := h.want(200, "", "POST", v3+"/user_directory/search", eve, `{"search_term":"car","limit":1}`); a.get("limited") != true {
		t.Fatal(a.body)
	}
	h.want(400, "M_MISSING_PARAM", "POST", v3+"/user_directory/search", eve, `{}`)
	h.want(400, "M_INVALID_PARAM", "POST", v3+"/user_directory/search", eve, `{"search_term":"x","limit":-1}`)
	h.want(400, "M_BAD_JSON", "POST", v3+"/user_directory/search", eve, `{"search_term":1}`)
}

func TestReports(t *testing.T) {
	h := start(t, Anyone)
	bob, eve := h.join("bob"), h.join("eve")
	room := h.want(200, "", "POST", v3+"/createRoom", bob, `{"preset":"private_chat"}`).str("room_id")
	event := h.want(200, "", "PUT", v3+"/rooms/"+room+"/send/m.room.message/1", bob, `{"body":"x","msgtype":"m.text"}`).str("event_id")
	path := v3 + "/rooms/" + room + "/report/"
	h.want(200, "{}", "POST", path+event, bob, `{"reason":"sad","score":-50}`)
	h.want(200, "{}", "POST", "/_matrix/client/r0/rooms/"+room+"/report/"+event, bob, `{}`)
	h.want(404, "M_NOT_FOUND", "POST", path+event, eve, `{"reason":"sad"}`)
	h.want(404, "M_NOT_FOUND", "POST", path+"$none", bob, `{"reason":"sad"}`)
	h.want(404, "M_NOT_FOUND", "POST", v3+"/rooms/!none:hub.test/report/"+event, bob, `{"reason":"sad"}`)
	h.want(400, "M_BAD_JSON", "POST", path+event, bob, `{"reason":1}`)
	h.want(400, "M_BAD_JSON", "POST", path+event, bob, `{"score":"x"}`)
	h.want(400, "M_INVALID_PARAM", "POST", path+event, bob, `{"score":1}`)
	h.want(400, "M_INVALID_PARAM", "POST", path+event, bob, `{"reason":"`+strings.Repeat("x", 5000)+`"}`)
	h.want(200, "{}", "POST", v3+"/rooms/"+room+"/report", eve, `{"reason":"sad"}`)
	h.want(400, "M_MISSING_PARAM", "POST", v3+"/rooms/"+room+"/report", eve, `{}`)
	h.want(400, "M_MISSING_PARAM", "POST", v3+"/users/@bob:hub.test/report", eve, `{}`)
	h.want(200, "{}", "POST", v3+"/rooms/!none:hub.test/report", eve, `{"reason":"sad"}`)
	h.want(200, "{}", "POST", v3+"/users/@bob:hub.test/report", eve, `{"reason":"sad"}`)
	h.want(200, "{}", "POST", v3+"/users/@x:elsewhere/report", eve, `{"reason":"sad"}`)
	h.want(200, "{}", "POST", v3+"/users/@none:hub.test/report", eve, `{"reason":"sad"}`)
	h.want(400, "M_INVALID_PARAM", "POST", v3+"/users/bob/report", eve, `{"reason":"sad"}`)
	for kind, want := range map[account.ReportKind]int{account.EventReport: 2, account.RoomReport: 1, account.UserReport: 2} {
		n := 0
		err := h.e.Accounts.Reports(kind, func(p *account.Report) bool {
			n++
			return true
		})
		if n != want || err != nil {
			t.Errorf("%d reports of kind %d, want %d (%v)", n, kind, want, err)
		}
	}
}

func TestTURN(t *testing.T) {
	h := start(t, Anyone)
	bob := h.join("bob")
	h.want(200, `{}`, "GET", v3+"/voip/turnServer", bob, "")
	h.api.o.TURN = TURN{URIs: []string{"turn:a.example"}, Secret: "s3cret", Life: time.Hour}
	h.want(200, `{"password":"sGs4qVZO1r7Y8JtGB7frzgYG70U=","ttl":3600,"uris":["turn:a.example"],"username":"1700003600:@bob:hub.test"}`, "GET", v3+"/voip/turnServer", bob, "")
	h.api.o.TURN = TURN{URIs: []string{"turn:a.example"}, User: "u", Password: "p"}
	h.want(200, `{"password":"p","ttl":86400,"uris":["turn:a.example"],"username":"u"}`, "GET", v3+"/voip/turnServer", bob, "")
}
