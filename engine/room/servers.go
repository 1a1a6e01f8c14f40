package room

import (
	"encoding/binary"

	"hearth/engine/mxid"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// Which other servers are in a room, and which were when: two indexes that
// follow the differences events make to the members. A server is in a room
// while one of its users is joined.

func roomServerKey(dst []byte, room Num, server uint32) []byte {
	return store.U32(store.U32(store.RoomServer.Key(dst), uint32(room)), server)
}

func serverRoomKey(dst []byte, server uint32, room Num) []byte {
	return store.U32(store.U32(store.ServerRoom.Key(dst), server), uint32(room))
}

// serverCounts gathers what the events of one batch change of a room's servers.
type serverCounts struct {
	r    *Rooms
	room Num
	m    map[uint32]serverCount
}

type serverCount struct {
	users uint64
	since stream.Pos
}

func (c *serverCount) parse(val []byte) error {
	d := decoder{src: val}
	c.users, c.since = d.uint(), stream.Pos(d.uint())
	return d.err("row of a room's server")
}

// count takes in one member's change at a position.
func (s *serverCounts) count(tx *stream.Tx, m *memberChange, pos stream.Pos) error {
	if m.server == 0 {
		return nil
	}
	c, ok := s.m[m.server]
	if !ok {
		if val, there, err := s.r.st.Get(nil, roomServerKey(nil, s.room, m.server)); err != nil {
			return err
		} else if there {
			if err := c.parse(val); err != nil {
				return err
			}
		}
		if s.m == nil {
			s.m = map[uint32]serverCount{}
		}
	}
	switch {
	case m.new == Join:
		if c.users++; c.users == 1 {
			c.since = pos
			tx.Set(store.U64(serverRoomKey(nil, m.server, s.room), uint64(pos)), []byte{0})
		}
	case c.users > 0:
		if c.users--; c.users == 0 {
			tx.Set(store.U64(serverRoomKey(nil, m.server, s.room), uint64(c.since)), binary.AppendUvarint(nil, uint64(pos)))
		}
	}
	s.m[m.server] = c
	return nil
}

// put writes what was gathered.
func (s *serverCounts) put(tx *stream.Tx) {
	for server, c := range s.m {
		var kbuf [9]byte
		key := roomServerKey(kbuf[:0], s.room, server)
		if c.users == 0 {
			tx.Delete(key)
			continue
		}
		tx.Set(key, binary.AppendUvarint(binary.AppendUvarint(nil, c.users), uint64(c.since)))
	}
}

// Servers calls f for the other servers that have a joined user in the room
// now, until f returns false. since is the position of the event that brought
// the first of them.
func (r *Rooms) Servers(room Num, f func(server mxid.Server, since stream.Pos) (more bool)) error {
	return r.st.ScanPrefix(store.U32(store.RoomServer.Prefix(), uint32(room)), func(key, val []byte) (bool, error) {
		var c serverCount
		if err := c.parse(val); err != nil {
			return false, err
		}
		name, err := r.names.Name(store.Servers, binary.BigEndian.Uint32(key[5:]))
		if err != nil {
			return false, err
		}
		return f(mxid.Server(name), c.since), nil
	})
}

// RoomsWith calls f for each stretch of the log in which a server had a joined
// user in a room, in order of room and of position, until f returns false. Both
// ends belong to it: the event that brought the first and the one with which the
// last was gone. to is 0 while it lasts.
func (r *Rooms) RoomsWith(server mxid.Server, f func(room Num, from, to stream.Pos) (more bool)) error {
	num, err := r.names.Find(store.Servers, string(server))
	if err != nil || num == 0 {
		return err
	}
	return r.st.ScanPrefix(store.U32(store.ServerRoom.Prefix(), num), func(key, val []byte) (bool, error) {
		d := decoder{src: val}
		room, from, to := Num(binary.BigEndian.Uint32(key[5:])), stream.Pos(binary.BigEndian.Uint64(key[9:])), stream.Pos(d.uint())
		return f(room, from, to), d.err("row of a server's room")
	})
}

// ServerAt says whether a server was in a room at a position of the log, the
// event there included: who is thrown out is told so, who comes back is not told
// what happened meanwhile.
func (r *Rooms) ServerAt(room Num, server mxid.Server, pos stream.Pos) (bool, error) {
	num, err := r.names.Find(store.Servers, string(server))
	if err != nil || num == 0 {
		return false, err
	}
	was := false
	prefix := serverRoomKey(nil, num, room)
	err = r.st.ScanBack(prefix, store.U64(prefix[:len(prefix):len(prefix)], uint64(pos)+1), func(_, val []byte) (bool, error) {
		d := decoder{src: val}
		to := stream.Pos(d.uint())
		was = to == 0 || to >= pos
		return false, d.err("row of a server's room")
	})
	return was, err
}

// Beside lists the users of this hub who are joined to a room that a user, of
// whatever server, is joined to; the user too, where they are of this hub.
func (r *Rooms) Beside(user uint32) (list []uint32, err error) {
	seen := map[uint32]bool{}
	var rooms []Num
	err = r.Of(user, func(m Member) bool {
		if m.Membership == Join {
			rooms = append(rooms, m.Room)
		}
		return true
	})
	for _, num := range rooms {
		if err != nil {
			return nil, err
		}
		var h *Head
		if h, err = r.Head(num); err != nil {
			continue
		}
		for _, u := range h.Local {
			if !seen[u] {
				seen[u] = true
				list = append(list, u)
			}
		}
	}
	return list, err
}
