package mqtt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/store"
)

// as connects one of the clients of an identity.
func (h *hub) as(name, client string, o Opening) (*Client, error) {
	l := &Link{Deliver: func(*Delivery) bool { return true }, Answer: func(Answer) {}, Full: func() bool { return false }, Close: func(Reason, string) {}}
	c, _, err := h.b.Connect(context.Background(), &Connect{ClientID: client, Username: name, Version: 5}, &o, l)
	if err == nil {
		c.Start()
	}
	return c, err
}

func refusedWith(err error, r Reason) bool {
	var refused *RefusedError
	return errors.As(err, &refused) && refused.Reason == r
}

// What all share is not for one to use up.
func TestNobodyTakesItAll(t *testing.T) {
	h := open(t, vfs.NewMem(), Options{Limits: Limits{Sessions: 40, AllSubs: 100, Retained: 100}})
	defer h.close()
	greedy := h.connect("greedy", Opening{})
	for i := 0; ; i++ {
		if r := greedy.publish(&Message{Topic: fmt.Sprint("g/", i), Payload: []byte("x"), QoS: 1, Retain: true}, uint16(i+1)); r == QuotaExceeded {
			break
		} else if i > 60 {
			t.Fatal("one thing's retained messages have no end")
		}
	}
	if r := greedy.publish(&Message{Topic: "g/1", Payload: []byte("y"), QoS: 1, Retain: true}, 200); r.Failed() {
		t.Error("a new value of a topic that there is:", r)
	}
	modest := h.connect("modest", Opening{})
	if r := modest.publish(&Message{Topic: "m", Payload: []byte("x"), QoS: 1, Retain: true}, 1); r.Failed() {
		t.Error("another's retained message:", r)
	}
	ask := func(d *device, filter string) (codes []Reason) {
		d.c.Subscribe([]Request{{Filter: filter}}, 0, func(c []Reason) { codes = c })
		return codes
	}
	for i := 0; ask(greedy, fmt.Sprint("g/", i))[0] != QuotaExceeded; i++ {
		if i > 60 {
			t.Fatal("one thing's subscriptions have no end")
		}
	}
	if codes := ask(modest, "m"); codes[0].Failed() {
		t.Error("another's subscription:", codes)
	}
	for i := 0; ; i++ {
		if _, err := h.as("greedy", fmt.Sprint(i), Opening{}); err != nil {
			break
		} else if i > 25 {
			t.Fatal("one thing's sessions have no end")
		}
	}
	if _, err := h.as("modest", "2", Opening{}); err != nil {
		t.Error("another's session:", err)
	}
}

// New values of few topics are no way around the bound of all.
func TestRetainedValuesGrow(t *testing.T) {
	for _, qos := range []byte{0, 1} {
		h := open(t, vfs.NewMem(), Options{Limits: Limits{RetainedBytes: 64 << 10}})
		d := h.connect("d", Opening{})
		put := func(i, size int) {
			if r := d.publish(&Message{Topic: fmt.Sprint("t/", i), Payload: bytes.Repeat([]byte("x"), size), QoS: qos, Retain: true}, uint16(i+1)); r.Failed() && r != QuotaExceeded {
				t.Fatal(r)
			}
		}
		for _, size := range []int{1, 30 << 10, 60 << 10, 60 << 10, 60<<10 - 1} {
			for i := range 20 {
				put(i, size)
			}
		}
		if err := h.b.keep.flush(); err != nil {
			t.Fatal(err)
		}
		if f := h.b.Figures(); f.RetainedBytes > 70<<10 || f.Retained != 20 {
			t.Errorf("QoS %d: %d retained messages of %d bytes", qos, f.Retained, f.RetainedBytes)
		}
		h.close()
	}
}

// Messages of QoS 2 that are never released do not pile up over connections.
func TestUnreleasedAreBounded(t *testing.T) {
	h := open(t, vfs.NewMem(), Options{Limits: Limits{Inflight: 4}})
	defer h.close()
	id := uint16(0)
	for round := 0; ; round++ {
		if round > 5 {
			t.Fatal("they pile up")
		}
		d := h.connect("d", Opening{Expiry: 100})
		var err error
		for range 4 {
			id++
			if err = d.c.Publish(&Message{Topic: "t", Payload: []byte("x"), QoS: 2}, id); err != nil {
				break
			}
			d.answer(PubRec, id)
		}
		d.c.Lost()
		if refusedWith(err, ReceiveMaxExceeded) {
			break
		}
	}
	if n := h.rows(store.ThingReceived); n > 8 {
		t.Errorf("%d rows", n)
	}
}

// Who subscribes again and again and reads nothing has no more owed than once.
func TestReplaysAreBounded(t *testing.T) {
	h := open(t, vfs.NewMem(), Options{})
	defer h.close()
	d := h.connect("d", Opening{Expiry: 100})
	d.publish(&Message{Topic: "a", Payload: []byte("x"), QoS: 1, Retain: true}, 1)
	d.mu.Lock()
	d.full = true
	d.mu.Unlock()
	for range 50 {
		d.subscribe(Request{Filter: "a", QoS: 1}, Request{Filter: "a", QoS: 1}, Request{Filter: "+", QoS: 1})
	}
	s := d.c.s
	s.mu.Lock()
	n := len(s.replays)
	s.mu.Unlock()
	if n > 2 {
		t.Errorf("%d replays", n)
	}
	d.mu.Lock()
	d.full = false
	d.mu.Unlock()
	d.c.Ready()
	for range 2 {
		if m := d.delivery(); m.Topic != "a" || !m.Retain {
			t.Errorf("%+v", m)
		}
	}
}

// What is kept for each session is short.
func TestLongNames(t *testing.T) {
	h := open(t, vfs.NewMem(), Options{})
	defer h.close()
	long := strings.Repeat("x", MaxTopic+1)
	d := h.connect("d", Opening{})
	d.c.Subscribe([]Request{{Filter: long}, {Filter: "$share/" + long[:MaxTopic-3] + "/a"}, {Filter: long[:MaxTopic]}}, 0, func(codes []Reason) {
		if codes[0] != QuotaExceeded || codes[1] != QuotaExceeded || codes[2] != 0 {
			t.Error(codes)
		}
	})
	if _, err := h.as("d", "2", Opening{Will: &Message{Topic: long}}); !refusedWith(err, BadTopic) {
		t.Error("a will on a long topic:", err)
	}
	if _, err := h.as("d", "2", Opening{Will: &Message{Topic: "x", Payload: make([]byte, 20<<10)}}); !refusedWith(err, QuotaExceeded) {
		t.Error("a long will:", err)
	}
}

// A session that ends while something is made for it leaves nothing behind.
func TestNothingIsLeftOfWhoEnds(t *testing.T) {
	h := open(t, vfs.NewMem(), Options{})
	defer h.close()
	d := h.connect("d", Opening{Expiry: 100})
	u, _ := d.c.subscribe(&Request{Filter: "a/b"}, 0)
	h.b.End("d", "d", Administrative, "")
	h.b.plant(d.c.s, []*subscription{u})
	if h.b.tree.any("a") || h.b.Figures().Subscriptions != 0 {
		t.Error("a subscription of nobody")
	}

	o := Opening{Expiry: 100}
	s, _, err := h.b.seize(Identity{Name: "e"}, "e", &Connect{Version: 5}, &o, &Accept{Expiry: 100}, &Link{Close: func(Reason, string) {}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.as("e", "e", Opening{CleanStart: true}); err != nil {
		t.Fatal(err)
	}
	if err := h.b.keepSession(s, false); err != nil {
		t.Fatal(err)
	}
	if n := h.rows(store.ThingSession); n != 0 {
		t.Errorf("%d sessions would be there after a restart", n)
	}
}

// Where all queues are too long, who fills them by many sessions loses one of
// them, not somebody whose one is longer than each.
func TestManyQueuesOfOne(t *testing.T) {
	h := open(t, vfs.NewMem(), Options{Limits: Limits{AllQueues: 64 << 10}})
	defer h.close()
	modest := h.connect("modest", Opening{Expiry: 100})
	modest.subscribe(Request{Filter: "both", QoS: 1}, Request{Filter: "own", QoS: 1})
	modest.c.Lost()
	for i := range 10 {
		c, err := h.as("greedy", fmt.Sprint(i), Opening{Expiry: 100})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		c.Subscribe([]Request{{Filter: "both", QoS: 1}}, 0, func([]Reason) { close(done) })
		<-done
		c.Lost()
	}
	p := h.connect("p", Opening{})
	p.publish(&Message{Topic: "own", Payload: make([]byte, 6<<10), QoS: 1}, 1)
	for i := range 60 {
		p.publish(&Message{Topic: "both", Payload: []byte("x"), QoS: 1}, uint16(i+2))
	}
	h.b.mu.Lock()
	h.b.limits.AllQueues = 7 << 10
	h.b.mu.Unlock()
	h.b.endHeaviest()
	mine := 0
	for _, l := range h.b.Loads(100) {
		if l.Name == "modest" {
			mine++
		}
	}
	if mine != 1 {
		t.Error("the modest one's session ended")
	}
}
