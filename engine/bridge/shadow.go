package bridge

import (
	"bytes"
	"context"
	"hash/maphash"
	"slices"
	"strconv"
	"strings"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mqtt"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/shadow"
)

// Shadows over MQTT, for a topic T that is mapped as one:
//
//	T                   the thing publishes what it is
//	$shadow/T/desired   somebody publishes what it shall be (RFC 7396 merge patch)
//	$shadow/T/get       somebody asks; the answer comes on $shadow/T/state
//	$shadow/T/delete    somebody deletes it
//	$shadow/T/delta     the hub publishes what is desired and not reported, retained
//	$shadow/T/state     the hub publishes the whole shadow when it was asked for

// showing is a shadow that is to be shown in its room.
type showing struct {
	to    *Mapping
	thing string
	topic string
	due   time.Time // zero: shown, and nothing has changed since
	last  time.Time // when it was shown
	says  uint64    // hash of what the room was shown last; 0: not known, or under way
}

// showLater has a change shown in the room, and to the thing what of it is open.
func (b *Bridge) showLater(to *Mapping, one *shadow.State) {
	now := b.p.Now()
	key := one.Thing + "\x00" + one.Topic
	b.mu.Lock()
	s := b.show[key]
	if s == nil {
		s = &showing{thing: one.Thing, topic: one.Topic}
		b.show[key] = s
	}
	s.to = to
	if s.due.IsZero() && s.says != maphash.Bytes(b.seed, shadowContent(to, one)) {
		s.due = now
		if next := s.last.Add(to.interval); next.After(now) {
			s.due = next
		}
	}
	b.mu.Unlock()
	b.delta(one)
}

// delta publishes what is desired of a thing and not reported. It is retained, so
// that a thing that sleeps finds it when it wakes.
func (b *Bridge) delta(one *shadow.State) {
	if one.Desired == nil {
		return
	}
	b.publishSoon(&mqtt.Message{Topic: shadowPrefix + one.Topic + "/delta", Payload: one.Delta(), QoS: 1, Retain: true, Text: true})
}

// publishSoon publishes from the hub, in order by topic, without being waited for.
func (b *Bridge) publishSoon(m *mqtt.Message) {
	m.Origin = origin
	b.do(m.Topic, len(m.Payload)+512, func() {
		if err := b.publish(m); err != nil {
			b.p.Note("mqtt: %s was not published: %v", m.Topic, err)
		}
	})
}

// publishTime bounds how long the broker may take.
const publishTime = 30 * time.Second

func (b *Bridge) publish(m *mqtt.Message) error {
	broker := b.broker.Load()
	if broker == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), publishTime)
	defer cancel()
	m.Origin = origin
	return broker.Publish(ctx, m)
}

// showDue shows the shadows whose time has come.
func (b *Bridge) showDue(now time.Time) {
	var due []*showing
	b.mu.Lock()
	for _, s := range b.show {
		if !s.due.IsZero() && !s.due.After(now) {
			due = append(due, s)
			s.due, s.last, s.says = time.Time{}, now, 0
		}
	}
	b.mu.Unlock()
	slices.SortFunc(due, func(x, y *showing) int { return strings.Compare(x.topic, y.topic) })
	for _, s := range due {
		b.mu.Lock()
		to := s.to
		b.mu.Unlock()
		ok := b.do(s.thing, 512, func() {
			err := b.showOne(to, s)
			if err != nil {
				b.tellOnce("the shadow of " + s.topic + " is not shown: " + plain(err))
			}
			if err != nil && !lasting(err) {
				b.showAgain(s)
			}
		})
		if !ok {
			b.showAgain(s)
		}
	}
}

// showAgain has a shadow shown that could not be.
func (b *Bridge) showAgain(s *showing) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.due.IsZero() {
		s.due = b.p.Now().Add(s.to.interval)
	}
}

// showOne sends the state event of a shadow. One that says what the room says
// already is not sent again.
func (b *Bridge) showOne(to *Mapping, s *showing) error {
	one, err := b.p.Shadows.Get(s.thing, s.topic)
	if fault.Is(err, fault.NotFound) {
		return nil // deleted meanwhile
	}
	if err != nil {
		return err
	}
	num, err := b.roomOf(to, s.topic, true)
	if err != nil {
		return err
	}
	content := shadowContent(to, one)
	err = b.state(to, num, b.userOf(s.thing), to.expand(to.Type, s.topic), to.expand(to.StateKey, s.topic), content)
	if err == nil {
		b.mu.Lock()
		s.says = maphash.Bytes(b.seed, content)
		b.mu.Unlock()
	}
	return err
}

// unseen forgets what rooms were shown: it may be other rooms now.
func (b *Bridge) unseen() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.show {
		s.says = 0
	}
}

// visible leaves out of a state what its room is not shown: a signal's strength
// that wavers would be an event each time.
func visible(to *Mapping, val []byte) []byte {
	if len(to.Hide) == 0 || cjson.KindOf(trim(val)) != cjson.ObjectKind {
		return val
	}
	dst := []byte{'{'}
	_ = cjson.Object(trim(val), func(key, member []byte) bool { // shadows hold JSON only
		if !slices.Contains(to.Hide, string(key)) {
			if len(dst) > 1 {
				dst = append(dst, ',')
			}
			dst = append(append(cjson.AppendString(dst, string(key)), ':'), member...)
		}
		return true
	})
	return append(dst, '}')
}

// shadowContent is a shadow as a state event: values that events cannot hold are
// their text.
func shadowContent(to *Mapping, one *shadow.State) []byte {
	dst := []byte{'{'}
	for _, part := range [...]struct {
		name string
		val  []byte
	}{{"reported", one.Reported}, {"desired", one.Desired}} {
		if part.val == nil {
			continue
		}
		part.val = visible(to, part.val)
		dst = append(append(append(dst, '"'), part.name...), `":`...)
		if _, err := cjson.Canonical(nil, part.val, true); err == nil {
			dst = append(append(dst, part.val...), ',')
			continue
		}
		dst = append(cjson.AppendString(dst, string(part.val)), ',')
	}
	dst = cjson.AppendString(append(append(dst, '"'), keyTopic+`":`...), one.Topic)
	return append(dst, '}')
}

// state sends a state event as the thing where it may, else as the hub's user,
// who is given the power for it.
func (b *Bridge) state(to *Mapping, num room.Num, user mxid.UserID, typ, key string, content []byte) error {
	levels, sealed, joined, err := b.of(num, user)
	if err != nil {
		return err
	}
	if sealed {
		return sealedRoom(to)
	}
	if err := forbidden(to, typ); err != nil {
		return err
	}
	if !joined || levels.UserLevel(user) < levels.EventLevel(typ, true) {
		if user, err = b.asHub(to, num, typ, true); err != nil {
			return err
		}
	}
	_, err = b.p.Deeds.State(num, &room.Draft{Type: typ, StateKey: &key, Sender: user, Content: content})
	return err
}

// asHub gives the hub's own user, who is let into the room and given power there
// where that is needed.
func (b *Bridge) asHub(to *Mapping, num room.Num, typ string, state bool) (mxid.UserID, error) {
	user := b.p.Hub
	levels, sealed, joined, err := b.of(num, user)
	switch {
	case err != nil:
		return "", err
	case sealed:
		return "", sealedRoom(to)
	}
	enough := levels.UserLevel(user) >= levels.EventLevel(typ, state)
	if joined && enough {
		return user, nil
	}
	if !to.joins() {
		return "", fault.E(fault.Forbidden, "bridge", "%s needs power level %d in the room that %s is mapped to", user, levels.EventLevel(typ, state), to.Topic)
	}
	if !enough {
		if err := b.p.Deeds.Crown(num, to.By, levels.EventLevel(typ, state)); err != nil {
			return "", err
		}
	}
	if joined {
		return user, nil
	}
	return user, b.p.Deeds.Enter(num, user, to.By)
}

// askShadow does what somebody asks about a shadow by MQTT.
func (b *Bridge) askShadow(rest string, m *mqtt.Message, done func(error)) mqtt.Verdict {
	i := strings.LastIndexByte(rest, '/')
	if i <= 0 {
		return mqtt.Verdict{Refuse: mqtt.NotAuthorised, Text: "there is no such topic of a shadow"}
	}
	topic, word := rest[:i], rest[i+1:]
	to := b.table.Load().find(topic)
	if to == nil || to.Mode != Shadow {
		return mqtt.Verdict{Refuse: mqtt.NotAuthorised, Text: topic + " is not mapped as a shadow"}
	}
	switch word {
	case "desired":
		return b.later(m, done, func(k *mqtt.Message) error { return b.Desire(b.Owner(topic), topic, k.Payload, 0) })
	case "get":
		return b.later(m, done, func(*mqtt.Message) error {
			one, err := b.p.Shadows.Get(b.Owner(topic), topic)
			if err != nil {
				return err
			}
			b.publishSoon(&mqtt.Message{Topic: shadowPrefix + topic + "/state", Payload: one.Append(nil), QoS: 1, Text: true})
			return nil
		})
	case "delete":
		return b.later(m, done, func(*mqtt.Message) error { return b.DeleteShadow(b.Owner(topic), topic) })
	}
	return mqtt.Verdict{Refuse: mqtt.NotAuthorised, Text: "a shadow knows desired, get and delete, not " + word}
}

// Owner is the thing whose shadow a topic is: the one that reported on it, else
// the one the topic begins with.
func (b *Bridge) Owner(topic string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	first, _, _ := strings.Cut(topic, "/")
	if b.show[first+"\x00"+topic] != nil {
		return first
	}
	for _, s := range b.show {
		if s.topic == topic {
			return s.thing
		}
	}
	return first
}

// Desire changes what is desired of a thing; see shadow.Desire.
func (b *Bridge) Desire(thing, topic string, patch []byte, version uint64) error {
	one, err := b.p.Shadows.Desire(thing, topic, patch, version)
	if err != nil {
		return err
	}
	if to := b.table.Load().find(topic); to != nil && to.Mode == Shadow {
		b.showLater(to, one)
	} else {
		b.delta(one)
	}
	if one.Desired == nil { // nothing is open any more
		b.publishSoon(&mqtt.Message{Topic: shadowPrefix + topic + "/delta", QoS: 1, Retain: true})
	}
	return nil
}

// maxRedacted is how many state events of a shadow are emptied when it is deleted,
// the newest first: each takes an event of its own.
const maxRedacted = 500

// DeleteShadow deletes a shadow, and what the room shows of it: the state event
// is emptied, and those before it are redacted. The room comes first: after a
// power cut in between the shadow is still there, to be deleted again. A room
// that refuses keeps what it shows, and the shadow is gone all the same.
func (b *Bridge) DeleteShadow(thing, topic string) error {
	if _, err := b.p.Shadows.Get(thing, topic); err != nil {
		return err
	}
	b.mu.Lock()
	delete(b.show, thing+"\x00"+topic)
	b.mu.Unlock()
	refused := b.hide(topic)
	if refused != nil && !lasting(refused) {
		return refused
	}
	if err := b.p.Shadows.Delete(thing, topic); err != nil {
		return err
	}
	b.publishSoon(&mqtt.Message{Topic: shadowPrefix + topic + "/delta", QoS: 1, Retain: true})
	return refused
}

// hide takes out of a room what it shows of a shadow.
func (b *Bridge) hide(topic string) error {
	to := b.table.Load().find(topic)
	if to == nil || to.Mode != Shadow {
		return nil
	}
	num, err := b.roomOf(to, topic, false)
	if err != nil || num == 0 {
		return err
	}
	typ, key := to.expand(to.Type, topic), to.expand(to.StateKey, topic)
	head, err := b.p.Rooms.Head(num)
	if err != nil {
		return err
	}
	old, err := b.p.Rooms.StateEvent(head.State, typ, key)
	if err != nil || old == nil {
		return err
	}
	if err := b.state(to, num, old.Sender, typ, key, []byte("{}")); err != nil {
		return err
	}
	for n := 0; n < maxRedacted && old.IsState && old.Type == typ; n++ {
		if !old.Redacted() && len(old.Content) > 2 {
			_, err = b.p.Deeds.Send(num, &room.Draft{Type: "m.room.redaction", Sender: old.Sender, Redacts: old.ID, Content: []byte(`{"reason":"the shadow was deleted"}`)})
			if err != nil {
				return err
			}
		}
		if old.Replaces == 0 {
			return nil
		}
		if old, err = b.p.Rooms.Event(old.Replaces); fault.Is(err, fault.NotFound) {
			return nil // it aged away
		} else if err != nil {
			return err
		}
	}
	return nil
}

// takeUpShadows has all shadows shown that changed while the hub could not: an
// event that says the same is not sent twice.
func (b *Bridge) takeUpShadows() error {
	t := b.table.Load()
	return b.p.Shadows.List("", func(one *shadow.State) bool {
		if to := t.find(one.Topic); to != nil && to.Mode == Shadow {
			b.mu.Lock()
			key := one.Thing + "\x00" + one.Topic
			if b.show[key] == nil {
				b.show[key] = &showing{to: to, thing: one.Thing, topic: one.Topic, due: b.p.Now().Add(to.interval)}
			}
			b.mu.Unlock()
		}
		return true
	})
}

// takeUpDeltas publishes what is desired of things where that was not done before
// the hub lost its power.
func (b *Bridge) takeUpDeltas(broker *mqtt.Broker) error {
	return b.p.Shadows.List("", func(one *shadow.State) bool {
		if one.Desired == nil {
			return true
		}
		m, err := broker.Retained(shadowPrefix + one.Topic + "/delta")
		if err == nil && (m == nil || !bytes.Equal(m.Payload, one.Delta())) {
			b.delta(one)
		}
		return true
	})
}

// appendNum writes a number of a digest: events hold no fractions, so it is text.
func appendNum(dst []byte, v float64) []byte {
	return append(strconv.AppendFloat(append(dst, '"'), v, 'g', 10, 64), '"')
}
