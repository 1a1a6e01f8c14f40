package bridge

import (
	"bytes"
	"strings"

	"hearth/engine/fault"
	"hearth/engine/mqtt"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/store"
)

// txnPrefix keeps the transactions of the bridge apart from those of clients.
const txnPrefix = "mqtt/"

// Tap says what becomes of a message; see mqtt.Tap.
func (b *Bridge) Tap(m *mqtt.Message, done func(error)) mqtt.Verdict {
	if m.Origin == origin || m.From.Name == "" {
		return mqtt.Verdict{}
	}
	if rest, ok := strings.CutPrefix(m.Topic, shadowPrefix); ok {
		return b.askShadow(rest, m, done)
	}
	if !m.Will {
		b.back(m.From.Name)
	}
	if c := b.commands.answered(m.Topic, m.Correlation, b.p.Now()); c != nil {
		return b.later(m, done, func(k *mqtt.Message) error { return b.answer(c, k) })
	}
	to := b.table.Load().find(m.Topic)
	if to == nil {
		return mqtt.Verdict{}
	}
	switch to.Mode {
	case Event:
		if len(m.Payload) > maxContent {
			return mqtt.Verdict{Refuse: mqtt.QuotaExceeded, Text: "a room event holds at most 64 KiB, and this topic is mapped to a room"}
		}
		if to.Changes && !m.Will && !m.Dup && b.known(m) {
			return mqtt.Verdict{}
		}
		return b.later(m, done, func(k *mqtt.Message) error { return b.send(to, k) })
	case Telemetry:
		if len(m.Payload) == 0 {
			return mqtt.Verdict{} // a retained value is deleted
		}
		if m.QoS == 0 {
			return verdict(b.p.Telemetry.Add(m.Topic, m.Payload, nil))
		}
		v := verdict(b.p.Telemetry.Add(m.Topic, m.Payload, done))
		v.Later, v.Carries = v.Refuse == 0, true
		return v
	case Shadow:
		return b.report(to, m)
	}
	return mqtt.Verdict{}
}

// known says whether a message says again what its topic has retained already, as
// things do each time they come back. It is asked about no repeat (its event may
// not have reached the disk, though the value did) and no last will (the alert of
// the one before may have been taken back).
func (b *Bridge) known(m *mqtt.Message) bool {
	broker := b.broker.Load()
	if broker == nil || !m.Retain || len(m.Payload) == 0 {
		return false
	}
	old, err := broker.Retained(m.Topic)
	return err == nil && old != nil && bytes.Equal(old.Payload, m.Payload)
}

// verdict refuses where there is an error.
func verdict(err error) mqtt.Verdict {
	if err == nil {
		return mqtt.Verdict{}
	}
	v := mqtt.Verdict{}
	v.Refuse, v.Text = mqtt.ReasonOf(err)
	return v
}

// later does with a message what takes longer, and acknowledges it then.
func (b *Bridge) later(m *mqtt.Message, done func(error), f func(k *mqtt.Message) error) mqtt.Verdict {
	k := m.Clone()
	if !b.do(m.From.Name, len(k.Payload)+512, func() {
		err := f(k)
		if err != nil {
			b.tellOnce(k.From.Name + " on " + k.Topic + ": " + plain(err))
		}
		done(refusal(err))
		b.notes.answered(k, b.p.Now())
	}) {
		return mqtt.Verdict{Refuse: mqtt.QuotaExceeded, Text: "too much waits for its rooms: slow down"}
	}
	return mqtt.Verdict{Later: true}
}

// refusal has a thing told why a room did not take its message.
func refusal(err error) error {
	if err == nil {
		return nil
	}
	r, text := mqtt.ReasonOf(err)
	if text == "" {
		text = plain(err)
	}
	if fault.Is(err, fault.Invalid) || fault.Is(err, fault.NotFound) || fault.Is(err, fault.BadState) {
		r = mqtt.Implementation
	}
	return mqtt.Refuse(r, text)
}

// plain is an error without the function that it is of.
func plain(err error) string {
	if f, ok := err.(*fault.Error); ok && f.Text != "" {
		return f.Text
	}
	return err.Error()
}

// send makes one room event of a message, as its sender.
func (b *Bridge) send(to *Mapping, m *mqtt.Message) error {
	num, user, err := b.ready(to, m)
	if err != nil {
		return err
	}
	typ := to.expand(to.Type, m.Topic)
	d := &room.Draft{Type: typ, Sender: user, Content: content(typ, m.Topic, m.Payload)}
	if m.Will && to.Alert {
		d.Content = mention(d.Content)
	}
	if err := forbidden(to, typ); err != nil {
		return err
	}
	if m.Will && to.alertIn > 0 {
		if to.StateKey != "" {
			key := to.expand(to.StateKey, m.Topic)
			d.StateKey = &key
		}
		return b.alertLater(to, num, m, d)
	}
	if to.StateKey != "" {
		key := to.expand(to.StateKey, m.Topic)
		d.StateKey = &key
		_, err = b.p.Deeds.State(num, d)
		return err
	}
	if d.Txn, err = b.txn(m); err != nil {
		return err
	}
	_, err = b.p.Deeds.Send(num, d)
	return err
}

// txn is the transaction of an event of a thing.
func (b *Bridge) txn(m *mqtt.Message) (room.Txn, error) {
	one, err := b.p.Things.Find(m.From.Name)
	if err != nil || one.DeviceNum == 0 {
		return room.Txn{}, nil // a person, by MQTT
	}
	id, err := b.notes.transaction(b.p.Store, m)
	return room.Txn{Device: one.DeviceNum, ID: id}, err
}

// fromThing says whether an event is a thing's of this hub, which speaks by MQTT
// only.
func (b *Bridge) fromThing(e *room.Event) bool {
	if e.Sender.Server() != b.p.Rooms.Server() {
		return false
	}
	_, err := b.p.Things.Find(string(e.Sender))
	return err == nil
}

// ready gives the room of a message and the user who sends it there, joined.
func (b *Bridge) ready(to *Mapping, m *mqtt.Message) (room.Num, mxid.UserID, error) {
	num, err := b.roomOf(to, m.Topic, true)
	if err != nil {
		return 0, "", err
	}
	user := b.userOf(m.From.Name)
	_, sealed, joined, err := b.of(num, user)
	switch {
	case err != nil:
		return 0, "", err
	case sealed:
		return 0, "", sealedRoom(to)
	case joined:
		return num, user, nil
	case !to.joins():
		return 0, "", fault.E(fault.Forbidden, "bridge", "%s is not in the room that %s is mapped to", user, m.Topic)
	}
	return num, user, b.p.Deeds.Enter(num, user, to.By)
}

func sealedRoom(m *Mapping) error {
	return fault.E(fault.Invalid, "bridge", "%s maps %s into an encrypted room; the hub would write there in the clear, so it does not", m.Origin, m.Topic)
}

// report notes the state of a thing.
func (b *Bridge) report(to *Mapping, m *mqtt.Message) mqtt.Verdict {
	if len(m.Payload) == 0 {
		return mqtt.Verdict{}
	}
	one, changed, err := b.p.Shadows.Report(m.From.Name, m.Topic, m.Payload, m.QoS > 0)
	if err != nil {
		return verdict(err)
	}
	if !changed {
		return mqtt.Verdict{}
	}
	b.showLater(to, one)
	if m.QoS == 0 {
		return mqtt.Verdict{}
	}
	return mqtt.Verdict{Rows: func(batch *store.Batch) { b.p.Shadows.Put(batch, one) }}
}
