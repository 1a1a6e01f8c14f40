package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/account"
	"hearth/engine/fault"
	"hearth/engine/history"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/store"
)

// trimTo removes a room's history before an event, and waits for the end.
func (h *hub) trimTo(num room.Num, q History) string {
	h.t.Helper()
	id, err := h.PurgeHistory(num, q)
	h.ok(err)
	h.trimmed(num)
	p, err := h.HistoryPurged(id)
	h.ok(err)
	if !p.Done || p.Room != h.id(num) {
		h.t.Fatal(p)
	}
	return id
}

func (h *hub) trimmed(num room.Num) {
	h.t.Helper()
	if end := h.Rooms.TrimEnd(num); end != nil {
		select {
		case <-end:
		case <-time.After(time.Minute):
			h.t.Fatal("the removal does not end")
		}
	}
}

// page reads a room's past back to the end.
func (h *hub) page(num room.Num, user mxid.UserID) string {
	h.t.Helper()
	v, err := history.Open(h.Rooms, h.id(num), user, 1)
	h.ok(err)
	out, err := v.AppendPage(nil, &history.Query{Back: true, Limit: 1000})
	h.ok(err)
	return string(out)
}

// What clients see of a room whose history was removed, and what is left of it on
// the disk.
func TestHistoryIsRemoved(t *testing.T) {
	h := open(t)
	kept := h.furnish("kept")
	num := h.furnish("room")
	old := h.write(num, a, `{"msgtype":"m.text","body":"oldword"}`)
	h.ok(h.Ban(num, a, c, "for nothing"))
	_, s, err := h.Accounts.Login(h.nums[b], account.NewSession{Device: "MAIN"})
	h.ok(err)
	body, next := h.syncOf(b, s.DeviceNum, "")
	if !contains(body, "oldword") {
		t.Fatal(body)
	}
	token := room.After(mustHead(h, num).Last) // a place before all that remains
	h.write(num, a, `{"msgtype":"m.text","body":"between"}`)
	h.ok(h.Leave(num, b, ""))
	left, err := h.Rooms.MemberOf(num, h.nums[b])
	h.ok(err)
	h.write(num, a, `{"msgtype":"m.text","body":"afterwards"}`)
	first := h.write(num, a, `{"msgtype":"m.text","body":"first of the rest"}`)
	h.write(num, a, `{"msgtype":"m.text","body":"last of all"}`)
	before := h.rows()
	state := mustHead(h, num).State

	id := h.trimTo(num, History{Event: first, Local: true})
	p, err := h.HistoryPurged(id)
	h.ok(err)
	if p.Events < 30 || p.Bytes == 0 {
		t.Fatal(p)
	}
	h.verify()
	if page := h.page(num, a); contains(page, "word") || contains(page, "afterwards") || contains(page, `"end"`) || !contains(page, "first of the rest") {
		t.Fatal(page)
	}
	v, err := history.Open(h.Rooms, h.id(num), a, 1)
	h.ok(err)
	_, err = v.AppendEvent(nil, old)
	h.is(err, fault.NotFound)
	_, err = v.AppendContext(nil, old, 10, nil)
	h.is(err, fault.NotFound)
	around, err := v.AppendContext(nil, first, 10, nil)
	h.ok(err)
	if !contains(string(around), "last of all") || contains(string(around), "afterwards") {
		t.Fatal(string(around))
	}
	for _, at := range []room.Key{{}, token} {
		members, err := v.AppendMembers(nil, &history.Members{At: &at})
		h.ok(err)
		for _, word := range []string{"@a:hub", "@b:hub", "for nothing"} {
			if !contains(string(members), word) {
				t.Fatalf("at %v: %s", at, members)
			}
		}
	}
	head := mustHead(h, num)
	if len(head.State) != len(state) {
		t.Fatal("the state is another")
	}
	h.seesLeft(num, left)
	// The token from before is told of the leaving, and a new one of nothing old.
	body, _ = h.syncOf(b, s.DeviceNum, next)
	if !contains(body, `"leave"`) || contains(body, "between") {
		t.Fatal(body)
	}
	_, sa, err := h.Accounts.Login(h.nums[a], account.NewSession{Device: "MAIN"})
	h.ok(err)
	body, _ = h.syncOf(a, sa.DeviceNum, "")
	if contains(body, "oldword") || contains(body, "afterwards") || !contains(body, "last of all") {
		t.Fatal(body)
	}
	found := 0
	h.ok(h.Search.Refresh())
	for _, word := range []string{"oldword", "afterwards"} {
		_, err = h.Search.Find(num, []string{word}, 100, func(room.EventNum) bool { found++; return true })
		h.ok(err)
	}
	if found > 0 {
		t.Fatal("old words are found")
	}
	after := h.rows()
	for _, table := range []store.Table{store.OtherBody, store.EventNumber, store.Timeline, store.Transaction, store.Word, store.EventWords, store.Relation} {
		if gone := before[table] - after[table]; gone < 1 || table == store.OtherBody && gone != int(p.Events) {
			t.Errorf("table %#x: %d rows are gone, of %d", byte(table), gone, before[table])
		}
	}
	if page := h.page(kept, a); !contains(page, "word29 of kept") {
		t.Fatal(page)
	}
	h.ok(h.Join(num, b, nil))
	h.verify()
	// The room goes as a whole afterwards, with what was left over.
	h.purgeAll(num)
	h.verify()
	for table, n := range h.rows() {
		if table == store.Trimmed || table == store.Leftover {
			t.Errorf("table %#x: %d rows are left", byte(table), n)
		}
	}
}

// seesLeft holds what b sees, who has left, to how the room was then, without what
// went.
func (h *hub) seesLeft(num room.Num, left room.Member) {
	h.t.Helper()
	if m, err := h.Rooms.MemberOf(num, h.nums[b]); err != nil || m != left {
		h.t.Fatal(m, err)
	}
	v, err := history.Open(h.Rooms, h.id(num), b, 1)
	h.ok(err)
	out, err := v.AppendState(nil)
	h.ok(err)
	if !contains(string(out), "topic of room") {
		h.t.Fatal(string(out))
	}
	if page := h.page(num, b); contains(page, "body") {
		h.t.Fatal(page)
	}
}

func mustHead(h *hub, num room.Num) *room.Head {
	h.t.Helper()
	head, err := h.Rooms.Head(num)
	h.ok(err)
	return head
}

// A removal that the hub did not come to the end of goes on when it starts again,
// and what is to be removed is seen by nobody meanwhile.
func TestTrimGoesOn(t *testing.T) {
	fs := vfs.NewMem()
	h := openOn(t, fs)
	h.user("a")
	num := h.create(NewRoom{})
	for i := range 1200 {
		h.write(num, a, fmt.Sprintf(`{"body":"old %d"}`, i))
	}
	first := h.write(num, a, `{"body":"first"}`)
	place, err := h.Rooms.PlaceOf(num, first)
	h.ok(err)
	// As if the hub had stopped before the job came to it.
	h.halt()
	_, err = h.Rooms.Trim(num, room.Trim{Before: place, Sweep: true})
	h.ok(err)
	if page := h.page(num, a); contains(page, "old") || !contains(page, "first") {
		t.Fatal(page)
	}
	h.verify()
	_, err = h.PurgeHistory(num, History{Event: first})
	h.is(err, fault.Unknown)
	h.ok(h.Close())
	h = openOn(t, fs)
	h.trimmed(num)
	h.verify()
	if n := h.rows()[store.OtherBody]; n != 1 {
		t.Fatal(n, "messages are left")
	}
	h.write(num, a, `{"body":"on"}`)
	if page := h.page(num, a); contains(page, "old") || !contains(page, "on") {
		t.Fatal(page)
	}
	h.ok(h.Close())
}

// What users of this hub have sent may stay on the disk.
func TestOwnEventsMayStay(t *testing.T) {
	h := open(t)
	num := h.create(NewRoom{})
	for range 10 {
		h.write(num, a, `{"body":"mine"}`)
		h.send(num, a, "m.room.message", `{"body":"mine too"}`)
	}
	last := h.write(num, a, `{"body":"last"}`)
	h.trimTo(num, History{Event: last})
	if page := h.page(num, a); contains(page, "mine") {
		t.Fatal(page)
	}
	if n := h.rows()[store.OtherBody]; n != 12 {
		t.Fatal(n)
	}
	h.verify()
	more := h.write(num, a, `{"body":"more"}`)
	h.trimTo(num, History{Event: more, Local: true})
	if n := h.rows()[store.OtherBody]; n != 1 {
		t.Fatal(n)
	}
	h.verify()
}

// What is asked for has to make sense.
func TestWhatHistoryCanBeRemoved(t *testing.T) {
	h := open(t)
	num, other := h.create(NewRoom{}), h.create(NewRoom{})
	there := h.write(other, a, `{"body":"x"}`)
	for _, q := range []History{{Event: "$unknown"}, {Event: there}} {
		_, err := h.PurgeHistory(num, q)
		h.is(err, fault.NotFound)
	}
	for _, q := range []History{{}, {Time: -5}, {Time: 1 << 60}} {
		_, err := h.PurgeHistory(num, q)
		h.is(err, fault.Invalid)
	}
	id, err := h.PurgeHistory(num, History{Time: 1000}) // nothing is as old as that
	h.ok(err)
	if p, err := h.HistoryPurged(id); err != nil || !p.Done {
		t.Fatal(p, err)
	}
	for _, id := range []string{"", "1", "1-7", "77-1", "1-1x", "01-1", strings.Repeat("9", 400)} {
		_, err := h.HistoryPurged(id)
		h.is(err, fault.NotFound)
	}
}

// A room that is damaged keeps no other from losing its history.
func TestDamagedRoomIsPassed(t *testing.T) {
	fs := vfs.NewMem()
	h := openOn(t, fs)
	h.user("a")
	var nums [2]room.Num
	for i := range nums {
		nums[i] = h.create(NewRoom{})
		h.write(nums[i], a, `{"body":"old"}`)
		h.write(nums[i], a, `{"body":"first"}`)
	}
	h.halt()
	for _, num := range nums {
		_, err := h.Rooms.Trim(num, room.Trim{Before: room.After(mustHead(h, num).Last), Sweep: true})
		h.ok(err)
	}
	b := h.st.NewBatch()
	h.ok(h.st.ScanPrefix(store.U32(store.Timeline.Prefix(), uint32(nums[0])), func(key, _ []byte) (bool, error) {
		b.Set(key, nil)
		return true, nil
	}))
	h.ok(h.st.Commit(b))
	h.ok(h.Close())
	h = openOn(t, fs)
	h.trimmed(nums[1])
	if list := h.Rooms.Trimming(); len(list) != 1 || list[0] != nums[0] {
		t.Fatal(list)
	}
	h.ok(h.Close())
}

// While the version before may have to read the store again no history is removed: it
// would not know what became of it.
func TestNothingIsRemovedOnTrial(t *testing.T) {
	fs := vfs.NewMem()
	h := openOn(t, fs)
	h.user("a")
	num := h.create(NewRoom{})
	h.write(num, a, `{"body":"old"}`)
	first := h.write(num, a, `{"body":"first"}`)
	b := h.st.NewBatch()
	b.SetMeta("f", []byte{1}) // as that version has left it
	h.ok(h.st.Commit(b))
	h.ok(h.Close())
	for _, trial := range []bool{true, false} {
		e, err := Open(Options{Dir: "data", FS: fs, Server: "hub", KeepFormat: trial})
		h.ok(err)
		h := &hub{t, e, nil}
		_, err = h.PurgeHistory(num, History{Event: first, Local: true})
		if trial {
			h.is(err, fault.Unknown)
			e.keep = day
			rooms, err := e.expireAt(time.Now().Add(9000 * day))
			if err != nil || rooms != 0 {
				t.Fatal(rooms, err)
			}
		} else {
			h.ok(err)
			h.trimmed(num)
		}
		if page := h.page(num, a); contains(page, "old") != trial {
			t.Fatal(page)
		}
		h.ok(h.Close())
	}
}

// Nobody is told to read what is gone.
func TestNothingUnreadIsLeft(t *testing.T) {
	h := open(t)
	num := h.create(NewRoom{Preset: "public_chat"})
	h.ok(h.Join(num, b, nil))
	_, s, err := h.Accounts.Login(h.nums[b], account.NewSession{Device: "MAIN"})
	h.ok(err)
	_, since := h.syncOf(b, s.DeviceNum, "")
	for i := range 5 {
		h.write(num, a, fmt.Sprintf(`{"msgtype":"m.text","body":"old %d"}`, i))
	}
	body, since := h.syncOf(b, s.DeviceNum, since)
	if !contains(body, `"notification_count":5`) {
		t.Fatal(body)
	}
	h.halt()
	_, err = h.Rooms.Trim(num, room.Trim{Before: room.After(mustHead(h, num).Last)})
	h.ok(err)
	h.finishTrims()
	h.write(num, a, `{"msgtype":"m.text","body":"new"}`)
	if body, _ = h.syncOf(b, s.DeviceNum, since); !contains(body, `"notification_count":1`) {
		t.Fatal(body)
	}
	h.verify()
}
