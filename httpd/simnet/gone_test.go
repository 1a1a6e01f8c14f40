package simnet

import (
	"sync/atomic"
	"testing"
	"time"

	"hearth/engine/room"
)

// Who joins a room long after a server in it has gone has what that said, where
// two who knew it agree, and is of one mind with them about the room.
func TestJoinAfterServersAreGone(t *testing.T) {
	for _, tt := range []struct {
		name string
		on   bool
		knew int // servers in the room that knew the one that is gone
		told bool
	}{{"two who knew it", true, 2, true}, {"one", true, 1, false}, {"not wanted", false, 2, false}} {
		t.Run(tt.name, func(t *testing.T) {
			var ahead atomic.Int64
			ahead.Store(int64(-20 * 24 * time.Hour))
			n := NewWith(t, 4, Options{Quiet: true,
				Now:    func(int) time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
				Change: func(_ int, h *Hub) { h.Open.Witnesses = tt.on }})
			a, b, gone, late := n.Hubs[0], n.Hubs[1], n.Hubs[2], n.Hubs[3]
			amy, bob, cy, dan := a.User("amy"), b.User("bob"), gone.User("cy"), late.User("dan")
			id := amy.create(`{"preset":"public_chat","room_version":"11"}`)
			cy.Want(200, "", "POST", joinPath(id, a.Name), `{}`)
			n.is(room.Join, id, cy.ID, a, gone)
			if tt.knew > 1 {
				bob.Want(200, "", "POST", joinPath(id, a.Name), `{}`)
				n.is(room.Join, id, bob.ID, a, b)
			}
			for _, h := range []*Hub{a, b, late} {
				n.Cut(gone.Name, h.Name)
			}
			ahead.Store(0)
			dan.Want(200, "", "POST", joinPath(id, a.Name), `{}`)
			n.is(room.Join, id, dan.ID, a, late)
			if got := late.standing(id, cy.ID).Membership == room.Join; got != tt.told {
				t.Errorf("%s is in the room there: %v, want %v", cy.ID, got, tt.told)
			}
		})
	}
}
