package ephemeral

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// hub is the records with a clock that stands still until it is moved.
type hub struct {
	*Records
	t    *testing.T
	st   *store.Store
	log  *stream.Log
	time time.Time
}

func open(t *testing.T, fs store.FS) *hub {
	t.Helper()
	st, err := store.Open(store.Options{Dir: "db", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	log, err := stream.Open(st)
	if err != nil {
		t.Fatal(err)
	}
	names, err := store.OpenNames(st)
	if err != nil {
		t.Fatal(err)
	}
	h := &hub{t: t, st: st, log: log, time: time.UnixMilli(1_700_000_000_000)}
	if h.Records, err = Open(st, names, Options{Now: func() time.Time { return h.time }}); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"@a:hub", "@b:hub", "@c:hub"} {
		if num, err := names.Number(store.Users, name); err != nil || num != uint32(i+1) {
			t.Fatal(num, err)
		}
	}
	return h
}

// pass moves the clock and does what Run does.
func (h *hub) pass(d time.Duration) (rooms, users []uint32, wait time.Duration) {
	h.time = h.time.Add(d)
	return h.due(h.time)
}

func (h *hub) close() {
	if err := h.st.Close(); err != nil {
		h.t.Error(err)
	}
}

func (h *hub) typists(room uint32) string {
	h.t.Helper()
	ev, err := h.AppendTyping(nil, room)
	if err != nil || cjson.Check(ev) != nil {
		h.t.Fatalf("%s: %v", ev, err)
	}
	return string(ev)
}

func TestTyping(t *testing.T) {
	h := open(t, vfs.NewMem())
	defer h.close()
	start := h.Stamp()
	if !h.SetTyping(7, 1, true, 10*time.Second) || !h.SetTyping(7, 2, true, time.Hour) || !h.SetTyping(8, 1, true, time.Second) {
		t.Fatal("no news")
	}
	if h.SetTyping(7, 1, true, 20*time.Second) || h.SetTyping(9, 1, false, 0) || h.SetTyping(9, 1, true, 0) {
		t.Fatal("news of what was known")
	}
	if got := h.typists(7); got != `{"content":{"user_ids":["@a:hub","@b:hub"]},"type":"m.typing"}` {
		t.Fatal(got)
	}
	rooms, _, wait := h.pass(0)
	if !slices.Equal(rooms, []uint32{7, 8}) || wait != time.Second {
		t.Fatal(rooms, wait)
	}
	mid := h.Stamp()
	if rooms, _, wait = h.pass(2 * time.Second); !slices.Equal(rooms, []uint32{8}) || wait != 18*time.Second {
		t.Fatal(rooms, wait)
	}
	if got := h.TypingSince(h.Since(mid)); !slices.Equal(got, []uint32{8}) {
		t.Fatal(got)
	}
	if got := h.TypingSince(h.Since(start)); !slices.Equal(got, []uint32{7}) {
		t.Fatal("from the start only who types now matters", got)
	}
	if got := h.TypingSince(h.Since(Stamp{start.Boot + 1, 1 << 40})); !slices.Equal(got, []uint32{7}) {
		t.Fatal("another life's counter was believed", got)
	}
	if !h.SetTyping(7, 1, false, 0) {
		t.Fatal("no news")
	}
	if rooms, _, _ = h.pass(0); !slices.Equal(rooms, []uint32{7}) {
		t.Fatal(rooms)
	}
	if rooms, _, wait = h.pass(MaxTyping); !slices.Equal(rooms, []uint32{7}) || wait != longest {
		t.Fatal("typing for an hour was believed", rooms, wait)
	}
	if got := h.typists(7); got != `{"content":{"user_ids":[]},"type":"m.typing"}` {
		t.Fatal(got)
	}
	if got := h.TypingSince(h.Stamp().Seq); got != nil {
		t.Fatal(got)
	}
}

func TestTypingIsBounded(t *testing.T) {
	h := open(t, vfs.NewMem())
	defer h.close()
	for u := range uint32(2 * maxTypists) {
		h.SetTyping(1, u+1, true, time.Minute)
	}
	if n := len(h.typing[1].users); n != maxTypists {
		t.Fatal(n)
	}
	for room := range uint32(3 * maxQuiet) {
		h.SetTyping(room+2, 1, true, time.Minute)
		h.SetTyping(room+2, 1, false, 0)
	}
	if n := len(h.typing); n > maxQuiet {
		t.Fatal(n)
	}
}

func (h *hub) status(user uint32) string {
	h.t.Helper()
	s, err := h.Presence(user)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(h.AppendStatus(nil, s))
}

func (h *hub) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func TestPresence(t *testing.T) {
	fs := vfs.NewMem()
	h := open(t, fs)
	want := func(user uint32, want string) {
		t.Helper()
		if got := h.status(user); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
	want(1, `{"presence":"offline"}`)
	h.Acted(1)
	h.must(h.Seen(1, 10, Offline, time.Minute))
	if _, users, _ := h.pass(time.Second); users != nil {
		t.Fatal("who hides was seen", users)
	}
	start := h.Stamp()
	h.must(h.Seen(1, 10, Online, 30*time.Second))
	want(1, `{"currently_active":true,"last_active_ago":0,"presence":"online"}`)
	if _, users, wait := h.pass(0); users != nil || wait != gather {
		t.Fatal("told before others could come", users, wait)
	}
	h.must(h.Seen(2, 20, Unavailable, 0))
	if _, users, _ := h.pass(gather); !slices.Equal(users, []uint32{1, 2}) {
		t.Fatal(users)
	}
	if got := h.PresenceSince(h.Since(start)); !slices.Equal(got, []uint32{1, 2}) {
		t.Fatal(got)
	}
	now := h.Stamp()
	if got := h.PresenceSince(now.Seq); got != nil {
		t.Fatal(got)
	}
	// A second device that is away does not make its user so; one that takes
	// back what it said does.
	h.must(h.Seen(1, 11, Unavailable, time.Hour))
	want(1, `{"currently_active":true,"last_active_ago":500,"presence":"online"}`)
	h.must(h.Seen(1, 10, Unavailable, time.Hour))
	want(1, `{"last_active_ago":500,"presence":"unavailable"}`)
	status := `at the "stove"`
	h.must(h.SetPresence(1, 11, Online, &status))
	want(1, `{"currently_active":true,"last_active_ago":0,"presence":"online","status_msg":"at the \"stove\""}`)
	before := h.Stamp()
	_, users, wait := h.pass(grace) // device 20 is gone now, and is told with the other
	if !slices.Equal(users, []uint32{1, 2}) || wait != idle-grace {
		t.Fatal(users, wait)
	}
	if got := h.PresenceSince(before.Seq); !slices.Equal(got, []uint32{2}) {
		t.Fatal(got)
	}
	want(2, `{"presence":"offline"}`)
	// Idle though connected; then active again.
	if _, _, wait = h.pass(time.Second); wait != idle-grace-time.Second {
		t.Fatal(wait)
	}
	h.pass(wait)
	want(1, `{"last_active_ago":300000,"presence":"unavailable","status_msg":"at the \"stove\""}`)
	h.must(h.Seen(1, 11, Online, time.Hour))
	h.Acted(1)
	want(1, `{"currently_active":true,"last_active_ago":0,"presence":"online","status_msg":"at the \"stove\""}`)
	ev, err := h.AppendPresence(nil, 1)
	if err != nil || !strings.HasSuffix(string(ev), `},"sender":"@a:hub","type":"m.presence"}`) || cjson.Check(ev) != nil {
		t.Fatalf("%s: %v", ev, err)
	}
	long := strings.Repeat("x", maxStatus+1)
	if err := h.SetPresence(1, 11, Online, &long); !fault.Is(err, fault.TooLarge) {
		t.Fatal(err)
	}
	h.close()
	h = open(t, fs)
	defer h.close()
	want(1, `{"last_active_ago":0,"presence":"offline","status_msg":"at the \"stove\""}`)
	if s, ok := ParseState("unavailable"); !ok || s != Unavailable {
		t.Fatal(s)
	}
	if _, ok := ParseState("away"); ok {
		t.Fatal("away")
	}
}

func TestManyDevicesAndUsers(t *testing.T) {
	h := open(t, vfs.NewMem())
	defer h.close()
	for d := range uint64(3 * maxDevices) {
		h.must(h.Seen(1, d, Online, time.Minute))
	}
	if n := len(h.present[1].devices); n != maxDevices {
		t.Fatal(n)
	}
	for u := range uint32(maxPersons + 10) {
		if _, err := h.Presence(u + 2); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(h.present); n > maxPersons {
		t.Fatal(n)
	}
	if h.status(1) == `{"presence":"offline"}` {
		t.Fatal("who is there was dropped")
	}
}

func TestRunTellsAndEnds(t *testing.T) {
	h := open(t, vfs.NewMem())
	defer h.close()
	stop, told := make(chan struct{}), make(chan uint32)
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.Run(stop, func(rooms, _ []uint32) {
			for _, r := range rooms {
				told <- r
			}
		})
	}()
	h.SetTyping(5, 1, true, time.Minute)
	if room := <-told; room != 5 {
		t.Fatal(room)
	}
	close(stop)
	<-done
}

func (h *hub) put(rc Receipt) (pos stream.Pos, changed bool) {
	h.t.Helper()
	pos, err := h.log.Commit(func(tx *stream.Tx) (err error) {
		changed, err = h.PutReceipt(tx, &rc)
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return pos, changed
}

func (h *hub) receipts(reader uint32, after stream.Pos) string {
	h.t.Helper()
	ev, told, err := h.AppendReceipts(nil, 7, Reader{User: reader}, after, h.log.Tip())
	if err != nil || told != (len(ev) > 0) || told && cjson.Check(ev) != nil {
		h.t.Fatalf("%s: %v", ev, err)
	}
	return strings.TrimSuffix(strings.TrimPrefix(string(ev), `{"content":`), `,"type":"m.receipt"}`)
}

func TestReceipts(t *testing.T) {
	fs := vfs.NewMem()
	h := open(t, fs)
	if got := h.receipts(1, 0); got != "" {
		t.Fatal(got)
	}
	h.put(Receipt{Room: 7, User: 1, Type: Read, Event: "$a", At: 10, Time: 5})
	h.put(Receipt{Room: 7, User: 2, Type: ReadPrivate, Event: "$a", At: 10, Time: 6})
	h.put(Receipt{Room: 8, User: 2, Type: Read, Event: "$x", At: 4, Time: 6})
	third, _ := h.put(Receipt{Room: 7, User: 2, Type: Read, Event: "$b", At: 12, Time: 7, Thread: "$root"})
	for _, rc := range []Receipt{
		{Room: 7, User: 1, Type: Read, Event: "$a", At: 10, Time: 9},
		{Room: 7, User: 1, Type: Read, Event: "$0", At: 9, Time: 9},
	} {
		if pos, changed := h.put(rc); changed || pos != third {
			t.Fatal("a receipt moved back", rc)
		}
	}
	if got, want := h.receipts(1, 0), `{"$a":{"m.read":{"@a:hub":{"ts":5}}},"$b":{"m.read":{"@b:hub":{"thread_id":"$root","ts":7}}}}`; got != want {
		t.Fatalf("%s, want %s", got, want)
	}
	if got, want := h.receipts(2, 0), `{"$a":{"m.read":{"@a:hub":{"ts":5}},"m.read.private":{"@b:hub":{"ts":6}}},`+
		`"$b":{"m.read":{"@b:hub":{"thread_id":"$root","ts":7}}}}`; got != want {
		t.Fatalf("%s, want %s", got, want)
	}
	if _, changed := h.put(Receipt{Room: 7, User: 2, Type: Read, Event: "$b", At: 12, Time: 8}); !changed {
		t.Fatal("an unthreaded receipt is not a threaded one")
	}
	h.put(Receipt{Room: 7, User: 1, Type: Read, Event: "$b", At: 12, Time: 9})
	if got, want := h.receipts(3, third), `{"$b":{"m.read":{"@a:hub":{"ts":9},"@b:hub":{"ts":8}}}}`; got != want {
		t.Fatalf("%s, want %s", got, want)
	}
	// What both a threaded and an unthreaded receipt say of one event is told as
	// unthreaded.
	if got, want := h.receipts(3, 0), `{"$b":{"m.read":{"@a:hub":{"ts":9},"@b:hub":{"ts":8}}}}`; got != want {
		t.Fatalf("%s, want %s", got, want)
	}
	h.close()
	h = open(t, fs)
	defer h.close()
	var all []string
	h.must(h.ReceiptsOf(7, 2, func(rc *Receipt) {
		all = append(all, fmt.Sprint(rc.Type, " ", rc.Thread, " ", rc.Event, " ", rc.At, " ", rc.Time))
	}))
	if got, want := strings.Join(all, "; "), "m.read  $b 12 8; m.read $root $b 12 7; m.read.private  $a 10 6"; got != want {
		t.Fatalf("%s, want %s", got, want)
	}
	_, err := h.log.Commit(func(tx *stream.Tx) error {
		_, err := h.PutReceipt(tx, &Receipt{Room: 1, User: 1, Type: Read, Thread: strings.Repeat("x", 256)})
		return err
	})
	if !fault.Is(err, fault.Invalid) {
		t.Fatal(err)
	}
	for _, s := range []string{"m.read", "m.read.private"} {
		if typ, ok := ParseReceiptType(s); !ok || typ.String() != s {
			t.Error(s)
		}
	}
	if _, ok := ParseReceiptType("m.fully_read"); ok {
		t.Error("m.fully_read is no receipt")
	}
}
