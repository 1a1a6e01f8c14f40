package bridge

import (
	"encoding/json"
	"strings"
	"sync"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mqtt"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/store"
	"hearth/engine/topic"
)

// A command goes out at QoS 1 with the event's id as correlation data, so that a
// thing that gets it twice can tell, and with an expiry; a thing that sleeps gets
// it from its session. The answer comes on the response topic, which is the
// command's with this behind it, for things that do not know response topics too.
const replySuffix = "/reply"

const (
	commandLife  = 24 * time.Hour
	maxCommands  = 2000
	maxByTopic   = 16
	maxTopicText = 512
)

// command is one that waits for its answer.
type command struct {
	Event mxid.EventID `json:"event"`
	Room  room.Num     `json:"room"`
	Plain bool         `json:"plain"` // it was a message for people; so is the answer
	Stay  bool         `json:"stay"`  // the mapping lets no thing into the room
	By    mxid.UserID  `json:"by"`    // who wrote the mapping
	Until time.Time    `json:"until"`

	// To is who sent it as a to-device message; so is the answer. Event is what the
	// thing knows it by then, and no event's id.
	To      mxid.UserID `json:"to,omitempty"`
	Device  string      `json:"device,omitempty"`  // of To, where it said so
	Request string      `json:"request,omitempty"` // what To knows it by
}

// commands are those that wait, by the topic of their answers.
type commands struct {
	mu  sync.Mutex
	all map[string][]*command
	n   int
}

func commandKey(reply string, id mxid.EventID) []byte {
	return append(append(append(store.Command.Prefix(), reply...), 0), id...)
}

func (c *commands) load(st *store.Store, now time.Time) error {
	c.all = map[string][]*command{}
	return st.ScanPrefix(store.Command.Prefix(), func(key, val []byte) (bool, error) {
		one := &command{}
		reply, _, ok := strings.Cut(string(key[1:]), "\x00")
		if err := json.Unmarshal(val, one); err != nil || !ok {
			return false, fault.E(fault.Corrupt, "bridge.Open", "the row of a command cannot be read: %w", err)
		}
		if one.Until.After(now) {
			c.all[reply] = append(c.all[reply], one)
			c.n++
		}
		return true, nil
	})
}

// put notes a command before it is published.
func (c *commands) put(st *store.Store, reply string, one *command) error {
	row, err := json.Marshal(one)
	if err != nil {
		return fault.E(fault.Internal, "bridge", "%w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.all[reply]
	for _, o := range list {
		if o.Event == one.Event {
			return nil
		}
	}
	b := st.NewBatch()
	if len(list) >= maxByTopic {
		b.Delete(commandKey(reply, list[0].Event))
		list, c.n = list[1:], c.n-1
	}
	if c.n >= maxCommands {
		b.Drop()
		return nil // its answer is not related back; it goes out all the same
	}
	b.Set(commandKey(reply, one.Event), row)
	if err := st.Apply(b); err != nil { // synced with the message that follows
		return err
	}
	c.all[reply] = append(list, one)
	c.n++
	return nil
}

// answered finds the command that a message answers: the one of its correlation
// data, else the last on its topic.
func (c *commands) answered(name string, correlation []byte, now time.Time) *command {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.all[name]
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].Until.After(now) && (correlation == nil || string(list[i].Event) == string(correlation)) {
			return list[i]
		}
	}
	return nil
}

// clean forgets commands whose time is over.
func (c *commands) clean(st *store.Store, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := st.NewBatch()
	b.Frees()
	for reply, list := range c.all {
		for len(list) > 0 && !list[0].Until.After(now) {
			b.Delete(commandKey(reply, list[0].Event))
			list, c.n = list[1:], c.n-1
		}
		if c.all[reply] = list; len(list) == 0 {
			delete(c.all, reply)
		}
	}
	if b.Empty() {
		b.Drop()
		return
	}
	_ = st.Apply(b) // they are looked at again after the next start
}

// answer sends what a thing answered, related to the command.
func (b *Bridge) answer(c *command, m *mqtt.Message) error {
	if len(m.Payload) > maxContent {
		return fault.E(fault.TooLarge, "bridge", "an answer holds at most 64 KiB, since it becomes an event")
	}
	if c.To != "" {
		return b.answerDevice(c, m)
	}
	typ := typeReply
	if c.Plain {
		typ = typeMessage
	}
	body := content(typ, m.Topic, m.Payload)
	rel := cjson.AppendString([]byte(`,"m.relates_to":{"rel_type":"m.reference","event_id":`), string(c.Event))
	body = append(append(body[:len(body)-1], rel...), '}', '}')
	txn, err := b.txn(m)
	if err != nil {
		return err
	}
	user := b.userOf(m.From.Name)
	if _, _, joined, err := b.of(c.Room, user); err != nil {
		return err
	} else if !joined && c.Stay {
		return fault.E(fault.Forbidden, "bridge", "%s is not in the room of the command that it answers", user)
	} else if !joined {
		if err := b.p.Deeds.Enter(c.Room, user, c.By); err != nil {
			return err
		}
	}
	_, err = b.p.Deeds.Send(c.Room, &room.Draft{Type: typ, Sender: user, Content: body, Txn: txn})
	return err
}

// order hands an event to the topics of the command mappings of its room.
func (b *Bridge) order(e *room.Event) error {
	if b.fromThing(e) || e.Sender == b.p.Hub || e.Redacted() {
		return nil
	}
	for _, m := range b.table.Load().commands {
		name, ok := b.orderTopic(m, e)
		if !ok {
			continue
		}
		payload, ok := payloadOf(e.Type, e.Content)
		if e.Type == typeMessage && strings.ContainsAny(m.filter, "+#") {
			payload, ok = []byte(strings.TrimPrefix(string(payload), name+" ")), true
		}
		if !ok {
			continue
		}
		if err := b.command(m, name, e, payload); err != nil {
			return err
		}
	}
	return nil
}

// orderTopic is the topic that an event goes to by a mapping: the mapping's own,
// or the one that the event names, as "topic" or as the first word of a message.
func (b *Bridge) orderTopic(m *Mapping, e *room.Event) (string, bool) {
	if e.Type != m.Type {
		return "", false
	}
	name := m.filter
	if strings.ContainsAny(m.filter, "+#") {
		var ok bool
		if name, ok = cjson.LookupString(e.Content, "topic"); !ok && e.Type == typeMessage {
			body, _ := cjson.LookupString(e.Content, "body")
			name, ok = firstTopic(m.filter, body)
		}
		if !ok || topic.CheckName(name) != nil || len(name) > maxTopicText || !topic.Match(m.filter, name) {
			return "", false
		}
	}
	num, err := b.roomOf(m, name, false)
	return name, err == nil && num == e.In
}

// firstTopic is the topic that a message for people begins with. People name their
// lamps "desk lamp": it is the shortest beginning up to a space that fits.
func firstTopic(filter, body string) (string, bool) {
	body = body[:min(len(body), maxTopicText)]
	for at := 0; ; {
		space := strings.IndexByte(body[at:], ' ')
		if space < 0 {
			return "", false
		}
		at += space
		if name := body[:at]; topic.CheckName(name) == nil && topic.Match(filter, name) {
			return name, true
		}
		at++
	}
}

// command publishes one command. An empty payload would delete a retained value
// and says nothing, so it is left out.
func (b *Bridge) command(m *Mapping, name string, e *room.Event, payload []byte) error {
	_, sealed, _, err := b.of(e.In, e.Sender)
	if err != nil {
		return err
	}
	if sealed {
		b.tellOnce(plain(sealedRoom(m)))
		return nil
	}
	life := commandLife
	if val, ok := cjson.Lookup(e.Content, "expires"); ok {
		if s, ok := cjson.Int(val); ok && s > 0 && s < int64(commandLife/time.Second) {
			life = time.Duration(s) * time.Second
		}
	}
	until := time.UnixMilli(e.Time).Add(life)
	if now := b.p.Now(); until.Before(now) || len(payload) == 0 {
		return nil // the hub was away for too long
	} else if until.After(now.Add(life)) {
		until = now.Add(life)
	}
	reply := name + replySuffix
	if err := b.commands.put(b.p.Store, reply, &command{Event: e.ID, Room: e.In, Plain: e.Type == typeMessage, Stay: !m.joins(), By: m.By, Until: until}); err != nil {
		return err
	}
	id, err := b.p.Rooms.RoomID(e.In)
	if err != nil {
		return err
	}
	return b.publish(&mqtt.Message{
		Topic: name, Payload: payload, QoS: 1, Expires: until, ResponseTopic: reply, Correlation: []byte(e.ID),
		User: []mqtt.Pair{{Key: "sender", Value: string(e.Sender)}, {Key: "room", Value: string(id)}},
	})
}
