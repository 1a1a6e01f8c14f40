package bridge

import (
	"strconv"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/mqtt"
	"hearth/engine/mxid"
	"hearth/engine/stream"
	"hearth/engine/thing"
	"hearth/engine/topic"
)

// A command may come past all rooms, as a to-device message to the thing's one
// device, and its answer goes back in the same way:
//
//	io.hearth.command  topic (one of the thing's; without it NAME/command), payload, request_id, device_id
//	io.hearth.reply    io.hearth.topic, payload or the members of an object, request_id
//
// request_id is the sender's own and comes back as it was; device_id names the
// device that the answer is for.

// devicePrefix begins what a thing knows such a command by.
const devicePrefix = "to-device/"

// maxAnswerTo bounds what is kept of who wants the answer.
const maxAnswerTo = 255

// handDevice hands a thing the to-device messages that wait for it, and drops
// them: type io.hearth.command with a topic of the thing's own, or none for
// NAME/command. Who sends must be allowed to publish there.
func (b *Bridge) handDevice(user uint32, upto stream.Pos) error {
	one := b.p.Things.Of(user)
	if one == nil || one.DeviceNum == 0 {
		return nil
	}
	var last stream.Pos
	var failed error
	err := b.p.E2EE.EachMessage(one.DeviceNum, upto, func(at stream.Pos, msg []byte) bool {
		if failed = b.deviceCommand(one, at, msg); failed == nil {
			last = at
		}
		return failed == nil
	})
	if err == nil && last != 0 { // what was handed on is not handed on again for what was not
		err = b.p.E2EE.Acknowledge(one.DeviceNum, last)
	}
	if err == nil {
		err = failed
	}
	return err
}

func (b *Bridge) deviceCommand(one *thing.Thing, at stream.Pos, val []byte) error {
	typ, _ := cjson.LookupString(val, "type")
	sender, _ := cjson.LookupString(val, "sender")
	body, _ := cjson.Lookup(val, "content")
	if typ != typeCommand {
		return nil
	}
	name, ok := cjson.LookupString(body, "topic")
	if !ok {
		name = one.Name + "/command"
	}
	payload, ok := payloadOf(typ, body)
	if !ok || sender == "" || topic.CheckName(name) != nil || !one.May(name, thing.Read) ||
		!b.May(mqtt.Identity{Name: sender}, mqtt.Publish, name) {
		return nil
	}
	c := &command{Event: mxid.EventID(devicePrefix + strconv.FormatUint(uint64(at), 10)), To: mxid.UserID(sender), Until: b.p.Now().Add(commandLife)}
	if c.Device, _ = cjson.LookupString(body, "device_id"); len(c.Device) > maxAnswerTo {
		c.Device = ""
	}
	if c.Request, _ = cjson.LookupString(body, "request_id"); len(c.Request) > maxAnswerTo {
		c.Request = ""
	}
	reply := name + replySuffix
	if err := b.commands.put(b.p.Store, reply, c); err != nil {
		return err
	}
	return b.publish(&mqtt.Message{
		Topic: name, Payload: payload, QoS: 1, Expires: c.Until, ResponseTopic: reply, Correlation: []byte(c.Event),
		User: []mqtt.Pair{{Key: "sender", Value: sender}},
	})
}

// answerDevice sends an answer to who sent the command: to the device that it
// named, else to all of theirs, since a to-device message does not say which it is
// from. What they know the command by comes back with it.
func (b *Bridge) answerDevice(c *command, m *mqtt.Message) error {
	body := content(typeReply, m.Topic, m.Payload)
	if c.Request != "" {
		body = append(cjson.AppendString(append(body[:len(body)-1], `,"request_id":`...), c.Request), '}')
	}
	device := c.Device
	if device == "" {
		device = "*"
	}
	txn, err := b.txn(m)
	if err != nil {
		return err
	}
	dst := append(cjson.AppendString([]byte{'{'}, string(c.To)), `:{`...)
	dst = append(append(cjson.AppendString(dst, device), ':'), body...)
	from := &account.Session{UserID: b.userOf(m.From.Name), DeviceNum: txn.Device}
	return b.p.Deeds.Whisper(from, typeReply, txn.ID, append(dst, '}', '}'))
}
