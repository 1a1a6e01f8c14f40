package auth

import (
	"fmt"
	"strings"
	"testing"

	"hearth/engine/event"
	"hearth/engine/mxid"
)

// world is a room of one version as a test sees it: its state and a counter for ids.
type world struct {
	v     *event.Version
	room  mxid.RoomID
	state map[Key]*event.Event
	n     int
}

// newWorld is a room made by @alice:a with moderators, members and people at every
// distance from it.
func newWorld(t testing.TB, version string) *world {
	t.Helper()
	v := event.LookupVersion(version)
	if v == nil {
		t.Fatalf("no room version %s", version)
	}
	w := &world{v: v, room: "!room:a", state: make(map[Key]*event.Event)}
	if v.RoomIDIsCreate {
		w.room = "!create"
	}
	create := `{"creator":"@alice:a"}`
	levels := `{"users":{"@alice:a":100,"@mod:a":50,"@mod2:a":50},"events":{"m.room.name":60,"m.special":30},"invite":10}`
	if v.ImplicitCreator {
		create = `{}`
	}
	if v.Creators {
		create = `{"additional_creators":["@carol:a"]}`
		levels = `{"users":{"@mod:a":50,"@mod2:a":50},"events":{"m.room.name":60,"m.special":30},"invite":10}`
	}
	w.set("m.room.create||@alice:a|" + create)
	w.state[Key{typeCreate, ""}].ID = "$create"
	for _, user := range []string{"@alice:a", "@carol:a", "@mod:a", "@mod2:a", "@bob:b", "@bill:b"} {
		w.set("m.room.member|" + user + "|" + user + `|{"membership":"join"}`)
	}
	w.set("m.room.member|@invited:b|@mod:a|" + `{"membership":"invite"}`)
	w.set("m.room.member|@banned:b|@mod:a|" + `{"membership":"ban"}`)
	w.set("m.room.member|@left:b|@left:b|" + `{"membership":"leave"}`)
	w.set("m.room.member|@knocker:b|@knocker:b|" + `{"membership":"knock"}`)
	w.set("m.room.power_levels||@alice:a|" + levels)
	w.set("m.room.join_rules||@alice:a|" + `{"join_rule":"invite"}`)
	return w
}

// make builds an event from "type|state key|sender|content", "-" for no state key.
// More fields are "prev=ID", "room=ID", "redacts=ID", "id=ID" and "json=TEXT".
func (w *world) make(line string) *event.Event {
	f := strings.Split(line, "|")
	if len(f) < 4 {
		panic("short event line: " + line)
	}
	w.n++
	e := &event.Event{
		Version: w.v, ID: mxid.EventID(fmt.Sprintf("$e%d:a", w.n)), Room: w.room,
		Type: f[0], Sender: mxid.UserID(f[2]), Content: []byte(f[3]),
		Prev: []mxid.EventID{"$some:a"}, JSON: []byte("{}"),
	}
	if f[1] != "-" {
		e.IsState, e.StateKey = true, f[1]
	}
	if e.Type == typeCreate {
		e.Prev = nil
		if w.v.RoomIDIsCreate {
			e.ID = CreateID(w.room)
		}
	}
	for _, extra := range f[4:] {
		name, val, _ := strings.Cut(extra, "=")
		switch name {
		case "prev":
			e.Prev = []mxid.EventID{mxid.EventID(val)}
		case "room":
			e.Room = mxid.RoomID(val)
		case "redacts":
			e.Redacts = mxid.EventID(val)
		case "id":
			e.ID = mxid.EventID(val)
		case "json":
			e.JSON = []byte(val)
		default:
			panic("unknown field: " + extra)
		}
	}
	return e
}

// set puts an event into the state; "drop|type|key" takes one out.
func (w *world) set(line string) {
	if rest, ok := strings.CutPrefix(line, "drop|"); ok {
		typ, key, _ := strings.Cut(rest, "|")
		delete(w.state, Key{typ, key})
		return
	}
	e := w.make(line)
	w.state[Key{e.Type, e.StateKey}] = e
}

func (w *world) get(typ, stateKey string) *event.Event { return w.state[Key{typ, stateKey}] }
