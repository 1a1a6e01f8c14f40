package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/ephemeral"
	"hearth/engine/fault"
	"hearth/engine/filter"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/store"
	"hearth/engine/stream"
	esync "hearth/engine/sync"
)

// write sends a message.
func (h *hub) write(num room.Num, user mxid.UserID, content string) mxid.EventID {
	h.t.Helper()
	txn := room.Txn{Device: 1, ID: content}
	id, err := h.Rooms.Send(num, &room.Draft{Type: "m.room.message", Sender: user, Content: []byte(content), Txn: txn})
	h.ok(err)
	return id
}

// furnish fills a room with all that rooms can hold.
func (h *hub) furnish(name string) room.Num {
	h.t.Helper()
	num := h.create(NewRoom{Preset: "public_chat", Public: true, Alias: name, Name: name, Topic: "topic of " + name, Invite: []mxid.UserID{c}})
	h.ok(h.Join(num, b, nil))
	for i := range 30 {
		h.write(num, a, fmt.Sprintf(`{"msgtype":"m.text","body":"word%d of %s"}`, i, name))
	}
	root := h.write(num, b, fmt.Sprintf(`{"msgtype":"m.text","body":"root of %s"}`, name))
	h.write(num, a, fmt.Sprintf(`{"body":"reply","m.relates_to":{"rel_type":"m.thread","event_id":%q}}`, root))
	_, err := h.Rooms.Send(num, &room.Draft{Type: "m.room.redaction", Sender: b, Redacts: root, Content: fmt.Appendf(nil, `{"redacts":%q}`, root)})
	h.ok(err)
	_, err = h.Accounts.SetTag(h.nums[b], uint32(num), "m.favourite", []byte(`{}`))
	h.ok(err)
	h.ok(h.Accounts.Subscribe(h.nums[b], uint32(num), root, 0))
	_, err = h.log.Commit(func(tx *stream.Tx) error {
		_, err := h.Ephemeral.PutReceipt(tx, &ephemeral.Receipt{Room: uint32(num), User: h.nums[b], Type: ephemeral.Read, Event: root, At: tx.Next() - 1})
		return err
	})
	h.ok(err)
	return num
}

// rows counts the rows of each table; those of the log and names stay for ever.
func (h *hub) rows() map[store.Table]int {
	h.t.Helper()
	counts := map[store.Table]int{}
	h.ok(h.Search.Refresh())
	for t := range store.Table(0xff) {
		switch t {
		case store.Meta, store.NameNumber, store.NumberName, store.Log, store.Cursor, store.Purged, store.Unread:
			continue
		}
		h.ok(h.st.ScanPrefix(t.Prefix(), func(_, _ []byte) (bool, error) {
			counts[t]++
			return true, nil
		}))
	}
	return counts
}

func (h *hub) verify() {
	h.t.Helper()
	h.ok(h.Verify(func(line string) { h.t.Error(line) }))
}

// purgeAll closes a room and waits until nothing is left of it.
func (h *hub) purgeAll(num room.Num) {
	h.t.Helper()
	_, _, err := h.CloseRoom(num, true)
	h.ok(err)
	if end := h.Rooms.Purged(num); end != nil {
		select {
		case <-end:
		case <-time.After(time.Minute):
			h.t.Fatal("the purge does not end")
		}
	}
}

func TestPurgedRoomLeavesNothing(t *testing.T) {
	h := open(t)
	first := h.furnish("first")
	before := h.rows()
	second := h.furnish("second")
	id := h.id(second)
	third := h.furnish("third")
	h.purgeAll(third)
	head, err := h.Rooms.Head(second)
	h.ok(err)
	h.purgeAll(second)

	after := h.rows()
	for table, n := range after {
		if n != before[table] {
			t.Errorf("table %#x: %d rows, %d without the room", byte(table), n, before[table])
		}
	}
	for table := range before {
		if after[table] == 0 {
			t.Errorf("table %#x: all rows are gone", byte(table))
		}
	}
	_, err = h.Rooms.Find(id)
	h.is(err, fault.NotFound)
	_, err = h.Rooms.Head(second)
	h.is(err, fault.NotFound)
	_, err = h.Rooms.Write(second)
	h.is(err, fault.NotFound)
	for _, p := range head.State {
		if _, err := h.Rooms.Event(room.EventNum(p.Event)); !fault.Is(err, fault.NotFound) {
			t.Fatal(err) // whoever still holds the room's present reads nothing from it
		}
	}
	_, err = h.Resolve("#second:hub")
	h.is(err, fault.NotFound)
	if m, err := h.Rooms.MemberOf(second, h.nums[b]); m.Membership != room.None || err != nil {
		t.Fatal(m, err)
	}
	h.verify()
	h.write(first, a, `{"body":"on"}`)
	_, err = h.Resolve("#first:hub")
	h.ok(err)
}

// halt ends the engine's own goroutines, and leaves the rest: nothing is done in the
// background any more, also not by a job that has not had its first look yet.
func (h *hub) halt() {
	close(h.stop)
	h.running.Wait()
	h.stop = make(chan struct{}) // for Close
}

// A purge that the hub did not come to the end of goes on when it starts again.
func TestPurgeGoesOn(t *testing.T) {
	fs := vfs.NewMem()
	h := openOn(t, fs)
	for _, name := range []string{"a", "b", "c"} {
		h.user(name)
	}
	h.furnish("first")
	before := h.rows()
	num := h.furnish("second")
	h.ok(h.dropListing(num))
	h.ok(h.takeOut(num))
	// As if the hub had stopped before the job came to it.
	h.halt()
	h.ok(h.Rooms.Purge(num, nil))
	h.verify()
	if list := h.Rooms.Purging(); len(list) != 1 || list[0] != num {
		t.Fatal(list)
	}
	h.ok(h.Close())
	nums := h.nums
	h = openOn(t, fs)
	h.nums = nums
	if end := h.Rooms.Purged(num); end != nil {
		<-end
	}
	h.verify()
	after := h.rows()
	for _, table := range []store.Table{store.StateBody, store.OtherBody, store.EventNumber, store.Transaction, store.Member, store.UserRoom,
		store.Word, store.EventWords, store.Timeline, store.Snapshot, store.Relation} {
		if after[table] != before[table] {
			t.Errorf("table %#x: %d rows, %d without the room", byte(table), after[table], before[table])
		}
	}
	h.ok(h.Close())
}

// Who would be in the room is not thrown out by package room.
func TestPurgeNeedsAnEmptyRoom(t *testing.T) {
	h := open(t)
	num := h.create(NewRoom{})
	h.is(h.Rooms.Purge(num, nil), fault.Unknown)
	h.write(num, a, `{"body":"still here"}`)
}

// A client that was away while a room was purged syncs on.
func TestSyncAcrossPurge(t *testing.T) {
	h := open(t)
	kept, gone := h.furnish("kept"), h.furnish("gone")
	_, s, err := h.Accounts.Login(h.nums[b], account.NewSession{Device: "MAIN"})
	h.ok(err)
	body, next := h.syncOf(b, s.DeviceNum, "")
	for _, num := range []room.Num{kept, gone} {
		if !contains(body, string(h.id(num))) {
			t.Fatal(body)
		}
	}
	id := h.id(gone)
	h.write(gone, a, `{"body":"unheard"}`)
	h.purgeAll(gone)
	h.write(kept, a, `{"body":"heard"}`)
	body, _ = h.syncOf(b, s.DeviceNum, next)
	if !contains(body, `"heard"`) || contains(body, "unheard") || contains(body, string(id)) {
		t.Fatal(body)
	}
}

func contains(body, part string) bool { return strings.Contains(body, part) }

// syncOf answers one /sync, and gives the token of the next.
func (h *hub) syncOf(user mxid.UserID, device uint64, since string) (body, next string) {
	h.t.Helper()
	all, err := filter.Parse([]byte("{}"))
	h.ok(err)
	raw, _, err := h.Sync.Now(&esync.Request{User: h.nums[user], UserID: user, Device: device, Since: since, Filter: all})
	h.ok(err)
	body = string(raw)
	h.Sync.Done(raw)
	next, _ = cjson.LookupString([]byte(body), "next_batch")
	return body, next
}
