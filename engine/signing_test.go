package engine

import (
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/store"
)

// fromOther has a user of another server join a public room at a time.
func (h *hub) fromOther(num room.Num, at time.Time) {
	h.t.Helper()
	head, err := h.Rooms.Head(num)
	h.ok(err)
	var last *room.Event
	h.ok(h.Rooms.Timeline(num, room.Key{}, room.After(h.log.Tip()), true, func(_ room.Key, n room.EventNum) (bool, error) {
		last, err = h.Rooms.Event(n)
		return false, err
	}))
	var by []mxid.EventID
	for _, typ := range []string{"m.room.power_levels", "m.room.join_rules"} {
		e, err := h.Rooms.StateEvent(head.State, typ, "")
		h.ok(err)
		by = append(by, e.ID)
	}
	key := "@x:other"
	e, err := event.Build(head.Version, &event.Draft{
		Room: last.Room, Type: "m.room.member", StateKey: &key, Sender: "@x:other", Time: at.UnixMilli(), Depth: last.Depth + 1,
		Prev: []mxid.EventID{last.ID}, Auth: by, Content: []byte(`{"membership":"join"}`),
	}, &event.Signer{Server: "other", KeyID: "ed25519:1", Key: ed25519.NewKeyFromSeed(make([]byte, 32))})
	h.ok(err)
	w, err := h.Rooms.Write(num)
	h.ok(err)
	defer w.End()
	if out, gap, err := w.Accept(e, nil); err != nil || out != room.Accepted {
		h.t.Fatalf("%v, %v, %v", out, gap, err)
	}
	p, err := w.Commit(nil)
	h.ok(err)
	h.ok(p.Wait())
}

// The clock begins no earlier than our own newest event, and others' do not
// move it, whatever time they have.
func TestClockFollowsOwnEventsOnly(t *testing.T) {
	files := vfs.NewMem()
	h := openOn(t, files)
	h.user("a")
	num := h.create(NewRoom{Preset: "public_chat"})
	made := h.clock.now()
	h.fromOther(num, time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC))
	h.ok(h.Close())

	h = openOn(t, files)
	defer func() { h.ok(h.Close()) }()
	if floor := h.clock.floor; floor.Year() == 2100 || floor.Before(made.Add(-time.Minute)) || floor.After(made.Add(time.Minute)) {
		t.Errorf("the clock begins at %s, our last event is of %s", floor, made)
	}
	if now := h.clock.now(); now.Year() == 2100 {
		t.Errorf("it is %s", now)
	}
}

func TestRotateKey(t *testing.T) {
	files := vfs.NewMem()
	h := openOn(t, files)
	h.user("a")
	num := h.create(NewRoom{Preset: "public_chat"})
	first := h.OwnKeys().Current[0]
	next, err := h.RotateKey()
	h.ok(err)
	if len(next.Current) != 1 || next.Current[0].KeyID == first.KeyID || len(next.Retired) != 1 {
		t.Fatalf("%+v", next)
	}
	h.ok(h.Close())

	h = openOn(t, files)
	obj, err := h.Keys.Published()
	h.ok(err)
	old, _ := cjson.LookupPath(obj, "old_verify_keys", first.KeyID, "expired_ts")
	expired, _ := cjson.Int(old)
	if _, there := cjson.LookupPath(obj, "verify_keys", first.KeyID); there || expired == 0 {
		t.Errorf("published: %s", obj)
	}
	// What the old key has signed holds, and nothing later is signed with it.
	head, err := h.Rooms.Head(num)
	h.ok(err)
	e, err := h.Rooms.StateEvent(head.State, "m.room.create", "")
	h.ok(err)
	if e.Time > expired {
		t.Errorf("an event of %d, the key expired at %d", e.Time, expired)
	}
	if err := h.Keys.VerifyEvents(t.Context(), e.Version, []*event.Event{e.Event})[0]; err != nil {
		t.Error(err)
	}
	again, err := h.RotateKey()
	h.ok(err)
	if len(again.Retired) != 2 {
		t.Errorf("%+v", again.Retired)
	}
	h.ok(h.Close())

	// A rotation that was cut short between the two files is completed, one file
	// that is lost or damaged is written anew.
	for name, spoil := range map[string]func(file string){
		"old":     func(file string) { h.ok(store.WriteFile(files, file, []byte(formatKeys(next)))) },
		"gone":    func(file string) { h.ok(files.Remove(file)) },
		"damaged": func(file string) { h.ok(store.WriteFile(files, file, []byte("ed25519 x"))) },
	} {
		for _, file := range signingFiles {
			spoil(files.PathJoin("data", file))
			o := Options{FS: files, Dir: "data"}
			own, err := ownKeys(&o, "hub", true)
			if err != nil || len(own.Retired) != 2 {
				t.Fatalf("%s %s: %v", file, name, err)
			}
			text, err := store.ReadFile(files, files.PathJoin("data", file))
			if err != nil || string(text) != formatKeys(again) {
				t.Errorf("%s %s: it became %q, %v", file, name, text, err)
			}
		}
	}
	for _, file := range signingFiles {
		h.ok(files.Remove(files.PathJoin("data", file)))
	}
	if _, err := ownKeys(&Options{FS: files, Dir: "data"}, "hub", true); !fault.Is(err, fault.Corrupt) {
		t.Errorf("without files: %v", err)
	}
	if _, err := files.Stat(files.PathJoin("data", signingFiles[0])); err == nil {
		t.Error("a key was made for a name in use")
	}
}

func TestKeyFile(t *testing.T) {
	own, err := parseKeys("ed25519 1 YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1\n", "domain")
	if err != nil {
		t.Fatal(err)
	}
	// Spec: appendices, Cryptographic Test Vectors.
	signed, err := event.SignJSON(nil, []byte(`{}`), &own.Current[0])
	if want := `{"signatures":{"domain":{"ed25519:1":"K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ"}}}`; err != nil || string(signed) != want {
		t.Errorf("%s, %v", signed, err)
	}
	for _, text := range []string{"", "ed25519 1", "rsa 1 YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1", "ed25519 1 AAAA",
		"retired ed25519 1 XGX0JRS2Af3be3knz2fBiRbApjm2Dh61gXDJA8kcJNI 5", "ed25519 1 YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1\nretired ed25519 1 XGX 5"} {
		if _, err := parseKeys(text, "domain"); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}
