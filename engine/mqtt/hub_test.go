package mqtt

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/store"
)

// hub is a broker on a disk in memory.
type hub struct {
	t  *testing.T
	fs *vfs.MemFS
	st *store.Store
	b  *Broker
}

func open(t *testing.T, fs *vfs.MemFS, o Options) *hub {
	t.Helper()
	st, err := store.Open(store.Options{Dir: "store", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	if o.Auth == nil {
		o.Auth = func(_ context.Context, c *Connect) (Identity, error) { return Identity{Name: c.Username}, nil }
	}
	o.Store, o.Log = st, t.Logf
	b, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return &hub{t, fs, st, b}
}

func (h *hub) close() {
	h.t.Helper()
	if err := h.b.Close(); err != nil {
		h.t.Error(err)
	}
	if err := h.st.Close(); err != nil {
		h.t.Error(err)
	}
}

// device is a client with all that comes to it.
type device struct {
	t    *testing.T
	name string
	c    *Client
	acc  *Accept

	mu     sync.Mutex
	came   []any // Delivery with its own Message, Answer
	wake   chan struct{}
	full   bool
	closed Reason
}

func (h *hub) connect(name string, o Opening) *device {
	h.t.Helper()
	d := &device{t: h.t, name: name, wake: make(chan struct{}, 1)}
	l := &Link{
		Deliver: func(m *Delivery) bool {
			own := *m
			own.Message, own.SubIDs = m.Clone(), slices.Clone(m.SubIDs)
			d.push(own)
			return true
		},
		Answer: func(a Answer) { d.push(a) },
		Full:   func() bool { d.mu.Lock(); defer d.mu.Unlock(); return d.full },
		Close:  func(r Reason, _ string) { d.mu.Lock(); d.closed = r; d.mu.Unlock() },
	}
	c, acc, err := h.b.Connect(context.Background(), &Connect{ClientID: name, Username: name, Version: 5}, &o, l)
	if err != nil {
		h.t.Fatal(err)
	}
	d.c, d.acc = c, acc
	c.Start()
	return d
}

func (d *device) push(x any) {
	d.mu.Lock()
	d.came = append(d.came, x)
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// next gives what came next; nil where nothing comes for a while.
func (d *device) next(wait time.Duration) any {
	late := time.After(wait)
	for {
		d.mu.Lock()
		if len(d.came) > 0 {
			x := d.came[0]
			d.came = d.came[1:]
			d.mu.Unlock()
			return x
		}
		d.mu.Unlock()
		select {
		case <-d.wake:
		case <-late:
			return nil
		}
	}
}

// answer waits for an answer of the kind.
func (d *device) answer(k Kind, id uint16) Answer {
	d.t.Helper()
	x := d.next(10 * time.Second)
	a, ok := x.(Answer)
	if !ok || a.Kind != k || a.ID != id {
		d.t.Fatalf("%s: got %+v, not the answer %d to %d", d.name, x, k, id)
	}
	return a
}

func (d *device) subscribe(reqs ...Request) {
	d.t.Helper()
	done := make(chan []Reason, 1)
	d.c.Subscribe(reqs, 0, func(codes []Reason) { done <- codes })
	if codes := <-done; slices.ContainsFunc(codes, Reason.Failed) {
		d.t.Fatalf("%s: %v", d.name, codes)
	}
}

// publish publishes and waits for all that is to be waited for.
func (d *device) publish(m *Message, id uint16) Reason {
	d.t.Helper()
	if err := d.c.Publish(m, id); err != nil {
		d.t.Fatal(err)
	}
	switch m.QoS {
	case 1:
		return d.answer(PubAck, id).Reason
	case 2:
		r := d.answer(PubRec, id).Reason
		if !r.Failed() {
			d.c.Release(id)
			d.answer(PubComp, id)
		}
		return r
	}
	return Success
}

// delivery waits for a message.
func (d *device) delivery() Delivery {
	d.t.Helper()
	x := d.next(10 * time.Second)
	m, ok := x.(Delivery)
	if !ok {
		d.t.Fatalf("%s: got %+v, not a message", d.name, x)
	}
	return m
}

// rows counts the rows of a table.
func (h *hub) rows(t store.Table) (n int) {
	h.t.Helper()
	if err := h.st.ScanPrefix(t.Prefix(), func([]byte, []byte) (bool, error) { n++; return true, nil }); err != nil {
		h.t.Fatal(err)
	}
	return n
}

func text(format string, args ...any) []byte { return fmt.Appendf(nil, format, args...) }
