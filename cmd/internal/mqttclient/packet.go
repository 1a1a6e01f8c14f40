package mqttclient

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"

	"hearth/engine/mqtt"
)

// The packet types that the client sends or takes.
const (
	typeConnAck    = 2
	typePublish    = 3
	typePubAck     = 4
	typePubRec     = 5
	typePubRel     = 6
	typePubComp    = 7
	typeSubAck     = 9
	typePingResp   = 13
	typeDisconnect = 14
)

// maxPacket is the longest packet that the client takes, and says so.
const maxPacket = 1 << 20

var errPacket = errors.New("the server sent what is no MQTT 5 packet")

// packet is one that came.
type packet struct {
	first byte
	body  []byte
}

func (p packet) typ() byte { return p.first >> 4 }

// readPacket reads one packet, whose body is its own.
//
// Spec: MQTT 5, 2.1.
func readPacket(r *bufio.Reader) (p packet, err error) {
	if p.first, err = r.ReadByte(); err != nil {
		return p, err
	}
	n := 0
	for i := 0; ; i++ {
		c, err := r.ReadByte()
		if err != nil {
			return p, err
		}
		n |= int(c&0x7f) << (7 * i)
		if c < 0x80 {
			break
		}
		if i == 3 {
			return p, errPacket
		}
	}
	if n > maxPacket {
		return p, errPacket
	}
	p.body = make([]byte, n)
	_, err = io.ReadFull(r, p.body)
	return p, err
}

// cutter takes a packet apart; bad says that it was too short.
type cutter struct {
	b   []byte
	bad bool
}

func (c *cutter) take(n int) []byte {
	if n > len(c.b) {
		c.b, c.bad = nil, true
		return make([]byte, min(n, 4)) // enough for a number, which is then 0
	}
	v := c.b[:n]
	c.b = c.b[n:]
	return v
}

func (c *cutter) byte() byte   { return c.take(1)[0] }
func (c *cutter) u16() uint16  { return binary.BigEndian.Uint16(c.take(2)) }
func (c *cutter) text() string { v := c.take(int(c.u16())); return string(v) }

func (c *cutter) varint() int {
	n := 0
	for i := range 4 {
		v := c.byte()
		n |= int(v&0x7f) << (7 * i)
		if v < 0x80 {
			return n
		}
	}
	c.bad = true
	return 0
}

const propReasonString = 0x1f

// reason reads a reason string from the properties; what else they hold is of no
// use to a client this small.
//
// Spec: MQTT 5, 2.2.2.
func (c *cutter) reason() (text string) {
	if len(c.b) == 0 {
		return ""
	}
	p := cutter{b: c.take(c.varint())}
	for len(p.b) > 0 && !p.bad {
		switch id := p.byte(); id {
		case 0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2a:
			p.take(1)
		case 0x13, 0x21, 0x22, 0x23:
			p.take(2)
		case 0x02, 0x11, 0x18, 0x27:
			p.take(4)
		case 0x0b:
			p.varint()
		case propReasonString:
			text = p.text()
		case 0x26:
			p.text()
			p.text()
		default: // the others are texts, or bytes with their length before them
			p.text()
		}
	}
	c.bad = c.bad || p.bad
	return text
}

func appendText(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}

// whole puts a packet's head before its body.
func whole(first byte, body []byte) []byte {
	return append(binary.AppendUvarint([]byte{first}, uint64(len(body))), body...)
}

// connectPacket is a CONNECT.
//
// Spec: MQTT 5, 3.1.
func connectPacket(o *Options, clean bool) []byte {
	var flags byte
	if clean {
		flags |= 1 << 1
	}
	if o.User != "" {
		flags |= 1 << 7
	}
	if o.Password != "" {
		flags |= 1 << 6
	}
	b := append(appendText(nil, "MQTT"), 5, flags)
	b = binary.BigEndian.AppendUint16(b, keepAlive)
	b = append(b, 10, 0x11)
	b = binary.BigEndian.AppendUint32(b, o.Expiry)
	b = binary.BigEndian.AppendUint32(append(b, 0x27), maxPacket)
	b = appendText(b, o.ClientID)
	if o.User != "" {
		b = appendText(b, o.User)
	}
	if o.Password != "" {
		b = appendText(b, o.Password)
	}
	return whole(0x10, b)
}

// publishPacket is a PUBLISH.
//
// Spec: MQTT 5, 3.3.
func publishPacket(m *Message, id uint16, dup bool) []byte {
	first := byte(typePublish<<4) | m.QoS<<1
	if m.Retain {
		first |= 1
	}
	if dup {
		first |= 8
	}
	b := appendText(nil, m.Topic)
	if m.QoS > 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	return whole(first, append(append(b, 0), m.Payload...))
}

// subscribePacket is a SUBSCRIBE.
//
// Spec: MQTT 5, 3.8.
func subscribePacket(id uint16, filters []string, qos byte) []byte {
	b := append(binary.BigEndian.AppendUint16(nil, id), 0)
	for _, f := range filters {
		b = append(appendText(b, f), qos)
	}
	return whole(0x82, b)
}

// answerPacket is a PUBACK, PUBREC, PUBREL or PUBCOMP.
func answerPacket(typ byte, id uint16) []byte {
	first := typ << 4
	if typ == typePubRel {
		first |= 2
	}
	return binary.BigEndian.AppendUint16([]byte{first, 2}, id)
}

// goodbyePacket is a DISCONNECT that ends the session too, or leaves it as it is.
//
// Spec: MQTT 5, 3.14.
func goodbyePacket(forget bool) []byte {
	if forget {
		return []byte{typeDisconnect << 4, 7, 0, 5, 0x11, 0, 0, 0, 0}
	}
	return []byte{typeDisconnect << 4, 0}
}

// readMessage takes a PUBLISH apart.
func readMessage(p packet) (m Message, id uint16, err error) {
	c := cutter{b: p.body}
	m = Message{Topic: c.text(), QoS: p.first >> 1 & 3, Retain: p.first&1 != 0}
	if m.QoS > 0 {
		id = c.u16()
	}
	c.take(c.varint())
	m.Payload = c.b
	if c.bad || m.QoS == 3 || m.QoS > 0 && id == 0 {
		return m, 0, errPacket
	}
	return m, id, nil
}

// answered takes a PUBACK, PUBREC, PUBREL or PUBCOMP apart.
func answered(p packet) (id uint16, r mqtt.Reason, text string) {
	c := cutter{b: p.body}
	id = c.u16()
	if len(c.b) > 0 {
		r = mqtt.Reason(c.byte())
		text = c.reason()
	}
	return id, r, text
}
