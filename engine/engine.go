package engine

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"hearth/engine/account"
	"hearth/engine/appservice"
	mqttbridge "hearth/engine/bridge"
	"hearth/engine/delay"
	"hearth/engine/directory"
	"hearth/engine/e2ee"
	"hearth/engine/ephemeral"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/federation"
	"hearth/engine/keyring"
	"hearth/engine/media"
	"hearth/engine/mqtt"
	"hearth/engine/mxid"
	"hearth/engine/push"
	"hearth/engine/room"
	"hearth/engine/search"
	"hearth/engine/shadow"
	"hearth/engine/store"
	"hearth/engine/stream"
	esync "hearth/engine/sync"
	"hearth/engine/telemetry"
	"hearth/engine/thing"
	"hearth/engine/unread"
)

// StoreFormat is the newest format of a store that this program reads.
const StoreFormat = store.Format

// Options are what an engine is opened with.
type Options struct {
	Dir    string      // the data folder
	FS     store.FS    // nil: the real disk
	Server mxid.Server // the server's name; never changes for a data folder. Empty: the one the folder has

	RoomVersion string // of rooms made without naming one; empty: event.DefaultVersion

	CacheBytes  int64 // share of Pebble's block cache
	MemTable    int   // bytes of one memtable; at most three are alive
	RecordBytes int   // share of the parsed events and room states

	Ballast    bool // keep a file to let go of when the disk is full; see package store
	KeepFormat bool // leave an older store as it is: the version before may have to read it again; see package store

	ReadOnly bool // write nothing; a disk that cannot be written is opened so by itself

	Things ThingOptions // mappings, and what is kept of samples

	Retention time.Duration // events older than this are removed; 0: none but where a room says so

	Accounts    account.Options
	Push        push.Options                     // the ways out to push gateways and mailboxes; without Post nobody is told
	Federation  federation.Options               // Signer, Now and Log are the engine's; without Peer the hub stands alone
	AppServices appservice.Options               // Load and Ask are the caller's; the rest is the engine's
	Notaries    []mxid.Server                    // trusted to tell the keys of other servers; see package keyring
	Witnesses   bool                             // several servers of a room are believed of those that are gone; the same
	Identity    IdentityWays                     // the ways out to identity servers
	Media       media.Options                    // Dir, FS, Server, Now and Log are the engine's
	Now         func() time.Time                 // nil: the system's clock
	Log         func(format string, args ...any) // nil: dropped
	Fatal       func(format string, args ...any) // called when the disk refuses a write; must not return
}

// Engine is an open server. Its parts are used directly; the methods here are
// what needs more than one of them.
type Engine struct {
	RoomVersion string // of rooms made without naming one

	Server      mxid.Server
	Rooms       *room.Rooms
	Accounts    *account.Accounts
	Directory   *directory.Directory
	Ephemeral   *ephemeral.Records
	E2EE        *e2ee.Records
	Keys        *keyring.Keys
	Sync        *esync.Sync
	Push        *push.Push
	Search      *search.Index
	Media       *media.Records
	Federation  *federation.Federation
	AppServices *appservice.AppServices

	Things    *thing.Things // what speaks MQTT
	Shadows   *shadow.Shadows
	Telemetry *telemetry.Log
	Bridge    *mqttbridge.Bridge

	st    *store.Store
	log   *stream.Log
	names *store.Names
	own   *keyring.Own // the hub's keys
	files *Options     // where they lie
	clock clock

	unread *unread.Unread
	mails  bool // there is a way to send mail

	created atomic.Int64   // time of the last create event made here, milliseconds
	stop    chan struct{}  // closed when the engine ends
	running sync.WaitGroup // the engine's own goroutines

	lookups IdentityWays
	hears   atomic.Pointer[IdentityService] // the hub's own identity service; nil: it is none

	journeys journeys
	life     context.Context // ends with the engine: for what is asked of other servers
	end      context.CancelFunc
	say      func(format string, args ...any)

	delayed *delay.Queue
	sending sync.Mutex // held while events that waited are sent

	purges chan struct{} // holds one where a room waits to be purged
	left   chan struct{} // holds one where a change has to reach rooms yet
	trims  chan struct{} // holds one where a history waits to be removed
	keep   time.Duration // how long events are kept; 0: for ever
	held   held

	ended   func(name string)           // called for a thing that was revoked; may be nil
	broker  atomic.Pointer[mqtt.Broker] // nil until things are served
	control control
	crowned chan struct{}                    // holds one where there is an admin more
	logf    func(format string, args ...any) // may be nil

	watching atomic.Int32 // those who wait at rooms they are not in

	notices notices
	fetches fetches
	beat    atomic.Uint64   // the tip at the last look of a watchdog
	aliases sync.Mutex      // held while an alias is looked for and then taken or dropped
	secrets sync.Mutex      // held while a secret is made
	peer    federation.Peer // the way to other servers; nil: there is none
	backing sync.Mutex      // held while a backup is made
}

// control is the control room, once it is known.
type control struct {
	mu   sync.Mutex    // held while it is made
	num  atomic.Uint32 // 0: not known
	none atomic.Bool   // there is none
	made atomic.Int32  // rooms made for mappings
}

const metaServer = "server_name"

// Open opens the data folder, or makes it. A server name other than the one it
// was made for is refused.
func Open(o Options) (*Engine, error) {
	if o.FS == nil {
		o.FS = store.Disk()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.RecordBytes == 0 {
		o.RecordBytes = 4 << 20
	}
	st, err := openStore(&o)
	if err != nil {
		return nil, err
	}
	e := &Engine{st: st, purges: make(chan struct{}, 1), left: make(chan struct{}, 1), trims: make(chan struct{}, 1), keep: o.Retention, files: &Options{Dir: o.Dir, FS: o.FS}, peer: o.Federation.Peer, lookups: o.Identity}
	if err := e.open(&o); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return e, nil
}

func (e *Engine) open(o *Options) (err error) {
	if err := e.name(o); err != nil {
		return err
	}
	if e.log, err = stream.Open(e.st); err != nil {
		return err
	}
	if e.names, err = store.OpenNames(e.st); err != nil {
		return err
	}
	if e.RoomVersion = o.RoomVersion; e.RoomVersion == "" {
		e.RoomVersion = event.DefaultVersion
	}
	e.clock = clock{system: o.Now, began: time.Now()}
	e.Rooms, err = room.Open(e.st, e.log, e.names, room.Options{Signer: e.own.Current[0], Now: e.clock.now, CacheBytes: o.RecordBytes})
	if err != nil {
		return err
	}
	if e.clock.floor, err = e.Rooms.Newest(); err != nil {
		return err
	}
	e.created.Store(e.clock.floor.UnixMilli())
	o.Accounts.Now = e.clock.now
	if e.Accounts, err = account.Open(e.st, e.log, e.names, e.Server, o.Accounts); err != nil {
		return err
	}
	e.Directory = directory.Open(e.st)
	e.E2EE = e2ee.Open(e.st, e.log, e.names, e2ee.Options{Now: e.clock.now})
	if e.Ephemeral, err = ephemeral.Open(e.st, e.names, ephemeral.Options{Now: e.clock.now}); err != nil {
		return err
	}
	o.Media.Dir, o.Media.FS, o.Media.Server, o.Media.Now, o.Media.Log = o.FS.PathJoin(o.Dir, "media"), o.FS, e.Server, e.clock.now, o.Log
	if e.Media, err = media.Open(e.st, o.Media); err != nil {
		return err
	}
	e.unread = unread.Open(e.st, e.Rooms, e.Accounts, e.Ephemeral)
	e.Sync, err = esync.Open(esync.Parts{
		Store: e.st, Log: e.log, Rooms: e.Rooms, Accounts: e.Accounts, Ephemeral: e.Ephemeral, Unread: e.unread, E2EE: e.E2EE,
	})
	if err != nil {
		return err
	}
	// On a disk that takes nothing it is left for the next start; a room that is
	// damaged keeps no other from being served.
	if err := e.takeUp(); err != nil && !fault.Is(err, fault.Full) && !fault.Is(err, fault.Corrupt) {
		return err
	}
	o.Push.Now, o.Push.Log, e.mails = e.clock.now, o.Log, o.Push.Mail != nil
	if e.Push, err = push.Open(push.Parts{Store: e.st, Log: e.log, Rooms: e.Rooms, Accounts: e.Accounts, Unread: e.unread}, o.Push); err != nil {
		return err
	}
	if e.Search, err = search.Open(e.st, e.log, e.Rooms); err != nil {
		return err
	}
	if e.delayed, err = delay.Open(e.st); err != nil {
		return err
	}
	e.begin(o)
	if err := e.openKeys(o); err != nil {
		return err
	}
	o.Federation.Signer, o.Federation.Now, o.Federation.Log = e.own.Current[0], e.clock.now, o.Log
	o.Federation.FS, o.Federation.Dir = o.FS, o.Dir
	o.Federation.Blocked, o.Federation.MayInvite = e.RoomBlocked, e.mayInvite
	o.Federation.Filled = func(events []mxid.EventID) {
		if err := e.Search.Past(events); err != nil {
			e.say("the past is not found by its words: %v", err)
		}
	}
	o.Federation.VerifyJSON, o.Federation.VerifyEvents, o.Federation.VerifyPast = e.Keys.VerifyJSON, e.Keys.VerifyEvents, e.Keys.VerifyPast
	e.Federation, err = federation.Open(federation.Parts{
		Store: e.st, Log: e.log, Names: e.names, Rooms: e.Rooms, Accounts: e.Accounts, Ephemeral: e.Ephemeral, E2EE: e.E2EE,
	}, o.Federation)
	if err != nil {
		return err
	}
	if err := e.openServices(o); err != nil {
		return err
	}
	if err := e.openThings(o); err != nil {
		return err
	}
	e.stop = make(chan struct{})
	complain := func(what string) func(error) {
		return func(err error) {
			if o.Log != nil {
				o.Log("%s: %v", what, err)
			}
		}
	}
	e.running.Go(func() { e.Search.Run(e.stop, complain("the search index stands still")) })
	e.running.Go(func() { e.runDelayed(complain("an event that waited was not sent")) })
	e.running.Go(func() { e.runLeft(complain("a change did not reach all rooms")) })
	e.running.Go(func() { e.runPurges(complain("a purged room is not removed")) })
	e.beginTrims(complain)
	e.running.Go(e.tell)
	e.running.Go(func() { e.Bridge.Run(e.stop, complain("what things say does not reach the rooms")) })
	e.running.Go(func() { e.Media.Run(e.stop) })
	return nil
}

// begin readies what is asked of other servers in the engine's own time.
func (e *Engine) begin(o *Options) {
	e.life, e.end = context.WithCancel(context.Background())
	if e.say = o.Log; e.say == nil {
		e.say = func(string, ...any) {}
	}
}

// name settles the server's name and its signing key.
func (e *Engine) name(o *Options) error {
	kept, inUse, err := e.st.Meta(metaServer)
	if err != nil {
		return err
	}
	e.Server = mxid.Server(kept)
	if !inUse {
		if alone, ok, err := e.st.Meta(metaAlone); err != nil {
			return err
		} else if ok {
			return fault.E(fault.Invalid, "engine.Open", "the data folder is that of %s, %w, and cannot become a hub's", alone, ErrIdentity)
		}
		if e.Server = o.Server; e.Server == "" {
			return fault.E(fault.Missing, "engine.Open", "a new data folder needs a server name")
		}
		if _, err := mxid.ParseServer(string(e.Server)); err != nil {
			return err
		}
	} else if o.Server != "" && o.Server != e.Server {
		return fault.E(fault.Invalid, "engine.Open",
			"the data folder belongs to the server %s and cannot become %s: the name is part of every user, room and event in it; "+
				"start with server_name = %q, or with an empty data folder", e.Server, o.Server, e.Server)
	}
	if e.own, err = ownKeys(o, e.Server, inUse); err != nil || inUse {
		return err
	}
	b := e.st.NewBatch()
	b.SetMeta(metaServer, []byte(e.Server))
	return e.st.Commit(b)
}

// Close ends the engine. Nobody may be using it any more.
func (e *Engine) Close() error {
	e.Sync.Close() // whoever waits is answered while there is something to answer from
	var broker error
	if b := e.broker.Load(); b != nil {
		broker = b.Close()
	}
	close(e.stop)
	e.end()
	e.running.Wait()
	return errors.Join(broker, e.AppServices.Close(), e.Federation.Close(), e.Keys.Close(), e.Push.Close(), e.unread.Close(), e.Media.Close(), e.st.Close())
}

// Tip is the position up to which everything is on disk, for metrics.
func (e *Engine) Tip() uint64 { return uint64(e.log.Tip()) }
