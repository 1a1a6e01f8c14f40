package appservice

import (
	"context"
	"encoding/binary"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"hearth/engine/account"
	"hearth/engine/e2ee"
	"hearth/engine/ephemeral"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/outbox"
	"hearth/engine/room"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// Parts are the records that services are told of.
type Parts struct {
	Store     *store.Store
	Log       *stream.Log
	Rooms     *room.Rooms
	Accounts  *account.Accounts
	Ephemeral *ephemeral.Records
	E2EE      *e2ee.Records
}

// Request is one question to a service.
type Request struct {
	Method string
	URL    string
	Token  string // goes into the Authorization header as Bearer
	Body   []byte // JSON; nil: none
}

// Options are what services are served with.
type Options struct {
	// Load finds the services when it is opened; nil: there are none.
	Load func(server mxid.Server) (*Set, error)
	// Ask carries a request to a service, whose address its owner chose.
	Ask func(ctx context.Context, r *Request) (status int, body []byte, err error)
	// Aliases lists the aliases of a room.
	Aliases     func(room room.Num) ([]mxid.Alias, error)
	First, Most time.Duration // waits after failures, see package outbox; 0: 1 s and a minute, since services stand near
	Now         func() time.Time
	Log         func(format string, args ...any) // nil: dropped
}

// AppServices is the open services. All methods may be called at the same time.
type AppServices struct {
	Parts
	o   Options
	set atomic.Pointer[Set]
	box *outbox.Outbox
	era string // the store's incarnation, in transaction ids

	mu     sync.Mutex
	places map[string]progress
	old    map[string]spoken     // services that understand an old manner only
	here   map[place]mxid.UserID // a user of the service that was found in the room
	single map[string]int        // transactions of one entry since the start
	heard  map[string]time.Time  // when a service was last seen to act
	soon   map[string]*passing   // what is told only while a service listens

	ctx     context.Context // ends with the services
	cancel  context.CancelFunc
	changed chan struct{} // told when there are other services
	stop    chan struct{}
	ended   sync.WaitGroup
}

// place is a service in a room.
type place struct {
	id   string
	room room.Num
}

// Open goes on where the last process stopped.
func Open(p Parts, o Options) (*AppServices, error) {
	set := &Set{}
	if o.Load != nil {
		var err error
		if set, err = o.Load(p.Accounts.Server()); err != nil {
			return nil, err
		}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.First == 0 && o.Most == 0 {
		o.First, o.Most = time.Second, time.Minute
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	a := &AppServices{
		Parts: p, o: o, old: map[string]spoken{}, here: map[place]mxid.UserID{}, places: map[string]progress{}, soon: map[string]*passing{}, heard: map[string]time.Time{},
		single:  map[string]int{},
		changed: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.set.Store(set)
	era, err := p.Store.Incarnation()
	if err != nil {
		return nil, err
	}
	a.era = strconv.FormatUint(era, 36)
	if err := a.begin(set); err != nil {
		return nil, err
	}
	if a.box, err = outbox.Open(p.Store, p.Log, outbox.Options{Name: "appservice", Deliver: a.deliver, Now: o.Now, First: o.First, Most: o.Most}); err != nil {
		return nil, err
	}
	a.ended.Go(a.read)
	return a, nil
}

// Close ends the reader and what is being delivered.
func (a *AppServices) Close() error {
	close(a.stop)
	a.mu.Lock()
	a.cancel() // nobody begins to pass anything on after this
	a.mu.Unlock()
	a.ended.Wait()
	err := a.box.Close()
	for id, p := range a.places {
		if p.acked == p.saved {
			continue
		}
		if serr := a.save(id, p, false); !fault.Is(serr, fault.Full) { // it is told again what was nothing for it
			err = errors.Join(err, serr)
		}
	}
	return err
}

// Services is those that are registered now.
func (a *AppServices) Services() *Set { return a.set.Load() }

// Outbox is where the services stand, for the owner to see.
func (a *AppServices) Outbox() *outbox.Outbox { return a.box }

// Replace has other services take effect: after a reload of their files.
func (a *AppServices) Replace(set *Set) error {
	if err := a.begin(set); err != nil {
		return err
	}
	a.set.Store(set)
	a.mu.Lock()
	clear(a.here)
	clear(a.old)
	a.mu.Unlock()
	for _, s := range set.All() {
		if err := a.box.Alive(s.ID); err != nil { // its address may be a new one
			return err
		}
	}
	select {
	case a.changed <- struct{}{}:
	default: // it was told already
	}
	return nil
}

// Alive says that a service was heard of: what waits for it is tried at once.
func (a *AppServices) Alive(s *Service) error { return a.box.Alive(s.ID) }

// heardEvery is how often what a service does is taken for a sign of life.
const heardEvery = 5 * time.Second

// Heard is Alive for every request that a service makes.
func (a *AppServices) Heard(s *Service) error {
	now := a.o.Now()
	a.mu.Lock()
	last, ever := a.heard[s.ID]
	late := !ever || now.Before(last) || now.Sub(last) >= heardEvery
	if late {
		a.heard[s.ID] = now
	}
	a.mu.Unlock()
	if !late {
		return nil
	}
	return a.Alive(s)
}

// begin gives services that are new their place: the tip.
func (a *AppServices) begin(set *Set) error {
	for _, s := range set.All() {
		if _, ok, err := a.place(s.ID); err != nil || ok {
			if err != nil {
				return err
			}
			continue
		}
		b := a.Store.NewBatch()
		putPlace(b, s.ID, progress{acked: a.Log.Tip()})
		if err := a.Store.Commit(b); err != nil && !fault.Is(err, fault.Full) {
			return err
		}
	}
	return nil
}

// progress is what a service has been told.
type progress struct {
	acked stream.Pos // it has everything up to here
	ends  stream.Pos // a transaction that ends here was sent, and perhaps taken; 0: none
	saved stream.Pos // acked as it is on disk
}

// step is how many entries a service may have passed without anything for it
// before that is written down: so many are looked through again after a crash.
const step = 1000

func (a *AppServices) place(id string) (p progress, ok bool, err error) {
	a.mu.Lock()
	p, ok = a.places[id]
	a.mu.Unlock()
	if ok {
		return p, true, nil
	}
	val, ok, err := a.Store.Get(nil, append(store.AppService.Prefix(), id...))
	if err != nil || !ok {
		return p, false, err
	}
	acked, n := binary.Uvarint(val)
	if n <= 0 {
		return p, false, fault.E(fault.Corrupt, "appservice", "the place of %s is cut", id)
	}
	ends, _ := binary.Uvarint(val[n:])
	p = progress{acked: stream.Pos(acked), ends: stream.Pos(ends), saved: stream.Pos(acked)}
	a.keep(id, p)
	return p, true, nil
}

func (a *AppServices) keep(id string, p progress) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.places[id] = p
}

// pass notes that there was nothing for a service up to a position.
func (a *AppServices) pass(id string, p progress) error {
	a.mu.Lock()
	p.saved = a.places[id].saved
	a.mu.Unlock()
	if p.acked-p.saved >= step {
		return a.save(id, p, false)
	}
	a.keep(id, p)
	return nil
}

// save writes down where a service is, and waits for the disk where sync says so.
func (a *AppServices) save(id string, p progress, sync bool) error {
	b := a.Store.NewBatch()
	putPlace(b, id, p)
	p.saved = p.acked
	a.keep(id, p)
	if sync {
		return a.Store.Commit(b)
	}
	return a.Store.Apply(b)
}

// lonely is how many entries go alone after a start. Without a sync there go at
// most as many as are told between two events, whose commits sync all before them.
const lonely = 100

// alone says whether the next transaction has to hold one entry only, and counts.
func (a *AppServices) alone(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.single[id] >= lonely {
		return false
	}
	a.single[id]++
	return true
}

func putPlace(b *store.Batch, id string, p progress) {
	b.Set(append(store.AppService.Prefix(), id...), binary.AppendUvarint(binary.AppendUvarint(nil, uint64(p.acked)), uint64(p.ends)))
}

// pause is how long the reader waits after the store refused it something.
const pause = 10 * time.Second

// read wakes every service when the log has moved: what is theirs of it is
// found when it is delivered, so that it is looked for once.
func (a *AppServices) read() {
	for {
		moved := a.Log.Changed()
		var ids []string
		for _, s := range a.Services().All() {
			if s.URL != "" {
				ids = append(ids, s.ID)
			}
		}
		var wait <-chan time.Time
		if len(ids) == 0 {
			moved = nil
		} else if err := a.box.News(a.Log.Tip(), ids...); err != nil {
			a.o.Log("application services: the log is looked through again soon: %v", err)
			wait = time.After(pause)
			moved = nil
		}
		select {
		case <-a.stop:
			return
		case <-a.changed:
		case <-wait:
		case <-moved:
		}
	}
}
