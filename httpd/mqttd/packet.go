package mqttd

import (
	"encoding/binary"
	"unicode/utf8"

	"hearth/engine/mqtt"
)

// The packet types.
const (
	typeConnect     = 1
	typeConnAck     = 2
	typePublish     = 3
	typePubAck      = 4
	typePubRec      = 5
	typePubRel      = 6
	typePubComp     = 7
	typeSubscribe   = 8
	typeSubAck      = 9
	typeUnsubscribe = 10
	typeUnsubAck    = 11
	typePingReq     = 12
	typePingResp    = 13
	typeDisconnect  = 14
	typeAuth        = 15
)

// header takes a packet's first bytes apart. size is the whole packet's length;
// 0 where the header is not all there yet.
//
// Spec: MQTT 5, 2.1.
func header(b []byte) (size, head int, bad bool) {
	n := 0
	for i := 1; i < len(b); i++ {
		n |= int(b[i]&0x7f) << (7 * (i - 1))
		if b[i] < 0x80 {
			if i > 1 && b[i] == 0 {
				return 0, 0, true // not the shortest form
			}
			return 1 + i + n, 1 + i, false
		}
		if i == 4 {
			return 0, 0, true
		}
	}
	return 0, 0, false
}

// goodFlags says whether the low half of a packet's first byte is as it must be.
//
// Spec: MQTT 5, 2.1.3 [MQTT-2.1.3-1].
func goodFlags(first byte) bool {
	switch first >> 4 {
	case typePublish:
		return true
	case typePubRel, typeSubscribe, typeUnsubscribe:
		return first&15 == 2
	}
	return first&15 == 0
}

// input is the rest of a packet. After a first mistake everything read is zero,
// and bad says what the mistake was.
type input struct {
	b   []byte
	bad mqtt.Reason
}

func (in *input) fail(r mqtt.Reason) {
	if in.bad == 0 {
		in.bad = r
	}
	in.b = nil
}

func (in *input) byte() byte {
	if len(in.b) < 1 {
		in.fail(mqtt.Malformed)
		return 0
	}
	v := in.b[0]
	in.b = in.b[1:]
	return v
}

func (in *input) u16() uint16 {
	if len(in.b) < 2 {
		in.fail(mqtt.Malformed)
		return 0
	}
	v := binary.BigEndian.Uint16(in.b)
	in.b = in.b[2:]
	return v
}

func (in *input) u32() uint32 {
	if len(in.b) < 4 {
		in.fail(mqtt.Malformed)
		return 0
	}
	v := binary.BigEndian.Uint32(in.b)
	in.b = in.b[4:]
	return v
}

// varint reads a variable byte integer, which must have its shortest form.
func (in *input) varint() uint32 {
	var v uint32
	for i := range 4 {
		c := in.byte()
		v |= uint32(c&0x7f) << (7 * i)
		if c < 0x80 {
			if i > 0 && c == 0 {
				in.fail(mqtt.Malformed)
			}
			return v
		}
	}
	in.fail(mqtt.Malformed)
	return 0
}

// binary reads bytes with their length before them.
func (in *input) binary() []byte {
	n := int(in.u16())
	if n > len(in.b) {
		in.fail(mqtt.Malformed)
		return nil
	}
	v := in.b[:n:n]
	in.b = in.b[n:]
	return v
}

// text reads a UTF-8 string, which must not hold NUL.
//
// Spec: MQTT 5, 1.5.4.
func (in *input) text() []byte {
	v := in.binary()
	for _, c := range v {
		if c == 0 {
			in.fail(mqtt.Malformed)
			return nil
		}
	}
	if !utf8.Valid(v) {
		in.fail(mqtt.Malformed)
		return nil
	}
	return v
}

// The properties.
const (
	propPayloadFormat   = 0x01
	propMessageExpiry   = 0x02
	propContentType     = 0x03
	propResponseTopic   = 0x08
	propCorrelation     = 0x09
	propSubID           = 0x0b
	propSessionExpiry   = 0x11
	propAssignedID      = 0x12
	propServerKeepAlive = 0x13
	propAuthMethod      = 0x15
	propAuthData        = 0x16
	propProblemInfo     = 0x17
	propWillDelay       = 0x18
	propResponseInfo    = 0x19
	propReasonString    = 0x1f
	propReceiveMax      = 0x21
	propAliasMax        = 0x22
	propAlias           = 0x23
	propMaxQoS          = 0x24
	propRetainAvailable = 0x25
	propUser            = 0x26
	propMaxPacket       = 0x27
)

// props are the properties of a packet from a client. given has a bit for each
// that was there.
type props struct {
	given         uint64
	payloadFormat byte
	expiry        uint32
	contentType   []byte
	responseTopic []byte
	correlation   []byte
	subID         uint32
	sessionExpiry uint32
	authMethod    []byte
	problemInfo   byte
	willDelay     uint32
	responseInfo  byte
	receiveMax    uint16
	aliasMax      uint16
	alias         uint16
	maxPacket     uint32
	user          []mqtt.Pair
}

func (p *props) has(id byte) bool { return p.given&(1<<id) != 0 }

// allowed are the properties that each packet from a client may have; of a will
// under 0.
var allowed = [16]uint64{
	0: set(propWillDelay, propPayloadFormat, propMessageExpiry, propContentType, propResponseTopic, propCorrelation, propUser),
	typeConnect: set(propSessionExpiry, propReceiveMax, propMaxPacket, propAliasMax, propResponseInfo, propProblemInfo, propUser,
		propAuthMethod, propAuthData),
	typePublish:     set(propPayloadFormat, propMessageExpiry, propAlias, propResponseTopic, propCorrelation, propUser, propContentType),
	typePubAck:      set(propReasonString, propUser),
	typePubRec:      set(propReasonString, propUser),
	typePubRel:      set(propReasonString, propUser),
	typePubComp:     set(propReasonString, propUser),
	typeSubscribe:   set(propSubID, propUser),
	typeUnsubscribe: set(propUser),
	typeDisconnect:  set(propSessionExpiry, propReasonString, propUser),
	typeAuth:        set(propAuthMethod, propAuthData, propReasonString, propUser),
}

func set(ids ...byte) (bits uint64) {
	for _, id := range ids {
		bits |= 1 << id
	}
	return bits
}

// properties reads the properties of a packet of the type.
//
// Spec: MQTT 5, 2.2.2.
func (in *input) properties(typ byte) (p props) {
	n := int(in.varint())
	if n > len(in.b) {
		in.fail(mqtt.Malformed)
		return p
	}
	if n == 0 {
		return p
	}
	rest := in.b[n:]
	in.b = in.b[:n]
	for len(in.b) > 0 {
		id := in.varint()
		if id > 0x2a || allowed[typ]&(1<<id) == 0 {
			in.fail(mqtt.Malformed)
			break
		}
		if id != propUser && p.given&(1<<id) != 0 {
			in.fail(mqtt.ProtocolError)
			break
		}
		p.given |= 1 << id
		in.property(byte(id), &p)
	}
	if in.bad == 0 {
		in.b = rest
	}
	return p
}

// property reads the value of one property.
func (in *input) property(id byte, p *props) {
	switch id {
	case propPayloadFormat:
		p.payloadFormat = in.flag()
	case propMessageExpiry:
		p.expiry = in.u32()
	case propContentType:
		p.contentType = in.text()
	case propResponseTopic:
		p.responseTopic = in.text()
	case propCorrelation:
		p.correlation = in.binary()
	case propSubID:
		if p.subID = in.varint(); p.subID == 0 {
			in.fail(mqtt.ProtocolError)
		}
	case propSessionExpiry:
		p.sessionExpiry = in.u32()
	case propAuthMethod:
		p.authMethod = in.text()
	case propAuthData:
		in.binary()
	case propProblemInfo:
		p.problemInfo = in.flag()
	case propWillDelay:
		p.willDelay = in.u32()
	case propResponseInfo:
		p.responseInfo = in.flag()
	case propReasonString:
		in.text()
	case propReceiveMax:
		if p.receiveMax = in.u16(); p.receiveMax == 0 {
			in.fail(mqtt.ProtocolError)
		}
	case propAliasMax:
		p.aliasMax = in.u16()
	case propAlias:
		p.alias = in.u16()
	case propUser:
		p.user = append(p.user, mqtt.Pair{Key: string(in.text()), Value: string(in.text())})
	case propMaxPacket:
		if p.maxPacket = in.u32(); p.maxPacket == 0 {
			in.fail(mqtt.ProtocolError)
		}
	}
}

// flag reads a byte that is 0 or 1.
func (in *input) flag() byte {
	v := in.byte()
	if v > 1 {
		in.fail(mqtt.ProtocolError)
	}
	return v
}
