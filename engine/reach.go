package engine

import (
	"context"
	"slices"
	"sync"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/federation"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/stream"
)

// What users do in rooms that this hub is not in goes by other servers.

// Reach names a room as a client does, and the servers by which it may be reached.
type Reach struct {
	Room string // its id, or an alias
	Via  []mxid.Server
}

// Enter makes a user a member of a room, wherever it lives. extra is as for Join.
//
// Errors: those of Join, and of federation.Join. Spec: client-server, joining rooms.
func (e *Engine) Enter(ctx context.Context, to Reach, user mxid.UserID, extra []byte) (mxid.RoomID, error) {
	id, via, err := e.seek(ctx, to)
	if err != nil {
		return "", err
	}
	done, err := e.journeys.begin(ctx, id)
	if err != nil {
		return "", err
	}
	defer done()
	if signed, ok := cjson.Lookup(extra, "third_party_signed"); ok {
		if err := e.accept(ctx, id, user, signed); err != nil {
			return "", err
		}
	}
	num, away, err := e.away(id)
	if err != nil {
		return "", err
	}
	if !away {
		err := e.Join(num, user, extra)
		if !fault.Is(err, fault.UnableToAuthorise) && !fault.Is(err, fault.UnableToGrant) {
			return id, err
		}
	}
	if err := e.mayGo(id, user); err != nil {
		return "", err
	}
	c := federation.Change{Room: id, User: user}
	if c.Content, err = e.joinContent(user, extra); err != nil {
		return "", err
	}
	if c.Via, err = e.ways(num, id, user, via); err != nil {
		return "", err
	}
	if num, err = e.Federation.Join(ctx, &c); err != nil {
		return "", err
	}
	return id, e.settleIn(num, user)
}

// seek finds a room's id, and the servers that an alias adds.
func (e *Engine) seek(ctx context.Context, to Reach) (mxid.RoomID, []mxid.Server, error) {
	if len(to.Room) == 0 || to.Room[0] != '#' {
		id, err := mxid.ParseRoom(to.Room)
		if err != nil {
			return "", nil, fault.E(fault.Invalid, "engine.Resolve", "not a room id or alias: %w", err)
		}
		return id, to.Via, nil
	}
	id, servers, err := e.FindAlias(ctx, to.Room)
	return id, append(slices.Clone(to.Via), servers...), err
}

// FindAlias finds the room of an alias of any server, and servers that are in it.
// Errors: Invalid, NotFound, Remote.
func (e *Engine) FindAlias(ctx context.Context, text string) (mxid.RoomID, []mxid.Server, error) {
	alias, err := mxid.ParseAlias(text)
	if err != nil {
		return "", nil, fault.E(fault.Invalid, "engine.Resolve", "not a room alias: %w", err)
	}
	if s := alias.Server(); s != e.Server && e.Federation.Alone() {
		return "", nil, fault.E(fault.NotFound, "engine.Resolve", "no such alias")
	} else if s != e.Server {
		return e.Federation.FindAlias(ctx, alias)
	}
	num, err := e.ResolveAsking(ctx, text)
	if err != nil {
		return "", nil, err
	}
	id, err := e.Rooms.RoomID(num)
	if err != nil {
		return "", nil, err
	}
	servers, err := e.serversIn(num)
	return id, servers, err
}

// maxServers is how many servers of a room are named to others.
const maxServers = 50

// serversIn lists servers that are in a room, ours first.
func (e *Engine) serversIn(num room.Num) ([]mxid.Server, error) {
	list := []mxid.Server{e.Server}
	err := e.Rooms.Servers(num, func(s mxid.Server, _ stream.Pos) bool {
		list = append(list, s)
		return len(list) < maxServers
	})
	return list, err
}

// away says whether a room is one that this hub is not in, but others are. num is
// 0 where the room is not known at all.
func (e *Engine) away(id mxid.RoomID) (num room.Num, away bool, err error) {
	num, err = e.Rooms.Find(id)
	if fault.Is(err, fault.NotFound) {
		if e.Federation.Alone() {
			return 0, false, err
		}
		return 0, true, nil
	}
	if err != nil {
		return 0, false, err
	}
	head, err := e.Rooms.Head(num)
	if err != nil {
		return 0, false, err
	}
	if head.Bare() {
		return num, true, nil
	}
	if len(head.Local) == 0 {
		err = e.Rooms.Servers(num, func(mxid.Server, stream.Pos) bool {
			away = true
			return false
		})
	}
	return num, away, err
}

// mayGo refuses rooms that the hub's owner has blocked, and guests: whether a room
// that is not here wants them cannot be seen.
func (e *Engine) mayGo(id mxid.RoomID, user mxid.UserID) error {
	blocked, err := e.RoomBlocked(id)
	if err != nil {
		return err
	}
	if blocked {
		return fault.E(fault.Forbidden, "engine.Join", "the room is blocked on this hub")
	}
	guest, err := e.isGuest(user)
	if err != nil || !guest {
		return err
	}
	return fault.E(fault.GuestAccess, "engine.Join", "guests stay in the rooms of this hub")
}

// ways lists the servers by which a room can be reached: who invited the user
// there and those that the client names; where that is nobody, those that were in
// the room when the hub last was, or else the one that the room's id names.
func (e *Engine) ways(num room.Num, id mxid.RoomID, user mxid.UserID, via []mxid.Server) ([]mxid.Server, error) {
	var list []mxid.Server
	if num != 0 {
		known, err := e.Rooms.User(user)
		if err != nil {
			return nil, err
		}
		m, err := e.Rooms.MemberOf(num, known)
		if err != nil {
			return nil, err
		}
		if m.Event != 0 && m.Membership != room.Join {
			ev, err := e.Rooms.Event(m.Event)
			if err != nil && !fault.Is(err, fault.NotFound) {
				return nil, err
			}
			if err == nil && ev.Sender != user {
				list = append(list, ev.Sender.Server())
			}
		}
		told, err := e.Rooms.Invitation(num, known)
		if err != nil {
			return nil, err
		}
		list = append(list, told.Via...)
	}
	for _, s := range via {
		if s != e.Server {
			list = append(list, s)
		}
	}
	if num != 0 && len(list) == 0 {
		in, err := e.serversIn(num)
		if err != nil {
			return nil, err
		}
		list = append(list, in[1:]...)
	}
	if s := id.Server(); s != "" && len(list) == 0 {
		list = append(list, s)
	}
	return list, nil
}

// journeys has one user after the other go to a room that the hub is not in: when
// the first is there, the hub is.
type journeys struct {
	mu  sync.Mutex
	now map[mxid.RoomID]chan struct{}
}

func (j *journeys) begin(ctx context.Context, id mxid.RoomID) (done func(), err error) {
	mine := make(chan struct{})
	for {
		j.mu.Lock()
		other := j.now[id]
		if other == nil {
			if j.now == nil {
				j.now = map[mxid.RoomID]chan struct{}{}
			}
			j.now[id] = mine
		}
		j.mu.Unlock()
		if other == nil {
			break
		}
		select {
		case <-other:
		case <-ctx.Done():
			return nil, fault.E(fault.Busy, "engine.Enter", "the hub is stopping")
		}
	}
	return func() {
		j.mu.Lock()
		delete(j.now, id)
		j.mu.Unlock()
		close(mine)
	}, nil
}
