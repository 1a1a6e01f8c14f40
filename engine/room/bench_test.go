package room

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// BenchmarkSend is the way of one message from content to a synced batch, on a
// memory disk.
func BenchmarkSend(b *testing.B) {
	t := &testing.T{}
	h := openHub(t, vfs.NewMem())
	defer h.close()
	room := h.create("12", "@a:hub", "public")
	d := text("@a:hub", "temperature 21.5 °C, humidity 40 %, battery 97 %")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.Send(room, &d); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRead is one page of 100 events read back cold from the block cache.
func BenchmarkRead(b *testing.B) {
	t := &testing.T{}
	h := openHub(t, vfs.NewMem())
	defer h.close()
	room := h.create("12", "@a:hub", "public")
	for range 1000 {
		h.send(room, text("@a:hub", "temperature 21.5 °C, humidity 40 %, battery 97 %"))
	}
	h.cache = newEventCache(0)
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		if err := h.Timeline(room, Key{}, After(h.log.Tip()), true, func(_ Key, num EventNum) (bool, error) {
			_, err := h.Event(num)
			n++
			return n < 100, err
		}); err != nil {
			b.Fatal(err)
		}
	}
}
