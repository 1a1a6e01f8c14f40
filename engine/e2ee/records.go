// Package e2ee keeps what end-to-end encryption leaves with a server: the
// public keys of devices and users, the signatures between them, one-time and
// fallback keys, encrypted backups of room keys, and the messages that wait for
// single devices.
//
// It owns the keyspaces DeviceKeys to RemoteList of the store's list, and AwayMessage. It refuses
// to know rooms and accounts: who shares a room with whom and which devices a
// user has is told by its callers in package engine, which also decide whom a
// change wakes. It refuses whatever is not bounded, since every user may write
// here and devices that never come back collect messages for ever.
//
// What clients upload is checked in structure and kept as canonical JSON, but
// for its signatures, which are kept beside it: others add to them later.
// Signatures by cross-signing keys are verified; those of a device on itself are
// for clients to judge.
//
// Everything of a device is keyed by the number the hub gave it. A number is
// never given again, so what is left behind of a device that is gone can never
// be taken for that of a new device of the same name.
package e2ee

import (
	"sync"
	"sync/atomic"
	"time"

	"hearth/engine/mxid"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// Bounds of what may be stored. They are far above what clients do.
const (
	maxID         = 255      // key ids, algorithms, event types; Spec: appendices, opaque identifiers
	maxKeyObject  = 32 << 10 // a device's or user's key object
	maxOneTimeKey = 4 << 10
	maxOneTime    = 1000 // one-time keys of a device
	maxFallback   = 16   // algorithms of a device with a fallback key
	maxSigned     = 1000 // signatures in one upload
	maxClaims     = 5000 // one-time keys claimed by one request
	maxMessage    = 64 << 10
	maxQueue      = 8192 // messages that wait for one device
	maxQueueBytes = 8 << 20
	maxDehydrated = 64 << 10
)

// Options are what the records are opened with.
type Options struct {
	Now func() time.Time // nil: time.Now
}

// Records is the open record. All methods may be called at the same time.
type Records struct {
	st    *store.Store
	log   *stream.Log
	names *store.Names
	now   func() time.Time

	// Each of these is taken before the log's lock, and none inside another.
	keys    sync.Mutex // one-time and fallback keys, and the map below
	supply  map[uint64]*supply
	queue   sync.Mutex // to-device messages, and the map below
	waiting map[uint64]waiting
	away    map[uint32]waiting // by other server; there are not many
	backups [16]sync.Mutex     // by user number
	remote  sync.Mutex         // the keys of users of other servers

	txnDay atomic.Uint32 // the day of the last transaction row
}

// Open reads nothing: rows are read when they are asked for.
func Open(st *store.Store, log *stream.Log, names *store.Names, o Options) *Records {
	r := &Records{st: st, log: log, names: names, now: o.Now, supply: map[uint64]*supply{}, waiting: map[uint64]waiting{}, away: map[uint32]waiting{}}
	if r.now == nil {
		r.now = time.Now
	}
	return r
}

// Owner is the device whose keys are uploaded.
type Owner struct {
	User   uint32
	UserID mxid.UserID
	Device string
	Num    uint64 // the device's number
}

// cached bounds the devices of which something is kept in memory.
const cached = 4096

// evict makes place in a full map by dropping some of it. Map order is random
// enough, and what is dropped is read again when it is asked for.
func evict[V any](m map[uint64]V) {
	if len(m) < cached {
		return
	}
	drop := cached / 8
	for k := range m {
		if drop--; drop < 0 {
			return
		}
		delete(m, k)
	}
}
