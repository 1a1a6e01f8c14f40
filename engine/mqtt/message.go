package mqtt

import (
	"encoding/binary"
	"errors"
	"time"
)

// The optional fields of a stored message, as bits of its first byte.
const (
	hasExpiry = 1 << iota
	hasText
	hasContentType
	hasResponseTopic
	hasCorrelation
	hasUser
	hasFrom
)

var errRow = errors.New("mqtt: a row of the store cannot be read")

// appendMessage appends the message as the store keeps it, without its topic.
func appendMessage(dst []byte, m *Message) []byte {
	at := len(dst)
	dst = append(dst, 0, m.QoS)
	if m.Retain {
		dst[at+1] |= 4
	}
	if !m.Expires.IsZero() {
		dst[at] |= hasExpiry
		dst = binary.AppendVarint(dst, m.Expires.UnixMilli())
	}
	if m.Text {
		dst[at] |= hasText
	}
	if m.ContentType != "" {
		dst[at] |= hasContentType
		dst = appendText(dst, m.ContentType)
	}
	if m.ResponseTopic != "" {
		dst[at] |= hasResponseTopic
		dst = appendText(dst, m.ResponseTopic)
	}
	if m.Correlation != nil {
		dst[at] |= hasCorrelation
		dst = appendText(dst, string(m.Correlation))
	}
	if len(m.User) > 0 {
		dst[at] |= hasUser
		dst = binary.AppendUvarint(dst, uint64(len(m.User)))
		for _, p := range m.User {
			dst = appendText(appendText(dst, p.Key), p.Value)
		}
	}
	if m.From.Name != "" {
		dst[at] |= hasFrom
		dst = appendText(dst, m.From.Name)
	}
	return append(dst, m.Payload...)
}

func appendText(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// cutter takes a row apart; after a first mistake everything is empty.
type cutter struct {
	b   []byte
	bad bool
}

func (c *cutter) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.b, c.bad = nil, true
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cutter) varint() int64 {
	v, n := binary.Varint(c.b)
	if n <= 0 {
		c.b, c.bad = nil, true
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cutter) byte() byte {
	if len(c.b) == 0 {
		c.bad = true
		return 0
	}
	v := c.b[0]
	c.b = c.b[1:]
	return v
}

func (c *cutter) text() string { return string(c.skip()) }

// skip is a text that is not kept.
func (c *cutter) skip() []byte {
	n := c.uvarint()
	if n > uint64(len(c.b)) {
		c.b, c.bad = nil, true
		return nil
	}
	s := c.b[:n]
	c.b = c.b[n:]
	return s
}

// senderOf reads who published a stored message; empty: the hub itself.
func senderOf(b []byte) string {
	c := cutter{b: b}
	has, _ := c.byte(), c.byte()
	if has&hasExpiry != 0 {
		c.varint()
	}
	for _, field := range [...]byte{hasContentType, hasResponseTopic, hasCorrelation} {
		if has&field != 0 {
			c.skip()
		}
	}
	if has&hasUser != 0 {
		for range 2 * min(c.uvarint(), uint64(len(c.b))) {
			c.skip()
		}
	}
	if has&hasFrom == 0 {
		return ""
	}
	return c.text()
}

// readMessage reads what appendMessage wrote. It keeps nothing of b.
func readMessage(topic string, b []byte) (*Message, error) {
	c := cutter{b: b}
	has, flags := c.byte(), c.byte()
	m := &Message{Topic: topic, QoS: flags & 3, Retain: flags&4 != 0, Text: has&hasText != 0}
	if has&hasExpiry != 0 {
		m.Expires = time.UnixMilli(c.varint())
	}
	if has&hasContentType != 0 {
		m.ContentType = c.text()
	}
	if has&hasResponseTopic != 0 {
		m.ResponseTopic = c.text()
	}
	if has&hasCorrelation != 0 {
		m.Correlation = []byte(c.text())
	}
	if has&hasUser != 0 {
		for range min(c.uvarint(), uint64(len(c.b))) {
			m.User = append(m.User, Pair{c.text(), c.text()})
		}
	}
	if has&hasFrom != 0 {
		m.From.Name = c.text()
	}
	if c.bad || m.QoS > 2 {
		return nil, errRow
	}
	m.Payload = append([]byte(nil), c.b...)
	return m, nil
}

// memory is about what a message takes while it is held.
func (m *Message) memory() int {
	n := 160 + len(m.Topic) + len(m.Payload) + len(m.ContentType) + len(m.ResponseTopic) + len(m.Correlation)
	for _, p := range m.User {
		n += 32 + len(p.Key) + len(p.Value)
	}
	return n
}

// expired says whether its time is over.
func (m *Message) expired(now time.Time) bool { return !m.Expires.IsZero() && !now.Before(m.Expires) }

// seconds is how much of its time is left; 0 where it has no end, or is over.
func (m *Message) seconds(now func() time.Time) uint32 {
	if m.Expires.IsZero() {
		return 0
	}
	left := m.Expires.Sub(now())
	return uint32(max(0, left+time.Second-1) / time.Second)
}
