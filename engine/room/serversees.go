package room

import (
	"strings"

	"hearth/engine/cjson"
	"hearth/engine/mxid"
	"hearth/engine/snapshot"
	"hearth/engine/store"
)

// ServerView decides which events of one room another server may read. It
// remembers its answers by snapshot and is for one request.
// Spec: client-server, room history visibility; server-server, backfilling.
type ServerView struct {
	r      *Rooms
	room   Num
	server mxid.Server
	now    bool // one of its users is joined
	ever   bool // one was
	visKey uint32
	memo   map[snapshot.Num]*serverSight
	keys   map[uint32]bool // whether a state key is that of a member of the server
}

// serverSight is what a snapshot says to a server. Its members are looked for
// only where visibility asks for them.
type serverSight struct {
	visibility      string
	counted         bool
	joined, invited bool
}

// ServerView begins the reading of a room by another server.
func (r *Rooms) ServerView(room Num, server mxid.Server) (*ServerView, error) {
	v := &ServerView{r: r, room: room, server: server, memo: map[snapshot.Num]*serverSight{}, keys: map[uint32]bool{}}
	var err error
	if v.visKey, err = r.KeyOf("m.room.history_visibility", ""); err != nil {
		return nil, err
	}
	num, err := r.names.Find(store.Servers, string(server))
	if err != nil || num == 0 {
		return v, err
	}
	err = r.st.ScanPrefix(serverRoomKey(nil, num, room), func(_, val []byte) (bool, error) {
		d := decoder{src: val}
		v.ever, v.now = true, d.uint() == 0
		return true, d.err("row of a server's room")
	})
	return v, err
}

// In says whether the server is in the room now.
func (v *ServerView) In() bool { return v.now }

// Ever says whether the server is in the room or was.
func (v *ServerView) Ever() bool { return v.ever }

// Sees says whether the server may read the event. One whose state is not known
// is not seen.
func (v *ServerView) Sees(e *Event) (bool, error) {
	if e.Before == 0 && e.After == 0 {
		return false, nil
	}
	for _, num := range [...]snapshot.Num{e.Before, e.After} {
		if num == 0 {
			continue
		}
		if ok, err := v.allows(num); ok || err != nil {
			return ok, err
		}
		if e.After == e.Before {
			break
		}
	}
	return false, nil
}

func (v *ServerView) allows(num snapshot.Num) (bool, error) {
	s, err := v.at(num)
	if err != nil {
		return false, err
	}
	if s.visibility == "world_readable" || s.visibility == "shared" && v.now {
		return true, nil
	}
	if err := v.count(num, s); err != nil {
		return false, err
	}
	return s.joined || s.invited && s.visibility == "invited", nil
}

// maxSights bounds what is remembered in one request.
const maxSights = 256

// at reads the visibility of a snapshot.
func (v *ServerView) at(num snapshot.Num) (*serverSight, error) {
	if s := v.memo[num]; s != nil {
		return s, nil
	}
	s := &serverSight{visibility: "shared"}
	if v.visKey != 0 {
		ev, err := v.r.snaps.Get(uint32(v.room), num, v.visKey)
		if err != nil {
			return nil, err
		}
		if ev != 0 {
			e, err := v.r.Event(EventNum(ev))
			if err != nil {
				return nil, err
			}
			if val, _ := cjson.LookupString(e.Content, "history_visibility"); val == "world_readable" || val == "joined" || val == "invited" {
				s.visibility = val
			}
		}
	}
	if len(v.memo) >= maxSights {
		clear(v.memo)
	}
	v.memo[num] = s
	return s, nil
}

// count finds out how the server's users stand in a snapshot.
func (v *ServerView) count(num snapshot.Num, s *serverSight) error {
	if s.counted {
		return nil
	}
	set, err := v.r.snaps.Load(uint32(v.room), num)
	if err != nil {
		return err
	}
	for _, p := range set {
		if mine, err := v.mine(p.Key); err != nil {
			return err
		} else if !mine {
			continue
		}
		e, err := v.r.Event(EventNum(p.Event))
		if err != nil {
			return err
		}
		switch MembershipOf(e.Content) {
		case Join:
			s.joined = true
		case Invite:
			s.invited = true
		}
		if s.joined {
			break
		}
	}
	s.counted = true
	return nil
}

// mine says whether a state key is that of a member who is of the server.
func (v *ServerView) mine(key uint32) (bool, error) {
	is, known := v.keys[key]
	if known {
		return is, nil
	}
	typ, stateKey, err := v.r.KeyName(key)
	if err != nil {
		return false, err
	}
	is = typ == "m.room.member" && strings.HasPrefix(stateKey, "@") && mxid.UserID(stateKey).Server() == v.server
	v.keys[key] = is
	return is, nil
}
