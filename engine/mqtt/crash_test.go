package mqtt

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/store"
)

// reader is a subscriber as a good client is one: what it knows outlives every
// power cut of the hub.
type reader struct {
	*device
	got  map[string]int  // how often each message was handed to the application
	held map[uint16]bool // QoS 2 packet ids between PUBREC and PUBREL
	last map[byte]int    // by QoS: the last message that came for the first time
}

// take handles the next thing that came, and says whether there was one.
func (r *reader) take(wait time.Duration) bool {
	r.t.Helper()
	switch x := r.next(wait).(type) {
	case Delivery:
		r.message(x)
	case Answer:
		if x.Kind == PubRel {
			delete(r.held, x.ID)
			r.c.Completed(x.ID)
		}
	default:
		return false
	}
	return true
}

func (r *reader) message(m Delivery) {
	r.t.Helper()
	key := string(m.Payload)
	if m.QoS == 2 && r.held[m.ID] {
		if !m.Dup {
			r.t.Fatalf("%s: message %s again, under %d, and not marked", r.name, key, m.ID)
		}
		r.c.Received(m.ID, Success)
		return
	}
	if r.got[key]++; r.got[key] > 1 && (m.QoS == 2 || !m.Dup) {
		r.t.Fatalf("%s: message %s with QoS %d came %d times, marked: %v", r.name, key, m.QoS, r.got[key], m.Dup)
	}
	if n, err := strconv.Atoi(key); err == nil && r.got[key] == 1 {
		if n < r.last[m.QoS] {
			r.t.Fatalf("%s: message %d after %d", r.name, n, r.last[m.QoS])
		}
		r.last[m.QoS] = n
	}
	if m.QoS == 2 {
		r.held[m.ID] = true
		r.c.Received(m.ID, Success)
		return
	}
	r.c.Acknowledged(m.ID)
}

// What was acknowledged reaches those who have a session, whatever the power
// does: QoS 1 at least once and marked when it comes again, QoS 2 once.
func TestPowerCuts(t *testing.T) {
	seed := rand.Uint64()
	if s := os.Getenv("HEARTH_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	for i := range uint64(4) {
		t.Logf("HEARTH_SEED=%d", seed+i)
		cuts(t, seed+i)
	}
}

func cuts(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	limits := Limits{Inflight: 8, Memory: 2000}
	h := open(t, vfs.NewCrashableMem(), Options{Limits: limits})
	readers := []*reader{}
	for _, name := range []string{"near", "far"} {
		r := &reader{device: h.connect(name, Opening{CleanStart: true, Expiry: 3600}), got: map[string]int{}, held: map[uint16]bool{}, last: map[byte]int{}}
		r.subscribe(Request{Filter: "t/#", QoS: 2})
		readers = append(readers, r)
	}
	writer := h.connect("writer", Opening{CleanStart: true})
	var acked []string
	for n := range 300 {
		switch what := rng.IntN(20); {
		case what < 12:
			key := strconv.Itoa(n)
			m := &Message{Topic: "t/x", Payload: []byte(key), QoS: byte(1 + rng.IntN(2))}
			if r := writer.publish(m, uint16(1+n)); r.Failed() {
				t.Fatal(r)
			}
			acked = append(acked, key)
		case what < 18:
			readers[rng.IntN(len(readers))].take(time.Millisecond)
		case what == 18: // a reader's connection breaks
			r := readers[rng.IntN(len(readers))]
			r.c.Lost()
			r.device = h.connect(r.name, Opening{Expiry: 3600})
			present(t, r)
		default:
			left := h.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 100}[rng.IntN(3)], RNG: rng})
			h.close()
			h = open(t, left, Options{Limits: limits})
			for _, r := range readers {
				r.device = h.connect(r.name, Opening{Expiry: 3600})
				present(t, r)
			}
			writer = h.connect("writer", Opening{CleanStart: true})
		}
	}
	for _, r := range readers {
		for late := time.Now().Add(20 * time.Second); !all(r, acked) && time.Now().Before(late); {
			r.take(100 * time.Millisecond)
		}
		for _, key := range acked {
			if r.got[key] == 0 {
				t.Fatalf("%s never got message %s, which was acknowledged", r.name, key)
			}
		}
		for r.take(50 * time.Millisecond) { // the last PUBRELs
		}
	}
	h.b.commit.flushDrops()
	if q, m, r := h.rows(store.ThingQueue), h.rows(store.ThingMessage), h.rows(store.ThingReceived); q+m+r > 0 || len(h.b.bodies.counts) > 0 {
		t.Errorf("all is delivered, and there are %d rows of queues, %d messages, %d packet ids", q, m, r)
	}
	if n := h.b.queued.Load(); n != 0 {
		t.Errorf("all is delivered, and %d bytes wait", n)
	}
	h.close()
}

func present(t *testing.T, r *reader) {
	t.Helper()
	if !r.acc.Present {
		t.Fatalf("%s: the session is gone", r.name)
	}
}

func all(r *reader, keys []string) bool {
	for _, k := range keys {
		if r.got[k] == 0 {
			return false
		}
	}
	return true
}

// A publisher with a session that is kept sends QoS 2 once, even where the power
// fails between PUBREC and PUBREL, and may use the id again afterwards.
func TestPublisherSurvives(t *testing.T) {
	h := open(t, vfs.NewCrashableMem(), Options{})
	r := h.connect("reader", Opening{CleanStart: true, Expiry: 60})
	r.subscribe(Request{Filter: "t", QoS: 2})
	r.c.Lost()
	w := h.connect("writer", Opening{CleanStart: true, Expiry: 60})
	m := &Message{Topic: "t", Payload: []byte("one"), QoS: 2}
	if err := w.c.Publish(m, 7); err != nil {
		t.Fatal(err)
	}
	w.answer(PubRec, 7)
	left := h.fs.CrashClone(vfs.CrashCloneCfg{})
	h.close()
	h = open(t, left, Options{})
	w = h.connect("writer", Opening{Expiry: 60})
	if err := w.c.Publish(m, 7); err != nil { // it did not see the PUBREC
		t.Fatal(err)
	}
	w.answer(PubRec, 7)
	w.c.Release(7)
	w.answer(PubComp, 7)
	left = h.fs.CrashClone(vfs.CrashCloneCfg{})
	h.close()
	h = open(t, left, Options{})
	defer h.close()
	w = h.connect("writer", Opening{Expiry: 60})
	w.publish(&Message{Topic: "t", Payload: []byte("two"), QoS: 2}, 7)
	r = h.connect("reader", Opening{Expiry: 60})
	for _, want := range []string{"one", "two"} {
		if got := r.delivery(); string(got.Payload) != want {
			t.Fatalf("got %q, not %q", got.Payload, want)
		}
	}
}
