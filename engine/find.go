package engine

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/filter"
	"hearth/engine/history"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/search"
)

// Find asks for events by their words. Spec: client-server, POST /search.
type Find struct {
	User   uint32
	UserID mxid.UserID
	Device uint64

	Term   string
	Keys   []string // body, name, topic; nil: all
	Part   *filter.Part
	Recent bool // newest first; otherwise the best first
	Limit  int
	From   string

	Context       bool
	Before, After int
	Profiles      bool
	State         bool
	GroupRooms    bool
	GroupSenders  bool
}

// Bounds of one search.
const (
	maxLooks  = 50000 // rows of the index
	maxHits   = 5000  // events that may hold the words
	maxRanked = 1000  // events that are read to be ranked or counted, the newest
)

// hit is an event that may hold the words.
type hit struct {
	num  room.EventNum
	in   room.Num
	rank float64
	e    *room.Event
}

// find is a search under way.
type find struct {
	e     *Engine
	q     *Find
	terms []string
	views map[room.Num]*history.View
	hits  []hit // newest first
	page  []hit
	count int // results there are, as far as was looked
	next  string
	dst   []byte
}

// AppendFound appends what a search finds, as POST /search answers it.
//
// Errors: Invalid for a token that is none.
func (e *Engine) AppendFound(dst []byte, q *Find) ([]byte, error) {
	f := find{e: e, q: q, terms: search.Terms(q.Term), views: map[room.Num]*history.View{}, dst: dst}
	if err := e.Search.Refresh(); err != nil {
		return dst, err
	}
	if err := f.collect(); err != nil {
		return dst, err
	}
	var err error
	if q.Recent {
		err = f.pickRecent()
	} else {
		err = f.pickRanked()
	}
	if err != nil {
		return dst, err
	}
	return f.dst, f.append()
}

// collect finds what may match in the rooms that the user may look at.
func (f *find) collect() error {
	var rooms []room.Num
	err := f.e.Rooms.Of(f.q.User, func(m room.Member) bool {
		if m.Membership == room.Join || m.Membership == room.Leave || m.Membership == room.Ban {
			rooms = append(rooms, m.Room)
		}
		return true
	})
	if err != nil {
		return err
	}
	looks := maxLooks
	for _, num := range rooms {
		id, err := f.e.Rooms.RoomID(num)
		if err != nil {
			return err
		}
		if !f.q.Part.PassesRoom(id) || looks <= 0 {
			continue
		}
		read, err := f.e.Search.Find(num, f.terms, looks, func(ev room.EventNum) bool {
			f.hits = append(f.hits, hit{num: ev, in: num})
			return len(f.hits) < maxHits
		})
		if err != nil {
			return err
		}
		looks -= read
	}
	slices.SortFunc(f.hits, func(a, b hit) int { return cmp.Compare(b.num, a.num) })
	return nil
}

// view opens a room for the user; nil where there is nothing to see.
func (f *find) view(num room.Num) (*history.View, error) {
	if v, ok := f.views[num]; ok {
		return v, nil
	}
	id, err := f.e.Rooms.RoomID(num)
	if err != nil {
		return nil, err
	}
	v, err := history.Open(f.e.Rooms, id, f.q.UserID, f.q.Device)
	if err != nil {
		return nil, err
	}
	ignored, err := f.e.Accounts.Ignored(f.q.User)
	if err != nil {
		return nil, err
	}
	v.Ignore(ignored)
	if v.Allowed() != nil {
		v = nil
	}
	f.views[num] = v
	return v, nil
}

// matches reads a hit's event and says whether it holds all words, may be seen
// and passes the filter.
func (f *find) matches(h *hit) (bool, error) {
	e, err := f.e.Rooms.Event(h.num)
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	v, err := f.view(h.in)
	if err != nil || v == nil {
		return false, err
	}
	if h.rank = f.rank(e); h.rank == 0 {
		return false, nil
	}
	h.e = e
	return v.Shows(e, f.q.Part)
}

// rank is how well an event fits: how much of its text the words make up. 0 is
// not at all.
func (f *find) rank(e *room.Event) (best float64) {
	for _, field := range search.Fields() {
		if e.Type != field.Type || f.q.Keys != nil && !slices.Contains(f.q.Keys, field.Key) {
			continue
		}
		text, _ := cjson.LookupString(e.Content, field.Key)
		found := map[string]int{}
		all := 0
		search.Words(text, func(word string) bool {
			if all++; slices.Contains(f.terms, word) {
				found[word]++
			}
			return true
		})
		if len(found) < len(f.terms) || all == 0 {
			continue
		}
		n := 0
		for _, k := range found {
			n += k
		}
		best = max(best, float64(n)/float64(all))
	}
	return best
}

func badToken() error {
	return fault.E(fault.Invalid, "engine.Find", "next_batch is not a token of this server")
}

// pickRecent takes the next page of the newest. A token names the event that the
// page before ended with.
func (f *find) pickRecent() error {
	last := room.EventNum(1<<63 - 1)
	if f.q.From != "" {
		n, err := strconv.ParseUint(strings.TrimPrefix(f.q.From, "n"), 10, 63)
		if err != nil || f.q.From[0] != 'n' {
			return badToken()
		}
		last = room.EventNum(n)
	}
	for i, h := range f.hits {
		if f.next != "" && i >= maxRanked {
			break
		}
		ok, err := f.matches(&h)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		f.count++
		switch {
		case h.num >= last: // on a page before
		case len(f.page) < f.q.Limit:
			// A full page names another, which may be empty: so do other servers, and
			// clients rely on it.
			if f.page = append(f.page, h); len(f.page) == f.q.Limit {
				f.next = fmt.Sprintf("n%d", h.num)
			}
		}
	}
	return nil
}

// pickRanked takes the next page of the best. A token keeps how many there were
// before and what was the newest event at the first page, so that what comes
// meanwhile moves nothing.
func (f *find) pickRanked() error {
	newest, skip := room.EventNum(1<<63), 0
	if f.q.From != "" {
		a, b, _ := strings.Cut(strings.TrimPrefix(f.q.From, "r"), "_")
		top, err1 := strconv.ParseUint(a, 10, 64)
		n, err2 := strconv.ParseUint(b, 10, 31)
		if err1 != nil || err2 != nil || f.q.From[0] != 'r' {
			return badToken()
		}
		newest, skip = room.EventNum(top), int(n)
	}
	var all []hit
	for _, h := range f.hits {
		if h.num > newest || len(all) == maxRanked {
			continue
		}
		ok, err := f.matches(&h)
		if err != nil {
			return err
		}
		if ok {
			h.e = nil // a thousand events may be long
			all = append(all, h)
		}
	}
	if f.count = len(all); f.count == 0 {
		return nil
	}
	newest = all[0].num
	slices.SortStableFunc(all, func(a, b hit) int { return cmp.Compare(b.rank, a.rank) })
	all = all[min(skip, len(all)):]
	if len(all) >= f.q.Limit {
		f.next = fmt.Sprintf("r%d_%d", newest, skip+f.q.Limit)
		all = all[:f.q.Limit]
	}
	for _, h := range all {
		var err error
		if h.e, err = f.e.Rooms.Event(h.num); fault.Is(err, fault.NotFound) {
			continue // aged out since
		}
		if err != nil {
			return err
		}
		f.page = append(f.page, h)
	}
	return nil
}

// append writes the answer. The count is of what the user may see, and no more
// than was read: what the index alone knows would tell which words there are in
// a past that is not theirs to read.
func (f *find) append() (err error) {
	f.dst = append(f.dst, `{"search_categories":{"room_events":{"count":`...)
	f.dst = strconv.AppendInt(f.dst, int64(f.count), 10)
	f.dst = append(f.dst, `,"highlights":[`...)
	for i, term := range f.terms {
		f.comma(i)
		f.dst = cjson.AppendString(f.dst, term)
	}
	f.dst = append(f.dst, `],"results":[`...)
	for i := range f.page {
		f.comma(i)
		if err := f.appendHit(&f.page[i]); err != nil {
			return err
		}
	}
	f.dst = append(f.dst, ']')
	if f.q.GroupRooms || f.q.GroupSenders {
		f.appendGroups()
	}
	if f.q.State {
		if err := f.appendStates(); err != nil {
			return err
		}
	}
	if f.next != "" {
		f.dst = cjson.AppendString(append(f.dst, `,"next_batch":`...), f.next)
	}
	f.dst = append(f.dst, `}}}`...)
	return nil
}

func (f *find) comma(i int) {
	if i > 0 {
		f.dst = append(f.dst, ',')
	}
}

func (f *find) appendHit(h *hit) (err error) {
	v := f.views[h.in]
	f.dst = append(f.dst, `{"rank":`...)
	f.dst = strconv.AppendFloat(f.dst, h.rank, 'f', 6, 64)
	if f.q.Context {
		f.dst = append(f.dst, `,"context":`...)
		if f.dst, err = v.AppendAround(f.dst, h.e, f.q.Before, f.q.After, f.q.Profiles); err != nil {
			return err
		}
	}
	if f.dst, err = v.AppendClient(append(f.dst, `,"result":`...), h.e); err != nil {
		return err
	}
	f.dst = append(f.dst, '}')
	return nil
}

// appendGroups says which results are of which room or sender.
func (f *find) appendGroups() {
	f.dst = append(f.dst, `,"groups":{`...)
	n := 0
	for _, g := range [...]struct {
		on   bool
		name string
		of   func(h *hit) string
	}{
		{f.q.GroupRooms, "room_id", func(h *hit) string { return string(h.e.Room) }},
		{f.q.GroupSenders, "sender", func(h *hit) string { return string(h.e.Sender) }},
	} {
		if !g.on {
			continue
		}
		f.comma(n)
		n++
		f.dst = append(cjson.AppendString(f.dst, g.name), `:{`...)
		var keys []string
		members := map[string][]string{}
		for i := range f.page {
			key := g.of(&f.page[i])
			if members[key] == nil {
				keys = append(keys, key)
			}
			members[key] = append(members[key], string(f.page[i].e.ID))
		}
		for i, key := range keys {
			f.comma(i)
			f.dst = append(cjson.AppendString(f.dst, key), `:{"order":`...)
			f.dst = append(strconv.AppendInt(f.dst, int64(i+1), 10), `,"results":[`...)
			for j, id := range members[key] {
				f.comma(j)
				f.dst = cjson.AppendString(f.dst, id)
			}
			f.dst = append(f.dst, `]}`...)
		}
		f.dst = append(f.dst, '}')
	}
	f.dst = append(f.dst, '}')
}

// appendStates writes the state of the rooms of the results.
func (f *find) appendStates() (err error) {
	f.dst = append(f.dst, `,"state":{`...)
	var told []room.Num
	for i := range f.page {
		h := &f.page[i]
		if slices.Contains(told, h.in) {
			continue
		}
		f.comma(len(told))
		told = append(told, h.in)
		f.dst = append(cjson.AppendString(f.dst, h.e.Room), ':')
		if f.dst, err = f.views[h.in].AppendState(f.dst); err != nil {
			return err
		}
	}
	f.dst = append(f.dst, '}')
	return nil
}
