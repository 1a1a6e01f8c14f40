package mqttd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"time"

	"hearth/engine/mqtt"
)

// The flags of a CONNECT.
const (
	flagClean    = 1 << 1
	flagWill     = 1 << 2
	flagWillQoS  = 3 << 3
	flagRetain   = 1 << 5
	flagPassword = 1 << 6
	flagUsername = 1 << 7
)

// authTime bounds how long it may take to judge who connects.
const authTime = 10 * time.Second

// connecting is a CONNECT taken apart.
type connecting struct {
	mqtt.Connect
	mqtt.Opening
	keepAlive uint16
	props     props
}

// parseConnect reads a CONNECT. version is 4 or 5 where it was understood so
// far; with 0 there is no way to answer.
//
// Spec: MQTT 5, 3.1; MQTT 3.1.1, 3.1.
func parseConnect(b []byte) (q *connecting, version byte, err error) {
	in := &input{b: b}
	name := string(in.text())
	level := in.byte()
	flags := in.byte()
	switch {
	case in.bad != 0 || name != "MQTT":
		return nil, 0, errOver // [MQTT-3.1.2-1]: may be closed without a word
	case level != 4 && level != 5:
		return nil, 4, mqtt.Refuse(mqtt.BadVersion, "")
	case flags&1 != 0, flags&flagWill == 0 && flags&(flagWillQoS|flagRetain) != 0, flags&flagWillQoS == flagWillQoS:
		return nil, level, refuseConnect(level, "reserved or contradicting flags")
	case level == 4 && flags&flagPassword != 0 && flags&flagUsername == 0:
		return nil, level, errOver // [MQTT-3.1.2-22] of 3.1.1
	}
	q = &connecting{keepAlive: in.u16()}
	q.Version, q.CleanStart = level, flags&flagClean != 0
	if level == 5 {
		q.props = in.properties(typeConnect)
		q.Expiry, q.ReceiveMax = q.props.sessionExpiry, q.props.receiveMax
	} else if !q.CleanStart {
		q.Expiry = 0xffffffff
	}
	q.ClientID = string(in.text())
	if flags&flagWill != 0 {
		q.will(in, flags)
	}
	if flags&flagUsername != 0 {
		q.Username = string(in.text())
	}
	if flags&flagPassword != 0 {
		q.Password = in.binary()
	}
	if len(in.b) > 0 {
		in.fail(mqtt.Malformed)
	}
	if in.bad != 0 {
		if level == 4 {
			return nil, level, errOver
		}
		return nil, level, mqtt.Refuse(in.bad, "")
	}
	return q, level, nil
}

func refuseConnect(level byte, text string) error {
	if level < 5 {
		return errOver // 3.1.1 has no code for it
	}
	return mqtt.Refuse(mqtt.Malformed, text)
}

// will reads the last will.
func (q *connecting) will(in *input, flags byte) {
	m := &mqtt.Message{QoS: flags & flagWillQoS >> 3, Retain: flags&flagRetain != 0}
	if q.Version == 5 {
		p := in.properties(0)
		p.describe(m)
		q.WillDelay = p.willDelay
		if p.has(propMessageExpiry) {
			q.WillLasts = max(1, p.expiry)
		}
		if p.has(propResponseTopic) && !mqtt.ValidTopic(m.ResponseTopic) {
			in.fail(mqtt.ProtocolError)
		}
	}
	m.Topic = string(in.text())
	m.Payload = append([]byte(nil), in.binary()...)
	if !validText(p5(q.Version), m) {
		in.fail(mqtt.BadPayload)
	}
	q.Will = m
}

// connect takes the CONNECT.
func (c *conn) connect(b []byte) error {
	q, version, err := parseConnect(b)
	if err != nil {
		return c.refuse(version, err)
	}
	if q.props.has(propAuthMethod) {
		return c.refuse(version, mqtt.Refuse(mqtt.BadAuthMethod, "there is none besides name and password"))
	}
	q.Remote, q.WebSocket, q.TLS, q.Certs = c.remote, c.web, c.secure, c.certs()
	if q.props.has(propProblemInfo) {
		c.asked = q.props.problemInfo
	}
	if q.props.has(propMaxPacket) {
		c.most = int(min(q.props.maxPacket, 1<<28))
	}
	ctx, cancel := context.WithTimeout(c.srv.ctx, authTime)
	client, accept, err := c.srv.broker.Connect(ctx, &q.Connect, &q.Opening, c.link())
	cancel()
	if err != nil {
		c.srv.log.Debug("an MQTT client was refused", "client", q.ClientID, "err", err)
		return c.refuse(version, err)
	}
	if !c.srv.known(c, client.Name()) {
		_ = client.Leave(false, nil) // without an expiry there is nothing to refuse
		return c.refuse(version, mqtt.Refuse(mqtt.QuotaExceeded, "too many connections"))
	}
	w := welcome{Accept: accept, asked: q.Expiry, aliases: c.srv.o.TopicAliases}
	if most := c.srv.o.KeepAlive; version == 5 && most > 0 && (q.keepAlive == 0 || q.keepAlive > most) {
		w.keepAlive, q.keepAlive = most, most
	}
	w.Packet = min(w.Packet, c.srv.o.Packet)
	c.mu.Lock()
	c.version, c.client = version, client
	c.alive = time.Duration(q.keepAlive) * time.Second
	c.mu.Unlock()
	if first := appendWelcome(nil, version, &w); len(first) <= c.most {
		c.say(func(dst []byte) []byte { return append(dst, first...) })
		client.Start()
		return nil
	}
	return errOver // [MQTT-3.1.2-24]: it takes not even that
}

// refuse answers a CONNECT that is not let in.
func (c *conn) refuse(version byte, err error) error {
	if version != 0 && err != errOver {
		r, text := mqtt.ReasonOf(err)
		c.say(func(dst []byte) []byte { return appendRefusal(dst, version, c.most, r, text) })
		c.mu.Lock()
		c.closing = true // the farewell is said
		c.mu.Unlock()
	}
	return errOver
}

// certs is the verified chain of the client's certificate.
func (c *conn) certs() []*x509.Certificate {
	t, ok := c.net.(*tls.Conn)
	if !ok {
		return nil
	}
	if chains := t.ConnectionState().VerifiedChains; len(chains) > 0 {
		return chains[0]
	}
	return nil
}
