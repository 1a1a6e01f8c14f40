// Package pushapi is a push gateway: it takes notifications from homeservers and
// hands each to whatever wakes the app that it is for, Web Push, UnifiedPush,
// Apple's and Google's services, or the hub's own MQTT broker.
//
// It owns the forms and the credentials that those want. A pushkey is all that a
// gateway knows of an app, so it chooses the way by what the key and its data
// are, and by the owner's list of apps for Apple and Google. It refuses to keep a
// notification: one that cannot be delivered now is an error to the homeserver,
// which has the queue and tries again. It opens no connection by itself, since
// users choose where web pushes go: the way out, which judges addresses, is given
// to it.
//
// Spec: push gateway.
package pushapi

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// Request is one question to a push service, always a POST or a GET.
type Request struct {
	Method string
	URL    string
	Header map[string]string
	Body   []byte
}

// Answer is what came back, whatever its status.
type Answer struct {
	Status int
	Retry  string // the header Retry-After
	Body   []byte
}

// Options are what a gateway is made with.
type Options struct {
	// Ask is the way out. It judges addresses, and bounds time and answer.
	Ask func(ctx context.Context, r *Request) (*Answer, error)
	// Publish gives a message to the hub's MQTT broker; nil: there is none.
	Publish func(ctx context.Context, topic string, payload []byte) error
	// Alive says whether a user of this hub has the device; needed with Publish.
	Alive func(user mxid.UserID, device string) (bool, error)

	Server    mxid.Server
	PublicURL string        // under which the hub is reached; empty: it hands out no endpoints
	Secret    []byte        // 32 bytes, that its keys are made of; they have to stay the same
	Contact   string        // told to push services, a mailto: or https: URL; empty: PublicURL
	Apps      []App         // those that Apple's and Google's services wake
	Pause     time.Duration // before a second try; 0: half a second
	Now       func() time.Time
	Log       func(format string, args ...any) // nil: dropped
}

// Gateway is the gateway. All methods may be called at the same time.
type Gateway struct {
	o       Options
	vapid   *ecdsa.PrivateKey
	point   string // its public key in base64
	sealing []byte // of endpoints
	apps    []*vendor
	places  chan struct{}

	mu      sync.Mutex
	told    map[[16]byte]struct{} // what was delivered lately; guarded by mu
	order   [maxTold][16]byte     // the same in the order in which it goes; guarded by mu
	next    int
	servers map[string]bool // hosts that take UnifiedPush; guarded by mu

	misses misses
}

const (
	maxBody    = 128 << 10 // an event has 64 KiB
	maxDevices = 64
	maxTold    = 1024
	maxServers = 1024

	// places is how many notifications are on their way at once; more are told to
	// come later.
	places = 32
	// atOnce is how many devices of one notification are.
	atOnce     = 4
	notifyTime = 25 * time.Second
	tries      = 3
)

// New makes a gateway.
func New(o Options) (*Gateway, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	if o.Pause == 0 {
		o.Pause = 500 * time.Millisecond
	}
	if o.Contact == "" {
		o.Contact = o.PublicURL
	}
	g := &Gateway{o: o, places: make(chan struct{}, places), told: map[[16]byte]struct{}{}, servers: map[string]bool{}}
	if err := g.makeKeys(); err != nil {
		return nil, err
	}
	for i := range o.Apps {
		v, err := newVendor(&o.Apps[i], g)
		if err != nil {
			return nil, err
		}
		g.apps = append(g.apps, v)
	}
	return g, nil
}

// NotifyPath is where homeservers reach a push gateway.
const NotifyPath = "/_matrix/push/v1/notify"

// Routes is the table of what the gateway serves.
func (g *Gateway) Routes() []wire.Route {
	all := []wire.Route{
		{Method: "POST", Pattern: NotifyPath, Handle: g.notify, Class: wire.Send, Body: maxBody},
		{Method: "GET", Pattern: NotifyPath, Handle: g.discover},
	}
	return append(all, g.endpointRoutes()...)
}

// discover says what this is, to apps that look for a gateway near their push
// server, and the key that browsers are to subscribe with.
// Spec: UnifiedPush, definitions of push gateways.
func (g *Gateway) discover(r *wire.Req) error {
	dst := append(r.Out(), `{"unifiedpush":{"gateway":"matrix"},"gateway":"matrix","vapid":`...)
	return r.OK(append(cjson.AppendString(dst, g.point), '}'))
}

// notify takes a notification from a homeserver.
// Spec: push gateway, POST /_matrix/push/v1/notify.
func (g *Gateway) notify(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	from, now := network(r.Remote()), g.o.Now()
	if err := g.misses.admit(from, now); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), notifyTime)
	defer cancel()
	answer, missed, err := g.deliver(ctx, body)
	g.misses.add(from, missed, now)
	if err != nil {
		return err
	}
	return r.OK(append(r.Out(), answer...))
}

// Notify delivers a notification, which is a body of POST /notify that is sound
// JSON, and gives the answer to that. The hub's own pushers call it without HTTP.
//
// Errors: BadJSON, Missing, Busy where some device could not be told and the
// whole is to be sent again; who was told then is not told twice.
func (g *Gateway) Notify(ctx context.Context, body []byte) ([]byte, error) {
	answer, _, err := g.deliver(ctx, body)
	return answer, err
}

// deliver is Notify; missed is how many devices were not told.
func (g *Gateway) deliver(ctx context.Context, body []byte) (answer []byte, missed int, err error) {
	const op = "pushapi.Notify"
	n, err := parse(body)
	if err != nil {
		return nil, 0, err
	}
	select {
	case g.places <- struct{}{}:
		defer func() { <-g.places }()
	default:
		return nil, 0, fault.E(fault.Busy, op, "too many notifications are on their way")
	}
	outcomes := make([]error, len(n.Devices))
	turn := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i := range n.Devices {
		turn <- struct{}{}
		all.Go(func() {
			defer func() { <-turn }()
			outcomes[i] = g.once(ctx, n, &n.Devices[i])
		})
	}
	all.Wait()
	dst := []byte(`{"rejected":[`)
	first := true
	for _, err := range outcomes {
		if err != nil {
			missed++
		}
	}
	for i, err := range outcomes {
		switch {
		case errors.Is(err, errUseless): // to try again would be of no use
		case errors.Is(err, errRejected):
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = cjson.AppendString(dst, n.Devices[i].Key)
		case err != nil:
			g.o.Log("push gateway: a notification for %s was not delivered: %v", n.Devices[i].App, err)
			return nil, missed, fault.E(fault.Busy, op, "a push service does not take the notification now: %w", err)
		}
	}
	return append(dst, `]}`...), missed, nil
}

// errRejected says that a pushkey is good for nothing and will never be.
var errRejected = errors.New("the pushkey is rejected")

// errUseless says that this notification cannot be delivered, and that it is of
// no use to try again.
var errUseless = errors.New("the push service refuses this notification")

// laterError says that it may be tried again, and when.
type laterError struct {
	why  string
	wait time.Duration // 0: the push service did not say
}

func (e *laterError) Error() string { return e.why }

// way is how one device is told. The errors are those above; any other is
// tried again.
type way func(ctx context.Context, n *notification, d *device) error

// choose finds the way to a device; nil where nobody knows it.
func (g *Gateway) choose(d *device) way {
	for _, v := range g.apps {
		if v.app.matches(d.App) {
			return v.deliver
		}
	}
	switch {
	case g.own(d.Key):
		return g.toBroker
	case d.Data.Endpoint != "" && d.Data.Auth != "":
		return g.webPush
	case isURL(d.Key):
		return g.unified
	}
	return nil
}

// once tells a device of an event, unless that was done before. A device that
// will not take it is no reason for the homeserver to try again.
func (g *Gateway) once(ctx context.Context, n *notification, d *device) error {
	deliver := g.choose(d)
	if deliver == nil {
		return errRejected
	}
	var mark [16]byte
	if n.Event != "" {
		h := sha256.Sum256([]byte(n.Event + "\x00" + d.App + "\x00" + d.Key))
		mark = [16]byte(h[:])
		if g.wasTold(mark) {
			return nil
		}
	}
	err := g.again(ctx, func() error { return deliver(ctx, n, d) })
	useless := errors.Is(err, errUseless)
	if useless {
		g.o.Log("push gateway: a notification for %s: %v", d.App, err)
	}
	if (err == nil || useless) && n.Event != "" {
		g.tell(mark)
	}
	return err
}

// longestWait is for how long a push service is waited for here; longer is for
// the homeserver to wait.
const longestWait = 5 * time.Second

// again tries a few times.
func (g *Gateway) again(ctx context.Context, do func() error) error {
	wait := g.o.Pause
	for i := 1; ; i++ {
		err := do()
		if err == nil || errors.Is(err, errRejected) || errors.Is(err, errUseless) || i == tries {
			return err
		}
		var later *laterError
		if errors.As(err, &later) && later.wait > 0 {
			wait = max(wait, later.wait)
		}
		if wait > longestWait {
			return err
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
		wait *= 2
	}
}

func (g *Gateway) wasTold(mark [16]byte) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, ok := g.told[mark]
	return ok
}

func (g *Gateway) tell(mark [16]byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.told, g.order[g.next])
	g.order[g.next] = mark
	g.told[mark] = struct{}{}
	g.next = (g.next + 1) % maxTold
}
