package adminapi

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"hearth/engine"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/httpd/wire"
)

// maxClosed is how many deletions are remembered for those who ask how they
// went; a restart forgets them.
const maxClosed = 64

// closing is a deletion that has been done.
type closing struct {
	id   string
	room mxid.RoomID
	outcome
	end <-chan struct{} // closed when its rows are gone; nil: they are, or stay
}

func (c *closing) status() string {
	select {
	case <-c.end:
	default:
		if c.end != nil {
			return "purging"
		}
	}
	return "complete"
}

// outcome is what a deletion did.
type outcome struct {
	Kicked  []mxid.UserID `json:"kicked_users"`
	Failed  []mxid.UserID `json:"failed_to_kick_users"`
	Aliases []mxid.Alias  `json:"local_aliases"`
	New     *mxid.RoomID  `json:"new_room_id"`
}

// closeRoom takes everybody of this hub out of a room and, unless it is told not
// to, removes all that is written of it.
func (a *API) closeRoom(r *wire.Req) (c closing, err error) {
	var q struct {
		Purge   *bool  `json:"purge"` // nil: yes
		Block   bool   `json:"block"`
		NewUser string `json:"new_room_user_id"`
		Name    string `json:"room_name"`
		Message string `json:"message"`
	}
	if err := r.Decode(&q); err != nil {
		return c, err
	}
	var owner mxid.UserID
	if q.NewUser != "" {
		if owner, err = a.ownID(q.NewUser); err != nil {
			return c, err
		}
		if num, err := a.accounts.Find(owner); err != nil {
			return c, err
		} else if num == 0 {
			return c, fault.E(fault.Invalid, "adminapi.deleteRoom", "new_room_user_id is no user of this hub")
		}
	}
	num, err := a.known(r)
	if err != nil {
		return c, err
	}
	if c.room, err = a.engine.Rooms.RoomID(num); err != nil {
		return c, err
	}
	if q.Block {
		if err := a.engine.BlockRoom(c.room, r.Session.UserID, true); err != nil {
			return c, err
		}
	}
	out := outcome{Kicked: []mxid.UserID{}, Failed: []mxid.UserID{}, Aliases: []mxid.Alias{}}
	kicked, aliases, err := a.engine.CloseRoom(num, q.Purge == nil || *q.Purge)
	if err != nil {
		return c, err
	}
	out.Kicked, out.Aliases = append(out.Kicked, kicked...), append(out.Aliases, aliases...)
	c.end = a.engine.Rooms.Purged(num)
	if owner != "" {
		out.New, err = a.noticeRoom(owner, q.Name, q.Message, kicked)
	}
	c.outcome = out
	return c, err
}

// noticeRoom makes a room in which those who were in another are told why that
// is gone. They may only read there.
func (a *API) noticeRoom(owner mxid.UserID, name, message string, users []mxid.UserID) (*mxid.RoomID, error) {
	if name == "" {
		name = "A room was closed"
	}
	if message == "" {
		message = "The room you were in was closed by the owner of this hub."
	}
	n := engine.NewRoom{Creator: owner, Preset: "private_chat", Name: name, PowerOverride: []byte(`{"users_default":-10}`)}
	for _, u := range users {
		if u != owner {
			n.Invite = append(n.Invite, u)
		}
	}
	id, err := a.engine.CreateRoom(&n)
	if err != nil {
		return nil, err
	}
	num, err := a.engine.Rooms.Find(id)
	if err != nil {
		return nil, err
	}
	content := cjson.AppendString([]byte(`{"msgtype":"m.text","body":`), message)
	_, err = a.engine.Send(num, &room.Draft{Type: "m.room.message", Sender: owner, Content: append(content, '}')})
	return &id, err
}

func (a *API) deleteRoom(r *wire.Req) error {
	c, err := a.closeRoom(r)
	if err != nil {
		return err
	}
	return r.Answer(c.outcome)
}

// deleteRoomLater has the form of a request that only begins something. Here the
// room is no more when the answer comes; only its rows may be on their way out.
func (a *API) deleteRoomLater(r *wire.Req) error {
	c, err := a.closeRoom(r)
	if err != nil {
		return err
	}
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return fmt.Errorf("adminapi: %w", err)
	}
	c.id = hex.EncodeToString(b[:])
	a.mu.Lock()
	if a.closed = append(a.closed, c); len(a.closed) > maxClosed {
		a.closed = a.closed[1:]
	}
	a.mu.Unlock()
	return r.Answer(struct {
		ID string `json:"delete_id"`
	}{c.id})
}

// status is how the tools read the state of a deletion.
type status struct {
	ID      string      `json:"delete_id,omitempty"`
	Room    mxid.RoomID `json:"room_id,omitempty"`
	Status  string      `json:"status"`
	Outcome outcome     `json:"shutdown_room"`
}

// of lists the deletions that match.
func (a *API) of(match func(c *closing) bool) (list []closing) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.closed {
		if match(&a.closed[i]) {
			list = append(list, a.closed[i])
		}
	}
	return list
}

func (a *API) deletions(r *wire.Req) error {
	id := mxid.RoomID(r.Path("roomId"))
	list := a.of(func(c *closing) bool { return c.room == id })
	if len(list) == 0 {
		return fault.E(fault.NotFound, "adminapi.deletions", "no deletion of this room is remembered")
	}
	var all []status
	for _, c := range list {
		all = append(all, status{ID: c.id, Status: c.status(), Outcome: c.outcome})
	}
	return r.Answer(struct {
		Results []status `json:"results"`
	}{all})
}

func (a *API) deletion(r *wire.Req) error {
	id := r.Path("deleteId")
	list := a.of(func(c *closing) bool { return c.id == id })
	if len(list) == 0 {
		return fault.E(fault.NotFound, "adminapi.deletion", "no such deletion is remembered")
	}
	return r.Answer(status{Room: list[0].room, Status: list[0].status(), Outcome: list[0].outcome})
}
