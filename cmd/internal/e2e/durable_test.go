package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// history pages through a whole room and gives the ids of its messages in the order of the room.
func history(t *testing.T, c *mautrix.Client, in id.RoomID, dir mautrix.Direction, page int) []id.EventID {
	t.Helper()
	var all []id.EventID
	for from := ""; ; {
		m := must(c.Messages(t.Context(), in, from, "", dir, nil, page))(t)
		for _, e := range m.Chunk {
			if e.Type == event.EventMessage {
				all = append(all, e.ID)
			}
		}
		if m.End == "" {
			break
		}
		if m.End == from {
			t.Fatalf("a page ends where it begins: %q", from)
		}
		from = m.End
	}
	if dir == mautrix.DirectionBackward {
		for i, j := 0, len(all)-1; i < j; i, j = i+1, j-1 {
			all[i], all[j] = all[j], all[i]
		}
	}
	return all
}

// once fails the test where an event comes twice or one of want is missing.
func once(t *testing.T, what string, got []id.EventID, want map[id.EventID]bool) {
	t.Helper()
	seen := map[id.EventID]bool{}
	for _, e := range got {
		if seen[e] {
			t.Errorf("%s: %s twice", what, e)
		}
		seen[e] = true
	}
	missing := 0
	for e := range want {
		if !seen[e] {
			missing++
		}
	}
	if missing > 0 {
		t.Errorf("%s: %d of %d events are missing", what, missing, len(want))
	}
}

// TestPaging sends at the same moment from several clients and pages through it in pages of odd sizes.
func TestPaging(t *testing.T) {
	h := startHub(t)
	alice := h.register("alice")
	lights := room(t, "lights", alice)
	var wg sync.WaitGroup
	var mu sync.Mutex
	want := map[id.EventID]bool{}
	for range 5 {
		wg.Go(func() {
			for n := range 40 {
				r, err := alice.SendText(t.Context(), lights, fmt.Sprint(n))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				want[r.EventID] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	var first []id.EventID
	for _, page := range []int{1, 7, 100} {
		for _, dir := range []mautrix.Direction{mautrix.DirectionForward, mautrix.DirectionBackward} {
			what := fmt.Sprintf("pages of %d, %c", page, dir)
			got := history(t, alice, lights, dir, page)
			once(t, what, got, want)
			if first == nil {
				first = got
			}
			if fmt.Sprint(got) != fmt.Sprint(first) {
				t.Errorf("%s: another order than forward in pages of 1", what)
			}
		}
	}
}

// publisher sends until told to stop, each message until it is acknowledged, and keeps what was.
type publisher struct {
	c     *mautrix.Client
	in    id.RoomID
	mu    sync.Mutex
	acked map[id.EventID]bool
}

func (p *publisher) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.acked)
}

func (p *publisher) run(ctx context.Context, name string) {
	for n := 0; ctx.Err() == nil; n++ {
		extra := mautrix.ReqSendEvent{TransactionID: fmt.Sprintf("%s-%d", name, n)}
		for ctx.Err() == nil {
			content := &event.MessageEventContent{MsgType: event.MsgText, Body: extra.TransactionID}
			r, err := p.c.SendMessageEvent(ctx, p.in, event.EventMessage, content, extra)
			if err == nil {
				p.mu.Lock()
				p.acked[r.EventID] = true
				p.mu.Unlock()
				break
			}
		}
	}
}

// TestKill kills the hub again and again while clients publish. What was acknowledged is there afterwards, once, and
// a follower has had all of it.
func TestKill(t *testing.T) {
	h := startHub(t)
	alice, bob := h.register("alice"), h.register("bob")
	lights := room(t, "lights", alice, bob)
	since := must(bob.FullSyncRequest(t.Context(), mautrix.ReqSync{}))(t).NextBatch
	toBob := follow(t, bob)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	p := &publisher{c: alice, in: lights, acked: map[id.EventID]bool{}}
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() { p.run(ctx, fmt.Sprint(n)) })
	}
	for range 4 {
		before := p.count()
		eventually(t, "messages are acknowledged", func() bool { return p.count() >= before+40 })
		h.kill()
		h.start()
	}
	before := p.count()
	eventually(t, "messages are acknowledged after the last start", func() bool { return p.count() >= before+20 })
	stop()
	wg.Wait()
	last := must(alice.SendText(t.Context(), lights, "the end"))(t).EventID
	p.acked[last] = true

	forward := history(t, bob, lights, mautrix.DirectionForward, 50)
	once(t, "forward", forward, p.acked)
	back := history(t, bob, lights, mautrix.DirectionBackward, 33)
	once(t, "backward", back, p.acked)
	if fmt.Sprint(forward) != fmt.Sprint(back) {
		t.Error("the two directions differ in their order")
	}

	var followed []id.EventID
	await(t, toBob, "the last message", func(e *event.Event) bool {
		if e.Type == event.EventMessage {
			followed = append(followed, e.ID)
		}
		return e.ID == last
	})
	once(t, "followed", followed, p.acked)

	// A token from before all kills still leads through everything.
	var synced []id.EventID
	for end := false; !end; {
		s := must(bob.FullSyncRequest(t.Context(), mautrix.ReqSync{Since: since}))(t)
		j := s.Rooms.Join[lights]
		if j == nil {
			t.Fatal("sync ended before the last message")
		}
		if j.Timeline.Limited {
			for from := since; from != "" && from != j.Timeline.PrevBatch; {
				m := must(bob.Messages(t.Context(), lights, from, j.Timeline.PrevBatch, mautrix.DirectionForward, nil, 100))(t)
				for _, e := range m.Chunk {
					synced = append(synced, e.ID)
				}
				from = m.End
			}
		}
		for _, e := range j.Timeline.Events {
			synced = append(synced, e.ID)
			end = end || e.ID == last
		}
		since = s.NextBatch
	}
	once(t, "synced", synced, p.acked)
}
