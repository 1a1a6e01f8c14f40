package sim

import (
	"sync"

	"hearth/engine/mxid"
)

// A fact is something that a client was told, or asked for.
type fact struct {
	kind kind
	name string // what it is about
	seq  int    // of a register: which value; of a message: which operation

	room  mxid.RoomID
	event mxid.EventID
	pos   uint64
	token string
	list  []mxid.EventID
	again func(h *hub) (mxid.EventID, error) // sends a message's transaction again
}

type kind int

const (
	register kind = iota // name holds the value seq, or a later one that was asked for
	message              // a message with a transaction, made once however often it is sent
	redacted             // an event was emptied
	login                // a token was given
	logout               // it was taken back
	joined               // a user is in a room, for good
	told                 // a /sync answer reached the user: its events, and the token to go on from
	seen                 // a reader saw an event at or before the tip
	position             // a reader saw the tip
)

// ledger is all that was asked for and acknowledged, in order.
type ledger struct {
	mu    sync.Mutex
	asked []fact
	acked []fact
}

func (l *ledger) ask(f fact) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = append(l.asked, f)
}

func (l *ledger) ack(f fact) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked = append(l.acked, f)
}

// now is a copy that does not change any more.
func (l *ledger) now() *ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &ledger{asked: l.asked[:len(l.asked):len(l.asked)], acked: l.acked[:len(l.acked):len(l.acked)]}
}

// last is the highest value of each register that was asked for, and that was
// acknowledged.
func (l *ledger) last() (asked, acked map[string]int) {
	asked, acked = map[string]int{}, map[string]int{}
	for _, f := range l.asked {
		if f.kind == register {
			asked[f.name] = max(asked[f.name], f.seq)
		}
	}
	for _, f := range l.acked {
		if f.kind == register {
			acked[f.name] = max(acked[f.name], f.seq)
		}
	}
	return asked, acked
}
