package client_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"hearth/cmd/internal/client"
)

const room = "!room:test"

// hub answers what the client asks of a server, from one list of events; its tokens are indexes into it.
type hub struct {
	mu     sync.Mutex
	events []map[string]any
	byTxn  map[string]string
	more   chan struct{} // closed and replaced at each event
	member bool
	closed bool // joining is forbidden
	left   bool
	page   int      // largest sync timeline
	asked  []string // method and path of each request
	// trip is asked before and after each request is carried out; true breaks the connection there.
	trip func(after bool, r *http.Request) bool
	// answer may take a request over.
	answer func(w http.ResponseWriter, r *http.Request) bool
	forget bool // positions of /messages are unknown
}

func newHub(t *testing.T) (*hub, *client.Client) {
	h := &hub{byTxn: map[string]string{}, more: make(chan struct{}), page: 5, member: true}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c, err := client.New(client.Options{Server: s.URL + "/", Token: "good", FirstPause: 1, LongestPause: 1})
	if err != nil {
		t.Fatal(err)
	}
	return h, c
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.asked = append(h.asked, r.Method+" "+r.URL.Path)
	trip, answer := h.trip, h.answer
	h.mu.Unlock()
	if trip != nil && trip(false, r) {
		panic(http.ErrAbortHandler)
	}
	if answer != nil && answer(w, r) {
		return
	}
	path := strings.TrimPrefix(r.URL.Path, "/_matrix/client/v3")
	if path != "/login" && r.Header.Get("Authorization") != "Bearer good" {
		fail(w, 401, "M_UNKNOWN_TOKEN")
		return
	}
	status, body := h.route(r, path)
	if trip != nil && trip(true, r) {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

func fail(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errcode":%q,"error":"no"}`, code)
}

type object = map[string]any

func (h *hub) route(r *http.Request, path string) (int, object) {
	part := strings.Split(strings.TrimPrefix(path, "/"), "/")
	switch {
	case path == "/login":
		var l object
		json.NewDecoder(r.Body).Decode(&l)
		if l["password"] != "secret" {
			return 403, object{"errcode": "M_FORBIDDEN"}
		}
		return 200, object{"access_token": "good"}
	case path == "/joined_rooms":
		if h.member {
			return 200, object{"joined_rooms": []string{room}}
		}
		return 200, object{"joined_rooms": []string{}}
	case part[0] == "join":
		if h.closed {
			return 403, object{"errcode": "M_FORBIDDEN"}
		}
		h.member = true
		return 200, object{"room_id": room}
	case len(part) == 5 && part[2] == "send":
		return h.send(r, part[3], part[4])
	case path == "/sync":
		return h.sync(r)
	case len(part) == 3 && part[2] == "messages":
		return h.messages(r)
	}
	return 404, object{"errcode": "M_NOT_FOUND"}
}

func (h *hub) send(r *http.Request, typ, txn string) (int, object) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.member {
		return 403, object{"errcode": "M_FORBIDDEN"}
	}
	if id, again := h.byTxn[txn]; again {
		return 200, object{"event_id": id}
	}
	var content json.RawMessage
	json.NewDecoder(r.Body).Decode(&content)
	id := h.put(typ, content)
	h.byTxn[txn] = id
	return 200, object{"event_id": id}
}

// put appends an event; the caller holds mu.
func (h *hub) put(typ string, content any) string {
	id := "$" + strconv.Itoa(len(h.events))
	h.events = append(h.events, object{"event_id": id, "type": typ, "sender": "@a:test", "content": content})
	close(h.more)
	h.more = make(chan struct{})
	return id
}

func (h *hub) add(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for range n {
		h.put("m.room.message", object{"body": strconv.Itoa(len(h.events))})
	}
}

func token(n int) string { return "s" + strconv.Itoa(n) }

func index(token string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(token, "s"))
	if err != nil {
		panic(err)
	}
	return n
}

func (h *hub) sync(r *http.Request) (int, object) {
	q := r.URL.Query()
	var filter struct {
		Room struct {
			Timeline struct{ Limit int }
		}
	}
	if err := json.Unmarshal([]byte(q.Get("filter")), &filter); err != nil {
		return 400, object{"errcode": "M_BAD_JSON"}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	since := 0
	if q.Has("since") {
		since = index(q.Get("since"))
		for since == len(h.events) && !h.left {
			more := h.more
			h.mu.Unlock()
			select {
			case <-more:
			case <-r.Context().Done():
			}
			h.mu.Lock()
			if r.Context().Err() != nil {
				return 500, nil
			}
		}
	}
	from := max(since, len(h.events)-min(h.page, filter.Room.Timeline.Limit))
	news := object{room: object{"timeline": object{
		"events": h.events[from:], "limited": from > since, "prev_batch": token(from),
	}}}
	rooms := object{"join": news}
	if h.left {
		rooms = object{"leave": news}
	}
	return 200, object{"next_batch": token(len(h.events)), "rooms": rooms}
}

func (h *hub) messages(r *http.Request) (int, object) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.forget {
		return 400, object{"errcode": "M_INVALID_PARAM"}
	}
	q := r.URL.Query()
	from, to := index(q.Get("from")), index(q.Get("to"))
	end := min(from+3, to)
	answer := object{"chunk": h.events[from:end]}
	if end < to {
		answer["end"] = token(end)
	}
	return 200, answer
}
