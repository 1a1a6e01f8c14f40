package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"hearth/cmd/internal/client"
)

func TestSendSurvivesABrokenRoad(t *testing.T) {
	h, c := newHub(t)
	// Break three tries before and three after they are carried out; a doubled event would be a second entry.
	var tries atomic.Int32
	h.trip = func(after bool, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/send/") {
			return false
		}
		n := tries.Add(1)
		return n <= 3 || n <= 9 && after
	}
	txn := c.Transaction()
	id, err := c.Send(t.Context(), client.Outgoing{
		Room: room, Type: "m.room.message", Transaction: txn, Content: json.RawMessage(`{"body":"on"}`),
	})
	if err != nil || id != "$0" || len(h.events) != 1 {
		t.Fatalf("id %q, error %v, %d events", id, err, len(h.events))
	}
	if c.Transaction() == txn {
		t.Error("two events share a transaction id")
	}
}

func TestSendWaitsWhenToldTo(t *testing.T) {
	h, c := newHub(t)
	statuses := []int{429, 503, 502, 500, 504}
	h.answer = func(w http.ResponseWriter, r *http.Request) bool {
		if len(statuses) == 0 {
			return false
		}
		w.WriteHeader(statuses[0])
		statuses = statuses[1:]
		w.Write([]byte(`{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":2}`))
		return true
	}
	if _, err := send(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if len(h.asked) != 6 {
		t.Errorf("asked %q", h.asked)
	}
}

func TestSendGivesUpOnARefusal(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404, 413, 501} {
		h, c := newHub(t)
		h.answer = func(w http.ResponseWriter, r *http.Request) bool {
			fail(w, status, "M_NO")
			return true
		}
		_, err := send(t.Context(), c)
		var e *client.Error
		if !errors.As(err, &e) || e.Status != status || !client.Refused(err, "M_NO") || len(h.asked) != 1 {
			t.Errorf("%d: %v after %d requests", status, err, len(h.asked))
		}
	}
}

func send(ctx context.Context, c *client.Client) (string, error) {
	return c.Send(ctx, client.Outgoing{
		Room: room, Type: "m.room.message", Transaction: c.Transaction(), Content: json.RawMessage(`{}`),
	})
}

func TestSendSeesThroughWhatIsUnderWay(t *testing.T) {
	h, c := newHub(t)
	gone := errors.New("asked to stop")
	ctx, stop := context.WithCancelCause(t.Context())
	h.answer = func(w http.ResponseWriter, r *http.Request) bool {
		stop(gone) // while the request is under way
		return false
	}
	if id, err := send(ctx, c); err != nil || id != "$0" {
		t.Errorf("%q, %v", id, err)
	}
	if _, err := send(ctx, c); !errors.Is(err, gone) || len(h.events) != 1 {
		t.Errorf("%v, %d events", err, len(h.events))
	}
}

func TestLogin(t *testing.T) {
	h, c := newHub(t)
	_ = h
	err := c.Login(t.Context(), client.Login{User: "a", Password: "wrong"})
	if !client.Refused(err, "M_FORBIDDEN") || strings.Contains(err.Error(), "wrong") {
		t.Error(err)
	}
	if err := c.Login(t.Context(), client.Login{User: "a", Password: "secret"}); err != nil {
		t.Error(err)
	}
}

// follow starts a follower and gives what it hands over as indexes, and its end.
func follow(ctx context.Context, c *client.Client, feed client.Feed) (<-chan int, <-chan error) {
	events, end, ready := make(chan int), make(chan error, 1), make(chan struct{})
	feed.Room, feed.Ready = room, func() { close(ready) }
	go func() {
		defer close(events)
		end <- c.Follow(ctx, feed, func(e client.Event) error {
			n, err := strconv.Atoi(e.ID[1:])
			if err != nil {
				return err
			}
			select {
			case events <- n:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
	}()
	<-ready
	return events, end
}

func want(t *testing.T, events <-chan int, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		if got, open := <-events; got != n || !open {
			t.Fatalf("got %d (open %v), want %d", got, open, n)
		}
	}
}

func TestFollowFillsGaps(t *testing.T) {
	h, c := newHub(t)
	h.add(7)
	events, _ := follow(t.Context(), c, client.Feed{})
	h.add(1)
	want(t, events, 7, 8)
	h.add(40) // many more than one sync answer holds
	want(t, events, 8, 48)
	h.add(5)
	want(t, events, 48, 53)
}

func TestFollowBeginsWithThePast(t *testing.T) {
	h, c := newHub(t)
	h.add(7)
	events, _ := follow(t.Context(), c, client.Feed{Past: 3})
	want(t, events, 4, 7)
	h.add(1)
	want(t, events, 7, 8)
}

func TestFollowSurvivesABrokenRoad(t *testing.T) {
	h, c := newHub(t)
	var n atomic.Int32
	h.trip = func(after bool, r *http.Request) bool {
		if r.URL.Query().Get("since") == "" && strings.HasSuffix(r.URL.Path, "/sync") {
			return false
		}
		// Of seven looks one breaks a request before it is carried out, one after.
		k := n.Add(1) % 7
		return k == 0 || k == 3
	}
	events, _ := follow(t.Context(), c, client.Feed{})
	for i := range 5 {
		h.add(10)
		want(t, events, 10*i, 10*i+10)
	}
}

func TestFollowEnds(t *testing.T) {
	t.Run("when stopped", func(t *testing.T) {
		h, c := newHub(t)
		gone := errors.New("asked to stop")
		ctx, stop := context.WithCancelCause(t.Context())
		events, end := follow(ctx, c, client.Feed{})
		h.add(1)
		want(t, events, 0, 1)
		stop(gone)
		if err := <-end; !errors.Is(err, gone) {
			t.Error(err)
		}
	})
	t.Run("when put out of the room", func(t *testing.T) {
		h, c := newHub(t)
		events, end := follow(t.Context(), c, client.Feed{})
		h.mu.Lock()
		h.left = true
		h.put("m.room.member", object{})
		h.mu.Unlock()
		want(t, events, 0, 1)
		if err := <-end; !errors.Is(err, client.ErrLeft) {
			t.Error(err)
		}
	})
	t.Run("when enough", func(t *testing.T) {
		h, c := newHub(t)
		h.add(3)
		n := 0
		err := c.Follow(t.Context(), client.Feed{Room: room, Past: 3}, func(client.Event) error {
			if n++; n == 2 {
				return client.ErrStop
			}
			return nil
		})
		if err != nil || n != 2 {
			t.Error(err, n)
		}
	})
}

func TestFollowGoesOnWhenItsPositionIsUnknown(t *testing.T) {
	h, c := newHub(t)
	events, _ := follow(t.Context(), c, client.Feed{})
	h.mu.Lock()
	h.forget = true
	h.mu.Unlock()
	h.add(20)
	// What one answer holds comes; the gap cannot be had.
	for n := range events {
		if n == 19 {
			break
		}
	}
}

func TestServerURL(t *testing.T) {
	for _, bad := range []string{"", "127.0.0.1:8008", "ftp://x", "http://", "http://u:p@x", "http://x?y", "http://x#y"} {
		_, err := client.New(client.Options{Server: bad})
		if err == nil || strings.Contains(err.Error(), "u:p") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
