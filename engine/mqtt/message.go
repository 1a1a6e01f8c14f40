package mqtt

import (
	"encoding/binary"
	"errors"
	"time"

	"hearth/engine/fields"
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
		dst = fields.AppendText(dst, m.ContentType)
	}
	if m.ResponseTopic != "" {
		dst[at] |= hasResponseTopic
		dst = fields.AppendText(dst, m.ResponseTopic)
	}
	if m.Correlation != nil {
		dst[at] |= hasCorrelation
		dst = fields.AppendText(dst, m.Correlation)
	}
	if len(m.User) > 0 {
		dst[at] |= hasUser
		dst = binary.AppendUvarint(dst, uint64(len(m.User)))
		for _, p := range m.User {
			dst = fields.AppendText(fields.AppendText(dst, p.Key), p.Value)
		}
	}
	if m.From.Name != "" {
		dst[at] |= hasFrom
		dst = fields.AppendText(dst, m.From.Name)
	}
	return append(dst, m.Payload...)
}

// senderOf reads who published a stored message; empty: the hub itself.
func senderOf(b []byte) string {
	c := fields.Of(b)
	has, _ := c.Byte(), c.Byte()
	if has&hasExpiry != 0 {
		c.Int()
	}
	for _, field := range [...]byte{hasContentType, hasResponseTopic, hasCorrelation} {
		if has&field != 0 {
			c.Bytes()
		}
	}
	if has&hasUser != 0 {
		for range 2 * min(c.Uint(), uint64(len(c.Rest))) {
			c.Bytes()
		}
	}
	if has&hasFrom == 0 {
		return ""
	}
	return c.Text()
}

// readMessage reads what appendMessage wrote. It keeps nothing of b.
func readMessage(topic string, b []byte) (*Message, error) {
	c := fields.Of(b)
	has, flags := c.Byte(), c.Byte()
	m := &Message{Topic: topic, QoS: flags & 3, Retain: flags&4 != 0, Text: has&hasText != 0}
	if has&hasExpiry != 0 {
		m.Expires = time.UnixMilli(c.Int())
	}
	if has&hasContentType != 0 {
		m.ContentType = c.Text()
	}
	if has&hasResponseTopic != 0 {
		m.ResponseTopic = c.Text()
	}
	if has&hasCorrelation != 0 {
		m.Correlation = []byte(c.Text())
	}
	if has&hasUser != 0 {
		for range min(c.Uint(), uint64(len(c.Rest))) {
			m.User = append(m.User, Pair{c.Text(), c.Text()})
		}
	}
	if has&hasFrom != 0 {
		m.From.Name = c.Text()
	}
	if c.Cut() || m.QoS > 2 {
		return nil, errRow
	}
	m.Payload = append([]byte(nil), c.Rest...)
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
