package mqtt

import (
	"encoding/binary"
	"strings"
	"sync"
	"time"

	"hearth/engine/fields"
	"hearth/engine/store"
)

func sessionKey(num uint32) []byte { return store.U32(store.ThingSession.Key(nil), num) }

func filterKey(num uint32, filter string) []byte {
	return append(store.U32(store.ThingFilter.Key(nil), num), filter...)
}

func queueKey(num uint32, seq uint64) []byte {
	return store.U64(store.U32(store.ThingQueue.Key(nil), num), seq)
}

func receivedKey(num uint32, id uint16) []byte {
	return binary.BigEndian.AppendUint16(store.U32(store.ThingReceived.Key(nil), num), id)
}

// entry is a row of a queue.
type entry struct {
	qos      byte
	retain   bool
	released bool // a QoS 2 message that the client has; its PUBREL is owed
	ids      []uint32
	body     uint64 // number of the shared copy; 0: inline has the message
	inline   []byte // topic and message
}

const (
	entryRetain = 1 << (iota + 2) // the two lowest bits are the QoS
	entryReleased
	entryIDs
	entryBody
)

func appendEntry(dst []byte, e entry) []byte {
	at := len(dst)
	dst = append(dst, e.qos)
	if e.retain {
		dst[at] |= entryRetain
	}
	if e.released {
		return append(dst[:at], e.qos|entryReleased)
	}
	if len(e.ids) > 0 {
		dst[at] |= entryIDs
		dst = binary.AppendUvarint(dst, uint64(len(e.ids)))
		for _, id := range e.ids {
			dst = binary.AppendUvarint(dst, uint64(id))
		}
	}
	if e.body != 0 {
		dst[at] |= entryBody
		return binary.AppendUvarint(dst, e.body)
	}
	return append(dst, e.inline...)
}

func readEntry(b []byte) (entry, error) {
	c := fields.Of(b)
	flags := c.Byte()
	e := entry{qos: flags & 3, retain: flags&entryRetain != 0, released: flags&entryReleased != 0}
	if flags&entryIDs != 0 {
		for range min(c.Uint(), uint64(len(c.Rest))) {
			e.ids = append(e.ids, uint32(c.Uint()))
		}
	}
	if flags&entryBody != 0 {
		e.body = c.Uint()
	}
	e.inline = c.Rest
	if c.Cut() {
		return e, errRow
	}
	return e, nil
}

// message reads the message of an entry, from the store where it is shared.
func (b *Broker) message(e *entry) (*Message, error) {
	text := e.inline
	if e.body != 0 {
		var ok bool
		var err error
		text, ok, err = b.st.Get(nil, store.U64(store.ThingMessage.Key(nil), e.body))
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, errRow
		}
	}
	c := fields.Of(text)
	topic := c.Text()
	if c.Cut() {
		return nil, errRow
	}
	return readMessage(topic, c.Rest)
}

// sessionRow is a session as the store keeps it.
type sessionRow struct {
	key      string // name, NUL, client id
	token    string
	version  byte
	expiry   uint32
	left     int64  // milliseconds; 0: connected
	sent     uint64 // see session.sent
	willWait uint32
	will     *Message
}

func appendSession(dst []byte, r *sessionRow) []byte {
	dst = append(dst, r.version)
	dst = fields.AppendText(fields.AppendText(dst, r.key), r.token)
	dst = binary.AppendUvarint(dst, uint64(r.expiry))
	dst = binary.AppendVarint(dst, r.left)
	dst = binary.AppendUvarint(dst, r.sent)
	if r.will == nil {
		return append(dst, 0)
	}
	dst = binary.AppendUvarint(append(dst, 1), uint64(r.willWait))
	dst = binary.AppendUvarint(dst, uint64(r.will.lasts))
	return appendMessage(fields.AppendText(dst, r.will.Topic), r.will)
}

func readSession(b []byte) (*sessionRow, error) {
	c := fields.Of(b)
	r := &sessionRow{version: c.Byte(), key: c.Text(), token: c.Text(), expiry: uint32(c.Uint()), left: c.Int(), sent: c.Uint()}
	if c.Byte() == 1 {
		r.willWait = uint32(c.Uint())
		lasts := uint32(c.Uint())
		topic := c.Text()
		if c.Cut() {
			return nil, errRow
		}
		var err error
		if r.will, err = readMessage(topic, c.Rest); err != nil {
			return nil, err
		}
		r.will.Will, r.will.lasts = true, lasts
	}
	if c.Cut() || !strings.Contains(r.key, "\x00") {
		return nil, errRow
	}
	return r, nil
}

// row is the session's row. It needs mu.
func (s *session) row() []byte {
	r := &sessionRow{key: s.key, token: s.id.Token, version: s.version, expiry: s.expiry, sent: s.sent, willWait: s.willWait, will: s.will}
	if s.link == nil {
		r.left = s.left.UnixMilli()
	}
	return appendSession(nil, r)
}

func appendFilter(dst []byte, u *subscription) []byte {
	flags := u.qos | u.handling<<2
	if u.noLocal {
		flags |= 1 << 4
	}
	if u.asPublished {
		flags |= 1 << 5
	}
	if u.replay {
		flags |= 1 << 6
	}
	return binary.AppendUvarint(append(dst, flags), uint64(u.id))
}

func readFilter(name string, b []byte) (*subscription, error) {
	c := fields.Of(b)
	flags := c.Byte()
	u := &subscription{qos: flags & 3, handling: flags >> 2 & 3, noLocal: flags&(1<<4) != 0, asPublished: flags&(1<<5) != 0, replay: flags&(1<<6) != 0}
	u.id = uint32(c.Uint())
	u.group, u.filter, _ = SplitShared(name)
	if c.Cut() || !ValidFilter(name) {
		return nil, errRow
	}
	return u, nil
}

// bodies counts in how many queues each shared message still waits. The counts
// are in memory alone and made from the queues when the broker starts; a chunk
// of them is two bytes a message while it is dense.
type bodies struct {
	mu     sync.Mutex
	counts map[uint64]*[bodyChunk]uint16
	last   uint64
}

const bodyChunk = 64

// make gives a new message its number, with n queues.
func (b *bodies) make(n int) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	b.add(b.last, n)
	return b.last
}

func (b *bodies) add(num uint64, n int) {
	c := b.counts[num/bodyChunk]
	if c == nil {
		c = new([bodyChunk]uint16)
		b.counts[num/bodyChunk] = c
	}
	c[num%bodyChunk] += uint16(n)
	b.last = max(b.last, num)
}

// has says whether a queue still has the message.
func (b *bodies) has(num uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.counts[num/bodyChunk]
	return c != nil && c[num%bodyChunk] > 0
}

// drop takes one queue off, and says whether that was the last.
func (b *bodies) drop(num uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.counts[num/bodyChunk]
	if c == nil || c[num%bodyChunk] == 0 {
		return false
	}
	if c[num%bodyChunk]--; c[num%bodyChunk] > 0 {
		return false
	}
	if *c == [bodyChunk]uint16{} {
		delete(b.counts, num/bodyChunk)
	}
	return true
}

// addDrops puts deletions into a batch.
func (b *Broker) addDrops(batch *store.Batch, drops []drop) {
	for _, d := range drops {
		batch.Delete(queueKey(d.num, d.seq))
		if d.body != 0 && b.bodies.drop(d.body) {
			batch.Delete(store.U64(store.ThingMessage.Key(nil), d.body))
		}
	}
}

// since is a time from a row; the zero time where it was never set.
func since(milliseconds int64) time.Time {
	if milliseconds == 0 {
		return time.Time{}
	}
	return time.UnixMilli(milliseconds)
}
