package e2e

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

func TestAccount(t *testing.T) {
	h, ctx := startHub(t), t.Context()
	alice := h.register("alice")
	if alice.UserID != "@alice:"+serverName {
		t.Errorf("registered %s", alice.UserID)
	}
	if _, err := h.client().RegisterDummy(ctx, &mautrix.ReqRegister[any]{Username: "alice", Password: password}); !errors.Is(err, mautrix.MUserInUse) {
		t.Errorf("a second alice: %v", err)
	}
	second := h.client()
	login := &mautrix.ReqLogin{
		Type:                     mautrix.AuthTypePassword,
		Identifier:               mautrix.UserIdentifier{Type: mautrix.IdentifierTypeUser, User: "alice"},
		Password:                 password,
		InitialDeviceDisplayName: "second",
		StoreCredentials:         true,
	}
	must(second.Login(ctx, login))(t)
	who := must(second.Whoami(ctx))(t)
	if who.UserID != alice.UserID || who.DeviceID != second.DeviceID || second.DeviceID == alice.DeviceID {
		t.Errorf("whoami %+v", who)
	}
	if d := must(alice.GetDevicesInfo(ctx))(t); len(d.Devices) != 2 {
		t.Errorf("devices %+v", d.Devices)
	}
	login.Password = "wrong"
	if _, err := h.client().Login(ctx, login); !errors.Is(err, mautrix.MForbidden) {
		t.Errorf("a wrong password: %v", err)
	}
	if err := alice.SetDisplayName(ctx, "Alice"); err != nil {
		t.Error(err)
	}
	if p := must(h.register("bob").GetProfile(ctx, alice.UserID))(t); p.DisplayName != "Alice" {
		t.Errorf("profile %+v", p)
	}
	must(second.Logout(ctx))(t)
	if _, err := second.Whoami(ctx); !errors.Is(err, mautrix.MUnknownToken) {
		t.Errorf("after logout: %v", err)
	}
	must(alice.Whoami(ctx))(t)
}

// TestPublishAndSubscribe is two clients that talk through the hub, each in its sync loop.
func TestPublishAndSubscribe(t *testing.T) {
	h, ctx := startHub(t), t.Context()
	alice, bob := h.register("alice"), h.register("bob")
	lights := room(t, "lights", alice, bob)
	toAlice, toBob := follow(t, alice), follow(t, bob)
	last := must(alice.SendText(ctx, lights, "ready"))(t)
	for _, to := range []<-chan *event.Event{toAlice, toBob} {
		await(t, to, "the first message", func(e *event.Event) bool { return e.ID == last.EventID })
	}

	for n := range 50 {
		from, to := alice, toBob
		if n%2 == 1 {
			from, to = bob, toAlice
		}
		text := fmt.Sprintf("message %d", n)
		sent := must(from.SendText(ctx, lights, text))(t)
		got := await(t, to, text, func(e *event.Event) bool { return e.Type == event.EventMessage && e.Sender == from.UserID })
		if got.ID != sent.EventID || got.Content.AsMessage().Body != text || got.RoomID != lights {
			t.Fatalf("sent %s, the next to come was %s %q", sent.EventID, got.ID, got.Content.AsMessage().Body)
		}
		last = sent
	}

	must(alice.SendStateEvent(ctx, lights, event.StateTopic, "", &event.TopicEventContent{Topic: "on or off"}))(t)
	topic := await(t, toBob, "the topic", func(e *event.Event) bool { return e.Type == event.StateTopic })
	if topic.Content.AsTopic().Topic != "on or off" || topic.StateKey == nil {
		t.Errorf("topic %+v", topic)
	}
	var now event.TopicEventContent
	if err := bob.StateEvent(ctx, lights, event.StateTopic, "", &now); err != nil || now.Topic != "on or off" {
		t.Errorf("state: %+v, %v", now, err)
	}
	if _, err := bob.SendStateEvent(ctx, lights, event.StateTopic, "", &event.TopicEventContent{Topic: "mine"}); !errors.Is(err, mautrix.MForbidden) {
		t.Errorf("a topic without the power for it: %v", err)
	}

	redaction := must(bob.RedactEvent(ctx, lights, last.EventID))(t)
	await(t, toAlice, "the redaction", func(e *event.Event) bool { return e.ID == redaction.EventID && e.Redacts == last.EventID })
	gone := must(alice.GetEvent(ctx, lights, last.EventID))(t)
	if len(gone.Content.Raw) != 0 || gone.Unsigned.RedactedBecause == nil {
		t.Errorf("redacted: %+v", gone)
	}

	must(alice.UserTyping(ctx, lights, true, 20*time.Second))(t)
	await(t, toBob, "typing", func(e *event.Event) bool {
		return e.Type == event.EphemeralEventTyping && len(e.Content.AsTyping().UserIDs) == 1 && e.Content.AsTyping().UserIDs[0] == alice.UserID
	})
	must(alice.UserTyping(ctx, lights, false, 0))(t)
	await(t, toBob, "no more typing", func(e *event.Event) bool {
		return e.Type == event.EphemeralEventTyping && len(e.Content.AsTyping().UserIDs) == 0
	})

	read := must(alice.SendText(ctx, lights, "read this"))(t).EventID
	if err := bob.MarkRead(ctx, lights, read); err != nil {
		t.Fatal(err)
	}
	await(t, toAlice, "the receipt", func(e *event.Event) bool {
		if e.Type != event.EphemeralEventReceipt {
			return false
		}
		_, ok := (*e.Content.AsReceipt())[read][event.ReceiptTypeRead][bob.UserID]
		return ok
	})

	if err := alice.SetDisplayName(ctx, "Alice of the lights"); err != nil {
		t.Fatal(err)
	}
	await(t, toBob, "the new name", func(e *event.Event) bool {
		return e.Type == event.StateMember && e.Content.AsMember().Displayname == "Alice of the lights"
	})

	must(bob.LeaveRoom(ctx, lights))(t)
	await(t, toAlice, "that bob left", func(e *event.Event) bool {
		return e.Type == event.StateMember && e.GetStateKey() == bob.UserID.String() && e.Content.AsMember().Membership == event.MembershipLeave
	})
	if _, err := bob.SendText(ctx, lights, "still here?"); !errors.Is(err, mautrix.MForbidden) {
		t.Errorf("sending after leaving: %v", err)
	}
}

func TestFilters(t *testing.T) {
	h, ctx := startHub(t), t.Context()
	alice := h.register("alice")
	lights := room(t, "lights", alice)
	since := must(alice.FullSyncRequest(ctx, mautrix.ReqSync{}))(t).NextBatch
	reading := event.Type{Type: "org.example.reading", Class: event.MessageEventType}
	var readings []id.EventID
	for n := range 20 {
		must(alice.SendText(ctx, lights, "text"))(t)
		r := must(alice.SendMessageEvent(ctx, lights, reading, map[string]int{"celsius": n}))(t)
		readings = append(readings, r.EventID)
	}
	filter := must(alice.CreateFilter(ctx, &mautrix.Filter{Room: &mautrix.RoomFilter{
		Timeline: &mautrix.FilterPart{Types: []event.Type{reading}, Limit: 5},
	}}))(t)
	got := must(alice.FullSyncRequest(ctx, mautrix.ReqSync{Since: since, FilterID: filter.FilterID}))(t).Rooms.Join[lights]
	if got == nil || !got.Timeline.Limited {
		t.Fatalf("no limited timeline: %+v", got)
	}
	var have []id.EventID
	for _, e := range got.Timeline.Events {
		have = append(have, e.ID)
	}
	// The rest is before it: page by page from prev_batch, under the same filter.
	part := &mautrix.FilterPart{Types: []event.Type{reading}}
	for from := got.Timeline.PrevBatch; len(have) < len(readings) && from != ""; {
		m := must(alice.Messages(ctx, lights, from, since, mautrix.DirectionBackward, part, 4))(t)
		for _, e := range m.Chunk {
			have = append([]id.EventID{e.ID}, have...)
		}
		from = m.End
	}
	if fmt.Sprint(have) != fmt.Sprint(readings) {
		t.Errorf("got %v\nwant %v", have, readings)
	}
}
