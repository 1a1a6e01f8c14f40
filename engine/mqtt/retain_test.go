package mqtt

import (
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/store"
)

// counted checks the broker's count of retained messages against the disk.
func (h *hub) counted(want int) {
	h.t.Helper()
	var size int64
	if err := h.st.ScanPrefix(store.Retained.Prefix(), func(key, val []byte) (bool, error) {
		size += int64(len(key) + len(val))
		return true, nil
	}); err != nil {
		h.t.Fatal(err)
	}
	if f, rows := h.b.Figures(), h.rows(store.Retained); f.Retained != want || rows != want || f.RetainedBytes != size {
		h.t.Fatalf("%d rows of %d bytes, counted %d of %d, not %d", rows, size, f.Retained, f.RetainedBytes, want)
	}
}

// One batch may hold several values of a topic that is new, or lose it again.
func TestRetainedCount(t *testing.T) {
	h := open(t, vfs.NewMem(), Options{})
	defer h.close()
	k := h.b.keep
	commit := func(values ...string) {
		t.Helper()
		batch := h.st.NewBatch()
		for _, v := range values {
			k.put(batch, &Message{Topic: v[:1], Payload: []byte(v[1:]), QoS: 1, Retain: true}, k.number())
		}
		if err := h.st.Commit(batch); err != nil {
			t.Fatal(err)
		}
		k.started(nil)
	}
	commit("a1", "a22", "b1", "a333")
	h.counted(2)
	commit("a", "c1", "c", "b4444", "b")
	h.counted(0)
	commit("a1", "a", "a1")
	h.counted(1)
	// A batch that fails takes its counts back with the next tick.
	batch := h.st.NewBatch()
	k.put(batch, &Message{Topic: "lost", Payload: []byte("x"), QoS: 1}, k.number())
	batch.Drop()
	k.started(errStopping)
	h.b.tick(time.Now())
	h.counted(1)
}

// A value of QoS 0 stays the last one, though one of QoS 1 that came before it
// reaches the disk after it; and one that came before goes.
func TestRetainedOrder(t *testing.T) {
	h := open(t, vfs.NewMem(), Options{})
	defer h.close()
	k := h.b.keep
	for i, c := range []struct{ first, want string }{{"disk", "memory"}, {"memory", "disk"}} {
		topic := fmt.Sprint(i)
		disk := &Message{Topic: topic, Payload: []byte("disk"), QoS: 1, Retain: true}
		var order uint64
		if c.first == "disk" {
			order = k.number()
		}
		if !k.hold(&Message{Topic: topic, Payload: []byte("memory"), Retain: true}) {
			t.Fatal("no room")
		}
		if c.first == "memory" {
			order = k.number()
		}
		batch := h.st.NewBatch()
		k.put(batch, disk, order)
		if err := k.flush(); err != nil { // must not come before the batch
			t.Fatal(err)
		}
		if err := h.st.Commit(batch); err != nil {
			t.Fatal(err)
		}
		k.started(nil)
		if m, err := h.b.Retained(topic); err != nil || string(m.Payload) != c.want {
			t.Errorf("%s first: %+v %v", c.first, m, err)
		}
		if err := k.flush(); err != nil {
			t.Fatal(err)
		}
		if m, err := h.b.Retained(topic); err != nil || string(m.Payload) != c.want {
			t.Errorf("%s first: %+v %v", c.first, m, err)
		}
		h.counted(i + 1)
	}
	if k.bytes != 0 {
		t.Errorf("nothing waits, and %d bytes are counted", k.bytes)
	}
}

// What has expired leaves the disk, piece by piece; what has not stays.
func TestRetainedSweep(t *testing.T) {
	now := time.Now()
	clock := func() time.Time { return now }
	fs := vfs.NewMem()
	h := open(t, fs, Options{Now: clock})
	batch := h.st.NewBatch()
	for i := range 3 * sweepRows {
		m := &Message{Topic: fmt.Sprintf("t/%d", i), Payload: []byte("x"), QoS: 1, Retain: true}
		switch i % 3 {
		case 0:
			m.Expires = now.Add(time.Minute)
		case 1:
			m.Expires = now.Add(time.Hour)
		}
		h.b.keep.put(batch, m, h.b.keep.number())
	}
	if err := h.st.Commit(batch); err != nil {
		t.Fatal(err)
	}
	h.b.keep.started(nil)
	h.close()
	h = open(t, fs, Options{Now: clock})
	defer h.close()
	h.counted(3 * sweepRows)
	h.b.tick(now)
	h.counted(3 * sweepRows)
	// A topic with a new value on its way is let be.
	if !h.b.keep.hold(&Message{Topic: "t/0", Payload: []byte("new"), Retain: true}) {
		t.Fatal("no room")
	}
	now = now.Add(2 * time.Minute)
	if m, err := h.b.Retained("t/3"); m != nil || err != nil {
		t.Errorf("over, and there: %+v %v", m, err)
	}
	for left := 3 * sweepRows; left > 2*sweepRows+1; {
		h.b.tick(now)
		f := h.b.Figures().Retained
		if f < left-sweepRows || f >= left {
			t.Fatalf("%d after %d in one piece", f, left)
		}
		left = f
		if left == 2*sweepRows {
			break
		}
	}
	now = now.Add(2 * time.Hour)
	for range 20 {
		h.b.tick(now)
	}
	h.counted(sweepRows + 1)
	if m, err := h.b.Retained("t/0"); err != nil || string(m.Payload) != "new" {
		t.Errorf("%+v %v", m, err)
	}
	if w := h.b.keep.sweeping; w.at != nil || !w.due.IsZero() {
		t.Errorf("it goes on for ever: %+v", w)
	}
}
