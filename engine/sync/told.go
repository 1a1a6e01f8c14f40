package sync

import (
	"sync"

	"hearth/engine/room"
	"hearth/engine/stream"
)

// told remembers which member events a device was told of, so that lazy loading
// need not tell them with every message of the same sender. It is a memory and
// not a record: whatever it lost is told once more.
// Spec: client-server, lazy-loading room members.
type told struct {
	mu sync.Mutex
	at map[toldKey]stream.Pos // position of the answer that told
}

type toldKey struct {
	device uint64
	event  room.EventNum
}

// maxToldMembers bounds the memory to about half a megabyte.
const maxToldMembers = 8192

// known says whether the device has the event: an answer told it, and the token
// that the device now came with shows that it got that answer.
func (t *told) known(device uint64, event room.EventNum, since stream.Pos) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	pos, ok := t.at[toldKey{device, event}]
	return ok && pos <= since
}

func (t *told) tell(device uint64, event room.EventNum, pos stream.Pos) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.at) >= maxToldMembers {
		clear(t.at)
	}
	k := toldKey{device, event}
	if old, ok := t.at[k]; !ok || pos < old {
		t.at[k] = pos
	}
}

// forget is for a device that begins anew.
func (t *told) forget(device uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k := range t.at {
		if k.device == device {
			delete(t.at, k)
		}
	}
}
