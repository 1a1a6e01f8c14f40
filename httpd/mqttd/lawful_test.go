package mqttd

import (
	"fmt"
	"slices"
	"strings"

	"hearth/engine/mqtt"
)

// Every packet that the hub sends in any script is held against what a server may
// send at all, so that what it never sends is no promise but seen: the statements
// about reason codes, about texts and properties that would be too long, and about
// what a client has not asked for are covered so, each time.

// lawful are the statements that check looks after.
var lawful = []string{
	"2.2.2-1", "3.1.2-24", "3.1.2-26", "3.1.2-27", "3.1.2-28", "3.1.2-29", "3.2.0-2", "3.2.2-1", "3.2.2-6", "3.2.2-8", "3.2.2-19", "3.2.2-20",
	"3.3.1-2", "3.3.1-4", "3.3.2-11", "3.4.2-1", "3.4.2-2", "3.4.2-3", "3.5.2-1", "3.5.2-2", "3.5.2-3", "3.6.2-1", "3.6.2-2", "3.6.2-3",
	"3.7.2-1", "3.7.2-2", "3.7.2-3", "3.9.2-1", "3.9.2-2", "3.9.3-2", "3.11.2-1", "3.11.2-2", "3.11.3-2", "3.14.0-1", "3.14.2-1", "3.14.2-2", "3.14.2-3", "3.14.2-4",
	"4.3.1-1", "4.12.0-6",
}

// codes are the reason codes that the standard gives a server for each packet.
var codes = map[byte][]mqtt.Reason{
	typeConnAck: {0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95, 0x97, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f},
	typePubAck:  {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
	typePubRec:  {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
	typePubRel:  {0x00, 0x92}, typePubComp: {0x00, 0x92},
	typeSubAck:   {0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2},
	typeUnsubAck: {0x00, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91},
	typeDisconnect: {0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c,
		0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2},
}

// allowedHere are the properties that the hub may send by packet, where the client
// wants to be told of problems.
var allowedHere = map[byte][]byte{
	typeConnAck: {0x11, 0x12, 0x13, 0x1f, 0x21, 0x22, 0x27, 0x2a}, typePublish: {0x01, 0x02, 0x03, 0x08, 0x09, 0x0b, 0x26},
	typePubAck: {0x1f}, typePubRec: {0x1f}, typeDisconnect: {0x1f},
}

// check says what is wrong with a packet of the hub's; "" where nothing is.
func (a *actor) check(first byte, body []byte, whole int) string {
	typ := first >> 4
	a.seen = append(a.seen, typ)
	switch {
	case a.most > 0 && whole > a.most:
		return fmt.Sprintf("%d bytes, of which the client takes %d", whole, a.most)
	case len(a.seen) == 1 && typ != typeConnAck:
		return "something comes before CONNACK"
	case len(a.seen) > 1 && typ == typeConnAck:
		return "a second CONNACK"
	case slices.Contains(a.seen[:len(a.seen)-1], typeDisconnect):
		return "something comes behind DISCONNECT"
	case typ == typePublish && first&6 == 6, typ == typePublish && first&6 == 0 && first&8 != 0:
		return "flags that no PUBLISH has"
	case typ == typePubRel && first&15 != 2, typ != typePublish && typ != typePubRel && first&15 != 0:
		return "reserved flags"
	case a.ver != 5:
		return ""
	}
	in := &input{b: body}
	var reasons []byte
	props := func() (given []byte) {
		n := int(in.varint())
		if n > len(in.b) {
			in.bad = 1
			return nil
		}
		given, in.b = in.b[:n], in.b[n:]
		return given
	}
	var given []byte
	switch typ {
	case typeConnAck:
		flags := in.byte()
		if reasons = []byte{in.byte()}; flags > 1 || flags == 1 && reasons[0] != 0 {
			return "flags that no CONNACK has"
		}
		if len(in.b) == 0 {
			return "" // what a client of another version is told
		}
		given = props()
	case typePublish:
		in.text()
		if first&6 != 0 {
			in.u16()
		}
		given = props()
	case typePubAck, typePubRec, typePubRel, typePubComp:
		if in.u16(); len(in.b) > 0 {
			reasons = []byte{in.byte()}
		}
		if len(in.b) > 0 {
			given = props()
		}
	case typeSubAck, typeUnsubAck:
		in.u16()
		given, reasons = props(), in.b
	case typeDisconnect:
		if len(in.b) > 0 {
			reasons = []byte{in.byte()}
		}
		if len(in.b) > 0 {
			given = props()
		}
	}
	if in.bad != 0 {
		return "it ends too early"
	}
	for _, r := range reasons {
		if !slices.Contains(codes[typ], mqtt.Reason(r)) {
			return fmt.Sprintf("reason code %02x", r)
		}
	}
	return a.checkProps(typ, given)
}

// lengths of properties by their kind; -1: a text, -2: two, -3: a variable integer, -4: bytes.
var lengths = map[byte]int{0x01: 1, 0x02: 4, 0x03: -1, 0x08: -1, 0x09: -4, 0x0b: -3, 0x11: 4, 0x12: -1, 0x13: 2, 0x15: -1, 0x16: -4, 0x17: 1, 0x18: 4, 0x19: 1,
	0x1a: -1, 0x1c: -1, 0x1f: -1, 0x21: 2, 0x22: 2, 0x23: 2, 0x24: 1, 0x25: 1, 0x26: -2, 0x27: 4, 0x28: 1, 0x29: 1, 0x2a: 1}

func (a *actor) checkProps(typ byte, given []byte) string {
	for in := (&input{b: given}); len(in.b) > 0 && in.bad == 0; {
		id := in.byte()
		n, known := lengths[id]
		switch {
		case !known || !slices.Contains(allowedHere[typ], id):
			return fmt.Sprintf("property %02x", id)
		case id == 0x1f && a.quietly && typ != typeConnAck && typ != typeDisconnect:
			return "a reason string where the client wants none"
		case n == -3:
			in.varint()
		case n == -4:
			in.binary()
		case n < 0:
			for range -n {
				in.text()
			}
		default:
			for range n {
				in.byte()
			}
		}
		if in.bad != 0 {
			return "properties that end too early"
		}
	}
	return ""
}

// wants notes what a CONNECT's properties say of what the client takes.
func (a *actor) wants(props string) {
	in := strings.ReplaceAll(props, ".", "")
	if at := strings.Index(in, "27"); at == 0 && len(in) >= 10 {
		_, _ = fmt.Sscanf(in[2:10], "%x", &a.most)
	}
	a.quietly = in == "1700"
}
