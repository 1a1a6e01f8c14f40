package mqttd

import (
	"strings"
	"time"
	"unicode/utf8"

	"hearth/engine/mqtt"
)

// handle takes one packet: its first byte and what follows its length. An error
// ends the connection, a RefusedError with its reason code.
func (c *conn) handle(first byte, b []byte) error {
	typ := first >> 4
	switch {
	case c.client == nil && first != typeConnect<<4:
		return errOver // [MQTT-3.1.0-1]
	case c.client == nil:
		return c.connect(b)
	case !goodFlags(first):
		return mqtt.Refuse(mqtt.Malformed, "the packet's flags are not as they must be")
	}
	in := input{b: b}
	switch typ {
	case typePublish:
		return c.publish(first, &in)
	case typePubAck, typePubRec, typePubRel, typePubComp:
		return c.acknowledged(typ, &in)
	case typeSubscribe:
		return c.subscribe(&in)
	case typeUnsubscribe:
		return c.unsubscribe(&in)
	case typePingReq:
		if len(b) > 0 {
			return mqtt.Refuse(mqtt.Malformed, "")
		}
		c.say(func(dst []byte) []byte { return append(dst, typePingResp<<4, 0) })
		return nil
	case typeDisconnect:
		return c.disconnect(&in)
	case typeAuth:
		return mqtt.Refuse(mqtt.ProtocolError, "no authentication method was agreed on")
	}
	return mqtt.Refuse(mqtt.ProtocolError, "not a packet for the server to get now") // a second CONNECT [MQTT-3.1.0-2]
}

// p5 says whether a version has properties.
func p5(version byte) bool { return version == 5 }

// describe puts the properties of an application message into it.
func (p *props) describe(m *mqtt.Message) {
	m.Text = p.payloadFormat == 1
	m.ContentType, m.ResponseTopic = string(p.contentType), string(p.responseTopic)
	if p.has(propCorrelation) {
		m.Correlation = append([]byte{}, p.correlation...)
	}
	m.User = p.user
}

// validText says whether a payload that is said to be text is text.
func validText(asks bool, m *mqtt.Message) bool {
	return !asks || !m.Text || utf8.Valid(m.Payload)
}

// publish takes a PUBLISH.
//
// Spec: MQTT 5, 3.3.
func (c *conn) publish(first byte, in *input) error {
	m := mqtt.Message{QoS: first >> 1 & 3, Retain: first&1 != 0, Dup: first&8 != 0}
	if m.QoS == 3 || m.QoS == 0 && m.Dup {
		return mqtt.Refuse(mqtt.Malformed, "no such QoS, or a repeated QoS 0") // [MQTT-3.3.1-4], [MQTT-3.3.1-2]
	}
	topic := in.text()
	var id uint16
	if m.QoS > 0 {
		if id = in.u16(); id == 0 {
			in.fail(mqtt.Malformed) // [MQTT-2.2.1-3]
		}
	}
	var p props
	if p5(c.version) {
		p = in.properties(typePublish)
	}
	if in.bad != 0 {
		return mqtt.Refuse(in.bad, "")
	}
	if err := c.name(&m, topic, &p); err != nil {
		return err
	}
	m.Payload = in.b
	if p.given != 0 {
		p.describe(&m)
		if p.has(propMessageExpiry) {
			m.Expires = c.srv.broker.Now().Add(time.Duration(p.expiry) * time.Second)
		}
		if p.has(propResponseTopic) && !mqtt.ValidTopic(m.ResponseTopic) {
			return mqtt.Refuse(mqtt.ProtocolError, "a response topic with wildcards") // [MQTT-3.3.2-14]
		}
	}
	if !validText(true, &m) {
		return c.reject(&m, id, mqtt.BadPayload)
	}
	return c.client.Publish(&m, id)
}

// reject answers a message that cannot be taken.
func (c *conn) reject(m *mqtt.Message, id uint16, r mqtt.Reason) error {
	switch m.QoS {
	case 1:
		c.answer(mqtt.Answer{Kind: mqtt.PubAck, ID: id, Reason: r})
	case 2:
		c.answer(mqtt.Answer{Kind: mqtt.PubRec, ID: id, Reason: r})
	}
	return nil
}

// name settles the topic of a PUBLISH, which may be an alias.
//
// Spec: MQTT 5, 3.3.2.3.4.
func (c *conn) name(m *mqtt.Message, topic []byte, p *props) error {
	alias := int(p.alias)
	if p.has(propAlias) && (alias == 0 || alias > int(c.srv.o.TopicAliases)) {
		return mqtt.Refuse(mqtt.BadTopicAlias, "")
	}
	if len(topic) == 0 {
		if alias == 0 || alias > len(c.aliases) || c.aliases[alias-1] == "" {
			return mqtt.Refuse(mqtt.ProtocolError, "no topic, and no alias that is known")
		}
		m.Topic = c.aliases[alias-1]
		return nil
	}
	if string(topic) != c.topic {
		text := string(topic)
		if !mqtt.ValidTopic(text) {
			return mqtt.Refuse(mqtt.BadTopic, "a topic with wildcards") // [MQTT-3.3.2-2]
		}
		if len(text) > mqtt.MaxTopic {
			return mqtt.Refuse(mqtt.BadTopic, "a topic is too long")
		}
		c.topic = text
	}
	m.Topic = c.topic
	if alias > 0 {
		for len(c.aliases) < alias {
			c.aliases = append(c.aliases, "")
		}
		c.aliases[alias-1] = m.Topic
	}
	return nil
}

// acknowledged takes a PUBACK, PUBREC, PUBREL or PUBCOMP.
//
// Spec: MQTT 5, 3.4 to 3.7.
func (c *conn) acknowledged(typ byte, in *input) error {
	id := in.u16()
	var r mqtt.Reason
	if p5(c.version) && len(in.b) > 0 {
		r = mqtt.Reason(in.byte())
		if len(in.b) > 0 {
			in.properties(typ)
		}
	}
	if id == 0 || len(in.b) > 0 {
		in.fail(mqtt.Malformed)
	}
	if in.bad != 0 {
		return mqtt.Refuse(in.bad, "")
	}
	if !goodReason(typ, r) {
		return mqtt.Refuse(mqtt.ProtocolError, "a reason code that the packet does not have")
	}
	switch typ {
	case typePubAck:
		c.client.Acknowledged(id)
	case typePubRec:
		c.client.Received(id, r)
	case typePubRel:
		c.client.Release(id)
	case typePubComp:
		c.client.Completed(id)
	}
	return nil
}

// goodReason says whether the packet may have the reason code.
func goodReason(typ byte, r mqtt.Reason) bool {
	switch r {
	case mqtt.Success:
		return true
	case mqtt.PacketIDNotFound:
		return typ == typePubRel || typ == typePubComp
	case mqtt.NoSubscribers, mqtt.Unspecified, mqtt.Implementation, mqtt.NotAuthorised, mqtt.BadTopic, mqtt.PacketIDInUse,
		mqtt.QuotaExceeded, mqtt.BadPayload:
		return typ == typePubAck || typ == typePubRec
	}
	return false
}

// subscribe takes a SUBSCRIBE.
//
// Spec: MQTT 5, 3.8.
func (c *conn) subscribe(in *input) error {
	id := in.u16()
	var p props
	if p5(c.version) {
		p = in.properties(typeSubscribe)
	}
	var reqs []mqtt.Request
	for in.bad == 0 && len(in.b) > 0 {
		r := mqtt.Request{Filter: string(in.text())}
		opts := in.byte()
		r.QoS = opts & 3
		if p5(c.version) {
			r.NoLocal, r.AsPublished, r.Handling = opts&4 != 0, opts&8 != 0, opts>>4&3
		}
		switch {
		case r.QoS == 3, !p5(c.version) && opts > 2, opts > 63:
			in.fail(mqtt.Malformed) // [MQTT-3.8.3-5]
		case r.Handling == 3, r.NoLocal && strings.HasPrefix(r.Filter, "$share/"):
			in.fail(mqtt.ProtocolError) // [MQTT-3.8.3-4]
		case r.Filter == "":
			in.fail(mqtt.Malformed) // [MQTT-4.7.3-1]
		}
		reqs = append(reqs, r)
	}
	if id == 0 {
		in.fail(mqtt.Malformed)
	}
	if in.bad == 0 && len(reqs) == 0 {
		in.fail(mqtt.ProtocolError) // [MQTT-3.8.3-2]
	}
	if in.bad != 0 {
		return mqtt.Refuse(in.bad, "")
	}
	c.client.Subscribe(reqs, p.subID, func(codes []mqtt.Reason) {
		c.say(func(dst []byte) []byte { return appendCodes(dst, c.version, typeSubAck, id, codes) })
	})
	return nil
}

// unsubscribe takes an UNSUBSCRIBE.
//
// Spec: MQTT 5, 3.10.
func (c *conn) unsubscribe(in *input) error {
	id := in.u16()
	if p5(c.version) {
		in.properties(typeUnsubscribe)
	}
	var filters []string
	for in.bad == 0 && len(in.b) > 0 {
		f := string(in.text())
		if f == "" {
			in.fail(mqtt.Malformed)
		}
		filters = append(filters, f)
	}
	if id == 0 {
		in.fail(mqtt.Malformed)
	}
	if in.bad == 0 && len(filters) == 0 {
		in.fail(mqtt.ProtocolError) // [MQTT-3.10.3-2]
	}
	if in.bad != 0 {
		return mqtt.Refuse(in.bad, "")
	}
	c.client.Unsubscribe(filters, func(codes []mqtt.Reason) {
		c.say(func(dst []byte) []byte { return appendCodes(dst, c.version, typeUnsubAck, id, codes) })
	})
	return nil
}

// disconnect takes a DISCONNECT.
//
// Spec: MQTT 5, 3.14.
func (c *conn) disconnect(in *input) error {
	var r mqtt.Reason
	var p props
	if p5(c.version) && len(in.b) > 0 {
		r = mqtt.Reason(in.byte())
		if len(in.b) > 0 {
			p = in.properties(typeDisconnect)
		}
	}
	if len(in.b) > 0 {
		in.fail(mqtt.Malformed)
	}
	if in.bad != 0 {
		return mqtt.Refuse(in.bad, "")
	}
	var expiry *uint32
	if p.has(propSessionExpiry) {
		expiry = &p.sessionExpiry
	}
	if err := c.client.Leave(r != mqtt.Success, expiry); err != nil {
		return err
	}
	return errOver
}
