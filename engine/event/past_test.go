package event

import (
	"strings"
	"testing"

	"hearth/engine/fault"
)

// Events of a room's past may have more references than are taken in now.
func TestReceivePast(t *testing.T) {
	refs := strings.Repeat(`"$`+strings.Repeat("x", 43)+`",`, 30)
	raw := []byte(`{"auth_events":[` + refs[:len(refs)-1] + `],"prev_events":[` + refs[:len(refs)-1] + `],"content":{},"depth":7,"hashes":{"sha256":"eA"},` +
		`"origin_server_ts":1,"room_id":"!r:a.test","sender":"@a:a.test","signatures":{},"type":"m.room.message"}`)
	v := LookupVersion("10")
	if _, _, err := Receive(v, raw); !fault.Is(err, fault.BadJSON) {
		t.Error(err)
	}
	e, _, err := ReceivePast(v, raw)
	if err != nil || len(e.Prev) != 30 || len(e.Auth) != 30 {
		t.Error(err)
	}
}
