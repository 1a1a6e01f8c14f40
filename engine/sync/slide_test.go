package sync

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/ephemeral"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/slide"
)

// What an answer of sliding sync looks like to a client.
type (
	slid struct {
		Pos   string
		TxnID string `json:"txn_id"`
		Lists map[string]struct{ Count int }
		Rooms map[string]*slidRoom
		Ext   struct {
			ToDevice *struct {
				Events []ev
				Next   string `json:"next_batch"`
			} `json:"to_device"`
			E2EE *struct {
				Lists  *struct{ Changed, Left []string } `json:"device_lists"`
				Counts map[string]int                    `json:"device_one_time_keys_count"`
				Unused *[]string                         `json:"device_unused_fallback_key_types"`
			} `json:"e2ee"`
			Data *struct {
				Global []ev
				Rooms  map[string][]ev
			} `json:"account_data"`
			Receipts *struct{ Rooms map[string]ev }
			Typing   *struct {
				Rooms map[string]struct {
					Content struct {
						IDs []string `json:"user_ids"`
					}
				}
			}
			Threads json.RawMessage `json:"io.element.msc4308.thread_subscriptions"`
		} `json:"extensions"`
	}
	slidRoom struct {
		Name, Avatar     *string
		Initial, Limited bool
		DM               *bool `json:"is_dm"`
		Membership       string
		Lists            []string
		Required         []ev `json:"required_state"`
		Timeline         []ev
		Invite           []ev   `json:"invite_state"`
		Stripped         []ev   `json:"stripped_state"`
		Prev             string `json:"prev_batch"`
		Live             int    `json:"num_live"`
		Joined           *int   `json:"joined_count"`
		Invited          *int   `json:"invited_count"`
		Notify           *int   `json:"notification_count"`
		Highlight        *int   `json:"highlight_count"`
		Bump             int    `json:"bump_stamp"`
		Expanded         bool   `json:"unstable_expanded_timeline"`
		Heroes           []struct {
			ID   string `json:"user_id"`
			Name string `json:"displayname"`
		}
	}
)

// phone is one connection of a client.
type phone struct {
	h    *hub
	req  SlideRequest
	pos  string
	raw  []byte
	slid slid
}

func (h *hub) phone(id mxid.UserID) *phone {
	h.t.Helper()
	return &phone{h: h, req: SlideRequest{User: h.user(id), UserID: id, Device: uint64(h.user(id)), Presence: ephemeral.Offline}}
}

func (p *phone) request(body string) *SlideRequest {
	p.h.t.Helper()
	if err := cjson.Check([]byte(body)); err != nil {
		p.h.t.Fatalf("%s: %v", body, err)
	}
	req := p.req
	var err error
	req.Body, err = slide.Parse([]byte(body))
	p.h.must(err)
	req.Body.Pos = p.pos
	return &req
}

// asks sends a request from where the phone is, without waiting.
func (p *phone) asks(body string) *slid {
	p.h.t.Helper()
	out, ready, err := p.h.Slide(p.request(body))
	p.h.must(err)
	if !ready {
		p.h.t.Fatal("not ready without a timeout")
	}
	p.take(out)
	p.h.Done(out)
	return &p.slid
}

func (p *phone) take(body []byte) {
	p.h.t.Helper()
	if err := cjson.Check(body); err != nil {
		p.h.t.Fatalf("%s: %v", body, err)
	}
	p.raw, p.slid = append([]byte(nil), body...), slid{}
	if err := json.Unmarshal(body, &p.slid); err != nil {
		p.h.t.Fatalf("%s: %v", body, err)
	}
	p.pos = p.slid.Pos
}

// waits sends a request that waits, and gives where the answer comes.
func (p *phone) waits(body string) chan answerOf {
	p.h.t.Helper()
	req := p.request(body)
	req.Body.Timeout = time.Hour.Milliseconds()
	ch := make(chan answerOf, 1)
	out, ready, err := p.h.Slide(req)
	p.h.must(err)
	if ready {
		ch <- answerOf{append([]byte(nil), out...), nil}
		return ch
	}
	p.h.WaitSlide(req, func(body []byte, err error) { ch <- answerOf{append([]byte(nil), body...), err} })
	return ch
}

func (p *phone) room(num room.Num) *slidRoom {
	p.h.t.Helper()
	r := p.slid.Rooms[p.h.id(num)]
	if r == nil {
		p.h.t.Fatalf("room %d is not told: %s", num, p.raw)
	}
	return r
}

// told lists the rooms of an answer by their numbers.
func (p *phone) told() string {
	var s []string
	for num := room.Num(1); num < 50; num++ {
		if id, err := p.h.rooms.RoomID(num); err == nil && p.slid.Rooms[string(id)] != nil {
			s = append(s, fmt.Sprint(num))
		}
	}
	return strings.Join(s, " ")
}

func all(limit int, state string) string {
	return fmt.Sprintf(`{"lists":{"a":{"ranges":[[0,99]],"timeline_limit":%d,"required_state":[%s]}}}`, limit, state)
}

func TestSlideTellsWhatIsNew(t *testing.T) {
	h := start(t)
	r := h.create(alice, "")
	quiet := h.create(alice, "")
	h.join(r, bob)
	h.state(r, alice, "m.room.name", "", "kitchen")
	h.say(r, alice, "hello")
	p := h.phone(bob)
	body := all(2, `["m.room.create",""],["m.room.member","$ME"]`)
	p.asks(body)
	got := p.room(r)
	want(t, bodies(got.Timeline), "m.room.name=kitchen hello")
	want(t, bodies(got.Required), "m.room.create b:join")
	if !got.Initial || !got.Limited || *got.Name != "kitchen" || got.Live != 0 || *got.Joined != 2 || *got.Invited != 0 || got.Heroes != nil || got.Bump == 0 {
		t.Fatalf("%s", p.raw)
	}
	if p.slid.Lists["a"].Count != 1 || p.slid.Rooms[h.id(quiet)] != nil {
		t.Fatalf("%s", p.raw)
	}
	if p.asks(body); len(p.slid.Rooms) != 0 {
		t.Fatalf("%s", p.raw)
	}
	h.say(r, alice, "news")
	p.asks(body)
	got = p.room(r)
	want(t, bodies(got.Timeline), "news")
	if got.Initial || got.Limited || got.Name != nil || got.Live != 1 || got.Joined != nil || got.Required != nil || *got.Notify != 2 {
		t.Fatalf("%s", p.raw)
	}
	h.state(r, alice, "m.room.name", "", "")
	h.state(r, alice, "x.other", "", "x")
	p.asks(body)
	if got = p.room(r); got.Name != nil || !strings.Contains(string(p.raw), `"name":null`) || len(got.Heroes) != 1 || got.Heroes[0].ID != string(alice) {
		t.Fatalf("%s", p.raw)
	}
	want(t, bodies(got.Required), "")
}

// An answer that was lost is told again, to whatever the client asks for then; one
// that is older is not known any more.
func TestSlideLostAnswers(t *testing.T) {
	h := start(t)
	r := h.create(alice, "")
	h.say(r, alice, "one")
	p := h.phone(alice)
	body := all(1, `["m.room.create",""],["m.room.member","$LAZY"]`)
	p.asks(body)
	first := p.pos
	want(t, bodies(p.room(r).Required), "m.room.create a:join")
	h.say(r, alice, "two")
	p.asks(body)
	want(t, bodies(p.room(r).Timeline), "two")
	want(t, bodies(p.room(r).Required), "")
	lost := p.pos
	p.pos = first
	h.say(r, alice, "three")
	p.asks(all(5, `["m.room.power_levels",""]`))
	got := p.room(r)
	want(t, bodies(got.Timeline), "m.room.power_levels m.room.join_rules one two three")
	want(t, bodies(got.Required), "m.room.power_levels")
	if got.Live != 2 || !got.Expanded {
		t.Fatalf("%s", p.raw)
	}
	next := p.pos
	for _, pos := range []string{lost, "p1_x", "nonsense", "s1_2_3", strings.Replace(next, "_", "_1", 1), strings.Repeat("p", 1000)} {
		p.pos = pos
		if _, _, err := h.Slide(p.request(body)); !fault.Is(err, fault.UnknownPos) {
			t.Errorf("%s: %v", pos, err)
		}
	}
	p.pos = next
	p.asks(body)
	p.pos = first
	if _, _, err := h.Slide(p.request(body)); !fault.Is(err, fault.UnknownPos) {
		t.Error(err)
	}
	thief := h.phone(bob)
	thief.pos = next
	if _, _, err := h.Slide(thief.request(body)); !fault.Is(err, fault.UnknownPos) {
		t.Error(err)
	}
}

// Rooms stand in the list by their last event; a window that moves or grows tells
// what was not told, and what happened meanwhile.
func TestSlideWindows(t *testing.T) {
	h := start(t)
	var rooms []room.Num
	for range 5 {
		rooms = append(rooms, h.create(alice, ""))
	}
	window := func(from, to int) string {
		return fmt.Sprintf(`{"lists":{"a":{"ranges":[[%d,%d]],"timeline_limit":1}}}`, from, to)
	}
	p := h.phone(alice)
	p.asks(window(0, 1))
	want(t, p.told(), "4 5")
	p.asks(window(0, 3))
	want(t, p.told(), "2 3")
	h.say(rooms[0], alice, "up") // never told, and now at the top
	p.asks(window(0, 1))
	want(t, p.told(), "1")
	if p.room(rooms[0]).Live != 1 {
		t.Fatalf("%s", p.raw)
	}
	for _, body := range []string{"a", "b", "c"} {
		h.say(rooms[1], alice, body)
		h.say(rooms[3], alice, body)
		h.say(rooms[4], alice, body)
	}
	p.asks(window(0, 1))
	want(t, p.told(), "4 5")
	p.asks(window(0, 9))
	want(t, p.told(), "2")
	got := p.room(rooms[1])
	want(t, bodies(got.Timeline), "c")
	if got.Initial || !got.Limited || got.Live != 0 {
		t.Fatalf("%s", p.raw)
	}
	if p.asks(`{"lists":{"a":{"timeline_limit":1}}}`); len(p.slid.Rooms) != 0 || p.slid.Lists["a"].Count != 5 {
		t.Fatalf("%s", p.raw)
	}
}

func TestSlideStandings(t *testing.T) {
	h := start(t)
	r := h.create(alice, "")
	p := h.phone(bob)
	body := all(3, `["m.room.member","$ME"]`)
	p.asks(body)
	h.send(r, member(alice, bob, "invite"))
	p.asks(body)
	got := p.room(r)
	if !got.Initial || len(got.Invite) == 0 || got.Timeline != nil || got.Bump == 0 {
		t.Fatalf("%s", p.raw)
	}
	if p.asks(body); len(p.slid.Rooms) != 0 {
		t.Fatalf("%s", p.raw)
	}
	h.join(r, bob)
	p.asks(body)
	if got = p.room(r); !got.Initial || got.Invite != nil || got.Live != 1 {
		t.Fatalf("%s", p.raw)
	}
	want(t, bodies(got.Timeline), "m.room.join_rules b:invite b:join")
	h.say(r, alice, "before")
	h.send(r, member(bob, bob, "leave"))
	h.say(r, alice, "after")
	p.asks(body)
	got = p.room(r)
	want(t, bodies(got.Timeline), "before b:leave")
	want(t, bodies(got.Required), "b:leave")
	if p.slid.Lists["a"].Count != 1 {
		t.Fatalf("%s", p.raw)
	}
	if p.asks(body); len(p.slid.Rooms) != 0 {
		t.Fatalf("%s", p.raw)
	}
	other := h.phone(bob)
	other.req.Device++
	if other.asks(body); other.slid.Lists["a"].Count != 0 || len(other.slid.Rooms) != 0 {
		t.Fatalf("a room that was left: %s", other.raw)
	}
	h.join(r, bob)
	if p.asks(body); !p.room(r).Initial {
		t.Fatalf("%s", p.raw)
	}
	h.send(r, member(alice, bob, "ban"))
	h.must(h.rooms.Forget(r, h.user(bob)))
	p.asks(body)
	want(t, bodies(p.room(r).Timeline), "b:ban")
	if p.asks(body); len(p.slid.Rooms) != 0 || p.slid.Lists["a"].Count != 0 {
		t.Fatalf("%s", p.raw)
	}
	// Kicked: who was not told hears of it. Banned from where one never was: nobody does.
	kicked, stranger := h.create(alice, ""), h.create(alice, "")
	h.join(kicked, bob)
	h.send(kicked, member(alice, bob, "leave"))
	h.send(stranger, member(alice, bob, "ban"))
	other.pos = ""
	other.asks(body)
	want(t, other.told(), fmt.Sprint(kicked))
	if got := other.room(kicked); !got.Initial || !strings.HasSuffix(bodies(got.Timeline), "b:leave") {
		t.Fatalf("%s", other.raw)
	}
	// An invite that is turned down.
	h.send(stranger, member(alice, bob, "leave"))
	h.send(stranger, member(alice, bob, "invite"))
	p.asks(body)
	if got := p.room(stranger); got.Invite == nil {
		t.Fatalf("%s", p.raw)
	}
	h.send(stranger, member(bob, bob, "leave"))
	p.asks(body)
	want(t, bodies(p.room(stranger).Timeline), "b:leave")
}

func TestSlidePoll(t *testing.T) {
	h := start(t)
	r, other := h.create(alice, ""), h.create(alice, "")
	p := h.phone(alice)
	body := `{"lists":{"a":{"ranges":[[0,0]],"timeline_limit":1}},"extensions":{"typing":{"enabled":true},"account_data":{"enabled":true}}}`
	h.say(r, alice, "first")
	p.asks(body)
	ch := p.waits(body)
	if h.Waiting() != 1 {
		t.Fatal("nothing waits")
	}
	h.say(r, alice, "news")
	got := <-ch
	h.must(got.err)
	p.take(got.body)
	want(t, bodies(p.room(r).Timeline), "news")
	// A second request on the connection takes the place of the first.
	ch = p.waits(body)
	ch2 := p.waits(body)
	got = <-ch
	h.must(got.err)
	want(t, string(got.body), `{"pos":"`+p.pos+`"}`)
	// What happens outside the window is no news, but is told when it is inside.
	h.say(other, alice, "elsewhere")
	got = <-ch2
	p.take(got.body)
	want(t, p.told(), fmt.Sprint(other))
	ch = p.waits(body)
	h.eph.SetTyping(uint32(other), h.user(alice), true, time.Minute)
	h.log.Wake(h.user(alice))
	p.take((<-ch).body)
	if len(p.slid.Ext.Typing.Rooms[h.id(other)].Content.IDs) != 1 {
		t.Fatalf("%s", p.raw)
	}
	ch = p.waits(body)
	_, err := h.acc.SetData(p.req.User, 0, "x.y", []byte(`{"a":1}`))
	h.must(err)
	p.take((<-ch).body)
	want(t, bodies(p.slid.Ext.Data.Global), "x.y")
	ch = p.waits(body)
	h.Close()
	p.take((<-ch).body)
	if h.Waiting() != 0 || h.log.Parked() != 0 {
		t.Fatal("something still waits")
	}
}
