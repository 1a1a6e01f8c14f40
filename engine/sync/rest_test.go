package sync

import (
	"regexp"
	"strconv"
	"testing"

	"hearth/engine/room"
)

// An answer in pieces is the same as the whole one, and no piece is much longer than
// was asked for. Between the pieces the hub goes on: the answer stays as of when it
// began.
func TestPieces(t *testing.T) {
	h := start(t)
	var first room.Num
	for i := range 25 {
		num := h.create(alice, "")
		if first == 0 {
			first = num
		}
		for range i % 4 {
			h.say(num, alice, "m"+strconv.Itoa(i))
		}
	}
	h.send(h.create(bob, ""), member(bob, alice, "invite"))
	left := h.create(bob, "")
	h.join(left, alice)
	h.send(left, member(bob, alice, "ban"))
	age := regexp.MustCompile(`"age":[0-9]+`)
	req := h.client(alice, "").req
	whole, _, err := h.Now(&req)
	h.must(err)
	for _, most := range []int{1, 700, 5000, 1 << 20} {
		body, rest, ready, err := h.now(&req, most)
		h.must(err)
		if !ready {
			t.Fatal("not ready")
		}
		all, pieces := append([]byte(nil), body...), 1
		for more := rest != nil; more; pieces++ {
			h.say(first, alice, "meanwhile")
			body, more, err = rest.Next()
			h.must(err)
			if len(body) > most+6000 {
				t.Errorf("a piece of %d bytes, where %d were asked for", len(body), most)
			}
			all = append(all, body...)
		}
		if all, whole := age.ReplaceAll(all, nil), age.ReplaceAll(whole, nil); string(all) != string(whole) {
			t.Fatalf("in pieces of %d bytes:\n%s\nis not\n%s", most, all, whole)
		}
		if want := len(whole) > most; (pieces > 1) != want {
			t.Errorf("%d pieces of %d bytes", pieces, most)
		}
		req = h.client(alice, "").req
		whole, _, err = h.Now(&req)
		h.must(err)
	}
}
