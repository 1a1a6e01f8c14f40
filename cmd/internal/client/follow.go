package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// page is how many events are asked for at once, from /sync and from /messages.
const page = 100

// hold is how long the server keeps a request for which there is nothing yet.
const hold = 30 * time.Second

// ErrStop ends Follow without an error when each returns it.
var ErrStop = errors.New("enough")

// ErrLeft says that the user is no longer in the room.
var ErrLeft = errors.New("no longer in the room")

// Event is an event as it came, with the members looked at.
type Event struct {
	ID      string          `json:"event_id"`
	Type    string          `json:"type"`
	Sender  string          `json:"sender"`
	State   *string         `json:"state_key"`
	Content json.RawMessage `json:"content"`
	Raw     json.RawMessage `json:"-"` // all of it
}

// Feed says what to follow.
type Feed struct {
	Room  string
	Types []string // event types, * as the server's filters have it; none is all
	Past  int      // events of the past to begin with, at most 100
	Ready func()   // called once, when no event sent from now on can be missed
}

type list struct {
	Types    []string `json:"types,omitempty"`
	NotTypes []string `json:"not_types,omitempty"`
	Limit    int      `json:"limit,omitempty"`
}

type roomFilter struct {
	Rooms       []string `json:"rooms"`
	Timeline    list     `json:"timeline"`
	State       list     `json:"state"`
	Ephemeral   list     `json:"ephemeral"`
	AccountData list     `json:"account_data"`
}

type syncFilter struct {
	Room        roomFilter `json:"room"`
	Presence    list       `json:"presence"`
	AccountData list       `json:"account_data"`
}

type timeline struct {
	Events  []json.RawMessage `json:"events"`
	Limited bool              `json:"limited"`
	Before  string            `json:"prev_batch"`
}

type roomNews struct {
	Timeline timeline `json:"timeline"`
}

type syncAnswer struct {
	Next  string `json:"next_batch"`
	Rooms struct {
		Join  map[string]roomNews `json:"join"`
		Leave map[string]roomNews `json:"leave"`
	} `json:"rooms"`
}

// follower is one Follow under way.
type follower struct {
	c     *Client
	feed  Feed
	each  func(Event) error
	since string
	seen  seen
}

// Follow calls each for every event of the room from now on, in the server's order and once, until ctx ends (it then
// returns ctx's cause), each returns an error, or the room is closed to the user.
//
// The position moves on only when all events of an answer have been handed over, so that whatever breaks in between is
// asked for again; the ids handed over last keep that from doubling anything.
func (c *Client) Follow(ctx context.Context, feed Feed, each func(Event) error) error {
	f := &follower{c: c, feed: feed, each: each}
	err := f.run(ctx)
	if errors.Is(err, ErrStop) {
		return nil
	}
	return err
}

func (f *follower) run(ctx context.Context) error {
	first, err := f.sync(ctx, max(f.feed.Past, 1))
	if err != nil {
		return err
	}
	f.since = first.Next
	past := first.Rooms.Join[f.feed.Room].Timeline.Events
	if f.feed.Past == 0 {
		past = nil
	}
	if f.feed.Ready != nil {
		f.feed.Ready()
	}
	if err := f.hand(past); err != nil {
		return err
	}
	for {
		news, err := f.sync(ctx, page)
		if err != nil {
			return err
		}
		left, gone := news.Rooms.Leave[f.feed.Room]
		for _, t := range []timeline{news.Rooms.Join[f.feed.Room].Timeline, left.Timeline} {
			if t.Limited {
				if err := f.fill(ctx, t.Before); err != nil {
					return err
				}
			}
			if err := f.hand(t.Events); err != nil {
				return err
			}
		}
		if gone {
			return ErrLeft
		}
		f.since = news.Next
	}
}

// sync asks for what is new since the position.
func (f *follower) sync(ctx context.Context, limit int) (syncAnswer, error) {
	nothing := list{NotTypes: []string{"*"}}
	filter, err := json.Marshal(syncFilter{
		Room: roomFilter{
			Rooms:       []string{f.feed.Room},
			Timeline:    list{Types: f.feed.Types, Limit: limit},
			State:       nothing,
			Ephemeral:   nothing,
			AccountData: nothing,
		},
		Presence:    nothing,
		AccountData: nothing,
	})
	if err != nil {
		return syncAnswer{}, err
	}
	q := url.Values{"filter": {string(filter)}, "set_presence": {"offline"}}
	r := call{method: http.MethodGet, path: "/sync", query: q}
	if f.since != "" {
		r.wait = hold
		q.Set("since", f.since)
		q.Set("timeout", strconv.FormatInt(hold.Milliseconds(), 10))
	}
	var answer syncAnswer
	err = f.c.persist(ctx, r, &answer)
	return answer, err
}

// fill hands over what lies between the position and the first event of a limited timeline. It reads forward, so
// that a long gap needs no more memory than one page.
func (f *follower) fill(ctx context.Context, until string) error {
	filter, err := json.Marshal(list{Types: f.feed.Types})
	if err != nil {
		return err
	}
	for from := f.since; from != "" && from != until; {
		var answer struct {
			Chunk []json.RawMessage `json:"chunk"`
			End   string            `json:"end"`
		}
		err := f.c.persist(ctx, call{
			method: http.MethodGet,
			path:   "/rooms/" + url.PathEscape(f.feed.Room) + "/messages",
			query: url.Values{
				"dir": {"f"}, "from": {from}, "to": {until}, "limit": {strconv.Itoa(page)}, "filter": {string(filter)},
			},
		}, &answer)
		var e *Error
		if errors.As(err, &e) && e.Status == http.StatusBadRequest {
			// The server has been restored from a backup, or no longer knows our position.
			f.c.notice("the server no longer knows where this was; events may be missing here")
			return nil
		}
		if err != nil {
			return err
		}
		if err := f.hand(answer.Chunk); err != nil {
			return err
		}
		if answer.End == from {
			break
		}
		from = answer.End
	}
	return nil
}

// hand gives events to each, leaving out those that it has had.
func (f *follower) hand(events []json.RawMessage) error {
	for _, raw := range events {
		e := Event{Raw: raw}
		if err := json.Unmarshal(raw, &e); err != nil {
			return err
		}
		if !f.seen.add(e.ID) {
			continue
		}
		if err := f.each(e); err != nil {
			return err
		}
	}
	return nil
}

// remembered is how many ids seen keeps: several pages, so that a repeated answer and a gap that overlaps are covered.
const remembered = 16 * page

// seen is the set of the event ids handed over last.
type seen struct {
	ids  map[string]struct{}
	ring []string
	next int
}

// add reports whether the id is new.
func (s *seen) add(id string) bool {
	if s.ids == nil {
		s.ids = make(map[string]struct{}, remembered)
	}
	if _, had := s.ids[id]; had {
		return false
	}
	if len(s.ring) < remembered {
		s.ring = append(s.ring, id)
	} else {
		delete(s.ids, s.ring[s.next])
		s.ring[s.next] = id
		s.next = (s.next + 1) % remembered
	}
	s.ids[id] = struct{}{}
	return true
}
