//go:build goolm

// With the tag goolm the library's encryption is in Go; without it, it needs cgo.

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// rotation is how the test's rooms are encrypted.
var rotation = event.EncryptionEventContent{Algorithm: id.AlgorithmMegolmV1, RotationPeriodMessages: 100}

// person is somebody with one device that encrypts. It is its own store of what is
// in its rooms.
type person struct {
	*mautrix.Client
	t     *testing.T
	mach  *crypto.OlmMachine
	since string
	notes []string            // bodies of the plain to-device messages, in order
	read  map[string]int      // what it could decrypt, and how often
	seen  map[id.EventID]bool // encrypted events
	rooms []id.RoomID
}

func (p *person) IsEncrypted(context.Context, id.RoomID) (bool, error) { return true, nil }

func (p *person) GetEncryptionEvent(context.Context, id.RoomID) (*event.EncryptionEventContent, error) {
	return &rotation, nil
}

func (p *person) FindSharedRooms(context.Context, id.UserID) ([]id.RoomID, error) {
	return p.rooms, nil
}

// note is the type of a message to a device that is not encrypted.
var note = event.Type{Type: "test.note", Class: event.ToDeviceEventType}

func newPerson(h *hub, name string) *person {
	h.t.Helper()
	p := &person{Client: h.register(name), t: h.t, read: map[string]int{}, seen: map[id.EventID]bool{}}
	p.mach = crypto.NewOlmMachine(p.Client, nil, crypto.NewMemoryStore(nil), p)
	for _, err := range []error{p.mach.Load(h.t.Context()), p.mach.ShareKeys(h.t.Context(), -1)} {
		if err != nil {
			h.t.Fatal(err)
		}
	}
	return p
}

// sync takes in what there is. A hub that is away is asked again.
func (p *person) sync() {
	p.t.Helper()
	ctx := p.t.Context()
	got, err := p.FullSyncRequest(ctx, mautrix.ReqSync{Since: p.since, Timeout: 50})
	if err != nil {
		return
	}
	for _, e := range got.ToDevice.Events {
		if e.Type.Type == note.Type {
			p.notes = append(p.notes, fmt.Sprint(e.Content.Raw["body"]))
		}
	}
	p.mach.ProcessSyncResponse(ctx, got, p.since)
	first := p.since == ""
	p.since = got.NextBatch
	if first {
		return // what was said before is not for this device
	}
	for in, room := range got.Rooms.Join {
		for _, e := range room.Timeline.Events {
			e.RoomID = in
			if e.Type.Type != event.EventEncrypted.Type || e.Sender == p.UserID || p.seen[e.ID] {
				continue
			}
			e.Type.Class = event.MessageEventType
			p.seen[e.ID] = true
			if err := e.Content.ParseRaw(e.Type); err != nil {
				p.t.Fatal(err)
			}
			plain, err := p.mach.DecryptMegolmEvent(ctx, e)
			if err != nil {
				p.t.Fatalf("%s has %s, and its key did not come before it: %v", p.UserID, e.ID, err)
			}
			p.read[plain.Content.AsMessage().Body]++
		}
	}
}

// say encrypts a message, for those in the room. anew is a new session, whose key
// goes to their devices first.
func (p *person) say(in id.RoomID, text string, anew bool, to ...*person) {
	p.t.Helper()
	ctx := p.t.Context()
	if anew {
		users := []id.UserID{p.UserID}
		for _, other := range to {
			users = append(users, other.UserID)
		}
		if err := p.mach.CryptoStore.RemoveOutboundGroupSession(ctx, in); err != nil {
			p.t.Fatal(err)
		}
		if err := p.mach.ShareGroupSession(ctx, in, users); err != nil {
			p.t.Fatal(err)
		}
	}
	sealed := must(p.mach.EncryptMegolmEvent(ctx, in, event.EventMessage, &event.MessageEventContent{MsgType: event.MsgText, Body: text}))(p.t)
	must(p.SendMessageEvent(ctx, in, event.EventEncrypted, sealed))(p.t)
}

// noted sends a numbered message to the other's device.
func (p *person) noted(to *person, n int) {
	p.t.Helper()
	body := &event.Content{Raw: map[string]any{"body": fmt.Sprint(n)}}
	must(p.SendToDevice(p.t.Context(), note, &mautrix.ReqSendToDevice{
		Messages: map[id.UserID]map[id.DeviceID]*event.Content{to.UserID: {to.DeviceID: body}},
	}))(p.t)
}

// reads waits until somebody has decrypted a message.
func (p *person) reads(text string) {
	p.t.Helper()
	eventually(p.t, string(p.UserID)+" reads "+text, func() bool {
		p.sync()
		return p.read[text] > 0
	})
}

// TestEncryptedAcrossHubs is two people on two hubs in an encrypted room: keys of
// devices and one-time keys go over federation, and each reads what the other says.
// Messages to devices come in order, each once, whichever hub is killed on the way.
func TestEncryptedAcrossHubs(t *testing.T) {
	a, b := startPair(t)
	amy, bob := newPerson(a.hub, "amy"), newPerson(b.hub, "bob")
	room := must(amy.CreateRoom(t.Context(), &mautrix.ReqCreateRoom{Preset: "public_chat", InitialState: []*event.Event{{
		Type: event.StateEncryption, Content: event.Content{Parsed: &rotation},
	}}}))(t).RoomID
	must(bob.JoinRoom(t.Context(), room.String(), &mautrix.ReqJoinRoom{Via: []string{a.name}}))(t)
	amy.rooms, bob.rooms = []id.RoomID{room}, []id.RoomID{room}
	eventually(t, "amy's hub has bob", func() bool {
		m, err := amy.JoinedMembers(t.Context(), room)
		return err == nil && len(m.Joined) == 2
	})
	amy.sync()
	bob.sync()
	amy.say(room, "hello", true, bob)
	bob.reads("hello")
	bob.say(room, "hello yourself", true, amy)
	amy.reads("hello yourself")
	amy.say(room, "the same session", false)
	bob.reads("the same session")

	// A new device of bob's is told to amy's hub, and gets keys.
	second := newPerson(b.hub, "bob2")
	must(second.JoinRoom(t.Context(), room.String(), nil))(t)
	second.rooms = bob.rooms
	eventually(t, "amy's hub has the third", func() bool {
		m, err := amy.JoinedMembers(t.Context(), room)
		return err == nil && len(m.Joined) == 3
	})
	amy.sync()
	second.sync()
	amy.say(room, "to both", true, bob, second)
	bob.reads("to both")
	second.reads("to both")

	sent := 0
	for _, tt := range []struct {
		name         string
		cut, restart func()
	}{
		{"the receiving hub is killed", b.gate.cut, func() { b.kill(); b.start(); b.gate.heal() }},
		{"the sending hub is killed", b.gate.cut, func() { a.kill(); a.start(); b.gate.heal() }},
		{"both are stopped", func() {}, func() { a.stop(); b.stop(); b.start(); a.start() }},
	} {
		tt.cut()
		for range 40 {
			sent++
			amy.noted(bob, sent)
			if sent%10 == 0 {
				amy.say(room, fmt.Sprint("after ", sent), sent%20 == 0, bob, second)
			}
		}
		tt.restart()
		bob.reads(fmt.Sprint("after ", sent))
		eventually(t, "all notes come: "+tt.name, func() bool {
			bob.sync()
			return len(bob.notes) >= sent
		})
		bob.say(room, "an answer: "+tt.name, true, amy, second)
		amy.reads("an answer: " + tt.name)
	}
	for n, got := range bob.notes {
		if got != fmt.Sprint(n+1) {
			t.Fatalf("note %d is %s; all: %s", n+1, got, strings.Join(bob.notes, " "))
		}
	}
	for text, n := range bob.read {
		if n != 1 {
			t.Errorf("%q was read %d times", text, n)
		}
	}
	if len(bob.read) != 3+sent/10 {
		t.Errorf("bob has read %d messages", len(bob.read))
	}
}
