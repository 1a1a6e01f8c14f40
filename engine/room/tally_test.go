package room

import (
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/mxid"
)

// relate sends an event that relates to another.
func (h *hub) relate(room Num, sender mxid.UserID, relType string, to mxid.EventID) mxid.EventID {
	return h.send(room, Draft{Type: "m.room.message", Sender: sender, Content: fmt.Appendf(nil,
		`{"msgtype":"m.text","body":"x","m.new_content":{"msgtype":"m.text","body":"y"},"m.relates_to":{"rel_type":%q,"event_id":%q}}`, relType, to)})
}

// What is kept of a thread is what its rows say, whatever comes, is redacted and
// read in between.
func TestTallyIsWhatRowsSay(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("HEARTH_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("seed: HEARTH_SEED=%d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	h := openHub(t, vfs.NewMem())
	defer h.close()
	room := h.create("11", "@a:hub", "public")
	people := []mxid.UserID{"@a:hub", "@b:hub", "@c:hub"}
	for _, p := range people[1:] {
		h.member(room, p, p, "join")
	}
	root := h.send(room, text("@a:hub", "root"))
	kinds := []string{RelThread, RelThread, RelThread, RelReplace, RelReference, RelAnnotation}
	var sent []mxid.EventID
	e, err := h.Lookup(root)
	if err != nil {
		t.Fatal(err)
	}
	kept := 0
	for step := range 600 {
		switch {
		case len(sent) > 80 && rnd.IntN(4) == 0:
			i := rnd.IntN(len(sent))
			if rnd.IntN(2) == 0 {
				i = len(sent) - 1 - rnd.IntN(5)
			}
			h.send(room, Draft{Type: "m.room.redaction", Sender: "@a:hub", Redacts: sent[i], Content: []byte(`{}`)})
			sent = slices.Delete(sent, i, i+1)
		default:
			sent = append(sent, h.relate(room, people[rnd.IntN(3)], kinds[rnd.IntN(len(kinds))], root))
		}
		if rnd.IntN(3) == 0 {
			continue
		}
		got, err := h.tally(e)
		if err != nil {
			t.Fatal(err)
		}
		if h.tallies.kept[tallyKey{room, root}] != nil {
			kept++
		}
		cache := h.tallies
		h.tallies = newTallies()
		want, err := h.tally(e)
		h.tallies = cache
		if err != nil {
			t.Fatal(err)
		}
		if got.count != want.count || got.rows != want.rows || !slices.Equal(got.senders, want.senders) ||
			!reflect.DeepEqual(tail(got.replies, maxLatest/2), tail(want.replies, maxLatest/2)) ||
			!reflect.DeepEqual(tail(got.edits, maxEdits), tail(want.edits, maxEdits)) || len(got.references) != len(want.references) {
			t.Fatalf("step %d: %+v, the rows say %+v", step, got, want)
		}
	}
	if kept < 300 {
		t.Errorf("it was kept after %d reads only", kept)
	}
	if b := h.tallies; b.bytes != b.kept[tallyKey{room, root}].bytes() {
		t.Errorf("%d bytes are counted, %d there are", b.bytes, b.kept[tallyKey{room, root}].bytes())
	}
}

// tail is the last n of a list, which may be empty and nil alike.
func tail[T any](list []T, n int) []T {
	return slices.Concat([]T{}, list[max(0, len(list)-n):])
}

// BenchmarkThread tells a thread of 2,000 replies that has got another one.
func BenchmarkThread(b *testing.B) {
	t := &testing.T{}
	h := openHub(t, vfs.NewMem())
	defer h.close()
	room := h.create("11", "@a:hub", "public")
	root := h.send(room, text("@a:hub", "root"))
	for range 2000 {
		h.relate(room, "@a:hub", RelThread, root)
	}
	e, err := h.Lookup(root)
	if err != nil {
		b.Fatal(err)
	}
	for _, cold := range []bool{false, true} {
		b.Run(fmt.Sprintf("cold=%v", cold), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if cold {
					h.tallies.clear()
				}
				if _, err := h.tally(e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
