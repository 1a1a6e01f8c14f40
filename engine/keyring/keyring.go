// Package keyring holds the signing keys of servers: those of others as they
// were published, with every validity ever seen, and our own with the retired
// ones. It checks the signatures of events and requests with them.
//
// It owns whom to ask for a key that is missing, and when not to ask again: the
// server itself, whose certificate proves the name, and notaries that the owner
// trusts. A notary's word is the only proof of the keys that it hands out, since
// whoever makes up a key can sign an object with it as well; so a server that is
// merely at hand, such as the one through which a room is joined, is not believed
// alone, and those in a room who agree only in what they say of its distant past
// (witness.go).
//
// It refuses to know sockets (Fetch and Ask are given to it) and what is signed.
// Everything that comes in is bounded: the size of an answer, the keys in it, how
// many servers are asked at once, how often one is, and what is stored.
//
// Spec: server-server, retrieving server keys.
package keyring

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hearth/engine/edkey"
	"hearth/engine/mxid"
	"hearth/engine/store"
)

// Options are what a keyring is opened with.
type Options struct {
	Server mxid.Server // this hub

	// Fetch gives what a server publishes of its keys (GET /_matrix/key/v2/server),
	// at most 64 KiB of it. Nil: no server is asked.
	Fetch func(ctx context.Context, server mxid.Server) ([]byte, error)
	// Ask gives a notary's answer to a body (POST /_matrix/key/v2/query), at most
	// 4 MiB of it. Nil: no notary is asked.
	Ask      func(ctx context.Context, notary mxid.Server, body []byte) ([]byte, error)
	Notaries []mxid.Server // trusted to tell the keys of others; asked in this order
	// Witnesses has VerifyPast believe several servers of a room that agree.
	Witnesses bool

	// Keep says whether the keys of a server stay for ever: those of servers that have
	// been in a room do. Of others they go with what the server said of them, since
	// anybody can bring up servers without number, each with many keys. Nil: all stay.
	Keep func(server mxid.Server) bool

	Time        time.Duration // one question to a server may take; 0: 8 s
	LongTime    time.Duration // all questions for one set of events may take; 0: 20 s
	TableBytes  int           // memory for checking signatures faster; 0: 2 MiB
	AnswerBytes int64         // of others' objects that are kept for those who ask us; 0: 8 MiB
	Now         func() time.Time
	Log         func(format string, args ...any) // nil: dropped
}

func (o *Options) defaults() {
	if o.Time == 0 {
		o.Time = 8 * time.Second
	}
	if o.LongTime == 0 {
		o.LongTime = 20 * time.Second
	}
	if o.TableBytes == 0 {
		o.TableBytes = 2 << 20
	}
	if o.AnswerBytes == 0 {
		o.AnswerBytes = 8 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	o.Notaries = slices.DeleteFunc(slices.Clone(o.Notaries), func(s mxid.Server) bool { return s == o.Server })
}

// Keys is the ring. All methods may be called at the same time.
type Keys struct {
	st  *store.Store
	o   Options
	own atomic.Pointer[Own]

	checker *edkey.Checker

	keeping sync.Mutex // held while rows are changed
	bytes   int64      // of all stored answers; guarded by keeping

	ctx     context.Context // ends with the ring
	end     context.CancelFunc
	running sync.WaitGroup

	single, many, notary chan struct{} // places for questions under way, by what they are for

	mu      sync.Mutex
	flights map[mxid.Server]*flight // guarded by mu
	tries   map[mxid.Server]*try    // guarded by mu
	heard   map[subject]hearsay     // guarded by mu

	published published
}

// How many servers are asked at once, by what for: neither a large room nor
// those who use this hub as a notary keep a request from being checked.
const (
	forRequests = 16
	forMany     = 16
	forNotary   = 4
)

// Open makes the ring of a store.
func Open(st *store.Store, o Options) (*Keys, error) {
	o.defaults()
	k := &Keys{
		st: st, o: o, checker: edkey.New(o.TableBytes),
		single: make(chan struct{}, forRequests), many: make(chan struct{}, forMany), notary: make(chan struct{}, forNotary),
		flights: map[mxid.Server]*flight{}, tries: map[mxid.Server]*try{}, heard: map[subject]hearsay{},
	}
	k.ctx, k.end = context.WithCancel(context.Background())
	k.own.Store(&Own{Server: o.Server})
	return k, k.count()
}

// Close ends the questions under way and waits for them.
func (k *Keys) Close() error {
	k.end()
	k.running.Wait()
	return nil
}

func (k *Keys) now() int64 { return k.o.Now().UnixMilli() }
