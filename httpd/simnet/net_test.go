package simnet

import (
	"strings"
	"testing"

	"hearth/engine/fault"
	"hearth/engine/federation"
)

func TestLinks(t *testing.T) {
	n := New(t, 2)
	a, b := n.Hubs[0], n.Hubs[1]
	ask := func() error {
		r := federation.Request{Dest: b.Name, Method: "GET", Path: "/_matrix/federation/v1/version"}
		got, err := link{n, a.Name}.Do(t.Context(), &r)
		if err == nil && !strings.Contains(string(got.Body), "Hearth") {
			t.Errorf("%d %s", got.Status, got.Body)
		}
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	n.Cut(a.Name, b.Name)
	if err := ask(); !fault.Is(err, fault.Remote) {
		t.Error(err)
	}
	n.Heal(a.Name, b.Name)
	b.Restart()
	if err := ask(); err != nil {
		t.Error(err)
	}
	n.Lose(1)
	if err := ask(); !fault.Is(err, fault.Remote) {
		t.Error(err)
	}
	if got := len(n.Asked()); got != 4 {
		t.Errorf("%d requests were seen", got)
	}
}

func TestUser(t *testing.T) {
	n := New(t, 1)
	u := n.Hubs[0].User("amy")
	if r := u.Want(200, "", "POST", "/_matrix/client/v3/createRoom", `{"preset":"public_chat"}`); !strings.HasPrefix(r.Str("room_id"), "!") {
		t.Error(r)
	}
	u.Want(403, "M_FORBIDDEN", "POST", "/_matrix/client/v3/rooms/!x/invite", `{"user_id":"@x:y"}`)
}
