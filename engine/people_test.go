package engine

import (
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/media"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/store"
	"hearth/engine/stream"
)

func openPeople(t *testing.T, fs store.FS) *Engine {
	t.Helper()
	e, err := Open(Options{Dir: "data", FS: fs, Server: "hub.test", Accounts: account.Options{Cost: account.Cost{KiB: 64, Passes: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// shown reads a member of the room's member event of a user.
func shown(t *testing.T, e *Engine, id mxid.RoomID, user mxid.UserID, key string) string {
	t.Helper()
	num, err := e.Rooms.Find(id)
	if err != nil {
		t.Fatal(err)
	}
	w, err := e.Rooms.Write(num)
	if err != nil {
		t.Fatal(err)
	}
	defer w.End()
	ev, err := w.State("m.room.member", string(user))
	if err != nil || ev == nil {
		t.Fatal(ev, err)
	}
	s, _ := cjson.LookupString(ev.Content, key)
	return s
}

func someRooms(t *testing.T, e *Engine, bob mxid.UserID, n int) []mxid.RoomID {
	t.Helper()
	var ids []mxid.RoomID
	for range n {
		id, err := e.CreateRoom(&NewRoom{Creator: bob})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

func TestProfileReachesTheRooms(t *testing.T) {
	e := openPeople(t, vfs.NewMem())
	defer e.Close()
	user, err := e.Accounts.Create(account.NewUser{Localpart: "bob"})
	if err != nil {
		t.Fatal(err)
	}
	const bob = "@bob:hub.test"
	ids := someRooms(t, e, bob, inFlight+3)
	num, err := e.Rooms.Find(ids[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Leave(num, bob, ""); err != nil {
		t.Fatal(err)
	}
	for field, value := range map[string]string{"displayname": `"Bob"`, "avatar_url": `"mxc://hub.test/x"`} {
		if err := e.SetProfile(user, bob, field, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	for i, id := range ids {
		want := [...]string{"Bob", "mxc://hub.test/x", "join"}
		if i == 0 {
			want = [...]string{"", "", "leave"}
		}
		for k, key := range []string{"displayname", "avatar_url", "membership"} {
			if got := shown(t, e, id, bob, key); got != want[k] {
				t.Fatalf("room %d shows %s %q, want %q", i, key, got, want[k])
			}
		}
	}
	tip := e.Tip()
	if err := e.showProfile(user, bob); err != nil {
		t.Fatal(err)
	}
	if e.Tip() != tip {
		t.Fatal("the rooms were told twice")
	}
	if err := e.SetProfile(user, bob, "displayname", nil); err != nil {
		t.Fatal(err)
	}
	if got := shown(t, e, ids[1], bob, "displayname"); got != "" {
		t.Fatal(got)
	}
}

// A power cut between two rooms: the next start does the rest.
func TestWhatWasLeftIsTakenUp(t *testing.T) {
	fs := vfs.NewCrashableMem()
	e := openPeople(t, fs)
	defer e.Close()
	const bob = "@bob:hub.test"
	user, err := e.Accounts.Create(account.NewUser{Localpart: "bob"})
	if err != nil {
		t.Fatal(err)
	}
	ids := someRooms(t, e, bob, 3)
	_, err = e.log.Commit(func(tx *stream.Tx) error {
		tx.SetMeta(note(noteProfile, user), nil)
		return e.Accounts.PutProfile(tx, user, "displayname", []byte(`"Bob"`))
	})
	if err != nil {
		t.Fatal(err)
	}
	after := openPeople(t, fs.CrashClone(vfs.CrashCloneCfg{}))
	for _, id := range ids {
		if got := shown(t, after, id, bob, "displayname"); got != "Bob" {
			t.Fatal(got)
		}
	}
	if _, ok, err := after.st.Meta(note(noteProfile, user)); ok || err != nil {
		t.Fatal("the note is still there", err)
	}
	if err := after.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDeactivatedLeavesTheRooms(t *testing.T) {
	e := openPeople(t, vfs.NewMem())
	defer e.Close()
	const bob = "@bob:hub.test"
	user, err := e.Accounts.Create(account.NewUser{Localpart: "bob"})
	if err != nil {
		t.Fatal(err)
	}
	ids := someRooms(t, e, bob, 2)
	other, err := e.CreateRoom(&NewRoom{Creator: "@eve:hub.test", Invite: []mxid.UserID{bob}})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Deactivate(user, bob, false); err != nil {
		t.Fatal(err)
	}
	for _, id := range append(ids, other) {
		if got := shown(t, e, id, bob, "membership"); got != room.Leave.String() {
			t.Fatal(got)
		}
	}
}

// Who wants to be erased leaves no files behind; who is only deactivated does.
func TestErasedUsersFilesGo(t *testing.T) {
	h := open(t)
	file := map[mxid.UserID]string{}
	for user, num := range h.nums {
		m, err := h.Media.Upload(&media.Upload{Owner: num, Type: "text/plain", Length: -1}, strings.NewReader("hello "+string(user)))
		h.ok(err)
		file[user] = m.ID
	}
	h.ok(h.Deactivate(h.nums[a], a, true))
	h.ok(h.Deactivate(h.nums[b], b, false))
	_, err := h.Media.Find("hub", file[a])
	h.is(err, fault.NotFound)
	for _, user := range []mxid.UserID{b, c} {
		_, err := h.Media.Find("hub", file[user])
		h.ok(err)
	}
	h.verify()
}
