package event

import (
	"crypto/ed25519"
	"crypto/sha256"
	"strings"
	"testing"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
)

const hashRoom = "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM"

// draft is a message with everything set that the version wants.
func draft(v *Version, content string) *Draft {
	d := &Draft{
		Room: "!r:domain", Type: "m.room.message", Sender: "@a:domain", Time: 1000000, Depth: 7,
		Prev: []mxid.EventID{"$one", "$two"}, Auth: []mxid.EventID{"$three"}, Content: []byte(content),
	}
	if v.RoomIDIsCreate {
		d.Room = hashRoom
	}
	if v.IDs == IDInEvent {
		d.ID = "$x:domain"
		d.PrevHashes = [][sha256.Size]byte{{1}, {2}}
		d.AuthHashes = [][sha256.Size]byte{{3}}
	}
	return d
}

func build(t testing.TB, v *Version, d *Draft) *Event {
	t.Helper()
	e, err := Build(v, d, testSigner(t))
	if err != nil {
		t.Fatalf("version %s: %v", v.ID, err)
	}
	return e
}

// sameEvent compares all fields.
func sameEvent(t *testing.T, a, b *Event) {
	t.Helper()
	if a.Version != b.Version || a.ID != b.ID || a.Room != b.Room || a.Type != b.Type || a.Sender != b.Sender ||
		a.StateKey != b.StateKey || a.IsState != b.IsState || a.Time != b.Time || a.Depth != b.Depth ||
		a.Redacts != b.Redacts || string(a.Content) != string(b.Content) || string(a.JSON) != string(b.JSON) {
		t.Errorf("version %s: events differ:\n%+v\n%+v", a.Version.ID, a, b)
	}
	for i, refs := range [][2][]mxid.EventID{{a.Prev, b.Prev}, {a.Auth, b.Auth}} {
		if len(refs[0]) != len(refs[1]) {
			t.Fatalf("references %d differ: %v", i, refs)
		}
		for j := range refs[0] {
			if refs[0][j] != refs[1][j] {
				t.Errorf("reference %d %d differs", i, j)
			}
		}
	}
}

// TestBuildEveryVersion builds, parses, receives, verifies and rebuilds by the slow
// road, and all must agree.
func TestBuildEveryVersion(t *testing.T) {
	s, key := testSigner(t), "k\"ey"
	for i := range versions {
		v := &versions[i]
		plain := draft(v, ` {"z": 1, "body":"\u00e9\n", "a":{"y":2,"x":[1e2]}} `)
		state := draft(v, `{"membership":"join","displayname":"A"}`)
		state.Type, state.StateKey = "m.room.member", &key
		redaction := draft(v, `{"reason":"no"}`)
		redaction.Type, redaction.Redacts = "m.room.redaction", "$bad"
		create := draft(v, `{"room_version":"`+v.ID+`","creator":"@a:domain"}`)
		empty := ""
		create.Type, create.StateKey, create.Prev, create.Auth, create.PrevHashes, create.AuthHashes = "m.room.create", &empty, nil, nil, nil, nil
		if v.RoomIDIsCreate {
			create.Room = ""
		}
		for _, d := range []*Draft{plain, state, redaction, create} {
			e := build(t, v, d)
			if c, err := cjson.Canonical(nil, e.JSON, v.StrictJSON); err != nil || string(c) != string(e.JSON) {
				t.Fatalf("version %s: not canonical: %v\n%s\n%s", v.ID, err, e.JSON, c)
			}
			if err := e.Verify("domain", s.KeyID, public(s)); err != nil {
				t.Errorf("version %s: %v", v.ID, err)
			}
			parsed, err := Parse(v, e.JSON)
			if err != nil {
				t.Fatal(err)
			}
			sameEvent(t, e, parsed)
			got, redacted, err := Receive(v, []byte(strings.Replace(string(e.JSON), `{`, `{ "unsigned":{"event_id":"$no"}, `, 1)))
			if err != nil || redacted {
				t.Fatalf("version %s: %v %v\n%s", v.ID, redacted, err, e.JSON)
			}
			sameEvent(t, e, got)
			again, err := Complete(v, e.JSON, s)
			if err != nil {
				t.Fatal(err)
			}
			sameEvent(t, e, again)
			red, err := e.Redacted()
			if err != nil || red.ID != e.ID || red.Room != e.Room {
				t.Fatalf("version %s: redacted: %v", v.ID, err)
			}
			if id, err := ID(v, red.JSON); err != nil || id != e.ID {
				t.Errorf("version %s: redaction changes the id from %s to %s (%v)", v.ID, e.ID, id, err)
			}
			if err := red.Verify("domain", s.KeyID, public(s)); err != nil {
				t.Errorf("version %s: redacted: %v", v.ID, err)
			}
			if v.RoomIDIsCreate && d == create && (string(e.Room[1:]) != string(e.ID[1:]) || !e.Room.IsHash()) {
				t.Errorf("room %s of create event %s", e.Room, e.ID)
			}
		}
	}
}

func TestBuildPlacesRedacts(t *testing.T) {
	for i := range versions {
		v := &versions[i]
		d := draft(v, `{"reason":"no","redacts":"$other"}`)
		d.Type, d.Redacts = "m.room.redaction", "$bad"
		e := build(t, v, d)
		_, top := cjson.Lookup(e.JSON, "redacts")
		inside, _ := cjson.LookupString(e.Content, "redacts")
		if e.Redacts != "$bad" || top == v.RedactsInContent || v.RedactsInContent && inside != "$bad" {
			t.Errorf("version %s: %s", v.ID, e.JSON)
		}
		client := AppendClient(nil, e, ClientOptions{})
		a, _ := cjson.LookupPath(client, "redacts")
		b, _ := cjson.LookupPath(client, "content", "redacts")
		if string(a) != `"$bad"` || string(b) != `"$bad"` || strings.Count(string(client), "$bad") != 2 {
			t.Errorf("version %s: client form %s", v.ID, client)
		}
		// A client that writes the event itself names the target in content.
		d.Redacts = ""
		if e = build(t, v, d); v.RedactsInContent && e.Redacts != "$other" || !v.RedactsInContent && e.Redacts != "" {
			t.Errorf("version %s: target %s", v.ID, e.Redacts)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	v, s, long := LookupVersion("12"), testSigner(t), strings.Repeat("x", 256)
	for name, c := range map[string]struct {
		change func(*Draft)
		kind   fault.Kind
	}{
		"float":        {func(d *Draft) { d.Content = []byte(`{"a":1.5}`) }, fault.BadJSON},
		"big":          {func(d *Draft) { d.Content = []byte(`{"a":9007199254740992}`) }, fault.BadJSON},
		"broken":       {func(d *Draft) { d.Content = []byte(`{"a":`) }, fault.NotJSON},
		"empty":        {func(d *Draft) { d.Content = nil }, fault.NotJSON},
		"array":        {func(d *Draft) { d.Content = []byte(`[]`) }, fault.BadJSON},
		"long type":    {func(d *Draft) { d.Type = long }, fault.TooLarge},
		"long key":     {func(d *Draft) { d.StateKey = &long }, fault.TooLarge},
		"bad type":     {func(d *Draft) { d.Type = "\xff" }, fault.BadJSON},
		"huge":         {func(d *Draft) { d.Content = []byte(`{"a":"` + strings.Repeat("x", MaxSize) + `"}`) }, fault.TooLarge},
		"no room":      {func(d *Draft) { d.Room = "" }, fault.Internal},
		"id":           {func(d *Draft) { d.ID = "$a:b" }, fault.Internal},
		"many parents": {func(d *Draft) { d.Prev = make([]mxid.EventID, 21) }, fault.Internal},
	} {
		d := draft(v, `{}`)
		c.change(d)
		if e, err := Build(v, d, s); err == nil || fault.KindOf(err) != c.kind {
			t.Errorf("%s: %v, %v", name, e, err)
		}
	}
	if _, err := Build(LookupVersion("5"), draft(LookupVersion("5"), `{"a":1.5}`), s); err != nil {
		t.Errorf("version 5 refuses a fraction: %v", err)
	}
}

// TestExactSize finds the limit to the byte.
func TestExactSize(t *testing.T) {
	v := LookupVersion("11")
	room := MaxSize - len(build(t, v, draft(v, `{"a":""}`)).JSON)
	e := build(t, v, draft(v, `{"a":"`+strings.Repeat("x", room)+`"}`))
	if len(e.JSON) != MaxSize {
		t.Fatalf("%d bytes", len(e.JSON))
	}
	if _, redacted, err := Receive(v, e.JSON); err != nil || redacted {
		t.Error(redacted, err)
	}
	if _, err := Build(v, draft(v, `{"a":"`+strings.Repeat("x", room+1)+`"}`), testSigner(t)); !fault.Is(err, fault.TooLarge) {
		t.Error(err)
	}
}

// TestUnsigned builds without a key.
func TestUnsigned(t *testing.T) {
	v := LookupVersion("12")
	a, err := Build(v, draft(v, `{}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	if b := build(t, v, draft(v, `{}`)); a.ID != b.ID || strings.Contains(string(a.JSON), "ed25519") {
		t.Errorf("%s", a.JSON)
	}
}

// TestBuildAllocations holds the budget of the hot path: the event, its JSON, its
// id, and what signing takes.
func TestBuildAllocations(t *testing.T) {
	v, s := LookupVersion("12"), testSigner(t)
	d := draft(v, `{"msgtype":"m.text","body":"a message as they are"}`)
	sign := testing.AllocsPerRun(100, func() { ed25519.Sign(s.Key, d.Content) })
	if n := testing.AllocsPerRun(100, func() { _, _ = Build(v, d, s) }); n > 3+sign {
		t.Errorf("Build: %v allocations, want %v", n, 3+sign)
	}
	e := build(t, v, d)
	if n := testing.AllocsPerRun(100, func() { _, _ = Parse(v, e.JSON) }); n > 3 {
		t.Errorf("Parse: %v allocations, want 3", n)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = ParseAs(v, e.JSON, e.ID) }); n > 3 {
		t.Errorf("ParseAs: %v allocations, want 3", n)
	}
	buf := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() { buf = AppendClient(buf[:0], e, ClientOptions{}) }); n > 0 {
		t.Errorf("AppendClient: %v allocations, want 0", n)
	}
	if n := testing.AllocsPerRun(100, func() { buf = AppendStripped(buf[:0], e) }); n > 0 {
		t.Errorf("AppendStripped: %v allocations, want 0", n)
	}
}

func BenchmarkBuild(b *testing.B) {
	v, s := LookupVersion("12"), testSigner(b)
	d := draft(v, `{"msgtype":"m.text","body":"a message as they are"}`)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = Build(v, d, s)
	}
}

func BenchmarkParse(b *testing.B) {
	v := LookupVersion("12")
	e := build(b, v, draft(v, `{"msgtype":"m.text","body":"a message as they are"}`))
	b.Run("hash", func(b *testing.B) {
		for b.Loop() {
			_, _ = Parse(v, e.JSON)
		}
	})
	b.Run("known", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = ParseAs(v, e.JSON, e.ID)
		}
	})
}
