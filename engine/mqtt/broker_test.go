package mqtt

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/store"
)

// The tap may refuse, have the acknowledgement wait, and add rows that are on
// disk with it; subscribers do not wait for it.
func TestTap(t *testing.T) {
	var waiting func(error)
	key := []byte("\x01tapped")
	h := open(t, vfs.NewCrashableMem(), Options{Tap: func(m *Message, done func(error)) Verdict {
		switch m.Topic {
		case "refused":
			return Verdict{Refuse: BadPayload, Text: "no"}
		case "later":
			waiting = done
			return Verdict{Later: true}
		case "rows":
			return Verdict{Rows: func(b *store.Batch) { b.Set(key, m.Payload) }}
		}
		return Verdict{}
	}})
	defer h.close()
	r := h.connect("reader", Opening{CleanStart: true})
	r.subscribe(Request{Filter: "#", QoS: 1})
	w := h.connect("writer", Opening{CleanStart: true})
	if r := w.publish(&Message{Topic: "refused", QoS: 1}, 1); r != BadPayload {
		t.Error(r)
	}
	for i, err := range []error{nil, Refuse(NotAuthorised, "")} {
		if err := w.c.Publish(&Message{Topic: "later", QoS: 1}, 2); err != nil {
			t.Fatal(err)
		}
		if m := r.delivery(); m.Topic != "later" {
			t.Error(m.Topic)
		}
		if x := w.next(20 * time.Millisecond); x != nil {
			t.Errorf("acknowledged too early: %v", x)
		}
		waiting(err)
		if a := w.answer(PubAck, 2); a.Reason.Failed() != (i == 1) {
			t.Error(a)
		}
	}
	w.publish(&Message{Topic: "rows", Payload: []byte("x"), QoS: 1}, 3)
	st, err := store.Open(store.Options{Dir: "store", FS: h.fs.CrashClone(vfs.CrashCloneCfg{})})
	if err != nil {
		t.Fatal(err)
	}
	if val, ok, err := st.Get(nil, key); err != nil || !ok || string(val) != "x" {
		t.Error("the tap's row is not on disk with the acknowledgement")
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
}

// What may not be received is not, also where a wildcard takes it in, it is
// retained, or the right went while it waited.
func TestRights(t *testing.T) {
	secret := true
	h := open(t, vfs.NewCrashableMem(), Options{May: func(id Identity, op Op, topic string) bool {
		return id.Name != "guest" || op != Receive || !secret || !strings.HasPrefix(topic, "secret/")
	}})
	defer h.close()
	w := h.connect("writer", Opening{CleanStart: true})
	w.publish(&Message{Topic: "secret/kept", Payload: []byte("1"), QoS: 1, Retain: true}, 1)
	g := h.connect("guest", Opening{CleanStart: true, Expiry: 60})
	g.subscribe(Request{Filter: "#", QoS: 1}, Request{Filter: "$share/x/secret/#", QoS: 1})
	w.publish(&Message{Topic: "secret/new", Payload: []byte("2"), QoS: 1}, 1)
	w.publish(&Message{Topic: "open", Payload: []byte("3"), QoS: 1}, 1)
	if m := g.delivery(); m.Topic != "open" {
		t.Errorf("a guest was given %s", m.Topic)
	}
	g.c.Lost()
	secret = false
	h.b.Rejudge()
	w.publish(&Message{Topic: "secret/waits", Payload: []byte("4"), QoS: 1}, 1)
	w.publish(&Message{Topic: "open/2", Payload: []byte("5"), QoS: 1}, 1)
	secret = true
	h.b.Rejudge()
	g = h.connect("guest", Opening{Expiry: 60})
	if m := g.delivery(); m.Topic != "open" {
		t.Errorf("a guest was given %s", m.Topic)
	}
	if m := g.delivery(); m.Topic != "open/2" {
		t.Errorf("a guest was given %s", m.Topic)
	}
	if !h.b.End("guest", "guest", Administrative, "") {
		t.Error("no session to end")
	}
	if n := h.rows(store.ThingQueue) + h.rows(store.ThingSession) + h.rows(store.ThingFilter); n != 0 {
		t.Errorf("%d rows of a session that ended", n)
	}
}

// A subscriber that does not read loses nothing, holds little memory, and is
// given all in order once it reads.
func TestSlowSubscriber(t *testing.T) {
	h := open(t, vfs.NewMem(), Options{Limits: Limits{Memory: 20_000}})
	defer h.close()
	const n = 3000
	for _, expiry := range []uint32{0, 60} {
		r := h.connect("slow", Opening{CleanStart: true, Expiry: expiry})
		r.subscribe(Request{Filter: "t", QoS: 1})
		r.mu.Lock()
		r.full = true
		r.mu.Unlock()
		w := h.connect("writer", Opening{CleanStart: true})
		for i := range n {
			w.publish(&Message{Topic: "t", Payload: text("%d", i), QoS: 1}, uint16(1+i%200))
		}
		if f := h.b.Figures(); f.MemoryBytes > 21_000 || f.Heaviest.ClientID != "slow" || f.QueuedBytes == 0 {
			t.Errorf("%+v", f)
		}
		r.mu.Lock()
		r.full = false
		r.mu.Unlock()
		r.c.Ready()
		for i := range n {
			m := r.delivery()
			if string(m.Payload) != string(text("%d", i)) {
				t.Fatalf("expiry %d: got %s, not %d", expiry, m.Payload, i)
			}
			r.c.Acknowledged(m.ID)
		}
		r.c.Lost()
		h.b.End("slow", "slow", Administrative, "")
		w.c.Lost()
		if f := h.b.Figures(); f.QueuedBytes != 0 || f.MemoryBytes != 0 {
			t.Errorf("%+v", f)
		}
	}
}

// A session that is away and outgrows its quota ends; its publishers go on.
func TestHeavySession(t *testing.T) {
	h := open(t, vfs.NewMem(), Options{Limits: Limits{Queue: 50_000}})
	defer h.close()
	r := h.connect("heavy", Opening{CleanStart: true, Expiry: 60})
	r.subscribe(Request{Filter: "#", QoS: 1})
	r.c.Lost()
	w := h.connect("writer", Opening{CleanStart: true})
	for i := range 200 {
		if r := w.publish(&Message{Topic: "t", Payload: make([]byte, 1000), QoS: 1}, uint16(i+1)); r.Failed() {
			t.Fatal(r)
		}
	}
	for late := time.Now().Add(10 * time.Second); h.b.Figures().Sessions > 1 && time.Now().Before(late); {
		time.Sleep(time.Millisecond)
	}
	if r = h.connect("heavy", Opening{Expiry: 60}); r.acc.Present {
		t.Error("a session that was too heavy is still there")
	}
}

// After a start all who were connected have time to come back before their last
// will is sent, and QoS 0 values that were retained are there.
func TestRestart(t *testing.T) {
	fs := vfs.NewMem()
	now := time.Now()
	clock := func() time.Time { return now }
	h := open(t, fs, Options{Now: clock})
	h.connect("back", Opening{CleanStart: true, Expiry: 3600, Will: &Message{Topic: "will/back"}})
	h.connect("lost", Opening{CleanStart: true, Expiry: 3600, Will: &Message{Topic: "will/lost", Payload: []byte("x")}})
	w := h.connect("writer", Opening{CleanStart: true})
	w.publish(&Message{Topic: "kept", Payload: []byte("0"), Retain: true}, 0)
	h.b.Leave()
	h.close()
	h = open(t, fs, Options{Now: clock})
	defer h.close()
	r := h.connect("reader", Opening{CleanStart: true})
	r.subscribe(Request{Filter: "will/#"}, Request{Filter: "kept"})
	if m := r.delivery(); m.Topic != "kept" || !m.Retain {
		t.Errorf("%+v", m)
	}
	if d := h.connect("back", Opening{Expiry: 3600}); !d.acc.Present {
		t.Error("the session is gone")
	}
	now = now.Add(willGrace / 2)
	h.b.tick(now)
	if x := r.next(20 * time.Millisecond); x != nil {
		t.Errorf("too early: %+v", x)
	}
	now = now.Add(willGrace)
	h.b.tick(now)
	if m := r.delivery(); m.Topic != "will/lost" {
		t.Errorf("%+v", m)
	}
}

// A message from inside is on disk when Publish returns, and cut out for whom
// it must not reach.
func TestPublishFromInside(t *testing.T) {
	h := open(t, vfs.NewCrashableMem(), Options{})
	r := h.connect("reader", Opening{CleanStart: true, Expiry: 60})
	r.subscribe(Request{Filter: "#", QoS: 2})
	ctx := context.Background()
	if err := h.b.Publish(ctx, &Message{Topic: "a/#"}); err == nil {
		t.Error("published to a filter")
	}
	if err := errors.Join(h.b.Publish(ctx, &Message{Topic: "not", QoS: 1, Except: "reader"}), h.b.Publish(ctx, &Message{Topic: "yes", QoS: 1})); err != nil {
		t.Fatal(err)
	}
	left := h.fs.CrashClone(vfs.CrashCloneCfg{})
	h.close()
	h = open(t, left, Options{})
	defer h.close()
	r = h.connect("reader", Opening{Expiry: 60})
	if m := r.delivery(); m.Topic != "yes" || !m.Dup {
		t.Errorf("%+v", m)
	}
}
