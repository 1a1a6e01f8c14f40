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
	for n := range 12 {
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
	if h.conns.serial != 13 {
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

// Waiting requests are bounded like connections: who opens more of them than there
// may be gets an answer to the oldest.
func TestSlideWaitsAreBounded(t *testing.T) {
	h := start(t)
	h.create(alice, "")
	p := h.phone(alice)
	wait := func(id, more string) chan answerOf {
		body := fmt.Sprintf(`{"conn_id":%q,"lists":{"a":{"timeline_limit":1,"filters":{"not_tags":[%s]}}}}`, id, more)
		p.pos = ""
		p.asks(body)
		return p.waits(body)
	}
	var waits []chan answerOf
	for i := range maxConns + 5 {
		waits = append(waits, wait(fmt.Sprint(i), `"x"`))
	}
	for _, ch := range waits[:5] {
		h.must((<-ch).err)
	}
	if h.Waiting() != maxConns {
		t.Errorf("%d wait", h.Waiting())
	}
	var long []string
	for i := range 200 {
		long = append(long, fmt.Sprintf(`"%s%d"`, strings.Repeat("x", 250), i))
	}
	for range 100 { // 58 kB each
		p.req.Device++
		waits = append(waits, wait("", strings.Join(long, ",")))
	}
	for _, ch := range waits[5:30] {
		h.must((<-ch).err)
	}
	h.conns.mu.Lock()
	defer h.conns.mu.Unlock()
	if h.conns.sum > connsBytes || h.Waiting() != len(h.conns.of) {
		t.Errorf("%d bytes, %d wait on %d connections", h.conns.sum, h.Waiting(), len(h.conns.of))
	}
}
