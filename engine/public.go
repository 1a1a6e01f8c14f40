package engine

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// PublicQuery asks for a page of the public rooms.
// Spec: client-server, POST /publicRooms.
type PublicQuery struct {
	Limit   int
	Since   string   // token of another page; empty: the first
	Term    string   // to be found in name, topic or canonical alias; empty: any
	ByType  bool     // whether Types is asked for
	Types   []string // room types
	Untyped bool     // with ByType: rooms without a type too

	Networked bool // rooms of a bridged network only, of which there are none
}

// maxPublic bounds a page of public rooms.
const maxPublic = 500

// listed is a room of the public list while its page is made.
type listed struct {
	num    room.Num
	id     mxid.RoomID
	joined int
}

// compare orders the list: most members first, then by id.
func (a listed) compare(b listed) int {
	if a.joined != b.joined {
		return cmp.Compare(b.joined, a.joined)
	}
	return strings.Compare(string(a.id), string(b.id))
}

// AppendPublicRooms appends a page of the public rooms, those with most members
// first. A token names the room the page ends at, so rooms that come and go
// meanwhile move nothing else.
//
// Errors: Invalid for a token that is none.
func (e *Engine) AppendPublicRooms(dst []byte, q *PublicQuery) ([]byte, error) {
	at, back, err := parsePublicToken(q.Since)
	if err != nil {
		return dst, err
	}
	rooms, err := e.publicRooms(q)
	if err != nil {
		return dst, err
	}
	limit := q.Limit
	if limit <= 0 || limit > maxPublic {
		limit = maxPublic
	}
	from, to := 0, len(rooms)
	if q.Since != "" {
		i, found := slices.BinarySearchFunc(rooms, at, listed.compare)
		if found && !back {
			i++
		}
		if back {
			from, to = max(0, i-limit), i
		} else {
			from = i
		}
	}
	to = min(to, from+limit)
	dst = append(dst, `{"chunk":[`...)
	for i, r := range rooms[from:to] {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = e.appendPublicRoom(dst, r); err != nil {
			return dst, err
		}
	}
	dst = append(dst, ']')
	if to < len(rooms) && to > 0 {
		dst = cjson.AppendString(append(dst, `,"next_batch":`...), rooms[to-1].token('n'))
	}
	if from > 0 {
		at := "p" // behind all
		if from < len(rooms) {
			at = rooms[from].token('p')
		}
		dst = cjson.AppendString(append(dst, `,"prev_batch":`...), at)
	}
	dst = append(dst, `,"total_room_count_estimate":`...)
	return append(strconv.AppendInt(dst, int64(len(rooms)), 10), '}'), nil
}

func (a listed) token(way byte) string {
	return string(way) + strconv.Itoa(a.joined) + "_" + string(a.id)
}

// parsePublicToken reads a token: n for what comes after a room of the list, p
// for what comes before it.
func parsePublicToken(s string) (at listed, back bool, err error) {
	if s == "" {
		return at, false, nil
	}
	if s == "p" {
		return listed{joined: -1}, true, nil
	}
	n, id, ok := strings.Cut(s[1:], "_")
	joined, err := strconv.ParseUint(n, 10, 31)
	if !ok || err != nil || s[0] != 'n' && s[0] != 'p' {
		return at, false, fault.E(fault.Invalid, "engine.PublicRooms", "not a token of this server")
	}
	return listed{id: mxid.RoomID(id), joined: int(joined)}, s[0] == 'p', nil
}

// publicRooms lists the published rooms that match, in order.
func (e *Engine) publicRooms(q *PublicQuery) ([]listed, error) {
	if q.Networked {
		return nil, nil
	}
	var nums []room.Num
	err := e.Directory.Published(0, func(num uint32) bool {
		nums = append(nums, room.Num(num))
		return true
	})
	if err != nil {
		return nil, err
	}
	var rooms []listed
	for _, num := range nums {
		h, err := e.Rooms.Head(num)
		if err != nil {
			return nil, err
		}
		if h.Joined == 0 {
			continue // nobody there to meet
		}
		ok, err := e.matches(h, q)
		if err != nil {
			return nil, err
		}
		if ok {
			e.Rooms.Settled(h)
			rooms = append(rooms, listed{num, h.ID, h.Joined})
		}
	}
	slices.SortFunc(rooms, listed.compare)
	return rooms, nil
}

// matches says whether a room is what a query asks for.
func (e *Engine) matches(h *room.Head, q *PublicQuery) (bool, error) {
	if q.ByType {
		typ, err := e.stateText(h, "m.room.create", "type")
		if err != nil {
			return false, err
		}
		if typ == "" && !q.Untyped || typ != "" && !slices.Contains(q.Types, typ) {
			return false, nil
		}
	}
	if q.Term == "" {
		return true, nil
	}
	term := strings.ToLower(q.Term)
	for _, f := range publicFields() {
		if !f.searched {
			continue
		}
		text, err := e.stateText(h, f.typ, f.key)
		if err != nil {
			return false, err
		}
		if strings.Contains(strings.ToLower(text), term) {
			return true, nil
		}
	}
	return false, nil
}

// publicField is a text of the room's state that the list shows.
type publicField struct {
	typ, key, as string
	searched     bool
}

func publicFields() [6]publicField {
	return [...]publicField{
		{"m.room.name", "name", "name", true},
		{"m.room.topic", "topic", "topic", true},
		{typeCanonicalAlias, "alias", "canonical_alias", true},
		{"m.room.avatar", "url", "avatar_url", false},
		{"m.room.join_rules", "join_rule", "join_rule", false},
		{"m.room.create", "type", "room_type", false},
	}
}

// stateText is a string in a state event's content; empty where there is none.
func (e *Engine) stateText(h *room.Head, typ, key string) (string, error) {
	ev, err := e.Rooms.StateEvent(h.State, typ, "")
	if err != nil || ev == nil {
		return "", err
	}
	s, _ := cjson.LookupString(ev.Content, key)
	return s, nil
}

// appendPublicRoom appends what the list shows of a room.
func (e *Engine) appendPublicRoom(dst []byte, r listed) ([]byte, error) {
	h, err := e.Rooms.Head(r.num)
	if err != nil {
		return dst, err
	}
	dst = append(dst, '{')
	for _, f := range publicFields() {
		text, err := e.stateText(h, f.typ, f.key)
		if err != nil {
			return dst, err
		}
		if text != "" {
			dst = append(cjson.AppendString(dst, f.as), ':')
			dst = append(cjson.AppendString(dst, text), ',')
		}
	}
	guests, err := e.stateText(h, "m.room.guest_access", "guest_access")
	if err != nil {
		return dst, err
	}
	open, err := e.Rooms.Peekable(h)
	if err != nil {
		return dst, err
	}
	dst = strconv.AppendBool(append(dst, `"guest_can_join":`...), guests == "can_join")
	dst = strconv.AppendInt(append(dst, `,"num_joined_members":`...), int64(r.joined), 10)
	dst = cjson.AppendString(append(dst, `,"room_id":`...), string(r.id))
	dst = strconv.AppendBool(append(dst, `,"world_readable":`...), open)
	return append(dst, '}'), nil
}
