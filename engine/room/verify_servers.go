package room

import (
	"encoding/binary"

	"hearth/engine/store"
	"hearth/engine/stream"
)

// serverRows holds both indexes of a room's servers to its joined members.
func (v *verifier) serverRows() error {
	type place struct {
		room   Num
		server uint32
	}
	joined := map[place]uint64{}
	if err := v.scan(store.Member, func(key, val []byte) error {
		var m Member
		if len(key) != 8 || m.parse(val) != nil || m.Local || m.Membership != Join {
			return nil // what is wrong with it was told
		}
		user, err := v.r.UserID(binary.BigEndian.Uint32(key[4:]))
		if err != nil {
			return v.tell(err, "member %d", binary.BigEndian.Uint32(key[4:]))
		}
		server, err := v.r.names.Find(store.Servers, string(user.Server()))
		joined[place{Num(binary.BigEndian.Uint32(key)), server}]++
		return err
	}); err != nil {
		return err
	}
	if err := v.scan(store.RoomServer, func(key, val []byte) error {
		at := place{Num(binary.BigEndian.Uint32(key)), binary.BigEndian.Uint32(key[4:])}
		var c serverCount
		if err := c.parse(val); err != nil || c.users != joined[at] {
			v.bad("room %d: server %d has %d joined users, its row says %d", at.room, at.server, joined[at], c.users)
		}
		delete(joined, at)
		_, ok, err := v.r.st.Get(nil, store.U64(serverRoomKey(nil, at.server, at.room), uint64(c.since)))
		if err == nil && !ok {
			v.bad("room %d: server %d is in it since %d, which its own rows do not say", at.room, at.server, c.since)
		}
		return err
	}); err != nil {
		return err
	}
	for at := range joined {
		v.bad("room %d: server %d is in it and has no row", at.room, at.server)
	}
	return v.scan(store.ServerRoom, func(key, val []byte) error {
		d := decoder{src: val}
		from, to := stream.Pos(binary.BigEndian.Uint64(key[8:])), stream.Pos(d.uint())
		if d.cut || to != 0 && to < from || to > v.r.log.Tip() {
			v.bad("server %x: it was in a room from %d to %d", key[:8], from, to)
		}
		return nil
	})
}
