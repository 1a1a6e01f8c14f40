package federation

import (
	"context"
	"sync/atomic"
	"time"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/e2ee"
	"hearth/engine/ephemeral"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// Parts are the records that federation works on.
type Parts struct {
	Store     *store.Store
	Log       *stream.Log
	Names     *store.Names
	Rooms     *room.Rooms
	Accounts  *account.Accounts
	Ephemeral *ephemeral.Records
	E2EE      *e2ee.Records
}

// Options are what federation is opened with.
type Options struct {
	Peer   Peer          // reaches other servers; nil: the hub stands alone, and every request of ours is an error
	Signer event.Signer  // signs requests; its Server is this hub's name
	Allow  []mxid.Server // the only ones that are spoken with; empty: all

	// Catchup is how many events a server that was away is brought in order. Of
	// more it is told the newest of each room. 0: DefaultCatchup.
	Catchup int

	// VerifyJSON checks a server's signature on an object, VerifyEvents those of
	// many events, with an error for each that does not hold: both fetch the keys
	// they need.
	VerifyJSON   func(ctx context.Context, server mxid.Server, obj []byte, at time.Time) error
	VerifyEvents func(ctx context.Context, v *event.Version, events []*event.Event) []error
	// VerifyPast is VerifyEvents for what comes of a room's past; witnesses are
	// servers that are in the room. Nil: VerifyEvents.
	VerifyPast func(ctx context.Context, v *event.Version, events []*event.Event, witnesses []mxid.Server) []error

	Blocked   func(in mxid.RoomID) (bool, error)   // whether the owner keeps everybody out of a room; nil: never
	MayInvite func(sender, user mxid.UserID) error // refuses invites that a user of this hub blocks; nil: none

	Filled func(events []mxid.EventID) // told what has got a place in a room's past, of which no entry tells; nil: nobody

	FS  store.FS // of the data folder, and the folder: what comes of a large room waits there
	Dir string

	Now func() time.Time
	Log func(format string, args ...any) // nil: dropped
}

// Federation is the hub among servers. All methods may be called at the same
// time.
type Federation struct {
	Parts
	o      Options
	server mxid.Server
	life   uint64  // the store's incarnation
	sender *sender // nil where the hub stands alone
	lists  *lists  // the same

	profiles profiles
	in       inbound
	acls     acls
	spools   atomic.Uint64
}

// Open makes federation ready. Close ends it.
func Open(p Parts, o Options) (*Federation, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	if o.VerifyPast == nil {
		o.VerifyPast = func(ctx context.Context, v *event.Version, events []*event.Event, _ []mxid.Server) []error {
			return o.VerifyEvents(ctx, v, events)
		}
	}
	f := &Federation{Parts: p, o: o, server: o.Signer.Server}
	if err := f.startInbound(); err != nil || o.Peer == nil {
		return f, err
	}
	if err := f.clearSpills(); err != nil {
		o.Log("federation: what a join left: %v", err) // the next one says so where it cannot write
	}
	var err error
	if f.life, err = p.Store.Incarnation(); err != nil {
		return nil, err
	}
	if f.lists, err = openLists(f); err != nil {
		return nil, err
	}
	f.sender, err = openSender(f)
	return f, err
}

// Close ends what is under way.
func (f *Federation) Close() error {
	f.in.pending.close()
	if f.sender == nil {
		return nil
	}
	f.lists.close()
	return f.sender.close()
}

// do signs a request, asks, and gives the body of an answer that is a success
// and a JSON object. Another status is an error of kind Remote that carries the
// other server's words; Refusal finds them.
func (f *Federation) do(ctx context.Context, r *Request) ([]byte, error) {
	a, err := f.ask(ctx, r)
	if err != nil {
		return nil, err
	}
	if a.Status/100 != 2 {
		return nil, refusal(r, a.Status, a.Body)
	}
	if err := cjson.Check(a.Body); err != nil || cjson.KindOf(a.Body) != cjson.ObjectKind {
		return nil, fault.E(fault.Remote, "federation.Do", "%s answered with something that is no JSON object", r.Dest)
	}
	return a.Body, nil
}

// ask is do without a judgement of the answer.
func (f *Federation) ask(ctx context.Context, r *Request) (*Answer, error) {
	if err := f.mayAsk(r); err != nil {
		return nil, err
	}
	return f.o.Peer.Do(ctx, r)
}

// open is ask for an answer that is read piece by piece.
func (f *Federation) open(ctx context.Context, r *Request) (*Stream, error) {
	if err := f.mayAsk(r); err != nil {
		return nil, err
	}
	return f.o.Peer.Open(ctx, r)
}

// mayAsk refuses servers that are not spoken with, and signs.
func (f *Federation) mayAsk(r *Request) error {
	const op = "federation.Do"
	switch {
	case f.o.Peer == nil:
		return fault.E(fault.Forbidden, op, "this hub does not federate")
	case r.Dest == f.server:
		return fault.E(fault.Internal, op, "the hub asks itself for %s", r.Path)
	case !f.Allowed(r.Dest):
		return fault.E(fault.Forbidden, op, "this hub does not federate with %s", r.Dest)
	}
	if _, err := mxid.ParseServer(string(r.Dest)); err != nil {
		return err
	}
	return f.authorise(r)
}

// Refusal is the error of an answer that is no success.
type Refusal struct {
	Server  mxid.Server
	Status  int
	Errcode string // empty where the answer has none
	Text    string
	Body    []byte // the whole answer
}

func (r *Refusal) Error() string {
	return string(r.Server) + " refused: " + r.Errcode + " " + r.Text
}

// refusal makes the error of an answer.
func refusal(r *Request, status int, body []byte) error {
	e := &Refusal{Server: r.Dest, Status: status}
	if cjson.Check(body) == nil && cjson.KindOf(body) == cjson.ObjectKind {
		e.Errcode, _ = cjson.LookupString(body, "errcode")
		e.Text, _ = cjson.LookupString(body, "error")
		e.Body = body
	}
	e.Errcode, e.Text = e.Errcode[:min(len(e.Errcode), 255)], e.Text[:min(len(e.Text), 1024)]
	kind := fault.Remote
	switch {
	case status == 403:
		kind = fault.Forbidden
	case status == 404:
		kind = fault.NotFound
	}
	err := fault.E(kind, "federation.Do", "%s answered %d %s: %s%w", r.Dest, status, e.Errcode, e.Text, quiet{e})
	if f, ok := err.(*fault.Error); ok && (status == 429 || status == 503) {
		f.Retry = e.retry()
	}
	return err
}

// retry is how long the other server asks to be left alone.
func (r *Refusal) retry() time.Duration {
	val, _ := cjson.Lookup(r.Body, "retry_after_ms")
	ms, _ := cjson.Int(val)
	return time.Duration(min(max(ms, 0), time.Hour.Milliseconds())) * time.Millisecond
}

// quiet lets an error be found without being printed twice.
type quiet struct{ *Refusal }

func (quiet) Error() string   { return "" }
func (q quiet) Unwrap() error { return q.Refusal }
