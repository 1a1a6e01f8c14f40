package adminapi

import (
	"cmp"
	"slices"
	"strings"

	"hearth/engine"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/httpd/wire"
)

// roomJSON is a room as the tools read one.
type roomJSON struct {
	ID         mxid.RoomID `json:"room_id"`
	Name       *string     `json:"name"`
	Topic      *string     `json:"topic,omitempty"`
	Avatar     *string     `json:"avatar,omitempty"`
	Alias      *string     `json:"canonical_alias"`
	Joined     int         `json:"joined_members"`
	Local      int         `json:"joined_local_members"`
	Version    string      `json:"version"`
	Creator    mxid.UserID `json:"creator"`
	Encryption *string     `json:"encryption"`
	Federates  bool        `json:"federatable"`
	Published  bool        `json:"public"`
	JoinRule   *string     `json:"join_rules"`
	Guests     *string     `json:"guest_access"`
	Visibility *string     `json:"history_visibility"`
	State      int         `json:"state_events"`
	Type       *string     `json:"room_type"`
	Forgotten  *bool       `json:"forgotten,omitempty"`
}

func describeRoom(s *engine.RoomSummary) roomJSON {
	return roomJSON{
		ID: s.ID, Name: orNull(s.Name), Alias: orNull(s.Alias), Joined: s.Joined, Local: s.Local, Version: s.Version,
		Creator: s.Creator, Encryption: orNull(s.Encryption), Federates: s.Federates, Published: s.Published,
		JoinRule: orNull(s.JoinRule), Guests: orNull(s.Guests), Visibility: orNull(s.Visibility), State: s.StateLen, Type: orNull(s.Type),
	}
}

// maxRooms bounds the rooms that are sorted for one answer.
const maxRooms = 10_000

func (a *API) rooms(r *wire.Req) error {
	p, err := readPage(r)
	if err != nil {
		return err
	}
	term := r.QueryOr("search_term", "")
	var nums []room.Num
	err = a.engine.Rooms.All(0, func(num room.Num) bool {
		nums = append(nums, num)
		return len(nums) < maxRooms
	})
	if err != nil {
		return err
	}
	var all []engine.RoomSummary
	for _, num := range nums {
		s, err := a.engine.Summary(num)
		if fault.Is(err, fault.NotFound) {
			continue // purged meanwhile
		}
		if err != nil {
			return err
		}
		if s.Bare {
			continue // somebody is invited there, and no more is known of it
		}
		if term == "" || contains(s.Name, term) || contains(s.Alias, term) || contains(string(s.ID), term) {
			all = append(all, s)
		}
	}
	sortRooms(all, r.QueryOr("order_by", "name"))
	if p.back {
		slices.Reverse(all)
	}
	answer := struct {
		Rooms  []roomJSON `json:"rooms"`
		Offset int        `json:"offset"`
		Total  int        `json:"total_rooms"`
		Next   int        `json:"next_batch,omitempty"`
		Prev   *int64     `json:"prev_batch,omitempty"`
	}{Rooms: []roomJSON{}, Total: len(all)}
	from, to := p.cut(len(all))
	for i := range all[from:to] {
		answer.Rooms = append(answer.Rooms, describeRoom(&all[from+i]))
	}
	answer.Offset = from
	if to < len(all) {
		answer.Next = to
	}
	if from > 0 {
		before := max(0, int64(from)-p.limit)
		answer.Prev = &before
	}
	return r.Answer(answer)
}

// sortRooms orders by one of the words that the tools use; numbers begin with
// the largest.
func sortRooms(all []engine.RoomSummary, by string) {
	slices.SortStableFunc(all, func(x, y engine.RoomSummary) int {
		n := 0
		switch by {
		case "joined_members":
			n = cmp.Compare(y.Joined, x.Joined)
		case "joined_local_members":
			n = cmp.Compare(y.Local, x.Local)
		case "state_events":
			n = cmp.Compare(y.StateLen, x.StateLen)
		case "version":
			n = cmp.Compare(x.Version, y.Version)
		case "creator":
			n = cmp.Compare(x.Creator, y.Creator)
		case "canonical_alias":
			n = cmp.Compare(x.Alias, y.Alias)
		case "public":
			n = compareBool(y.Published, x.Published)
		default:
			n = cmp.Compare(strings.ToLower(x.Name), strings.ToLower(y.Name))
		}
		return cmp.Or(n, cmp.Compare(x.ID, y.ID))
	})
}

func (a *API) room(r *wire.Req) error {
	num, err := a.known(r)
	if err != nil {
		return err
	}
	s, err := a.engine.Summary(num)
	if err != nil {
		return err
	}
	forgotten := true
	err = a.engine.Rooms.Members(num, func(m room.Member) bool {
		forgotten = !m.Local || m.Forgotten
		return forgotten
	})
	if err != nil {
		return err
	}
	j := describeRoom(&s)
	j.Topic, j.Avatar, j.Forgotten = orNull(s.Topic), orNull(s.Avatar), &forgotten
	return r.Answer(j)
}

func (a *API) members(r *wire.Req) error {
	num, err := a.known(r)
	if err != nil {
		return err
	}
	var users []uint32
	err = a.engine.Rooms.Members(num, func(m room.Member) bool {
		if m.Membership == room.Join {
			users = append(users, m.User)
		}
		return true
	})
	ids := []mxid.UserID{}
	for _, user := range users {
		if err != nil {
			break
		}
		var id mxid.UserID
		id, err = a.engine.Rooms.UserID(user)
		ids = append(ids, id)
	}
	if err != nil {
		return err
	}
	return r.Answer(struct {
		Members []mxid.UserID `json:"members"`
		Total   int           `json:"total"`
	}{ids, len(ids)})
}

func (a *API) state(r *wire.Req) error {
	num, err := a.known(r)
	if err != nil {
		return err
	}
	head, err := a.engine.Rooms.Head(num)
	if err != nil {
		return err
	}
	a.engine.Rooms.Settled(head)
	dst := append(r.Out(), `{"state":[`...)
	first := true
	err = a.engine.Rooms.Each(head.State, func(e *room.Event) (bool, error) {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		var err error
		dst, err = a.engine.Rooms.AppendClient(dst, e, room.Reader{})
		return true, err
	})
	if err != nil {
		return err
	}
	return r.OK(append(dst, `]}`...))
}

func (a *API) blocked(r *wire.Req) error {
	by, err := a.engine.BlockedBy(mxid.RoomID(r.Path("roomId")))
	if err != nil {
		return err
	}
	return r.Answer(struct {
		Block bool        `json:"block"`
		By    mxid.UserID `json:"user_id,omitempty"`
	}{by != "", by})
}

func (a *API) block(r *wire.Req) error {
	var q struct {
		Block *bool `json:"block"`
	}
	if err := r.Decode(&q); err != nil {
		return err
	}
	if q.Block == nil {
		return fault.E(fault.Missing, "adminapi.block", "the body has no block")
	}
	if err := a.engine.BlockRoom(mxid.RoomID(r.Path("roomId")), r.Session.UserID, *q.Block); err != nil {
		return err
	}
	return r.Answer(struct {
		Block bool `json:"block"`
	}{*q.Block})
}

func (a *API) crown(r *wire.Req) error {
	var q struct {
		User string `json:"user_id"`
	}
	if err := r.Decode(&q); err != nil {
		return err
	}
	id := r.Session.UserID
	if q.User != "" {
		var err error
		if id, err = a.ownID(q.User); err != nil {
			return err
		}
	}
	num, err := a.known(r)
	if err == nil {
		err = a.engine.Crown(num, id)
	}
	if err != nil {
		return err
	}
	return r.Empty()
}

// join brings a user into a room: by themself where they may, or else invited
// by the admin, who then has to be able to.
func (a *API) join(r *wire.Req) error {
	var q struct {
		User *string `json:"user_id"`
	}
	if err := r.Decode(&q); err != nil {
		return err
	}
	if q.User == nil {
		return fault.E(fault.Missing, "adminapi.join", "which user_id?")
	}
	id, err := a.ownID(*q.User)
	if err != nil {
		return err
	}
	if num, err := a.accounts.Find(id); err != nil {
		return err
	} else if num == 0 {
		return fault.E(fault.NotFound, "adminapi.join", "there is no such user")
	}
	num, err := a.known(r)
	if err != nil {
		return err
	}
	err = a.engine.Join(num, id, nil)
	if fault.Is(err, fault.Forbidden) {
		if err = a.engine.Invite(num, r.Session.UserID, id, ""); err == nil {
			err = a.engine.Join(num, id, nil)
		}
	}
	if err != nil {
		return err
	}
	room, err := a.engine.Rooms.RoomID(num)
	if err != nil {
		return err
	}
	return r.Answer(struct {
		Room mxid.RoomID `json:"room_id"`
	}{room})
}
