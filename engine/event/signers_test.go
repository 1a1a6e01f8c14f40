package event

import (
	"fmt"
	"testing"

	"hearth/engine/mxid"
)

// Who must have signed an event, by version and kind.
func TestSigners(t *testing.T) {
	member := func(content string) *Draft {
		key := "@b:b"
		return &Draft{Type: "m.room.member", StateKey: &key, Content: []byte(content)}
	}
	for _, c := range []struct {
		name, version string
		id            mxid.EventID
		d             *Draft
		want          string
	}{
		{"message", "10", "", &Draft{Type: "m.room.message", Content: []byte(`{}`)}, "[a]"},
		{"version 1, own id", "1", "$x:a", &Draft{Type: "m.room.message", Content: []byte(`{}`)}, "[a]"},
		{"version 2, an id of another", "2", "$x:c", &Draft{Type: "m.room.message", Content: []byte(`{}`)}, "[a c]"},
		{"version 3 has no such ids", "3", "", &Draft{Type: "m.room.message", Content: []byte(`{}`)}, "[a]"},
		{"let in by somebody", "8", "", member(`{"membership":"join","join_authorised_via_users_server":"@c:c"}`), "[a c]"},
		{"let in by their own server", "12", "", member(`{"membership":"join","join_authorised_via_users_server":"@c:a"}`), "[a]"},
		{"before there were restricted rooms", "7", "", member(`{"membership":"join","join_authorised_via_users_server":"@c:c"}`), "[a]"},
		{"left in the content of an invite", "10", "", member(`{"membership":"invite","join_authorised_via_users_server":"@c:c"}`), "[a]"},
		{"no user", "10", "", member(`{"membership":"join","join_authorised_via_users_server":7}`), "[a]"},
		{"by a third party", "10", "", member(`{"membership":"invite","third_party_invite":{}}`), "[]"},
		{"by a third party, version 1", "1", "$x:c", member(`{"membership":"invite","third_party_invite":{}}`), "[c]"},
		{"a join with what a third party wrote", "10", "", member(`{"membership":"join","third_party_invite":{}}`), "[a]"},
		{"no state event", "10", "", &Draft{Type: "m.room.member", Content: []byte(`{"membership":"invite","third_party_invite":{}}`)}, "[a]"},
	} {
		c.d.ID, c.d.Room, c.d.Sender, c.d.Depth = c.id, "!r:a", "@a:a", 2
		if c.version == "12" {
			c.d.Room = "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM"
		}
		e, err := Build(LookupVersion(c.version), c.d, nil)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got := fmt.Sprint(e.Signers()); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
