package sync

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"hearth/engine/e2ee"
	"hearth/engine/mxid"
	"hearth/engine/stream"
)

func (h *hub) toDevice(c *client, bodies ...string) {
	h.t.Helper()
	for _, b := range bodies {
		h.must(h.keys.Send(&e2ee.Sent{Sender: alice, Type: "m.dummy"}, []e2ee.Message{
			{User: c.req.User, Device: c.req.Device, Content: []byte(`{"body":"` + b + `"}`)}}))
	}
}

// A message for a device is told until the device shows that it has it.
func TestToDevice(t *testing.T) {
	h := start(t)
	c := h.client(bob, "")
	h.toDevice(c, "1")
	want(t, bodies(c.sync().ToDevice.Events), "1")
	first := c.req.Since
	h.toDevice(c, "2", "3")
	want(t, bodies(c.sync().ToDevice.Events), "2 3")
	want(t, bodies(c.from(first).ToDevice.Events), "2 3")
	want(t, bodies(c.sync().ToDevice.Events), "")
	h.toDevice(c, "4")
	want(t, bodies(c.from(first).ToDevice.Events), "4") // 2 and 3 were acknowledged
	c.sync()
	want(t, bodies(c.from("").ToDevice.Events), "")
	ch := c.wait(time.Hour)
	h.toDevice(c, "5")
	c.take((<-ch).body)
	want(t, bodies(c.reply.ToDevice.Events), "5")
	h.toDevice(c, "6")
	other := h.client(bob, "")
	other.req.Device = 999
	want(t, bodies(other.sync().ToDevice.Events), "")
	// Many come in parts, each part once.
	var sent []string
	for i := range 150 {
		sent = append(sent, fmt.Sprint("m", i))
	}
	h.toDevice(c, sent...)
	got := ""
	for n := len(c.sync().ToDevice.Events); n > 0; n = len(c.sync().ToDevice.Events) {
		got += bodies(c.reply.ToDevice.Events) + " "
	}
	want(t, got, "6 "+strings.Join(sent, " ")+" ")
}

// changed notes new keys of a user, as package engine does.
func (h *hub) changed(id mxid.UserID, wake ...mxid.UserID) {
	h.t.Helper()
	var users []uint32
	for _, w := range wake {
		users = append(users, h.user(w))
	}
	_, err := h.log.Commit(func(tx *stream.Tx) error {
		tx.Wake(users...)
		return h.keys.MarkChanged(tx, h.user(id), tx.Put(&stream.Entry{Kind: stream.Devices, User: h.user(id)}))
	})
	h.must(err)
}

func TestDeviceLists(t *testing.T) {
	h := start(t)
	r := h.create(alice, "")
	h.join(r, bob)
	c := h.client(bob, `{"room":{"timeline":{"limit":1,"types":["x"]},"state":{"lazy_load_members":true}}}`)
	check := func(changed, left string) {
		t.Helper()
		c.sync()
		slices.Sort(c.reply.Devices.Changed)
		if got := fmt.Sprint(c.reply.Devices.Changed, c.reply.Devices.Left); got != "["+changed+"] ["+left+"]" {
			t.Fatalf("%s, want [%s] [%s]: %s", got, changed, left, c.raw)
		}
	}
	check("", "")
	h.changed(alice)
	h.changed(carol)
	h.changed(bob)
	check("@alice:hub @bob:hub", "")
	check("", "")
	h.join(r, carol)
	check("@carol:hub", "")
	other := h.create(carol, "")
	h.join(other, bob)
	check("@bob:hub @carol:hub", "") // who comes into a room is told of themselves too
	h.send(r, member(carol, carol, "leave"))
	check("", "") // they still share the other room
	h.send(other, member(bob, bob, "leave"))
	check("", "@carol:hub")
	// In a gap, and over a long absence.
	for range shortLag {
		h.say(r, alice, "noise")
	}
	h.join(r, carol)
	h.changed(alice)
	h.say(r, alice, "noise")
	check("@alice:hub @carol:hub", "")
	h.send(r, member(alice, carol, "ban"))
	for range maxSifted + 1 {
		h.say(r, alice, "noise")
	}
	check("", "@carol:hub")
	ch := c.wait(time.Hour)
	h.changed(alice, bob)
	c.take((<-ch).body)
	want(t, fmt.Sprint(c.reply.Devices.Changed), "[@alice:hub]")
	if c.reply.Unused == nil || c.reply.Counts == nil {
		t.Fatalf("%s", c.raw)
	}
}
