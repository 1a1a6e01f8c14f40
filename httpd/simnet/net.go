// Package simnet is test only: several whole hubs in one process, each with its
// own memory disk, that reach each other by calling the other's handlers. There
// are no sockets, names or certificates; everything from the signed request up
// is what runs in a real hub.
//
// It owns the links: one can be cut and healed, or made to lose requests and
// answers by a seed that a failure prints. A server that no hub plays can be
// played by a function of the test. It refuses to be clever about time: nothing
// sleeps on purpose, and a test waits for a condition, never for a while.
package simnet

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/federation"
	"hearth/engine/mxid"
)

// Net is the hubs and the links between them.
type Net struct {
	T    testing.TB
	Hubs []*Hub
	Seed uint64
	o    Options

	mu      sync.Mutex
	rng     *rand.Rand
	loss    float64
	cut     map[[2]mxid.Server]bool
	foreign map[mxid.Server]Foreign
	tells   map[mxid.Server]Foreign // of its keys
	police  map[mxid.Server]Foreign // what hubs answer as policy servers
	keys    map[mxid.Server]event.Signer
	asked   []federation.Request
}

// Foreign answers the requests to a server that is no hub.
type Foreign func(r *federation.Request) (*federation.Answer, error)

// Options change what New makes; the zero value is a plain one.
type Options struct {
	Seed  uint64                  // of what is drawn; 0: HEARTH_SEED, or one of its own
	Quiet bool                    // what hubs log is dropped
	Now   func(hub int) time.Time // a hub's clock; nil: the system's
	// Change is called with what a hub is opened with, before it is.
	Change func(hub int, o *Hub)
}

// New makes n hubs with the names a.test, b.test and so on, all linked.
func New(t testing.TB, n int) *Net { return NewWith(t, n, Options{}) }

// NewWith is New with options.
func NewWith(t testing.TB, n int, o Options) *Net {
	t.Helper()
	nw := &Net{T: t, Seed: rand.Uint64(), o: o, cut: map[[2]mxid.Server]bool{}, foreign: map[mxid.Server]Foreign{}, keys: map[mxid.Server]event.Signer{}}
	if s := os.Getenv("HEARTH_SEED"); o.Seed != 0 {
		nw.Seed = o.Seed
	} else if s != "" {
		var err error
		if nw.Seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed: HEARTH_SEED=%d", nw.Seed)
		}
	})
	nw.rng = rand.New(rand.NewPCG(nw.Seed, 0))
	for i := range n {
		h, err := nw.open(i)
		if err != nil {
			t.Fatal(err)
		}
		nw.Hubs = append(nw.Hubs, h)
	}
	t.Cleanup(func() {
		nw.mu.Lock()
		for _, h := range nw.Hubs {
			h.down = true // who is closed is not asked by who is not yet
		}
		nw.mu.Unlock()
		for _, h := range nw.Hubs {
			h.close()
		}
	})
	return nw
}

// Key is the signing key of a server of this net; one that is no hub gets one.
func (n *Net) Key(s mxid.Server) *event.Signer {
	n.mu.Lock()
	defer n.mu.Unlock()
	k, ok := n.keys[s]
	if !ok {
		seed := make([]byte, ed25519.SeedSize)
		copy(seed, s)
		k = event.Signer{Server: s, KeyID: "ed25519:sim", Key: ed25519.NewKeyFromSeed(seed)}
		n.keys[s] = k
	}
	return &k
}

// Play has a function answer for a server that is no hub.
func (n *Net) Play(s mxid.Server, f Foreign) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.foreign[s] = f
}

// PlayKeys has a function answer for a server that is no hub what its keys are.
func (n *Net) PlayKeys(s mxid.Server, f Foreign) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.tells == nil {
		n.tells = map[mxid.Server]Foreign{}
	}
	n.tells[s] = f
}

// Police has a function answer for a hub what is asked of it as a policy server.
func (n *Net) Police(s mxid.Server, f Foreign) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.police = map[mxid.Server]Foreign{s: f}
}

// Cut ends all that goes between two servers, in both directions.
func (n *Net) Cut(a, b mxid.Server) { n.link(a, b, true) }

// Heal undoes Cut.
func (n *Net) Heal(a, b mxid.Server) { n.link(a, b, false) }

func (n *Net) link(a, b mxid.Server, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[[2]mxid.Server{a, b}], n.cut[[2]mxid.Server{b, a}] = cut, cut
}

// Lose makes each request and each answer get lost with a probability.
func (n *Net) Lose(p float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss = p
}

// Asked lists the requests so far, without bodies of answers; and forgets them.
func (n *Net) Asked() []federation.Request {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := n.asked
	n.asked = nil
	return list
}

// maxAsked bounds what Asked remembers.
const maxAsked = 10_000

// way says whether a request or an answer gets from one server to another.
func (n *Net) way(from, to mxid.Server) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut[[2]mxid.Server{from, to}] || n.loss > 0 && n.rng.Float64() < n.loss {
		return fault.E(fault.Remote, "simnet", "no way from %s to %s", from, to)
	}
	return nil
}

// link is a hub's way out: its federation.Peer.
type link struct {
	net  *Net
	from mxid.Server
}

// exchange carries one request over, and back its answer; body is the answer's,
// where it is a stream nothing of it was read.
func (l link) exchange(ctx context.Context, r *federation.Request) (*fasthttp.RequestCtx, error) {
	n := l.net
	n.mu.Lock()
	if len(n.asked) < maxAsked {
		n.asked = append(n.asked, *r)
	}
	play, tells := n.foreign[r.Dest], n.tells[r.Dest]
	if f := n.police[r.Dest]; f != nil && strings.HasPrefix(r.Path, "/_matrix/policy/") {
		play = f
	}
	n.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, fault.E(fault.Remote, "simnet", "%s was not asked in time: %w", r.Dest, err)
	}
	if err := n.way(l.from, r.Dest); err != nil {
		return nil, err
	}
	var c fasthttp.RequestCtx
	if keys := "/_matrix/key/v2/server"; r.Path == keys && n.hub(r.Dest) == nil {
		if play = n.keysOf; tells != nil {
			play = tells
		}
	}
	if play != nil {
		a, err := play(r)
		if err != nil {
			return nil, err
		}
		c.Response.SetStatusCode(a.Status)
		c.Response.SetBody(a.Body)
		c.Response.Header.SetContentType("application/json")
		return &c, n.way(r.Dest, l.from)
	}
	h, err := n.enter(r.Dest)
	if err != nil {
		return nil, err
	}
	defer h.busy.Done()
	var req fasthttp.Request
	req.Header.SetMethod(r.Method)
	req.SetRequestURI(r.Path)
	req.Header.SetHost(string(r.Dest))
	if r.Authorization != "" {
		req.Header.Set("Authorization", r.Authorization)
	}
	if r.Accept != "" {
		req.Header.Set("Accept", r.Accept)
	}
	if r.Body != nil {
		req.Header.SetContentType("application/json")
		req.SetBody(r.Body)
	}
	begin(&c, &req, 9)
	h.mux.Serve(&c)
	n.mu.Lock()
	down := h.down
	n.mu.Unlock()
	if down {
		return nil, fault.E(fault.Remote, "simnet", "%s went down", r.Dest)
	}
	return &c, n.way(r.Dest, l.from)
}

// Do implements federation.Peer.
func (l link) Do(ctx context.Context, r *federation.Request) (*federation.Answer, error) {
	c, err := l.exchange(ctx, r)
	if err != nil {
		return nil, err
	}
	body := bytes.Clone(c.Response.Body())
	most := r.MaxAnswer
	if most == 0 {
		most = 1 << 20
	}
	if int64(len(body)) > most {
		return nil, fault.E(fault.Remote, "simnet", "%s answered with %d bytes", r.Dest, len(body))
	}
	return &federation.Answer{Status: c.Response.StatusCode(), Body: body}, nil
}

// Open implements federation.Peer.
func (l link) Open(ctx context.Context, r *federation.Request) (*federation.Stream, error) {
	c, err := l.exchange(ctx, r)
	if err != nil {
		return nil, err
	}
	s := federation.Stream{Status: c.Response.StatusCode(), Type: string(c.Response.Header.ContentType()), Length: -1}
	if body := c.Response.BodyStream(); body != nil {
		s.Body = streamed{body, c}
		return &s, nil
	}
	s.Length = int64(len(c.Response.Body()))
	s.Body = io.NopCloser(bytes.NewReader(c.Response.Body()))
	return &s, nil
}

// keysOf answers for a server that no hub plays what its keys are.
func (n *Net) keysOf(r *federation.Request) (*federation.Answer, error) {
	k := n.Key(r.Dest)
	obj := fmt.Appendf(nil, `{"server_name":%q,"valid_until_ts":%d,"verify_keys":{%q:{"key":%q}},"old_verify_keys":{}}`, k.Server,
		time.Now().Add(24*time.Hour).UnixMilli(), k.KeyID, base64.RawStdEncoding.EncodeToString(k.Key.Public().(ed25519.PublicKey)))
	signed, err := event.SignJSON(nil, obj, k)
	return &federation.Answer{Status: 200, Body: signed}, err
}

// streamed is a body that its handler goes on writing.
type streamed struct {
	io.Reader
	c *fasthttp.RequestCtx
}

func (s streamed) Close() error { return s.c.Response.CloseBodyStream() }

// enter finds a hub that is up, and counts a request to it.
func (n *Net) enter(s mxid.Server) (*Hub, error) {
	h := n.hub(s)
	if h == nil {
		return nil, fault.E(fault.Remote, "simnet", "there is no server %s", s)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if h.down {
		return nil, fault.E(fault.Remote, "simnet", "%s is down", s)
	}
	h.busy.Add(1)
	return h, nil
}

func (n *Net) hub(s mxid.Server) *Hub {
	for _, h := range n.Hubs {
		if h.Name == s {
			return h
		}
	}
	return nil
}

// Until waits for a condition, and ends the test where it does not come.
func (n *Net) Until(what string, cond func() bool) {
	n.T.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			n.T.Fatalf("it does not come to pass: %s", what)
		}
	}
}
