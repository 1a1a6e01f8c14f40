package sync

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"hearth/engine/ephemeral"
	"hearth/engine/fault"
	"hearth/engine/room"
	"hearth/engine/stream"
)

// conn is one connection of sliding sync: what a client was told, so that it is
// told the rest. It lives in memory only. On disk it would be a write for every
// answer, of which a phone asks for thousands a day, on a card that wears out; what
// a restart costs instead is one M_UNKNOWN_POS, after which the client asks for its
// first window again, which is cheap for it and for the hub.
// Spec: MSC4186, connections.
type conn struct {
	key    connKey
	serial uint64 // no two are the same in the life of the process

	mu   sync.Mutex
	turn uint64 // counts the requests; an older one that still waits is over
	seqs uint64 // numbers of answers that are taken

	poll atomic.Pointer[Poll] // that waits; nil where none does
	held int                  // bytes that its request takes

	has  have  // what the client has shown to have got
	next *step // what the last answer adds to it; nil where there is none

	asks
	// lost is what an earlier connection of the client had come to, which the hub
	// forgot; 0 where there was none, or all that is told since then.
	lost stream.Pos
}

// missed says whether the user left a room that the client may have been told of on
// the connection that it lost.
func (c *conn) missed(p *place) bool { return c.lost != 0 && p.last > c.lost }

type connKey struct {
	user   uint32
	device uint64
	id     string
}

// have is what a client has.
type have struct {
	seq   uint64 // number of the answer
	pos   stream.Pos
	stamp ephemeral.Stamp
	rooms []roomTold // by room

	data    stream.Pos // account data up to here; 0: none yet
	keys    stream.Pos // device lists
	threads stream.Pos // thread subscriptions
	counts  uint64     // of the lists' lengths, a hash

	late stream.Pos // so much before pos is what the client has of the room it lacks most of
	full bool       // every room of the user's is told
}

// step is what an answer adds.
type step struct {
	have    // rooms is what changes
	members []room.EventNum
}

// roomTold is what a client has of one room.
type roomTold struct {
	room room.Num
	ask  uint16     // in conn.asked; 0: nothing
	tail uint16     // of so many events of the timeline's end the client is sure; whole: of all there are
	mark toldMark   // what else
	pos  stream.Pos // everything up to here; 0: up to the connection's position
}

// whole is the tail of a room of which the client has the beginning.
const whole = 1<<16 - 1

type toldMark uint16

const (
	isJoined   toldMark = 1 << iota // the client takes the user to be in the room
	isAsked                         // or invited, or to have knocked
	isDirect                        // it was told so
	hasData                         // account data of the room, up to pos
	hasReceipt                      // receipts
	hasTypists                      // who types
	someType                        // it was told that somebody does
	hasMembers                      // members as the timeline needed them: it is told when they change
	dropped                         // of a step: the room is to be forgotten
)

// The bounds of what is kept. A phone has three connections: of its room list, of
// its keys, and of what shows its notifications.
const (
	maxConns   = 8               // of one device
	maxAsked   = 256             // of one connection
	connsBytes = 4 << 20         // of all
	fairBytes  = connsBytes >> 3 // of one user; who has more loses of their own first
	maxLost    = 1024            // positions of connections that are gone
)

// conns is all connections.
type conns struct {
	boot   uint64 // of this process alone: what an earlier one gave out is not known
	mu     sync.Mutex
	of     map[connKey]*conn
	used   []*conn // the least recently used first
	serial uint64
	bytes  map[*conn]int
	sum    int

	// What clients had when the hub did not know their connections any more, as after
	// a restart. It is for what nobody tells who begins anew: which rooms the user left.
	lost map[connKey]stream.Pos
}

// posToken is a position of a connection, as pos spells it: "p1", the store's
// incarnation, the position in the log, boot id, the connection's serial and the
// number of the answer, and have.late. Boot id and serial say whose it is: the hub
// forgets.
type posToken struct {
	incarnation  uint64
	pos          stream.Pos
	boot, serial uint64
	seq          uint64
	late         uint64
}

const posPrefix = "p1_"

func (t posToken) appendTo(dst []byte) []byte {
	dst = strconv.AppendUint(append(dst, posPrefix...), t.incarnation, 36)
	dst = strconv.AppendUint(append(dst, '_'), uint64(t.pos), 10)
	dst = strconv.AppendUint(append(dst, '_'), t.boot, 36)
	dst = strconv.AppendUint(append(dst, '_'), t.serial, 36)
	dst = strconv.AppendUint(append(dst, '_'), t.seq, 36)
	return strconv.AppendUint(append(dst, '_'), t.late, 36)
}

func parsePos(s string) (t posToken, ok bool) {
	rest, ok := strings.CutPrefix(s, posPrefix)
	if !ok || len(s) > maxToken {
		return t, false
	}
	var pos uint64
	for _, f := range [...]struct {
		to   *uint64
		base int
	}{{&t.incarnation, 36}, {&pos, 10}, {&t.boot, 36}, {&t.serial, 36}, {&t.seq, 36}, {&t.late, 36}} {
		var text string
		text, rest, _ = strings.Cut(rest, "_")
		v, err := strconv.ParseUint(text, f.base, 64)
		if err != nil {
			return posToken{}, false
		}
		*f.to = v
	}
	t.pos = stream.Pos(pos)
	return t, t.late <= pos
}

// conn finds the connection of a request, locked, and takes note of what its
// position proves; a request without a position begins a new one.
// Errors: UnknownPos.
func (s *Sync) conn(req *SlideRequest) (*conn, error) {
	key := connKey{req.User, req.Device, req.Body.ConnID}
	cs := &s.conns
	cs.mu.Lock()
	c := cs.of[key]
	if req.Body.Pos == "" {
		old := c
		c = cs.begin(key)
		cs.mu.Unlock()
		if old != nil {
			old.mu.Lock()
			old.giveUp()
			old.mu.Unlock()
		}
		c.mu.Lock()
		return c, nil
	}
	if c != nil {
		i := slices.Index(cs.used, c)
		cs.used = append(slices.Delete(cs.used, i, i+1), c)
	}
	cs.mu.Unlock()
	at, ok := parsePos(req.Body.Pos)
	ok = ok && at.incarnation == s.incarnation
	if c == nil {
		return nil, cs.unknown(key, at, ok)
	}
	c.mu.Lock()
	good := ok && at.boot == s.conns.boot && at.serial == c.serial
	switch {
	case good && c.next != nil && at.seq == c.next.seq:
		c.take(s, c.next)
		c.next = nil
	case good && at.seq == c.has.seq:
		c.next = nil // the answer was lost, or the client wants another in its place
	default:
		c.mu.Unlock()
		return nil, cs.unknown(key, at, ok && !good)
	}
	c.giveUp()
	if c.full() {
		c.clean()
	}
	return c, nil
}

// giveUp ends the wait of an earlier request, which the client has given up. c is
// locked.
func (c *conn) giveUp() {
	c.turn++
	c.held = 0
	c.release()
}

// release ends the wait of whoever waits on the connection.
func (c *conn) release() {
	if p := c.poll.Swap(nil); p != nil {
		p.expire()
	}
}

// unknown refuses a position. Where it is one of a connection that is gone, what the
// client had by then is noted for when it begins anew.
func (cs *conns) unknown(key connKey, at posToken, gone bool) error {
	if gone {
		cs.mu.Lock()
		if len(cs.lost) >= maxLost {
			clear(cs.lost) // clients that never came again, or somebody who made them up
		}
		had := max(at.pos-stream.Pos(at.late), 1)
		if before, ok := cs.lost[key]; !ok || had < before {
			cs.lost[key] = had
		}
		cs.mu.Unlock()
	}
	return fault.E(fault.UnknownPos, "sync.Slide", "this position is not known, or not any more; begin without one")
}

// begin makes a connection, in the place of the one before it. cs is locked.
func (cs *conns) begin(key connKey) *conn {
	if c := cs.of[key]; c != nil {
		cs.forget(c)
	}
	cs.serial++
	c := &conn{key: key, serial: cs.serial, lost: cs.lost[key]}
	c.clean()
	cs.of[key] = c
	cs.used = append(cs.used, c)
	n := 0
	for _, o := range slices.Backward(cs.used) {
		if o.key.user == key.user && o.key.device == key.device {
			if n++; n > maxConns {
				cs.forget(o)
				break
			}
		}
	}
	return c
}

// forget ends a connection. cs is locked. Whoever answers on it at the moment
// finishes, and nobody waits on; its position is not known any more.
func (cs *conns) forget(c *conn) {
	if cs.of[c.key] == c {
		delete(cs.of, c.key)
	}
	if i := slices.Index(cs.used, c); i >= 0 {
		cs.used = slices.Delete(cs.used, i, i+1)
	}
	cs.sum -= cs.bytes[c]
	delete(cs.bytes, c)
	c.release()
}

// weigh notes how much a connection, which is locked, takes, and forgets others
// where all together take too much.
func (cs *conns) weigh(c *conn) {
	n := 512 + len(c.key.id) + 24*cap(c.has.rooms) + c.asks.weight() + c.held
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.of[c.key] != c {
		c.release()
		return
	}
	cs.sum += n - cs.bytes[c]
	cs.bytes[c] = n
	if cs.sum <= connsBytes {
		return
	}
	own, mine := 0, func(o *conn) bool { return o.key.user == c.key.user }
	for _, o := range cs.used {
		if mine(o) {
			own += cs.bytes[o]
		}
	}
	for own > fairBytes {
		o := cs.used[slices.IndexFunc(cs.used, mine)]
		own -= cs.bytes[o]
		cs.forget(o)
	}
	for cs.sum > connsBytes && cs.used[0] != c {
		cs.forget(cs.used[0])
	}
}

// take adds to what the client has. c is locked.
func (c *conn) take(s *Sync, n *step) {
	rooms := c.has.rooms
	c.has = n.have
	c.has.rooms = slices.Grow(rooms, missing(rooms, n.rooms))
	for _, t := range n.rooms {
		i, ok := slices.BinarySearchFunc(c.has.rooms, t.room, byRoom)
		switch {
		case t.mark&dropped != 0:
			if ok {
				c.has.rooms = slices.Delete(c.has.rooms, i, i+1)
			}
		case ok:
			c.has.rooms[i] = t
		default:
			c.has.rooms = slices.Insert(c.has.rooms, i, t)
		}
	}
	for _, num := range n.members {
		s.told.tell(c.device(), num, 0)
	}
	s.conns.weigh(c)
	if c.lost != 0 && n.full {
		c.lost = 0
		s.conns.mu.Lock()
		delete(s.conns.lost, c.key)
		s.conns.mu.Unlock()
	}
}

// missing counts the rooms of a list that another lacks.
func missing(list, more []roomTold) (n int) {
	for _, t := range more {
		if _, ok := slices.BinarySearchFunc(list, t.room, byRoom); !ok {
			n++
		}
	}
	return n
}

func byRoom(t roomTold, num room.Num) int { return cmp.Compare(t.room, num) }

// device is what the memory of told members knows the connection by: numbers of
// devices never come so high.
func (c *conn) device() uint64 { return 1<<63 | c.serial }

// told finds what the client has of a room; nil where it was told nothing.
func (c *conn) told(num room.Num) *roomTold {
	i, ok := slices.BinarySearchFunc(c.has.rooms, num, byRoom)
	if !ok {
		return nil
	}
	return &c.has.rooms[i]
}
