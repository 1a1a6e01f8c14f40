package stateres

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
	"testing"

	"hearth/engine/auth"
	"hearth/engine/event"
	"hearth/engine/mxid"
)

// fuzzRoom reads a graph of events and three state sets from bytes, six bytes an
// event. References may go anywhere, also forwards, to the event itself or to none.
func fuzzRoom(v *event.Version, data []byte) (map[mxid.EventID]*event.Event, []State) {
	types := []string{typeCreate, typePowerLevels, typeJoinRules, typeMember, typeMember, typeMember, "m.room.topic", "m.room.message"}
	users := []string{"@a:x", "@b:x", "@c:y", ""}
	words := []string{`{"creator":"@a:x","membership":"join"}`, `{"membership":"ban"}`, `{"join_rule":"public","membership":"leave"}`,
		`{"users":{"@a:x":100,"@b:x":50},"membership":"invite"}`, `{"users":{"@b:x":"7"},"state_default":0}`, `{"users":3,"ban":[]}`, `{}`}
	events := make(map[mxid.EventID]*event.Event)
	sets := []State{{}, {}, {}}
	id := func(b byte) mxid.EventID { return mxid.EventID("$" + strconv.Itoa(int(b%32))) }
	for i := 0; i+6 <= len(data) && i < 32*6; i += 6 {
		d := data[i : i+6]
		e := &event.Event{
			Version: v, ID: id(byte(i / 6)), Room: "!0", Type: types[d[0]%8], IsState: d[0]&8 == 0, StateKey: users[d[1]%4],
			Sender: mxid.UserID(users[d[1]>>2%3]), Content: []byte(words[int(d[2])%len(words)]), JSON: []byte("{}"),
			Auth: []mxid.EventID{id(d[3]), id(d[4]), "$0"}, Time: int64(d[2] >> 4), Depth: int64(d[5] >> 4), Prev: []mxid.EventID{id(d[4])},
		}
		if e.Type != typeMember {
			e.StateKey = ""
		}
		events[e.ID] = e
		for s := range sets {
			if d[5]>>s&1 == 1 {
				sets[s][auth.Key{Type: e.Type, StateKey: e.StateKey}] = e.ID
			}
		}
	}
	sets[2][auth.Key{Type: "m.room.name"}] = "$gone"
	return events, sets
}

// FuzzResolve gives every algorithm graphs that no honest server sends: it has to
// end, and the order of the sets must not matter.
func FuzzResolve(f *testing.F) {
	f.Add([]byte("\x00\x03\x00\x00\x00\x07\x03\x00\x00\x00\x00\x07\x01\x03\x03\x01\x00\x01\x01\x03\x04\x02\x01\x02\x06\x03\x01\x01\x02\x04"))
	f.Add([]byte("\x01\x03\x03\x01\x01\x01\x01\x03\x04\x00\x01\x02\x03\x04\x01\x02\x02\x03\x04\x04\x02\x01\x03\x05"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, name := range []string{"1", "2", "11", "12"} {
			v := event.LookupVersion(name)
			events, sets := fuzzRoom(v, data)
			lookup := func(id mxid.EventID) *event.Event { return events[id] }
			want := Resolve(v, sets, lookup)
			turned := slices.Clone(sets)
			slices.Reverse(turned)
			if got := Resolve(v, turned, lookup); !maps.Equal(got, want) {
				t.Fatalf("v%s: the order of the sets matters:\n%v\n%v", name, want, got)
			}
		}
	})
}

// FuzzReceived takes a text of one event a line as another server might send it,
// and resolves states made of every second event.
func FuzzReceived(f *testing.F) {
	empty, alice := "", "@alice:a"
	for i, version := range event.Versions() {
		v := event.LookupVersion(version)
		var text []byte
		var auths []mxid.EventID
		room := mxid.RoomID("!room:a")
		for n, typ := range []string{typeCreate, typeMember, typePowerLevels, "m.room.topic"} {
			d := event.Draft{Room: room, Type: typ, StateKey: &empty, Sender: "@alice:a", Auth: auths, Time: int64(n),
				Content: []byte(`{"creator":"@alice:a","membership":"join"}`)}
			if typ == typeMember {
				d.StateKey = &alice
			}
			if v.IDs == event.IDInEvent {
				d.ID, d.AuthHashes = mxid.EventID("$"+strconv.Itoa(n)+":a"), make([][32]byte, len(auths))
			}
			if v.RoomIDIsCreate && typ == typeCreate {
				d.Room = ""
			}
			e, err := event.Build(v, &d, nil)
			if err != nil {
				f.Fatal(err)
			}
			if room = e.Room; typ != typeCreate || !v.RoomIDIsCreate {
				auths = append(auths, e.ID)
			}
			text = append(append(text, e.JSON...), '\n')
		}
		f.Add(byte(i), text)
	}
	f.Fuzz(func(t *testing.T, version byte, text []byte) {
		v := event.LookupVersion(event.Versions()[int(version)%len(event.Versions())])
		events := make(map[mxid.EventID]*event.Event)
		sets := []State{{}, {}}
		for i, line := range bytes.Split(text, []byte("\n")) {
			e, _, err := event.Receive(v, line)
			if err != nil {
				continue
			}
			events[e.ID] = e
			sets[i%2][auth.Key{Type: e.Type, StateKey: e.StateKey}] = e.ID
		}
		lookup := func(id mxid.EventID) *event.Event { return events[id] }
		want := Resolve(v, sets, lookup)
		slices.Reverse(sets)
		if got := Resolve(v, sets, lookup); !maps.Equal(got, want) {
			t.Fatalf("the order of the sets matters:\n%v\n%v", want, got)
		}
	})
}
