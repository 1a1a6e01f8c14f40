package room

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/mxid"
	"hearth/engine/stream"
)

// The story of one server in a room, and what the indexes say of it afterwards.
func TestServers(t *testing.T) {
	h := openHub(t, vfs.NewMem())
	defer h.close()
	num := h.create("11", "@a:hub", "public")
	at := func(user mxid.UserID, sender mxid.UserID, membership string) stream.Pos {
		t.Helper()
		key := string(user)
		w, err := h.Write(num)
		if err != nil {
			t.Fatal(err)
		}
		defer w.End()
		d := &Draft{Type: "m.room.member", StateKey: &key, Sender: sender, Content: fmt.Appendf(nil, `{"membership":%q}`, membership)}
		if _, err := w.Add(d); err != nil {
			t.Fatal(err)
		}
		p, err := w.Commit(nil)
		if err != nil || p.Wait() != nil {
			t.Fatal(err)
		}
		return w.Head().Last
	}
	in := at("@a:one.example", "@a:one.example", "join")
	at("@b:one.example", "@b:one.example", "join")
	at("@a:one.example", "@a:one.example", "leave")
	still := at("@c:two.example", "@c:two.example", "join")
	out := at("@b:one.example", "@b:one.example", "leave")
	gone := at("@c:two.example", "@c:two.example", "join")
	back := at("@b:one.example", "@b:one.example", "join")

	for _, c := range []struct {
		pos  stream.Pos
		want bool
	}{{in - 1, false}, {in, true}, {still, true}, {out, true}, {gone, false}, {back, true}, {back + 100, true}} {
		if got, err := h.ServerAt(num, "one.example", c.pos); err != nil || got != c.want {
			t.Errorf("at %d: %v, %v; want %v", c.pos, got, err, c.want)
		}
	}
	var now []string
	if err := h.Servers(num, func(s mxid.Server, since stream.Pos) bool {
		now = append(now, fmt.Sprint(s, " ", since))
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(now), fmt.Sprint([]string{fmt.Sprint("one.example ", back), fmt.Sprint("two.example ", still)}); got != want {
		t.Errorf("in the room: %s; want %s", got, want)
	}
	var stretches []string
	if err := h.RoomsWith("one.example", func(room Num, from, to stream.Pos) bool {
		stretches = append(stretches, fmt.Sprint(room, from, to))
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(stretches), fmt.Sprint([]string{fmt.Sprint(num, in, out), fmt.Sprint(num, back, 0)}); got != want {
		t.Errorf("was there: %s; want %s", got, want)
	}
	if err := h.Verify(func(format string, args ...any) { t.Errorf(format, args...) }); err != nil {
		t.Fatal(err)
	}
}
