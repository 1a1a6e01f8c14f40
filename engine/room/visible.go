package room

import (
	"hearth/engine/cjson"
	"hearth/engine/mxid"
	"hearth/engine/snapshot"
	"hearth/engine/store"
)

// Viewer decides which events of one room one user may read. It remembers its
// answers by snapshot, so a page of history is judged a few times only. It is
// for one request.
// Spec: client-server, room history visibility.
type Viewer struct {
	r       *Rooms
	room    Num
	user    mxid.UserID
	now     Member
	left    *Event // what ended the user's being joined; nil where they are, never were, or forgot
	visKey  uint32
	userKey uint32
	memo    map[snapshot.Num]sight
}

// sight is what a snapshot says to the viewer.
type sight struct {
	visibility string
	membership Membership
}

// Viewer begins the reading of a room by a user. An empty user is one without
// any standing.
func (r *Rooms) Viewer(room Num, user mxid.UserID) (*Viewer, error) {
	v := &Viewer{r: r, room: room, user: user, memo: map[snapshot.Num]sight{}}
	var err error
	if v.visKey, err = r.KeyOf("m.room.history_visibility", ""); err != nil {
		return nil, err
	}
	if user == "" {
		return v, nil
	}
	if v.userKey, err = r.KeyOf("m.room.member", string(user)); err != nil {
		return nil, err
	}
	num, err := r.names.Find(store.Users, string(user))
	if err != nil || num == 0 {
		return v, err
	}
	if v.now, err = r.MemberOf(room, num); err != nil {
		return nil, err
	}
	if (v.now.Membership == Leave || v.now.Membership == Ban) && !v.now.Forgotten {
		v.left, err = r.parting(v.now.Event)
	}
	return v, err
}

// maxPartings bounds how many member events are looked back through.
const maxPartings = 10

// parting finds the event that ended a joined membership: the member event
// itself or, where a ban came after a leaving, the leaving. Nil where there is none.
func (r *Rooms) parting(num EventNum) (*Event, error) {
	for range maxPartings { // a ban after a leave after a join: the leave counts
		e, err := r.Event(num)
		if err != nil || e.Replaces == 0 {
			return nil, err
		}
		old, err := r.Event(e.Replaces)
		if err != nil {
			return nil, err
		}
		switch MembershipOf(old.Content) {
		case Join:
			return e, nil
		case Leave, Ban:
			num = old.Num
		default:
			return nil, nil
		}
	}
	return nil, nil
}

// Member is the user's standing in the room now.
func (v *Viewer) Member() Member { return v.now }

// Departed says whether the user is out of the room now after having been
// joined, and has not forgotten it: such a user still reads what was there until
// then.
func (v *Viewer) Departed() bool { return v.left != nil }

// Left is the event with which the user ceased to be joined; nil where Departed
// is false. A ban may have come after it, and is not what the user last saw.
func (v *Viewer) Left() *Event { return v.left }

// MembershipAt is the user's membership at an event, as clients are told it:
// Leave where there is none, None where the state is not known.
// Spec: client-server, unsigned.membership.
func (v *Viewer) MembershipAt(e *Event) (Membership, error) {
	if e.After == 0 {
		return None, nil
	}
	s, err := v.at(e.After)
	if err != nil || s.membership != None {
		return s.membership, err
	}
	return Leave, nil
}

// Sees says whether the user may read the event. An event whose state is not
// known is not seen.
func (v *Viewer) Sees(e *Event) (bool, error) {
	if e.Before == 0 && e.After == 0 {
		return false, nil
	}
	before, err := v.at(e.Before)
	if err != nil {
		return false, err
	}
	if v.allows(before, e) {
		return true, nil
	}
	if e.After == e.Before {
		return false, nil
	}
	// The events that change visibility or the user's own membership are shown
	// where either side of them would be; so is the beginning of the room.
	if e.Before == 0 || e.Is("m.room.history_visibility", "") || e.Is("m.room.member", string(v.user)) {
		after, err := v.at(e.After)
		if err != nil {
			return false, err
		}
		return v.allows(after, e), nil
	}
	return false, nil
}

func (v *Viewer) allows(s sight, e *Event) bool {
	if s.visibility == "world_readable" || s.membership == Join {
		return true
	}
	switch s.visibility {
	case "shared":
		return v.now.Membership == Join || v.left != nil && e.At.Pos <= v.left.At.Pos
	case "invited":
		return s.membership == Invite
	}
	return false
}

// at reads what a snapshot says.
func (v *Viewer) at(num snapshot.Num) (sight, error) {
	if s, ok := v.memo[num]; ok {
		return s, nil
	}
	s := sight{visibility: "shared"}
	if num == 0 {
		return sight{}, nil
	}
	if e, err := v.event(num, v.visKey); err != nil {
		return s, err
	} else if e != nil {
		if val, _ := cjson.LookupString(e.Content, "history_visibility"); val == "world_readable" || val == "joined" || val == "invited" {
			s.visibility = val
		}
	}
	if e, err := v.event(num, v.userKey); err != nil {
		return s, err
	} else if e != nil {
		s.membership = MembershipOf(e.Content)
	}
	if len(v.memo) > 256 {
		clear(v.memo)
	}
	v.memo[num] = s
	return s, nil
}

// event finds a key's event in a snapshot; nil where there is none.
func (v *Viewer) event(num snapshot.Num, key uint32) (*Event, error) {
	if key == 0 {
		return nil, nil
	}
	ev, err := v.r.snaps.Get(uint32(v.room), num, key)
	if err != nil || ev == 0 {
		return nil, err
	}
	return v.r.Event(EventNum(ev))
}

// Peekable says whether anybody at all may read the room's present.
func (r *Rooms) Peekable(h *Head) (bool, error) {
	e, err := r.stateOf(h.State, "m.room.history_visibility", "")
	if err != nil || e == nil {
		return false, err
	}
	val, _ := cjson.LookupString(e.Content, "history_visibility")
	return val == "world_readable", nil
}
