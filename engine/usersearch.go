package engine

import (
	"cmp"
	"slices"
	"strings"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// The user directory has no index. Users of the hub are few, and their names
// lie together; users of other servers are found through the rooms in which
// the asker may see them. What one search reads is bounded below, so a hub in
// rooms with many thousands of members answers with those it came to first and
// says that there may be more.

// Bounds of one search.
const (
	searchUsers   = 20_000 // users of this hub looked at
	searchMembers = 20_000 // standings in rooms looked at
	searchEvents  = 1_000  // member events read for the names of users of other servers
	searchHits    = 1_000
	searchTerms   = 8
)

// FoundUser is a user as the directory shows them.
type FoundUser struct {
	ID           mxid.UserID
	Name, Avatar string
	rank         int // 0: what was typed is the whole name, 1: its beginning, 2: a part
}

// userSearch is one search under way.
type userSearch struct {
	e       *Engine
	asker   uint32
	terms   []string
	whole   string
	open    map[room.Num]bool // rooms that were looked at: whether everybody may join or read them
	seen    map[uint32]bool   // users of other servers that were looked at
	hits    []FoundUser
	members int
	events  int
	more    bool
}

// SearchUsers finds users by a part of their id or display name among those
// who are in a room with the asker, or in one that everybody may join or read.
// Spec: client-server, POST /user_directory/search.
func (e *Engine) SearchUsers(asker uint32, text string, limit int) (list []FoundUser, limited bool, err error) {
	s := userSearch{e: e, asker: asker, whole: strings.ToLower(strings.TrimSpace(text)), open: map[room.Num]bool{}, seen: map[uint32]bool{}}
	s.terms = strings.Fields(s.whole)
	if len(s.terms) == 0 || limit <= 0 {
		return nil, false, nil
	}
	s.terms = s.terms[:min(len(s.terms), searchTerms)]
	if err := s.local(); err != nil {
		return nil, false, err
	}
	if err := s.remote(); err != nil {
		return nil, false, err
	}
	slices.SortFunc(s.hits, func(a, b FoundUser) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.ID, b.ID))
	})
	if len(s.hits) > limit {
		s.hits, s.more = s.hits[:limit], true
	}
	return s.hits, s.more, nil
}

// match compares a user with what was typed; ok is false where a term is in
// neither the id nor the name.
func (s *userSearch) match(id mxid.UserID, name string) (rank int, ok bool) {
	low, full := strings.ToLower(name), strings.ToLower(string(id))
	for _, t := range s.terms {
		if !strings.Contains(low, t) && !strings.Contains(full, t) {
			return 0, false
		}
	}
	local := mxid.UserID(full).Localpart()
	switch {
	case s.whole == low, s.whole == full, s.whole == local, s.whole == "@"+local:
		return 0, true
	case strings.HasPrefix(low, s.whole), strings.HasPrefix(local, s.whole), strings.HasPrefix(full, s.whole):
		return 1, true
	}
	return 2, true
}

// full says whether the search has found or read as much as it may.
func (s *userSearch) full() bool {
	if len(s.hits) >= searchHits || s.members >= searchMembers {
		s.more = true
	}
	return s.more
}

// local looks at the users of this hub. Their names are those of their
// profiles: how they call themselves in one room is that room's to know.
func (s *userSearch) local() error {
	looked := 0
	for after := uint32(0); !s.full(); {
		list, err := s.e.Accounts.Users(after, 500)
		if err != nil || len(list) == 0 {
			return err
		}
		after = list[len(list)-1].Num
		if looked += len(list); looked > searchUsers {
			s.more = true
		}
		for i := range list {
			u := &list[i]
			if u.Num == s.asker || u.Deactivated {
				continue
			}
			name, avatar, err := s.e.Accounts.NameAndAvatar(u.Num)
			if err != nil {
				return err
			}
			rank, ok := s.match(u.ID, name)
			if !ok {
				continue
			}
			if ok, err = s.visible(u.Num); err != nil {
				return err
			}
			if ok {
				s.hits = append(s.hits, FoundUser{u.ID, name, avatar, rank})
			}
		}
	}
	return nil
}

// visible says whether the asker may know of a user of this hub.
func (s *userSearch) visible(user uint32) (bool, error) {
	var rooms []room.Num
	err := s.e.Rooms.Of(user, func(m room.Member) bool {
		if m.Membership == room.Join {
			rooms = append(rooms, m.Room)
		}
		s.members++
		return true
	})
	for _, num := range rooms {
		if err != nil {
			break
		}
		var m room.Member
		if m, err = s.e.Rooms.MemberOf(num, s.asker); err == nil && m.Membership == room.Join {
			return true, nil
		}
		var open bool
		if open, err = s.isOpen(num); open {
			return true, err
		}
	}
	return false, err
}

// isOpen says whether everybody may join or read a room.
func (s *userSearch) isOpen(num room.Num) (bool, error) {
	if open, ok := s.open[num]; ok {
		return open, nil
	}
	h, err := s.e.Rooms.Head(num)
	if err != nil {
		return false, err
	}
	rule, err := s.e.stateText(h, "m.room.join_rules", "join_rule")
	if err != nil {
		return false, err
	}
	open := rule == "public"
	if !open {
		open, err = s.e.Rooms.Peekable(h)
	}
	s.open[num] = open
	return open, err
}

// remote looks at the users of other servers: first in the asker's own rooms,
// then in the published ones.
func (s *userSearch) remote() error {
	var rooms []room.Num
	err := s.e.Rooms.Of(s.asker, func(m room.Member) bool {
		if m.Membership == room.Join {
			rooms = append(rooms, m.Room)
		}
		return true
	})
	if err != nil {
		return err
	}
	err = s.e.Directory.Published(0, func(num uint32) bool {
		if num := room.Num(num); !slices.Contains(rooms, num) {
			rooms = append(rooms, num)
		}
		return len(rooms) < searchMembers
	})
	for _, num := range rooms {
		if err != nil || s.full() {
			break
		}
		err = s.inside(num)
	}
	return err
}

func (s *userSearch) inside(num room.Num) error {
	h, err := s.e.Rooms.Head(num)
	if err != nil || h.Joined == len(h.Local) {
		return err // nobody of elsewhere
	}
	var fail error
	err = s.e.Rooms.Members(num, func(m room.Member) bool {
		s.members++
		if m.Local || m.Membership != room.Join || s.seen[m.User] {
			return !s.full()
		}
		s.seen[m.User] = true
		fail = s.member(m)
		return fail == nil && !s.full()
	})
	return cmp.Or(err, fail)
}

// member looks at one user of another server. What they are called is in their
// member event alone.
func (s *userSearch) member(m room.Member) error {
	id, err := s.e.Rooms.UserID(m.User)
	if err != nil {
		return err
	}
	var name, avatar string
	_, byID := s.match(id, "")
	if s.events < searchEvents || byID {
		s.events++
		ev, err := s.e.Rooms.Event(m.Event)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		if err == nil {
			name, _ = cjson.LookupString(ev.Content, "displayname")
			avatar, _ = cjson.LookupString(ev.Content, "avatar_url")
		}
	}
	if rank, ok := s.match(id, name); ok {
		s.hits = append(s.hits, FoundUser{id, name, avatar, rank})
	}
	return nil
}
