package room

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"hearth/engine/fault"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// Key is a place in a room's timeline. A live event has its log position and
// liveFill; what is back-filled before it has the same position and counts
// down. So keys compare, and never move.
type Key struct {
	Pos  stream.Pos
	Fill uint16
}

const liveFill = 1<<16 - 1

// After is the place after everything up to and including a position.
func After(pos stream.Pos) Key { return Key{pos + 1, 0} }

// Before says whether k comes before o.
func (k Key) Before(o Key) bool { return k.Pos < o.Pos || k.Pos == o.Pos && k.Fill < o.Fill }

// String is the key as a pagination token: "t" position "_" fill. A token
// stands between events: after all that come before the key.
func (k Key) String() string { return fmt.Sprintf("t%d_%d", k.Pos, k.Fill) }

// ParseKey reads a pagination token.
func ParseKey(s string) (Key, error) {
	pos, fill, ok := strings.Cut(strings.TrimPrefix(s, "t"), "_")
	p, err1 := strconv.ParseUint(pos, 10, 63)
	f, err2 := strconv.ParseUint(fill, 10, 16)
	if !ok || len(s) > 40 || !strings.HasPrefix(s, "t") || err1 != nil || err2 != nil {
		return Key{}, fault.E(fault.Invalid, "room.ParseKey", "not a token of this server")
	}
	return Key{stream.Pos(p), uint16(f)}, nil
}

func timelineKey(dst []byte, room Num, k Key) []byte {
	dst = store.U64(store.U32(store.Timeline.Key(dst), uint32(room)), uint64(k.Pos))
	return binary.BigEndian.AppendUint16(dst, k.Fill)
}

// Timeline calls f for the events of a room at from <= key < to, oldest first
// or, with back, newest first, until f returns false.
func (r *Rooms) Timeline(room Num, from, to Key, back bool, f func(k Key, num EventNum) (more bool, err error)) error {
	if t := r.trims.of(room); t != nil && from.Before(t.floor) {
		from = t.floor // the rows below it are on their way out
	}
	if !from.Before(to) {
		return nil
	}
	lower, upper := timelineKey(nil, room, from), timelineKey(nil, room, to)
	scan := r.st.Scan
	if back {
		scan = r.st.ScanBack
	}
	return scan(lower, upper, func(key, val []byte) (bool, error) {
		num, n := binary.Uvarint(val)
		if len(key) != 15 || n <= 0 {
			return false, fault.E(fault.Corrupt, "room", "a timeline row of unknown form")
		}
		return f(Key{stream.Pos(binary.BigEndian.Uint64(key[5:])), binary.BigEndian.Uint16(key[13:])}, EventNum(num))
	})
}

// Between is a key half way from one to a later one, which it is never: what halves a
// timeline comes to an end also among the many events that fill a hole at one position.
func Between(low, high Key) Key {
	apart := high.Pos - low.Pos
	if apart > 1 {
		return Key{Pos: low.Pos + apart/2}
	}
	fill := (int(apart)<<16 + int(low.Fill) + int(high.Fill)) / 2
	return Key{low.Pos + stream.Pos(fill>>16), uint16(fill)}
}

// Next is the key directly after k.
func (k Key) Next() Key {
	if k.Fill == liveFill {
		return Key{k.Pos + 1, 0}
	}
	return Key{k.Pos, k.Fill + 1}
}
