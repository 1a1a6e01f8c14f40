package event

import (
	"strconv"
	"testing"

	"hearth/engine/cjson"
)

// redactionRows: the content that redaction leaves, from the named version until
// the next row of the same type. Every key of content is "k":1 unless it says more.
var redactionRows = []struct {
	typ, content string
	from         int
	want         string
}{
	{"m.room.message", `{"body":1,"membership":1,"redacts":1}`, 1, `{}`},
	{"m.room.member", `{"displayname":1,"join_authorised_via_users_server":1,"membership":1,"third_party_invite":{"display_name":1,"signed":{"token":1}}}`,
		1, `{"membership":1}`},
	{"m.room.member", "", 9, `{"join_authorised_via_users_server":1,"membership":1}`},
	{"m.room.member", "", 11, `{"join_authorised_via_users_server":1,"membership":1,"third_party_invite":{"signed":{"token":1}}}`},
	{"m.room.create", `{"additional_creators":1,"creator":1,"m.federate":1,"room_version":1}`, 1, `{"creator":1}`},
	{"m.room.create", "", 11, `{"additional_creators":1,"creator":1,"m.federate":1,"room_version":1}`},
	{"m.room.join_rules", `{"allow":1,"join_rule":1,"x":1}`, 1, `{"join_rule":1}`},
	{"m.room.join_rules", "", 8, `{"allow":1,"join_rule":1}`},
	{"m.room.power_levels", `{"ban":1,"events":1,"events_default":1,"invite":1,"kick":1,"notifications":1,"redact":1,"state_default":1,"users":1,"users_default":1}`,
		1, `{"ban":1,"events":1,"events_default":1,"kick":1,"redact":1,"state_default":1,"users":1,"users_default":1}`},
	{"m.room.power_levels", "", 11, `{"ban":1,"events":1,"events_default":1,"invite":1,"kick":1,"redact":1,"state_default":1,"users":1,"users_default":1}`},
	{"m.room.aliases", `{"aliases":1,"x":1}`, 1, `{"aliases":1}`},
	{"m.room.aliases", "", 6, `{}`},
	{"m.room.history_visibility", `{"history_visibility":1,"x":1}`, 1, `{"history_visibility":1}`},
	{"m.room.redaction", `{"reason":1,"redacts":1}`, 1, `{}`},
	{"m.room.redaction", "", 11, `{"redacts":1}`},
	// Odd shapes of the invite.
	{"m.room.member", `{"third_party_invite":{}}`, 1, `{}`},
	{"m.room.member", "", 11, `{"third_party_invite":{}}`},
	{"m.room.member", `{"third_party_invite":[]}`, 1, `{}`},
}

func TestRedactionTable(t *testing.T) {
	// want gives for a row's content the text by version.
	content := ""
	for i, row := range redactionRows {
		if row.content != "" {
			content = row.content
		}
		until := len(Versions())
		if i+1 < len(redactionRows) && redactionRows[i+1].content == "" {
			until = redactionRows[i+1].from - 1
		}
		for n := row.from; n <= until; n++ {
			v := LookupVersion(strconv.Itoa(n))
			in := `{"content":` + content + `,"type":"` + row.typ + `"}`
			want := `{"content":` + row.want + `,"type":"` + row.typ + `"}`
			got, err := RedactJSON(nil, v, []byte(in))
			if err != nil || string(got) != want {
				t.Errorf("version %d: %v\n got %s\nwant %s", n, err, got, want)
			}
		}
	}
}

func TestRedactedKeys(t *testing.T) {
	const in = `{"age_ts":1,"auth_events":[],"content":{"a":1},"depth":1,"event_id":"$x","hashes":{"sha256":"y"},"membership":1,"origin":1,` +
		`"origin_server_ts":1,"outlier":1,"prev_events":[],"prev_state":1,"redacts":"$z","room_id":"!r","sender":"@a","signatures":{},` +
		`"state_key":"","type":"t","unsigned":{},"üü":1}`
	const old = `{"auth_events":[],"content":{},"depth":1,"event_id":"$x","hashes":{"sha256":"y"},"membership":1,"origin":1,` +
		`"origin_server_ts":1,"prev_events":[],"prev_state":1,"room_id":"!r","sender":"@a","signatures":{},"state_key":"","type":"t"}`
	const since11 = `{"auth_events":[],"content":{},"depth":1,"event_id":"$x","hashes":{"sha256":"y"},` +
		`"origin_server_ts":1,"prev_events":[],"room_id":"!r","sender":"@a","signatures":{},"state_key":"","type":"t"}`
	for i := range versions {
		want := old
		if versions[i].Redaction11 {
			want = since11
		}
		got, err := RedactJSON([]byte("head"), &versions[i], []byte(in))
		if err != nil || string(got) != "head"+want {
			t.Errorf("version %s: %v\n got %s\nwant %s", versions[i].ID, err, got, want)
		}
	}
	for _, bad := range []string{``, `[]`, `{"content":`, `1`} {
		if got, err := RedactJSON([]byte("head"), &versions[0], []byte(bad)); err == nil || string(got) != "head" {
			t.Errorf("%q: %s, %v", bad, got, err)
		}
	}
	if got, _ := RedactJSON(nil, &versions[11], []byte(`{"content":[],"type":"m.room.create"}`)); string(got) != `{"content":{},"type":"m.room.create"}` {
		t.Errorf("content of a wrong kind: %s", got)
	}
}

// TestEventIDs holds the three forms against fixed results.
func TestEventIDs(t *testing.T) {
	const in = `{"auth_events":[],"content":{"body":"x"},"depth":3,"event_id":"$own:h","hashes":{"sha256":"h"},"room_id":"!r:h","sender":"@a:h","signatures":{"h":{}},"type":"t"}`
	seen := map[string]string{}
	for _, name := range []string{"1", "2", "3", "4", "10", "11", "12"} {
		id, err := ID(LookupVersion(name), []byte(in))
		if err != nil {
			t.Fatal(err)
		}
		seen[name] = string(id)
	}
	if seen["1"] != "$own:h" || seen["2"] != "$own:h" {
		t.Error(seen)
	}
	// The same hash in two alphabets; nothing of this event is redacted otherwise.
	if len(seen["3"]) != 44 || len(seen["4"]) != 44 || seen["4"] != seen["12"] || seen["10"] != seen["11"] {
		t.Error(seen)
	}
	std, _ := decode64(seen["3"][1:])
	if want, _ := ReferenceHash(LookupVersion("3"), []byte(in)); string(std) != string(want[:]) {
		t.Error("version 3 id is not the reference hash")
	}
}

func FuzzReceive(f *testing.F) {
	for i := range versions {
		v := &versions[i]
		f.Add(i, build(f, v, draft(v, `{"body":"x","n":[1,{"a":null}]}`)).JSON)
	}
	empty := ""
	v := &versions[11]
	d := draft(v, `{"membership":"invite","third_party_invite":{"signed":{},"x":1}}`)
	d.Type, d.StateKey = "m.room.member", &empty
	f.Add(11, build(f, v, d).JSON)
	f.Fuzz(func(t *testing.T, i int, raw []byte) {
		v := &versions[uint(i)%uint(len(versions))]
		e, _, err := Receive(v, raw)
		if err != nil {
			return
		}
		if c, err := cjson.Canonical(nil, e.JSON, v.StrictJSON); err != nil || string(c) != string(e.JSON) {
			t.Fatalf("kept JSON is not canonical: %v\n%s", err, e.JSON)
		}
		parsed, err := Parse(v, e.JSON)
		if err != nil {
			t.Fatal(err)
		}
		sameEvent(t, e, parsed)
		if again, _, err := Receive(v, e.JSON); err != nil {
			t.Fatal(err)
		} else {
			sameEvent(t, e, again)
		}
		once, err := e.Redacted()
		if err != nil {
			t.Fatal(err)
		}
		twice, err := once.Redacted()
		if err != nil {
			t.Fatal(err)
		}
		sameEvent(t, once, twice)
		if id, err := ID(v, once.JSON); err != nil || id != e.ID {
			t.Fatalf("redaction changed the id: %s, %s, %v", e.ID, id, err)
		}
		for _, form := range [][]byte{AppendClient(nil, e, ClientOptions{Unsigned: []byte(`{}`)}), AppendStripped(nil, once)} {
			if err := cjson.Check(form); err != nil {
				t.Fatalf("%v: %s", err, form)
			}
		}
	})
}
