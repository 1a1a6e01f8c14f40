package simnet

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"hearth/engine"
	"hearth/engine/fault"
	"hearth/engine/mxid"
)

// sim is three hubs whose users do what people do in a room while the hubs remove its
// history, and ask with all that they were ever told.
type sim struct {
	*Net
	rnd    *rand.Rand
	id     string
	users  []*User
	events []mxid.EventID
	tokens map[*User][]string // of pages
	since  map[*User][]string
	txn    int
}

// ask makes a request that may be refused and must not fail.
func (s *sim) ask(u *User, method, path, body string) Reply {
	s.T.Helper()
	r := u.Ask(method, path, body)
	if r.Status >= 500 && r.Status != 502 && r.Status != 504 {
		s.T.Errorf("%s %s: %d %s", method, path, r.Status, r.Body)
	}
	return r
}

func (s *sim) event() string {
	if len(s.events) == 0 {
		return "$none"
	}
	i := s.rnd.IntN(len(s.events))
	if s.rnd.IntN(2) == 0 {
		i = max(i, len(s.events)-10)
	}
	return string(s.events[i])
}

// write does one thing that changes the room.
func (s *sim) write(u *User) {
	s.T.Helper()
	s.txn++
	send := inRoom(s.id, fmt.Sprintf("/send/m.room.message/%d", s.txn))
	var r Reply
	switch s.rnd.IntN(14) {
	case 0, 1:
		r = s.ask(u, "PUT", inRoom(s.id, "/state/m.room.topic"), fmt.Sprintf(`{"topic":"%d"}`, s.txn))
	case 2:
		r = s.ask(u, "PUT", send, fmt.Sprintf(`{"body":"in a thread","m.relates_to":{"rel_type":"m.thread","event_id":%q}}`, s.event()))
	case 3:
		r = s.ask(u, "PUT", inRoom(s.id, fmt.Sprintf("/send/m.reaction/%d", s.txn)),
			fmt.Sprintf(`{"m.relates_to":{"rel_type":"m.annotation","key":"%d","event_id":%q}}`, s.txn, s.event()))
	case 4:
		r = s.ask(u, "PUT", inRoom(s.id, fmt.Sprintf("/redact/%s/%d", url.PathEscape(s.event()), s.txn)), `{}`)
	case 5:
		if s.may(u) {
			s.ask(u, "POST", inRoom(s.id, "/leave"), `{}`)
		}
		s.ask(u, "POST", joinPath(s.id, s.Hubs[0].Name, s.Hubs[1].Name, s.Hubs[2].Name), `{}`)
	case 6:
		who := s.users[1+2*s.rnd.IntN(len(s.users)/2)]
		s.ask(u, "POST", inRoom(s.id, []string{"/kick", "/ban", "/unban"}[s.rnd.IntN(3)]), fmt.Sprintf(`{"user_id":%q}`, who.ID))
	case 7:
		see := []string{"shared", "joined", "invited", "world_readable"}[s.rnd.IntN(4)]
		r = s.ask(u, "PUT", inRoom(s.id, "/state/m.room.history_visibility"), fmt.Sprintf(`{"history_visibility":%q}`, see))
	case 8:
		s.ask(u, "POST", inRoom(s.id, "/receipt/m.read/"+url.PathEscape(s.event())), `{}`)
		s.ask(u, "POST", inRoom(s.id, "/read_markers"), fmt.Sprintf(`{"m.fully_read":%q}`, s.event()))
	default:
		r = s.ask(u, "PUT", send, fmt.Sprintf(`{"msgtype":"m.text","body":"message %d"}`, s.txn))
	}
	if id := r.Str("event_id"); id != "" {
		s.events = append(s.events, mxid.EventID(id))
	}
}

// read asks for one thing.
func (s *sim) read(u *User) {
	s.T.Helper()
	one := func(list []string) string {
		if len(list) == 0 {
			return ""
		}
		return url.QueryEscape(list[s.rnd.IntN(len(list))])
	}
	ev := url.PathEscape(s.event())
	dir := []string{"b", "f"}[s.rnd.IntN(2)]
	switch s.rnd.IntN(11) {
	case 0:
		r := s.ask(u, "GET", v3+"/sync?since="+one(s.since[u]), "")
		s.since[u] = append(s.since[u], r.Str("next_batch"))
	case 1:
		r := s.ask(u, "GET", v3+"/sync?full_state=true&since="+one(s.since[u]), "")
		s.since[u] = append(s.since[u], r.Str("next_batch"))
	case 2:
		path := inRoom(s.id, "/messages?limit=7&dir="+dir)
		if from := one(s.tokens[u]); from != "" {
			path += "&from=" + from
		}
		n := 0
		for from := ""; n < 60; n++ {
			r := s.ask(u, "GET", path+from, "")
			s.tokens[u] = append(s.tokens[u], r.Str("start"), r.Str("end"))
			if r.Str("end") == "" || r.Status != 200 {
				break
			}
			path, from = inRoom(s.id, "/messages?limit=30&dir="+dir), "&from="+url.QueryEscape(r.Str("end"))
			if dir == "f" && len(r.Get("chunk").([]any)) == 0 {
				break
			}
		}
		if n == 60 {
			s.T.Errorf("paging does not end: %s", path)
		}
	case 3:
		s.ask(u, "GET", inRoom(s.id, "/event/"+ev), "")
	case 4:
		r := s.ask(u, "GET", inRoom(s.id, "/context/"+ev), "")
		s.tokens[u] = append(s.tokens[u], r.Str("start"), r.Str("end"))
	case 5:
		s.ask(u, "GET", "/_matrix/client/v1/rooms/"+url.PathEscape(s.id)+"/relations/"+ev+"?recurse=true", "")
	case 6:
		s.ask(u, "GET", "/_matrix/client/v1/rooms/"+url.PathEscape(s.id)+"/threads", "")
	case 7:
		ts := time.Now().UnixMilli() - s.rnd.Int64N(20_000)
		s.ask(u, "GET", "/_matrix/client/v1/rooms/"+url.PathEscape(s.id)+fmt.Sprintf("/timestamp_to_event?dir=%s&ts=%d", dir, ts), "")
	case 8:
		s.ask(u, "POST", v3+"/search", `{"search_categories":{"room_events":{"search_term":"message","event_context":{}}}}`)
	case 9:
		path := inRoom(s.id, "/members")
		if at := one(s.tokens[u]); at != "" {
			path += "?at=" + at
		}
		s.ask(u, "GET", path, "")
		s.ask(u, "GET", inRoom(s.id, "/state"), "")
		s.ask(u, "GET", v3+"/notifications", "")
	case 10:
		s.ask(u, "POST", "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync",
			`{"lists":{"a":{"ranges":[[0,9]],"timeline_limit":20,"required_state":[["*","*"]]}}}`)
	}
}

// forget has a hub remove history up to some event, and sometimes waits for the end.
func (s *sim) forget(h *Hub) {
	s.T.Helper()
	num, err := h.Rooms.Find(mxid.RoomID(s.id))
	if err == nil {
		_, err = h.PurgeHistory(num, engine.History{Event: mxid.EventID(s.event()), Local: s.rnd.IntN(4) > 0})
	}
	if err != nil && !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Unknown) {
		s.T.Error(err)
	}
	if end := h.Rooms.TrimEnd(num); end != nil && s.rnd.IntN(3) > 0 {
		select {
		case <-end:
		case <-time.After(20 * time.Second):
			s.T.Fatalf("%s: the removal does not end", h.Name)
		}
	}
}

// Three hubs live in a room, are cut from each other, and remove what they have of its
// past. Nothing that is asked fails, and in the end they are of one mind.
func TestHubsThatForget(t *testing.T) {
	n := New(t, 3)
	s := &sim{Net: n, rnd: rand.New(rand.NewPCG(n.Seed, 77)), tokens: map[*User][]string{}, since: map[*User][]string{}}
	t.Logf("seed: HEARTH_SEED=%d", n.Seed)
	for i, h := range n.Hubs {
		for j := range 2 {
			s.users = append(s.users, h.User(fmt.Sprintf("u%d%d", i, j)))
		}
	}
	amy := s.users[0]
	s.id = amy.create(`{"preset":"public_chat","name":"Here","power_level_content_override":{"events_default":0,"state_default":0}}`)
	for _, u := range s.users[1:] {
		u.Want(200, "", "POST", joinPath(s.id, n.Hubs[0].Name), `{}`)
	}
	for round := range 12 {
		a, b := n.Hubs[s.rnd.IntN(3)].Name, n.Hubs[s.rnd.IntN(3)].Name
		if round%3 == 1 && a != b {
			n.Cut(a, b)
		}
		for range 40 {
			u := s.users[s.rnd.IntN(len(s.users))]
			if s.write(u); s.rnd.IntN(2) == 0 {
				s.read(s.users[s.rnd.IntN(len(s.users))])
			}
		}
		if a != b {
			n.Heal(a, b)
		}
		s.forget(n.Hubs[s.rnd.IntN(3)])
		for range 10 {
			s.read(s.users[s.rnd.IntN(len(s.users))])
		}
		if t.Failed() {
			return
		}
	}
	s.agree(amy)
	n.sound()
}

// may says whether somebody may leave: the first of each hub does not. A hub with nobody
// in the room that comes back through one that has not heard of that yet is of another
// mind for good, as the protocol has it.
func (s *sim) may(u *User) bool { return slices.Index(s.users, u)%2 == 1 }

// agree has everybody who may say something, and waits until all hubs have one state.
func (s *sim) agree(amy *User) {
	for _, u := range s.users[1:] {
		s.ask(amy, "POST", inRoom(s.id, "/unban"), fmt.Sprintf(`{"user_id":%q}`, u.ID))
	}
	var states []string
	defer func() {
		if s.T.Failed() {
			s.T.Logf("the hubs are of\n%s", strings.Join(states, "\n\nand of\n"))
		}
	}()
	s.Until("the hubs are of one mind", func() bool {
		for _, u := range s.users {
			s.ask(u, "POST", joinPath(s.id, s.Hubs[0].Name), `{}`)
			s.txn++
			s.ask(u, "PUT", inRoom(s.id, fmt.Sprintf("/send/m.room.message/%d", s.txn)), text("all"))
		}
		states = nil
		for _, h := range s.Hubs {
			states = append(states, h.state(s.id))
		}
		return len(slices.Compact(slices.Clone(states))) == 1
	})
}
