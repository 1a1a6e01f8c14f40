package room

import (
	"cmp"
	"slices"

	"hearth/engine/mxid"
)

// maxHeroes is how many members name a room that has no name.
const maxHeroes = 5

// Heroes gives the first members of a room beside one user: those in it or
// invited, or where there are none those who once were. They name a room that
// has no name. Spec: client-server, GET /sync, RoomSummary.
func (r *Rooms) Heroes(h *Head, beside uint32) ([]mxid.UserID, error) {
	var here, gone []Member
	keep := func(list []Member, m Member) []Member {
		i, _ := slices.BinarySearchFunc(list, m, func(x, y Member) int { return cmp.Compare(x.Event, y.Event) })
		if list = slices.Insert(list, i, m); len(list) > maxHeroes {
			list = list[:maxHeroes]
		}
		return list
	}
	if err := r.Members(h.Room, func(m Member) bool {
		switch {
		case m.User == beside:
		case m.Membership == Join || m.Membership == Invite:
			here = keep(here, m)
		case m.Membership == Leave || m.Membership == Ban:
			gone = keep(gone, m)
		}
		return true
	}); err != nil {
		return nil, err
	}
	if len(here) == 0 {
		here = gone
	}
	ids := make([]mxid.UserID, len(here))
	for i, m := range here {
		var err error
		if ids[i], err = r.UserID(m.User); err != nil {
			return nil, err
		}
	}
	return ids, nil
}
