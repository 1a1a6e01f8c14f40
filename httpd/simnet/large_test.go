package simnet

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hearth/engine/event"
	"hearth/engine/federation"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// largeRoom is a room of many members of many servers, as the server that plays
// it answers a join: the members first and the create event last, and each event
// once.
type largeRoom struct {
	v        *event.Version
	id       mxid.RoomID
	by       mxid.UserID
	template []byte
	answer   []byte
}

func newLargeRoom(n *Net, version string, members, servers int) *largeRoom {
	n.T.Helper()
	l := &largeRoom{v: event.LookupVersion(version), id: "!large:far.test", by: "@owner:far.test"}
	var state []*event.Event
	depth := int64(0)
	empty := ""
	make := func(by mxid.UserID, typ, key, content string, auth ...mxid.EventID) *event.Event {
		depth++
		d := event.Draft{Room: l.id, Type: typ, StateKey: &key, Sender: by, Time: time.Now().UnixMilli(), Depth: depth, Auth: auth, Content: []byte(content)}
		if len(state) > 0 {
			d.Prev = []mxid.EventID{state[len(state)-1].ID}
		}
		e, err := event.Build(l.v, &d, n.Key(by.Server()))
		if err != nil {
			n.T.Fatal(err)
		}
		state = append(state, e)
		return e
	}
	create := make(l.by, "m.room.create", empty, `{"room_version":"`+version+`","creator":"`+string(l.by)+`"}`)
	owner := make(l.by, "m.room.member", string(l.by), `{"membership":"join"}`, create.ID)
	power := make(l.by, "m.room.power_levels", empty, `{"users":{"`+string(l.by)+`":100}}`, create.ID, owner.ID)
	rules := make(l.by, "m.room.join_rules", empty, `{"join_rule":"public"}`, create.ID, owner.ID, power.ID)
	for i := range members - 1 {
		user := mxid.UserID(fmt.Sprintf("@member%d:s%d.test", i, i%servers))
		make(user, "m.room.member", string(user), fmt.Sprintf(`{"membership":"join","displayname":"Member %d","avatar_url":"mxc://s%d.test/%032d"}`, i, i%servers, i),
			create.ID, power.ID, rules.ID)
	}
	last := state[len(state)-1]
	l.template = fmt.Appendf(nil, `{"room_version":%q,"event":{"type":"m.room.member","room_id":%q,"content":{"membership":"join"},"depth":%d,"prev_events":[%q],"auth_events":[%q,%q,%q]`,
		version, l.id, depth+1, last.ID, create.ID, power.ID, rules.ID)
	var b bytes.Buffer
	b.WriteString(`{"origin":"far.test","state":[`)
	for i := len(state) - 1; i >= 0; i-- {
		b.Write(state[i].JSON)
		if i > 0 {
			b.WriteByte(',')
		}
	}
	b.WriteString(`],"auth_chain":[]}`)
	l.answer = b.Bytes()
	return l
}

func (l *largeRoom) play(r *federation.Request) (*federation.Answer, error) {
	switch {
	case strings.Contains(r.Path, "/make_join/"):
		user := "@bob:a.test"
		return &federation.Answer{Status: 200, Body: append(append([]byte(nil), l.template...), fmt.Sprintf(`,"sender":%q,"state_key":%q}}`, user, user)...)}, nil
	case strings.Contains(r.Path, "/v2/send_join/"):
		return &federation.Answer{Status: 200, Body: l.answer}, nil
	}
	return &federation.Answer{Status: 404, Body: []byte(`{"errcode":"M_NOT_FOUND"}`)}, nil
}

// TestLargeRoom joins a room of many members and holds the hub to the memory it
// takes above what the test itself has. HEARTH_LARGE makes the room so large.
func TestLargeRoom(t *testing.T) {
	members := 500
	if s := os.Getenv("HEARTH_LARGE"); s != "" {
		if _, err := fmt.Sscan(s, &members); err != nil {
			t.Fatal(err)
		}
	}
	n := New(t, 1)
	l := newLargeRoom(n, "10", members, max(members/10, 1))
	n.Play("far.test", l.play)
	bob := n.Hubs[0].User("bob")
	debug.SetMemoryLimit(96 << 20)
	defer debug.SetMemoryLimit(-1)
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	var most atomic.Uint64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most.Store(max(most.Load(), m.HeapInuse))
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	began := time.Now()
	bob.Want(200, "", "POST", joinPath(string(l.id), "far.test"), `{}`)
	took := time.Since(began)
	close(stop)
	<-stopped
	t.Logf("%d members, %d kB: %v, heap in use %d MB before, %d MB at most", members, len(l.answer)>>10, took, before.HeapInuse>>20, most.Load()>>20)
	head, err := n.Hubs[0].Rooms.Head(n.Hubs[0].standing(string(l.id), bob.ID).Room)
	if err != nil || head.Joined != members+1 {
		t.Errorf("%d members have come, %v", head.Joined, err)
	}
	n.is(room.Join, string(l.id), bob.ID, n.Hubs[0])
	n.sound()
}
