package mqttd

import (
	"encoding/binary"

	"hearth/engine/mqtt"
)

func appendVarint(dst []byte, n int) []byte {
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}

func varintSize(n int) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}

func appendText(dst []byte, s string) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}

// publishProps is how long the properties of a delivery are.
func publishProps(d *mqtt.Delivery, alias uint16) (n int) {
	if d.Text {
		n += 2
	}
	if d.Seconds > 0 {
		n += 5
	}
	if d.ContentType != "" {
		n += 3 + len(d.ContentType)
	}
	if d.ResponseTopic != "" {
		n += 3 + len(d.ResponseTopic)
	}
	if d.Correlation != nil {
		n += 3 + len(d.Correlation)
	}
	for _, id := range d.SubIDs {
		n += 1 + varintSize(int(id))
	}
	if alias > 0 {
		n += 3
	}
	for _, p := range d.User {
		n += 5 + len(p.Key) + len(p.Value)
	}
	return n
}

// appendPublish appends a PUBLISH packet, unless it is longer than most. A topic
// that the client knows an alias for is empty.
//
// Spec: MQTT 5, 3.3.
func appendPublish(dst []byte, version byte, most int, d *mqtt.Delivery, topic string, alias uint16) ([]byte, bool) {
	n := 2 + len(topic) + len(d.Payload)
	if d.QoS > 0 {
		n += 2
	}
	extra := 0
	if version == 5 {
		extra = publishProps(d, alias)
		n += varintSize(extra) + extra
	}
	if 1+varintSize(n)+n > most {
		return dst, false
	}
	first := byte(typePublish<<4) | d.QoS<<1
	if d.Retain {
		first |= 1
	}
	if d.Dup {
		first |= 8
	}
	dst = appendVarint(append(dst, first), n)
	dst = appendText(dst, topic)
	if d.QoS > 0 {
		dst = binary.BigEndian.AppendUint16(dst, d.ID)
	}
	if version == 5 {
		dst = appendVarint(dst, extra)
		if extra > 0 {
			dst = appendPublishProps(dst, d, alias)
		}
	}
	return append(dst, d.Payload...), true
}

func appendPublishProps(dst []byte, d *mqtt.Delivery, alias uint16) []byte {
	if d.Text {
		dst = append(dst, propPayloadFormat, 1)
	}
	if d.Seconds > 0 {
		dst = binary.BigEndian.AppendUint32(append(dst, propMessageExpiry), d.Seconds)
	}
	if d.ContentType != "" {
		dst = appendText(append(dst, propContentType), d.ContentType)
	}
	if d.ResponseTopic != "" {
		dst = appendText(append(dst, propResponseTopic), d.ResponseTopic)
	}
	if d.Correlation != nil {
		dst = binary.BigEndian.AppendUint16(append(dst, propCorrelation), uint16(len(d.Correlation)))
		dst = append(dst, d.Correlation...)
	}
	for _, id := range d.SubIDs {
		dst = appendVarint(append(dst, propSubID), int(id))
	}
	if alias > 0 {
		dst = binary.BigEndian.AppendUint16(append(dst, propAlias), alias)
	}
	for _, p := range d.User {
		dst = appendText(append(dst, propUser), p.Key)
		dst = appendText(dst, p.Value)
	}
	return dst
}

// appendAnswer appends a PUBACK, PUBREC, PUBREL or PUBCOMP.
//
// Spec: MQTT 5, 3.4 to 3.7.
func appendAnswer(dst []byte, version byte, most int, a mqtt.Answer) []byte {
	first := byte(a.Kind) << 4
	if a.Kind == mqtt.PubRel {
		first |= 2
	}
	if version < 5 || a.Reason == mqtt.Success {
		return binary.BigEndian.AppendUint16(append(dst, first, 2), a.ID)
	}
	if a.Text == "" || 10+len(a.Text) > most || len(a.Text) > 1000 {
		return append(binary.BigEndian.AppendUint16(append(dst, first, 3), a.ID), byte(a.Reason))
	}
	props := 3 + len(a.Text)
	dst = appendVarint(append(dst, first), 3+varintSize(props)+props)
	dst = append(binary.BigEndian.AppendUint16(dst, a.ID), byte(a.Reason))
	return appendText(append(appendVarint(dst, props), propReasonString), a.Text)
}

// appendCodes appends a SUBACK or UNSUBACK.
//
// Spec: MQTT 5, 3.9 and 3.11.
func appendCodes(dst []byte, version, typ byte, id uint16, codes []mqtt.Reason) []byte {
	n := 2 + len(codes)
	switch {
	case version == 5:
		n++
	case typ == typeUnsubAck:
		n, codes = 2, nil
	}
	dst = binary.BigEndian.AppendUint16(appendVarint(append(dst, typ<<4), n), id)
	if version == 5 {
		dst = append(dst, 0)
	}
	for _, c := range codes {
		if version < 5 && c.Failed() {
			c = 0x80
		}
		dst = append(dst, byte(c))
	}
	return dst
}

// appendDisconnect appends a DISCONNECT, which the server sends to clients of
// MQTT 5 alone.
func appendDisconnect(dst []byte, r mqtt.Reason, text string, most int) []byte {
	if text == "" || len(text) > 1000 || 10+len(text) > most {
		return append(dst, typeDisconnect<<4, 1, byte(r))
	}
	props := 3 + len(text)
	dst = appendVarint(append(dst, typeDisconnect<<4), 1+varintSize(props)+props)
	return appendText(append(appendVarint(append(dst, byte(r)), props), propReasonString), text)
}

// appendRefusal appends a CONNACK that lets nobody in.
//
// Spec: MQTT 5, 3.2.2; MQTT 3.1.1, 3.2.2.3.
func appendRefusal(dst []byte, version byte, most int, r mqtt.Reason, text string) []byte {
	if version < 5 {
		code := byte(3) // server unavailable
		switch r {
		case mqtt.BadVersion:
			code = 1
		case mqtt.BadClientID:
			code = 2
		case mqtt.BadCredentials:
			code = 4
		case mqtt.NotAuthorised, mqtt.Banned:
			code = 5
		}
		return append(dst, typeConnAck<<4, 2, 0, code)
	}
	if text == "" || len(text) > 100 || 8+len(text) > most {
		return append(dst, typeConnAck<<4, 3, 0, byte(r), 0)
	}
	props := 3 + len(text)
	dst = append(dst, typeConnAck<<4, byte(3+props), 0, byte(r), byte(props), propReasonString)
	return appendText(dst, text)
}

// welcome is what a CONNACK says of a connection.
type welcome struct {
	*mqtt.Accept
	asked     uint32 // session expiry that was asked for
	keepAlive uint16 // 0: the client's own holds
	aliases   uint16
}

// appendWelcome appends a CONNACK that lets a client in.
func appendWelcome(dst []byte, version byte, w *welcome) []byte {
	present := byte(0)
	if w.Present {
		present = 1
	}
	if version < 5 {
		return append(dst, typeConnAck<<4, 2, present, 0)
	}
	var p []byte
	if w.Expiry != w.asked {
		p = binary.BigEndian.AppendUint32(append(p, propSessionExpiry), w.Expiry)
	}
	p = binary.BigEndian.AppendUint16(append(p, propReceiveMax), w.ReceiveMax)
	p = binary.BigEndian.AppendUint32(append(p, propMaxPacket), uint32(w.Packet))
	p = binary.BigEndian.AppendUint16(append(p, propAliasMax), w.aliases)
	if w.ClientID != "" {
		p = appendText(append(p, propAssignedID), w.ClientID)
	}
	if w.keepAlive > 0 {
		p = binary.BigEndian.AppendUint16(append(p, propServerKeepAlive), w.keepAlive)
	}
	dst = appendVarint(append(dst, typeConnAck<<4), 2+varintSize(len(p))+len(p))
	dst = appendVarint(append(dst, present, 0), len(p))
	return append(dst, p...)
}
