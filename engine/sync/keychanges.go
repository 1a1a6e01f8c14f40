package sync

import (
	"slices"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/filter"
	"hearth/engine/mxid"
	"hearth/engine/stream"
)

// KeyChanges appends the object device_lists that /sync from a token would
// answer now. It is the same code that makes it, so that a client may ask by
// either way. to is checked and no more: the answer is never older than it.
// Of a token that is not known nothing is known either, so everybody the user
// shares a room with counts as changed. Spec: client-server, GET /keys/changes.
func (s *Sync) KeyChanges(dst []byte, user uint32, id mxid.UserID, from, to string) ([]byte, error) {
	const op = "sync.KeyChanges"
	since, ok := parseToken(from)
	if _, good := parseToken(to); !ok || !good {
		return dst, fault.E(fault.Invalid, op, "from and to must be tokens of /sync")
	}
	if since.incarnation != s.incarnation || since.pos > s.log.Tip() {
		since = token{incarnation: s.incarnation}
	}
	lists, err := s.changesSince(user, id, since)
	if err == nil && len(lists) == 0 {
		lists = []byte(`{"changed":[],"left":[]}`)
	}
	return append(dst, lists...), err
}

// keyChanges is the object device_lists for who was told of everything up to a
// position; empty where there is nothing to tell.
func (s *Sync) keyChanges(user uint32, id mxid.UserID, since stream.Pos) ([]byte, error) {
	return s.changesSince(user, id, token{incarnation: s.incarnation, pos: since})
}

func (s *Sync) changesSince(user uint32, id mxid.UserID, since token) ([]byte, error) {
	since.device, since.stamp = 0, s.eph.Stamp()
	f, err := filter.Parse([]byte(bareFilter))
	if err != nil {
		return nil, err
	}
	// Device 0 is nobody's: what is told here is not told to the client's device.
	a, err := s.answer(&Request{User: user, UserID: id, Filter: f}, since, true, 0)
	if err != nil {
		return nil, err
	}
	defer func() { s.Done(a.dst) }()
	lists, _ := cjson.Lookup(a.dst, "device_lists")
	return slices.Clone(lists), nil
}

// bareFilter has as little else written as can be.
const bareFilter = `{"account_data":{"types":[]},"presence":{"types":[]},"room":{"account_data":{"types":[]},"ephemeral":{"types":[]},` +
	`"state":{"types":[]},"timeline":{"limit":1}}}`
