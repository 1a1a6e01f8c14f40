package room

import (
	"strings"

	"hearth/engine/auth"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// Draft is an event that this hub is to make.
type Draft struct {
	Type     string
	StateKey *string // nil: no state event
	Sender   mxid.UserID
	Content  []byte       // a JSON object
	Redacts  mxid.EventID // for m.room.redaction
	Time     int64        // origin_server_ts in milliseconds; 0: now
	Txn      Txn          // zero: none
}

// Txn is a client's transaction: the same one makes one event only.
type Txn struct {
	Device uint64 // the device's number; 0: no transaction
	ID     string
}

// Writer is the one writer of a room at a time. It stages events, each built
// on the one before, and commits them in one batch. End has to follow.
type Writer struct {
	r      *Rooms
	l      *live
	head   *Head // the working copy
	staged []staged
	closes []Key // holes that are filled
	done   bool

	advised []mxid.EventID // events that the room's policy server advises against
}

// Write begins writing to a room. It waits for the room's other writers.
func (r *Rooms) Write(num Num) (*Writer, error) {
	l, err := r.acquire(num)
	if err != nil {
		return nil, err
	}
	l.write.Lock()
	if l.gone.Load() { // purged while this waited
		l.write.Unlock()
		r.release(l)
		return nil, fault.E(fault.NotFound, "room.Write", "no such room")
	}
	head := *l.head.Load()
	return &Writer{r: r, l: l, head: &head}, nil
}

// New begins a room that does not exist yet. The first event added has to be
// its create event; in room versions before 12 the caller names the room, in
// later ones the create event does, and id is empty.
func (r *Rooms) New(v *event.Version, id mxid.RoomID) *Writer {
	l := &live{id: id, v: v}
	l.write.Lock()
	return &Writer{r: r, l: l, head: &Head{ID: id, Version: v, Levels: auth.ParsePowerLevels(nil, nil)}}
}

// End lets the next writer in. What was staged and not committed is gone.
func (w *Writer) End() {
	if w.done {
		return
	}
	w.done = true
	w.l.write.Unlock()
	if w.l.num != 0 {
		w.r.release(w.l)
	}
}

// Head is the room's present with what has been staged.
func (w *Writer) Head() *Head { return w.head }

// State finds a state event, staged ones included; nil where there is none.
func (w *Writer) State(typ, stateKey string) (*Event, error) {
	for i := len(w.staged) - 1; i >= 0; i-- {
		if e := w.staged[i].ev; e.Is(typ, stateKey) {
			return e, nil
		}
	}
	if stateKey == "" {
		switch typ {
		case "m.room.create":
			return w.head.create, nil
		case "m.room.power_levels":
			return w.head.levels, nil
		case "m.room.join_rules":
			return w.head.rules, nil
		}
	}
	return w.r.stateOf(w.head.State, typ, stateKey)
}

// view answers the auth rules' questions and keeps the first error.
type view struct {
	w   *Writer
	err error
}

func (v *view) get(typ, stateKey string) *event.Event {
	e, err := v.w.State(typ, stateKey)
	if err != nil && v.err == nil {
		v.err = err
	}
	return plain(e)
}

// Add builds an event on the room's extremities, checks it against the auth
// rules and stages it. Errors: Forbidden where the rules refuse it, TooLarge,
// BadJSON; NotFound for a redaction of an event that is not in the room.
func (w *Writer) Add(d *Draft) (*Event, error) {
	made, target, err := w.make(d)
	if err != nil {
		return nil, err
	}
	return w.stageLocal(made, target, d.Txn)
}

// make builds the event of a draft; target is what it redacts, where that is here.
func (w *Writer) make(d *Draft) (made *event.Event, target *Event, err error) {
	view := view{w: w}
	if d.Type == "m.room.redaction" && d.StateKey == nil && d.Redacts != "" {
		if target, err = w.redactable(d); err != nil {
			return nil, nil, err
		}
	}
	b := event.Draft{
		Room: w.head.ID, Type: d.Type, StateKey: d.StateKey, Sender: d.Sender, Redacts: d.Redacts,
		Time: d.Time, Content: d.Content,
	}
	if b.Time == 0 {
		b.Time = w.r.opts.Now().UnixMilli()
	}
	if strings.ContainsRune(d.Type, 0) { // it parts type and state key in the names of states
		return nil, nil, fault.E(fault.BadJSON, "room.Add", "the type of an event has no NUL in it")
	}
	if err := w.mayRelate(d); err != nil {
		return nil, nil, err
	}
	if err := w.link(&b, &view); err != nil {
		return nil, nil, err
	}
	made, err = w.build(&b, &view, &w.r.opts.Signer)
	return made, target, err
}

// Draw builds a state event on the room's extremities and checks it as Add does,
// but stages nothing: it is for others to complete (signed false: it bears no
// signature), or has to be shown to somebody before it may enter the room by
// Accept. Errors: as Add.
func (w *Writer) Draw(d *Draft, signed bool) (*event.Event, error) {
	view := view{w: w}
	b := event.Draft{Room: w.head.ID, Type: d.Type, StateKey: d.StateKey, Sender: d.Sender, Time: d.Time, Content: d.Content}
	if b.Time == 0 {
		b.Time = w.r.opts.Now().UnixMilli()
	}
	if err := w.link(&b, &view); err != nil {
		return nil, err
	}
	signer := &w.r.opts.Signer
	if !signed {
		signer = nil
	}
	return w.build(&b, &view, signer)
}

// build makes the event of a draft and checks it against the room's present.
func (w *Writer) build(b *event.Draft, view *view, s *event.Signer) (*event.Event, error) {
	made, err := event.Build(w.head.Version, b, s)
	if err != nil {
		return nil, err
	}
	if err := auth.CheckWith(made, view.get, w.head.Levels); err != nil {
		if view.err != nil {
			return nil, view.err
		}
		return nil, err
	}
	return made, nil
}

// link points the event at the extremities and at the events that authorise it.
func (w *Writer) link(b *event.Draft, view *view) error {
	for _, x := range w.head.ext[:min(len(w.head.ext), maxPrev)] {
		b.Prev = append(b.Prev, x.id)
		b.Depth = max(b.Depth, x.depth)
	}
	b.Depth = min(b.Depth, maxDepth-1) + 1 // old rooms have events of greater depth
	for _, k := range auth.Needed(w.head.Version, b.Type, b.StateKey, b.Sender, b.Content) {
		if e := view.get(k.Type, k.StateKey); e != nil {
			b.Auth = append(b.Auth, e.ID)
		}
	}
	if view.err != nil {
		return view.err
	}
	if w.head.Version.IDs == event.IDInEvent {
		return w.linkOld(b)
	}
	return nil
}

const (
	maxPrev  = 20        // prev_events of an event. Spec: rooms v1, event format
	maxDepth = 1<<53 - 1 // depth is an integer of canonical JSON
)

// redactable finds the event a redaction is about and asks whether the sender
// may remove it. In a room with other servers it may be one that is not here yet:
// who may redact everybody's events may redact it too, and nil is given.
// Spec: client-server, redactions.
func (w *Writer) redactable(d *Draft) (*Event, error) {
	target, err := w.r.Lookup(d.Redacts)
	if fault.Is(err, fault.NotFound) && w.head.Joined > len(w.head.Local) && w.head.Levels.UserLevel(d.Sender) >= w.head.Levels.Redact() {
		return nil, nil
	}
	if fault.Is(err, fault.NotFound) || err == nil && target.In != w.head.Room {
		return nil, fault.E(fault.NotFound, "room.Redact", "the event to redact is not in this room")
	}
	if err != nil {
		return nil, err
	}
	if target.Sender != d.Sender && w.head.Levels.UserLevel(d.Sender) < w.head.Levels.Redact() {
		return nil, fault.E(fault.Forbidden, "room.Redact", "redacting the events of others takes power level %d", w.head.Levels.Redact())
	}
	return target, nil
}

// Commit writes what was staged as one batch and lets the next writer in. extra,
// where not nil, adds rows and entries to the batch. The result is to be waited
// for before anybody is told.
func (w *Writer) Commit(extra func(tx *stream.Tx) error) (stream.Pending, error) {
	return w.r.CommitAll(extra, w)
}

// CommitAll is Commit of several rooms in one batch.
func (r *Rooms) CommitAll(extra func(tx *stream.Tx) error, writers ...*Writer) (stream.Pending, error) {
	var fresh []Num
	defer func() {
		for _, w := range writers {
			w.End()
		}
	}()
	for _, w := range writers {
		isNew := w.l.num == 0
		if err := w.enter(); err != nil {
			r.forget(fresh)
			return stream.Pending{}, err
		}
		if isNew {
			fresh = append(fresh, w.l.num)
		}
	}
	defer r.changeStandings(writers)()
	changed, ok := r.changeTallies(writers), false
	defer func() { r.settle(changed, ok) }()
	pending, err := r.log.Begin(func(tx *stream.Tx) error {
		for _, w := range writers {
			if err := w.append(tx); err != nil {
				return err
			}
		}
		// Whoever may read these events has to find them in the room's present too.
		tx.Then(func() {
			for _, w := range writers {
				w.l.head.Store(w.head)
			}
		})
		if extra != nil {
			return extra(tx)
		}
		return nil
	})
	if err != nil {
		r.forget(fresh)
		return pending, err
	}
	ok = true
	for _, w := range writers {
		w.publish()
	}
	return pending, nil
}

// changeStandings says that the standings of members are about to change; the
// result is to be called when they have.
func (r *Rooms) changeStandings(writers []*Writer) (done func()) {
	each := func(f func(room Num, user uint32)) {
		for _, w := range writers {
			for i := range w.staged {
				for _, m := range w.staged[i].members {
					f(w.head.Room, m.user)
				}
			}
		}
	}
	each(r.standings.begin)
	return func() { each(r.standings.end) }
}

// forget takes rooms out of memory that were to be made and never were.
func (r *Rooms) forget(rooms []Num) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, num := range rooms {
		delete(r.live, num)
	}
}

// publish keeps what was committed in memory, and forgets what it changed.
func (w *Writer) publish() {
	for i := range w.staged {
		s := &w.staged[i]
		for _, r := range s.redacts {
			w.r.cache.drop(r.target.Num)
		}
		if s.known {
			w.r.cache.drop(s.ev.Num)
		}
		w.r.cache.put(s.ev, w.r.cache.epoch.Load())
		if s.rel.to != "" {
			w.r.markLinked(s.rel.to)
		}
	}
}

// enter gives a new room its number and its place among the live ones.
func (w *Writer) enter() error {
	if w.l.num != 0 {
		return nil
	}
	num, err := w.r.names.Number(store.Rooms, string(w.head.ID))
	if err != nil {
		return err
	}
	if w.r.purges.of(Num(num)) != nil {
		return fault.E(fault.Busy, "room.Commit", "what was known of this room is being removed")
	}
	w.l.num, w.l.id, w.head.Room = Num(num), w.head.ID, Num(num)
	for i := range w.staged {
		w.staged[i].ev.In = Num(num)
	}
	w.l.head.Store(w.head)
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	w.r.evict()
	w.l.refs++
	w.r.live[w.l.num] = w.l
	return nil
}
