package sync

import (
	"strconv"
	"strings"

	"hearth/engine/ephemeral"
	"hearth/engine/room"
	"hearth/engine/stream"
)

// token is a moment, as next_batch and since spell it: "s1", then the store's
// incarnation, the position in the log, the position of the last to-device
// message that was told, the boot id and the ephemeral counter, joined by "_".
// What later versions add goes behind, where older ones do not look; what is
// missing is zero.
type token struct {
	incarnation uint64
	pos         stream.Pos
	device      uint64
	stamp       ephemeral.Stamp
}

const tokenPrefix = "s1_"

// maxToken bounds a token in bytes before it is looked at.
const maxToken = 200

func (t token) appendTo(dst []byte) []byte {
	dst = strconv.AppendUint(append(dst, tokenPrefix...), t.incarnation, 36)
	dst = strconv.AppendUint(append(dst, '_'), uint64(t.pos), 10)
	dst = strconv.AppendUint(append(dst, '_'), t.device, 10)
	dst = strconv.AppendUint(append(dst, '_'), t.stamp.Boot, 36)
	return strconv.AppendUint(append(dst, '_'), t.stamp.Seq, 10)
}

// parseToken reads a token; ok is false for what is none.
func parseToken(s string) (t token, ok bool) {
	rest, ok := strings.CutPrefix(s, tokenPrefix)
	if !ok || len(s) > maxToken {
		return t, false
	}
	var pos uint64
	for _, f := range [...]struct {
		to   *uint64
		base int
	}{{&t.incarnation, 36}, {&pos, 10}, {&t.device, 10}, {&t.stamp.Boot, 36}, {&t.stamp.Seq, 10}} {
		if rest == "" {
			break
		}
		var text string
		text, rest, _ = strings.Cut(rest, "_")
		v, err := strconv.ParseUint(text, f.base, 64)
		if err != nil {
			return token{}, false
		}
		*f.to = v
	}
	t.pos = stream.Pos(pos)
	return t, true
}

// Latest is the token of this moment, for clients that ask for what comes from
// now on.
func (s *Sync) Latest() string {
	t := token{incarnation: s.incarnation, pos: s.log.Tip(), stamp: s.eph.Stamp()}
	return string(t.appendTo(nil))
}

// IsToken says whether a text has the form of a since token.
func IsToken(text string) bool {
	_, ok := parseToken(text)
	return ok
}

// Place reads a token of any kind that clients hand in as a place in a room's
// timeline: a prev_batch or end, a next_batch of /sync, or a pos of sliding sync.
func Place(s string) (room.Key, error) {
	if t, ok := parseToken(s); ok {
		return room.After(t.pos), nil
	}
	if t, ok := parsePos(s); ok {
		return room.After(t.pos), nil
	}
	return room.ParseKey(s)
}
