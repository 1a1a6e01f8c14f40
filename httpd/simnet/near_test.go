package simnet

import (
	"fmt"
	"net/url"
	"testing"
)

// What filled a hole stands at one position. An event near a time is found there too,
// and the search ends, wherever in it the time lies.
func TestNearWhatFilledAHole(t *testing.T) {
	n, amy, bob, id := pair(t)
	n.Cut(amy.Hub.Name, bob.Hub.Name)
	for i := range 40 {
		amy.Want(200, "", "PUT", inRoom(id, fmt.Sprint("/send/m.room.message/c", i)), text(fmt.Sprint("cut", i)))
	}
	n.Heal(amy.Hub.Name, bob.Hub.Name)
	bob.Want(200, "", "PUT", inRoom(id, "/send/m.room.message/2"), text("heard again")) // that ends amy's wait
	page := bob.until(`"cut39"`, "GET", inRoom(id, "/messages?dir=b&limit=100"), "")
	times := map[string]int64{}
	for _, e := range page.Get("chunk").([]any) {
		e := e.(map[string]any)
		times[e["event_id"].(string)] = int64(e["origin_server_ts"].(float64))
	}
	if len(times) < 41 {
		t.Fatal(page.Body)
	}
	near := func(ts int64, dir string) Reply {
		return bob.Ask("GET", "/_matrix/client/v1/rooms/"+url.PathEscape(id)+fmt.Sprintf("/timestamp_to_event?ts=%d&dir=%s", ts, dir), "")
	}
	const hour = 3_600_000 // clocks may be apart by so much, and it is searched from there
	for _, ts := range times {
		for _, dir := range [...]string{"f", "b"} {
			if r := near(ts, dir); r.Status != 200 || times[r.Str("event_id")] != ts {
				t.Errorf("%d %s: %s", ts, dir, r.Body)
			}
		}
		near(ts-hour, "f")
		near(ts+hour, "b")
	}
	n.sound()
}
