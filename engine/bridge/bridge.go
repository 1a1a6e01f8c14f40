// Package bridge joins publish and subscribe with rooms. Mappings say which
// topics belong to which room and how much of Matrix they need; this package is
// the broker's Tap (what becomes of a message of a thing), its May (who may do
// what with a topic) and a reader of the log with a cursor of its own (what
// becomes of a room's event).
//
// There is one policy for both worlds: on mapped topics membership and power
// levels of the room, on all others those of the control room, and a thing's own
// subtree is always its own. What the policy reads is kept in memory and dropped
// when the log says that it changed.
//
// Loops are cut at both ends: an event that a thing made is never a command, and
// a message that the bridge published is never bridged. It refuses to map into
// encrypted rooms, since it would put there in the clear what people think is
// sealed. What takes more than one record is done by functions of package engine,
// which it is given (Deeds).
package bridge

import (
	"hash/fnv"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"hearth/engine/account"
	"hearth/engine/e2ee"
	"hearth/engine/fault"
	"hearth/engine/mqtt"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/shadow"
	"hearth/engine/store"
	"hearth/engine/stream"
	"hearth/engine/telemetry"
	"hearth/engine/thing"
)

// Deeds are what the bridge has done by package engine.
type Deeds struct {
	Send    func(num room.Num, d *room.Draft) (mxid.EventID, error)
	State   func(num room.Num, d *room.Draft) (mxid.EventID, error)
	Enter   func(num room.Num, user, by mxid.UserID) error        // joins a user of this hub, invited in the name of who wrote the mapping where that is needed
	Crown   func(num room.Num, by mxid.UserID, level int64) error // gives the hub's user a power level, in that name too
	Resolve func(idOrAlias string) (room.Num, error)
	Create  func(alias mxid.Alias) (room.Num, error) // makes a room for a mapping
	Control func() (room.Num, error)                 // the control room; 0 where there is none yet
	Tell    func(text string)                        // writes into the control room
	Order   func(word, name string) (answer string)  // approve, deny or revoke a thing
	Alerts  func() map[string][]string               // the events of Later that wait and that Alert knows, by thing
	Later   func(user uint32, in mxid.RoomID, d *room.Draft, after time.Duration) (string, error)
	Cancel  func(id string) error
	Whisper func(from *account.Session, typ, txn string, messages []byte) error // sends to-device messages
}

// Parts are what a bridge is made of.
type Parts struct {
	Store     *store.Store
	Log       *stream.Log
	Rooms     *room.Rooms
	Accounts  *account.Accounts
	E2EE      *e2ee.Records
	Things    *thing.Things
	Shadows   *shadow.Shadows
	Telemetry *telemetry.Log
	Hub       mxid.UserID // the hub's own user
	Deeds     Deeds
	Served    bool // there will be a broker: what is for things waits for it
	Now       func() time.Time
	Note      func(format string, args ...any) // lines worth an owner's eye; nil: dropped
}

// origin marks the messages that the bridge publishes.
const origin = "bridge"

const cursorName = "mqtt"

// Bridge is the open bridge. All methods may be called at the same time.
type Bridge struct {
	p      Parts
	broker atomic.Pointer[mqtt.Broker]
	there  chan struct{} // closed when broker is set
	table  atomic.Pointer[table]
	rights rights
	rooms  resolved
	from   stream.Pos // where the log is read on from

	mu     sync.Mutex
	own    []*Mapping      // of the owner's file
	told   map[string]bool // faults that were told
	lately int             // of these, within the hour that began at hour
	hour   time.Time
	show   map[string]*showing
	seed   maphash.Seed
	gone   map[string][]string // delayed alerts by thing

	tolls    map[string]toll // how far mappings' samples were told; the one goroutine's that keeps time
	commands commands
	notes    notes
	work     [workers]chan func()
	load     atomic.Int64 // bytes of messages in work
}

// workers send events; those of one thing are in their order.
const (
	workers  = 4
	maxWork  = 256
	maxBytes = 4 << 20
)

// Open reads what the bridge keeps. own are the mappings of the owner's file.
func Open(p Parts, own []*Mapping) (*Bridge, error) {
	if p.Note == nil {
		p.Note = func(string, ...any) {}
	}
	b := &Bridge{p: p, there: make(chan struct{}), own: own, told: map[string]bool{}, show: map[string]*showing{}, seed: maphash.MakeSeed(), tolls: map[string]toll{}}
	b.rooms.num = map[string]found{}
	b.rights.rooms = map[room.Num]*roomRights{}
	for i := range b.work {
		b.work[i] = make(chan func(), maxWork)
	}
	if err := b.commands.load(p.Store, p.Now()); err != nil {
		return nil, err
	}
	if err := b.notes.load(p.Store, p.Now()); err != nil {
		return nil, err
	}
	if err := b.loadTolls(); err != nil {
		return nil, err
	}
	b.loadAlerts()
	if err := b.begin(); err != nil {
		return nil, err
	}
	b.table.Store(newTable(own))
	p.Telemetry.KeepDays(func(name string) int {
		if m := b.table.Load().find(name); m != nil && m.Mode == Telemetry && m.Retain > 0 {
			return m.Retain
		}
		return RetainDays
	})
	if err := b.reload(); err != nil && !fault.Is(err, fault.Corrupt) {
		return nil, err
	}
	return b, nil
}

// begin finds where the log is read on from. A new bridge begins at the tip: what
// was said before it was no command. That is written at once, for at the next
// start the tip would be behind what was said after it.
func (b *Bridge) begin() (err error) {
	if b.from, err = b.p.Log.Cursor(cursorName); err != nil || b.from != 0 {
		return err
	}
	if b.from = max(b.p.Log.Tip(), 1); b.p.Store.ReadOnly() {
		return nil
	}
	batch := b.p.Store.NewBatch()
	stream.SetCursor(batch, cursorName, b.from)
	return b.p.Store.Commit(batch)
}

// Attach gives the bridge the broker, which was made with its Tap and May.
func (b *Bridge) Attach(broker *mqtt.Broker) {
	if b.broker.Swap(broker) == nil {
		close(b.there)
	}
}

// Run does the bridge's work until stop is closed. fail is told what goes wrong.
func (b *Bridge) Run(stop <-chan struct{}, fail func(error)) {
	var all sync.WaitGroup
	defer all.Wait()
	for i := range b.work {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				case f := <-b.work[i]:
					f()
				}
			}
		})
	}
	if b.p.Store.ReadOnly() {
		<-stop
		return
	}
	all.Go(func() { b.p.Telemetry.Run(stop, fail) })
	all.Go(func() { b.keepTime(stop, fail) })
	b.follow(stop, fail)
}

// keepTime shows shadows, tells digests and writes what waits.
func (b *Bridge) keepTime(stop <-chan struct{}, fail func(error)) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	ready := false // the broker is there, and has what things are to find
	for n := 1; ; n++ {
		select {
		case <-stop:
			if err := b.p.Shadows.Flush(); err != nil && !fault.Is(err, fault.Full) {
				fail(err)
			}
			return
		case <-tick.C:
		}
		if broker := b.broker.Load(); broker != nil && !ready {
			if err := b.takeUpDeltas(broker); err != nil {
				fail(err)
			}
			ready = true
		}
		b.welcome()
		b.showDue(b.p.Now())
		if err := b.digestDue(b.p.Now()); err != nil {
			fail(err)
		}
		if n%30 == 0 {
			if err := b.p.Shadows.Flush(); err != nil && !fault.Is(err, fault.Full) {
				fail(err)
			}
			b.commands.clean(b.p.Store, b.p.Now())
			b.notes.clean(b.p.Store, b.p.Now())
			b.forgetAlerts()
		}
	}
}

// do has f done in its order among all of the same name. ok is false where too
// much waits already.
func (b *Bridge) do(name string, size int, f func()) (ok bool) {
	if b.load.Add(int64(size)) > maxBytes {
		b.load.Add(-int64(size))
		return false
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // it cannot fail
	select {
	case b.work[h.Sum32()%workers] <- func() { f(); b.load.Add(-int64(size)) }:
		return true
	default:
		b.load.Add(-int64(size))
		return false
	}
}

// Mappings lists the mappings in force, the most specific first, and what is
// wrong with others.
func (b *Bridge) Mappings() (list []*Mapping, faults []string) {
	t := b.table.Load()
	return append(append(list, t.inbound...), t.commands...), t.faults
}

// tellOnce writes into the control room what was not written there since the
// start, and into the hub's log.
func (b *Bridge) tellOnce(text string) { b.tellOnceOf(text, text) }

// tellOnceOf is tellOnce of what goes by a key.
func (b *Bridge) tellOnceOf(key, text string) {
	if !b.worthTelling(key) {
		return
	}
	b.p.Note("mqtt: %s", text)
	b.do("", len(text), func() { b.p.Deeds.Tell(text) })
}

// tellsPerHour bounds what is told of faults: a thing can make as many as there are
// topics, and what is said in a room stays there.
const tellsPerHour = 20

func (b *Bridge) worthTelling(key string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.p.Now()
	if now.Sub(b.hour) >= time.Hour || now.Before(b.hour) {
		b.hour, b.lately = now, 0
	}
	if b.told[key] || b.lately >= tellsPerHour {
		return false
	}
	if len(b.told) >= maxMappings {
		clear(b.told)
	}
	b.told[key] = true
	b.lately++
	return true
}

// RetainDays is how long samples are kept whose mapping does not say.
const RetainDays = 30

// LongestRetain is the longest time that mappings of the owner's file keep samples.
// A mapping of the control room has none that is longer.
func LongestRetain(own []*Mapping) int {
	days := RetainDays
	for _, m := range own {
		days = max(days, m.Retain)
	}
	return days
}

// resolved keeps the rooms of aliases for a while: an alias is looked up for each
// message otherwise.
type resolved struct {
	mu  sync.Mutex
	num map[string]found
}

type found struct {
	num room.Num
	at  time.Time
}

const (
	resolveFor  = time.Minute
	maxResolved = 1024
)

// roomOf gives the room of a mapping for a topic, and makes it where the mapping
// says so and make is set. 0: there is none.
//
// Errors: Forbidden where the mapping may not lead there.
func (b *Bridge) roomOf(m *Mapping, name string, make bool) (room.Num, error) {
	num, err := b.findRoom(m, name, make)
	if err == nil && num != 0 {
		err = b.trusted(m, num)
	}
	return num, err
}

// trusted refuses a mapping that somebody wrote in the control room who is not in
// the room that it leads to: it would be read there, or written to, behind the
// backs of those who are. Rooms that the hub made for mappings are open to all of
// them.
func (b *Bridge) trusted(m *Mapping, num room.Num) error {
	if m.By == "" || m.By == b.p.Hub {
		return nil
	}
	_, _, joined, err := b.of(num, m.By)
	if err != nil || joined {
		return err
	}
	if made, err := b.made(num); made || err != nil {
		return err
	}
	return fault.E(fault.Forbidden, "bridge", "%s leads to a room that %s, who wrote it, is not in", m.Origin, m.By)
}

func (b *Bridge) findRoom(m *Mapping, name string, make bool) (room.Num, error) {
	if m.Room == "" {
		return 0, nil
	}
	text := m.expand(m.Room, name)
	now := b.p.Now()
	b.rooms.mu.Lock()
	f, ok := b.rooms.num[text]
	b.rooms.mu.Unlock()
	if ok && now.Sub(f.at) < resolveFor {
		return f.num, nil
	}
	num, err := b.p.Deeds.Resolve(text)
	if fault.Is(err, fault.NotFound) && m.Create && make && text[0] == '#' {
		num, err = b.p.Deeds.Create(mxid.Alias(text))
	}
	if err != nil && !fault.Is(err, fault.NotFound) {
		return 0, err
	}
	if num == 0 { // not remembered: it may be made at any time
		if make {
			err = fault.E(fault.NotFound, "bridge", "%s maps %s to %s, and there is no such room here", m.Origin, name, text)
		} else {
			err = nil
		}
		return 0, err
	}
	b.rooms.mu.Lock()
	defer b.rooms.mu.Unlock()
	if len(b.rooms.num) >= maxResolved {
		clear(b.rooms.num)
	}
	b.rooms.num[text] = found{num, now}
	return num, nil
}
