package sync

import (
	"fmt"
	"strings"
	"testing"
)

// However many rooms a request puts under however many rules, what the hub keeps of
// it is no longer than it.
func TestSlideAsksAreBounded(t *testing.T) {
	h := start(t)
	var lists, subs []string
	for i := range 24 {
		r := h.create(alice, "")
		subs = append(subs, fmt.Sprintf(`%q:{"timeline_limit":1,"required_state":[["s%d",""]]}`, h.id(r), i))
	}
	for i := range 40 {
		lists = append(lists, fmt.Sprintf(`"l%d":{"timeline_limit":1,"required_state":[["%s%d",""]]}`, i, strings.Repeat("x", 240), i))
	}
	body := `{"lists":{` + strings.Join(lists, ",") + `},"room_subscriptions":{` + strings.Join(subs, ",") + `}}`
	p := h.phone(alice)
	p.asks(body)
	p.asks(body)
	h.conns.mu.Lock()
	defer h.conns.mu.Unlock()
	if h.conns.sum > 8*len(body) {
		t.Errorf("%d bytes are kept of a request of %d", h.conns.sum, len(body))
	}
}

// Who takes much loses of their own, and not what others have.
func TestSlideConnsAreShared(t *testing.T) {
	h := start(t)
	h.create(alice, "")
	body := all(1, "")
	quiet := h.phone(alice)
	quiet.asks(body)
	quiet.asks(body)
	greedy := func(n int) string { // nine rules of 55 elements, each as long as it may be
		var lists []string
		for l := range 9 {
			var e []string
			for i := range 55 {
				pad := strings.Repeat("x", 240)
				e = append(e, fmt.Sprintf(`["%s%d.%d.%d","%s"]`, pad, n, l, i, pad))
			}
			lists = append(lists, fmt.Sprintf(`"l%d":{"required_state":[%s]}`, l, strings.Join(e, ",")))
		}
		return `{"lists":{` + strings.Join(lists, ",") + `}}`
	}
	p := h.phone(bob)
	for n := range 30 {
		p.req.Device++
		p.pos = ""
		p.asks(greedy(n))
		p.asks(greedy(n))
		h.conns.mu.Lock()
		if h.conns.sum > connsBytes {
			t.Errorf("%d bytes", h.conns.sum)
		}
		h.conns.mu.Unlock()
	}
	quiet.asks(body)
	if h.conns.serial != 31 {
		t.Errorf("%d connections were made", h.conns.serial)
	}
}

// Who begins anew does not leave behind a request that waits.
func TestSlideBeginsAnewWhileWaiting(t *testing.T) {
	h := start(t)
	h.create(alice, "")
	p := h.phone(alice)
	p.asks(all(1, ""))
	ch := p.waits(all(1, ""))
	p.pos = ""
	p.asks(all(1, ""))
	h.must((<-ch).err)
	if h.Waiting() != 0 {
		t.Error("the old request waits still")
	}
}
