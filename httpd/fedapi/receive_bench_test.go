package fedapi_test

import (
	"context"
	"fmt"
	"testing"

	"hearth/engine/mxid"
	"hearth/httpd/simnet"
)

// BenchmarkReceive is the taking in of one event by transactions of 50, in a room
// that is in step: what another hub's user says, checked, judged and on disk.
// CPU per PDU has to stay under half a millisecond.
func BenchmarkReceive(b *testing.B) {
	n := simnet.NewWith(b, 2, simnet.Options{Quiet: true})
	from, to := n.Hubs[0], n.Hubs[1]
	alice, bob := from.User("alice"), to.User("bob")
	id := mxid.RoomID(alice.Want(200, "", "POST", "/_matrix/client/v3/createRoom", `{"preset":"public_chat"}`).Str("room_id"))
	onA, err := from.Rooms.Find(id)
	if err != nil {
		b.Fatal(err)
	}
	onB := joinBy(b, n, from, bob, id)
	first := say(b, alice, onA, "now the keys are known")
	until(b, "the first is there", func() bool { return has(to, first) })
	n.Cut(from.Name, to.Name) // nothing comes but by this benchmark
	var bodies [][]byte
	var last mxid.EventID
	for range b.N/50 + 1 {
		body := []byte(`{"pdus":[`)
		for i := range 50 {
			last = say(b, alice, onA, fmt.Sprint("message ", i))
			e, err := from.Rooms.Lookup(last)
			if err != nil {
				b.Fatal(err)
			}
			if i > 0 {
				body = append(body, ',')
			}
			body = append(body, e.JSON...)
		}
		bodies = append(bodies, append(body, `]}`...))
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i, body := range bodies {
		if _, err := to.Federation.Receive(context.Background(), from.Name, fmt.Sprint("bench", i), body); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	h, err := to.Rooms.Head(onB)
	if err != nil {
		b.Fatal(err)
	}
	if ends, _ := h.Extremities(); len(ends) != 1 || !has(to, last) {
		b.Fatalf("%d ends, the last one there: %v", len(ends), has(to, last))
	}
}
