package clientapi

import (
	"encoding/json"

	"hearth/engine"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/filter"
	"hearth/httpd/wire"
)

// searchBody is the body of POST /search.
type searchBody struct {
	Categories *struct {
		Events *searchEvents `json:"room_events"`
	} `json:"search_categories"`
}

type searchEvents struct {
	Term    *string         `json:"search_term"`
	Keys    *[]string       `json:"keys"`
	Filter  json.RawMessage `json:"filter"`
	Order   string          `json:"order_by"`
	State   bool            `json:"include_state"`
	Context *struct {
		Before   *int64 `json:"before_limit"`
		After    *int64 `json:"after_limit"`
		Profiles bool   `json:"include_profile"`
	} `json:"event_context"`
	Groups struct {
		By []struct {
			Key string `json:"key"`
		} `json:"group_by"`
	} `json:"groupings"`
}

// Bounds of a page of search results.
const (
	defaultHits   = 10
	maxHits       = 100
	defaultAround = 5
	maxAround     = 20
	maxTerm       = 4096
)

// Spec: client-server, POST /search.
func (a *API) search(r *wire.Req) error {
	var body searchBody
	if err := r.Decode(&body); err != nil {
		return err
	}
	if body.Categories == nil {
		return fault.E(fault.Missing, "clientapi.search", "the body has no search_categories")
	}
	if body.Categories.Events == nil {
		return r.OK(append(r.Out(), `{"search_categories":{}}`...))
	}
	q, err := body.Categories.Events.find()
	if err != nil {
		return err
	}
	q.User, q.UserID, q.Device, q.From = r.Session.User, r.Session.UserID, r.Session.DeviceNum, r.QueryOr("next_batch", "")
	dst, err := a.engine.AppendFound(r.Out(), q)
	if err != nil {
		return err
	}
	return r.OK(dst)
}

// find checks what is asked.
func (s *searchEvents) find() (*engine.Find, error) {
	const op = "clientapi.search"
	if s.Term == nil {
		return nil, fault.E(fault.Missing, op, "room_events has no search_term")
	}
	if len(*s.Term) > maxTerm {
		return nil, fault.E(fault.TooLarge, op, "search_term has at most %d bytes", maxTerm)
	}
	q := &engine.Find{Term: *s.Term, State: s.State}
	switch s.Order {
	case "", "rank", "recent":
		q.Recent = s.Order == "recent"
	default:
		return nil, fault.E(fault.Invalid, op, "order_by must be rank or recent")
	}
	if s.Keys != nil {
		q.Keys = []string{}
		for _, key := range *s.Keys {
			switch key {
			case "content.body", "content.name", "content.topic":
				q.Keys = append(q.Keys, key[len("content."):])
			default:
				return nil, fault.E(fault.Invalid, op, "keys must be of content.body, content.name and content.topic")
			}
		}
	}
	for _, g := range s.Groups.By {
		switch g.Key {
		case "room_id":
			q.GroupRooms = true
		case "sender":
			q.GroupSenders = true
		default:
			return nil, fault.E(fault.Invalid, op, "group_by must be room_id or sender")
		}
	}
	if len(s.Filter) > 0 && cjson.KindOf(s.Filter) != cjson.NullKind {
		var err error
		if q.Part, err = filter.ParseRoomEvents(s.Filter); err != nil {
			return nil, err
		}
	}
	q.Limit = max(q.Part.Limit(defaultHits, maxHits), 1)
	if c := s.Context; c != nil {
		q.Context, q.Profiles = true, c.Profiles
		q.Before, q.After = around(c.Before), around(c.After)
	}
	return q, nil
}

func around(n *int64) int {
	if n == nil {
		return defaultAround
	}
	return int(max(0, min(*n, maxAround)))
}
