package keyring

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"testing"
	"time"

	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
)

// past is a server that has gone, and those who knew it.
type past struct {
	*world
	t            *testing.T
	gone, forged event.Signer // the latter is what liars say of it
	at           time.Time    // when it was there
	rings        map[mxid.Server]*Keys
	asks         int
}

func newPast(t *testing.T) *past {
	w := newWorld()
	gone := w.server("gone")
	rings := map[mxid.Server]*Keys{}
	for _, name := range []mxid.Server{"w1", "w2", "w3"} {
		rings[name] = w.ring(t, Options{Server: name})
		if err := verify(rings[name], message(t, "10", gone, w.now))[0]; err != nil {
			t.Fatal(err)
		}
	}
	// Who never knew it, and who makes up a key of it.
	rings["young"] = w.ring(t, Options{Server: "young"})
	liar := w.servers["gone"]
	w.servers["gone"] = &Own{Server: "gone", Current: []event.Signer{{Server: "gone", KeyID: gone.KeyID, Key: seedKey("lie")}}}
	forged := w.servers["gone"].Current[0]
	for _, name := range []mxid.Server{"l1", "l2"} {
		rings[name] = w.ring(t, Options{Server: name})
		if err := verify(rings[name], message(t, "10", forged, w.now))[0]; err != nil {
			t.Fatal(err)
		}
	}
	w.servers["gone"] = liar
	w.down["gone"] = true
	at := w.now
	w.pass(30 * 24 * time.Hour)
	return &past{world: w, t: t, gone: gone, forged: forged, at: at, rings: rings}
}

// fresh is a ring that knew nobody.
func (w *past) fresh(o Options) *Keys {
	k := w.ring(w.t, o)
	k.o.Ask = func(ctx context.Context, witness mxid.Server, body []byte) ([]byte, error) {
		w.mu.Lock()
		w.asks++
		w.mu.Unlock()
		ring := w.rings[witness]
		if ring == nil {
			return nil, errors.New("connection refused")
		}
		queries, err := ParseQueries(body)
		if err != nil {
			return nil, err
		}
		list, err := ring.Answer(ctx, queries)
		return AppendAnswers(nil, list), err
	}
	return k
}

// Of a server that is gone two who knew it are believed, for what it said long ago
// in the room that they are in, and for nothing else.
func TestWitnesses(t *testing.T) {
	w := newPast(t)
	gone, forged, at := w.gone, w.forged, w.at
	on := Options{Witnesses: true}
	for _, tt := range []struct {
		name      string
		o         Options
		signer    event.Signer
		at        time.Time
		witnesses []mxid.Server
		kind      fault.Kind
		ok        bool
	}{
		{"two", on, gone, at, []mxid.Server{"w1", "w2"}, 0, true},
		{"all", on, gone, at, []mxid.Server{"w3", "w1", "w2", "young", "down"}, 0, true},
		{"off", Options{}, gone, at, []mxid.Server{"w1", "w2"}, fault.Remote, false},
		{"one", on, gone, at, []mxid.Server{"w1"}, fault.Remote, false},
		{"one twice", on, gone, at, []mxid.Server{"w1", "w1", "w1"}, fault.Remote, false},
		{"one who knew it", on, gone, at, []mxid.Server{"w1", "young"}, fault.Remote, false},
		{"itself", on, gone, at, []mxid.Server{"w1", "gone", "hub"}, fault.Remote, false},
		{"a lie among them", on, gone, at, []mxid.Server{"w1", "w2", "l1"}, fault.Remote, false},
		{"another's signature", on, forged, at, []mxid.Server{"w1", "w2"}, fault.BadSignature, false},
		{"new", on, gone, w.now.Add(-6 * 24 * time.Hour), []mxid.Server{"w1", "w2"}, fault.Remote, false},
		{"after its time", on, gone, at.Add(10 * 24 * time.Hour), []mxid.Server{"w1", "w2"}, fault.Remote, false},
	} {
		k := w.fresh(tt.o)
		err := k.VerifyPast(t.Context(), event.LookupVersion("10"), []*event.Event{message(t, "10", tt.signer, tt.at)}, tt.witnesses)[0]
		if tt.ok && err != nil || !tt.ok && fault.KindOf(err) != tt.kind {
			t.Errorf("%s: %v", tt.name, err)
		}
		if set, err := k.known("gone"); err != nil || len(set) != 0 {
			t.Errorf("%s: it is kept as a key of it: %v %v", tt.name, set, err)
		}
		if list, err := k.Answer(t.Context(), []Query{{Server: "gone"}}); err != nil || len(list) != 0 {
			t.Errorf("%s: it is passed on", tt.name)
		}
		obj, err := event.SignJSON(nil, []byte(`{"uri":"/"}`), &tt.signer)
		if err != nil {
			t.Fatal(err)
		}
		if k.VerifyJSON(t.Context(), "gone", obj, w.now) == nil {
			t.Errorf("%s: a request of it is believed", tt.name)
		}
	}
}

// A server that there was no time to ask is not taken to be gone.
func TestWitnessesOfTheUnasked(t *testing.T) {
	w := newPast(t)
	k := w.fresh(Options{Witnesses: true, LongTime: 100 * time.Millisecond})
	for range forMany {
		k.many <- struct{}{} // those before it are slow
	}
	events := []*event.Event{message(t, "10", w.forged, w.at)}
	for i := range batchFrom {
		name := mxid.Server(fmt.Sprintf("slow%d", i))
		events = append(events, message(t, "10", w.server(name), w.at))
	}
	if err := k.VerifyPast(t.Context(), event.LookupVersion("10"), events, []mxid.Server{"l1", "l2"})[0]; !fault.Is(err, fault.Remote) {
		t.Errorf("a lie about a server that nobody asked is believed: %v", err)
	}
	for range forMany {
		<-k.many
	}
}

// What others say serves for their room, and not where this hub knew better.
func TestHearsay(t *testing.T) {
	w := newPast(t)
	on := Options{Witnesses: true}
	// What was said in one room is remembered for that room, and not for another.
	k := w.fresh(on)
	e, elsewhere := message(t, "10", w.gone, w.at), message(t, "10", w.gone, w.at)
	elsewhere.Room = "!other:hub"
	for _, tt := range []struct {
		e    *event.Event
		asks int
	}{{e, 2}, {e, 0}, {elsewhere, 2}} {
		w.asks = 0
		if err := k.VerifyPast(t.Context(), event.LookupVersion("10"), []*event.Event{tt.e}, []mxid.Server{"w1", "w2"})[0]; err != nil || w.asks != tt.asks {
			t.Errorf("%s: asked %d times, want %d (%v)", tt.e.Room, w.asks, tt.asks, err)
		}
	}
	// Of a server that this hub knew itself nobody else is believed.
	k = w.fresh(on)
	w.down["gone"], w.servers["gone"] = false, &Own{Server: "gone", Current: []event.Signer{{Server: "gone", KeyID: "ed25519:new", Key: ed25519.NewKeyFromSeed(make([]byte, 32))}}}
	if err := verify(k, message(t, "10", w.servers["gone"].Current[0], w.now))[0]; err != nil {
		t.Fatal(err)
	}
	w.down["gone"] = true
	w.pass(time.Hour)
	if err := k.VerifyPast(t.Context(), event.LookupVersion("10"), []*event.Event{e}, []mxid.Server{"w1", "w2"})[0]; err == nil {
		t.Error("others were believed of a server that is known")
	}
}
