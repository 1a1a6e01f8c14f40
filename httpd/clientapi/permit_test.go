package clientapi

import (
	"strings"
	"testing"
)

// Who blocks invites has them refused, who ignores them is not told, and the
// lists of MSC4155 go from allowed to blocked, users before servers.
func TestInvitePermission(t *testing.T) {
	h := start(t, Anyone)
	bob, eve := h.join("bob"), h.join("eve")
	const refused, hidden, shown = "refused", "hidden", "shown"
	for _, c := range []struct{ config, want string }{
		{`{}`, shown},
		{`{"blocked_users":["@bob:hub.test"]}`, refused},
		{`{"ignored_users":["@bob:hub.test"]}`, hidden},
		{`{"blocked_servers":["hub.test"]}`, refused},
		{`{"ignored_servers":["hub.*"]}`, hidden},
		{`{"blocked_users":["@b?b*"]}`, refused},
		{`{"allowed_users":["@bob:hub.test"],"blocked_servers":["hub.test"]}`, shown},
		{`{"blocked_users":["@bob:hub.test"],"allowed_servers":["hub.test"]}`, refused},
		{`{"allowed_users":["@bob:hub.test"],"ignored_users":["@bob:hub.test"],"blocked_users":["@bob:hub.test"]}`, shown},
		{`{"allowed_users":null,"ignored_users":null,"blocked_users":null,"allowed_servers":null,"ignored_servers":null,"blocked_servers":null}`, shown},
	} {
		h.want(200, "{}", "PUT", v3+"/user/@eve:hub.test/account_data/org.matrix.msc4155.invite_permission_config", eve, c.config)
		id := h.create(bob, `{"preset":"private_chat"}`)
		a := h.do("POST", inRoom(id, "/invite"), bob, `{"user_id":"@eve:hub.test"}`)
		got := shown
		switch {
		case a.status == 403 && strings.Contains(a.body, `"M_INVITE_BLOCKED"`):
			got = refused
		case a.status != 200:
			got = a.body
		case !strings.Contains(h.want(200, "", "GET", v3+"/sync", eve, "").body, id):
			got = hidden
		}
		if got != c.want {
			t.Errorf("%s: %s, not %s", c.config, got, c.want)
		}
	}
}
