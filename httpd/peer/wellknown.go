package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/mxid"
)

// How long delegations are believed.
// Spec: server-server, Resolving server names, step 3, names the default, the
// most, and the most for errors.
const (
	wellDefault = 24 * time.Hour
	wellMost    = 48 * time.Hour
	wellLeast   = 5 * time.Minute
	wellFailed  = 30 * time.Second // nobody answered; doubled each time
	wellAbsent  = 5 * time.Minute  // it answered that there is none; doubled each time
	wellWorst   = time.Hour
	wellDoubt   = 5 * time.Minute // a name whose server is away is asked again after that
	wellTime    = 15 * time.Second
	wellBytes   = 16 << 10
	wellHops    = 5
	wellQueue   = time.Minute // for a turn to ask
	maxAsking   = 32          // at once
	maxFlights  = 1024        // names whose turn has not come, and those that are asked
	tableBytes  = 256 << 10
)

// delegation is what a server name's .well-known said.
type delegation struct {
	to     mxid.Server // empty: nothing, the name stands for itself
	until  time.Time   // believed
	held   time.Time   // until when to is used while nobody answers
	asked  time.Time
	failed int  // times in a row
	sure   bool // the other side said so, if only that there is nothing
}

// flight is a request for a delegation under way.
type flight struct {
	done chan struct{}
	to   mxid.Server
	err  error // its turn never came
}

// table keeps delegations within a number of bytes. What goes when it is full is
// up to the map: all are used alike, and it costs one request to have one again.
type table struct {
	most, size int
	byName     map[mxid.Server]*delegation
}

func weight(name mxid.Server, d *delegation) int { return len(name) + len(d.to) + 240 }

func (t *table) put(name mxid.Server, d *delegation) {
	if t.byName == nil {
		t.byName = map[mxid.Server]*delegation{}
	}
	t.drop(name)
	for old := range t.byName {
		if t.size+weight(name, d) <= t.most {
			break
		}
		t.drop(old)
	}
	t.byName[name] = d
	t.size += weight(name, d)
}

func (t *table) drop(name mxid.Server) {
	if d := t.byName[name]; d != nil {
		t.size -= weight(name, d)
		delete(t.byName, name)
	}
}

// delegate gives the name under which a server is to be looked for: its own, or
// the one that its .well-known names. Addresses and names with a port are not
// asked about. Who asks for one that is being asked for waits for that.
//
// Spec: server-server, Resolving server names, step 3.
func (s *Servers) delegate(ctx context.Context, name mxid.Server) (mxid.Server, error) {
	host, port := split(name)
	if _, err := netip.ParseAddr(host); err == nil || port != 0 {
		return name, nil
	}
	key := mxid.Server(strings.ToLower(host))
	s.mu.Lock()
	if d := s.known.byName[key]; d != nil && s.o.Now().Before(d.until) {
		defer s.mu.Unlock()
		return either(d.to, name), nil
	}
	f := s.flights[key]
	if f == nil {
		if len(s.flights) >= maxFlights {
			s.mu.Unlock()
			return "", errBusy
		}
		f = &flight{done: make(chan struct{})}
		s.flights[key] = f
		go s.learn(key, f) // it ends by itself
	}
	s.mu.Unlock()
	select {
	case <-f.done:
		return either(f.to, name), f.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

func either(a, b mxid.Server) mxid.Server {
	if a != "" {
		return a
	}
	return b
}

// errBusy is not the fault of the server that is looked for, and nothing about
// it is kept.
var errBusy = errors.New("too many servers are being looked for")

// learn asks for a delegation when its turn has come, and keeps what came of it.
func (s *Servers) learn(name mxid.Server, f *flight) {
	turn := time.NewTimer(wellQueue)
	defer turn.Stop()
	select {
	case s.asking <- struct{}{}:
	case <-turn.C:
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.flights, name)
		f.err = errBusy
		close(f.done)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.patience)
	defer cancel()
	got, err := s.askWell(ctx, "https://"+string(name)+"/.well-known/matrix/server")
	<-s.asking
	now := s.o.Now()
	d := &delegation{to: got.to, asked: now, until: now.Add(jitter(got.keep)), held: now.Add(wellMost), sure: true}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer close(f.done)
	delete(s.flights, name)
	if err != nil {
		wait := wellFailed
		if got.answered {
			wait = wellAbsent
		}
		*d = delegation{asked: now, failed: 1, sure: got.answered}
		if old := s.known.byName[name]; old != nil {
			d.failed = min(old.failed+1, 10)
			if !got.answered && now.Before(old.held) {
				d.to, d.held = old.to, old.held
			}
		}
		d.until = now.Add(jitter(min(wait<<(d.failed-1), wellWorst)))
	}
	s.known.put(name, d)
	f.to = d.to
}

// jitter keeps names that were learnt together from running out together.
func jitter(d time.Duration) time.Duration { return d - time.Duration(rand.Int64N(int64(d)/10+1)) }

// doubt has a server's .well-known asked again sooner, after nobody answered
// where it had led: at once where it had not answered itself, as it is when the
// hub's own link was away.
func (s *Servers) doubt(name mxid.Server) {
	host, _ := split(name)
	now := s.o.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.known.byName[mxid.Server(strings.ToLower(host))]
	if d != nil && (!d.sure || now.Sub(d.asked) >= wellDoubt) && now.Before(d.until) {
		d.until = now
	}
}

// well is what a .well-known said.
type well struct {
	to       mxid.Server
	keep     time.Duration
	answered bool // it is an answer, though perhaps not a good one
}

// askWell fetches a .well-known. Spec: server-server, GET /.well-known/matrix/server.
func (s *Servers) askWell(ctx context.Context, at string) (well, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return well{}, err
	}
	q.Header.Set("User-Agent", s.o.Agent)
	resp, err := s.wells.Do(q)
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if err != nil {
		return well{}, err
	}
	defer func() { _ = resp.Body.Close() }() // it was read, or is not wanted
	body, err := io.ReadAll(io.LimitReader(resp.Body, wellBytes+1))
	switch {
	case err != nil:
		return well{}, err
	case resp.StatusCode >= 500, resp.StatusCode == http.StatusTooManyRequests:
		return well{}, fmt.Errorf("it answered %d", resp.StatusCode) // it will be well again
	case resp.StatusCode != http.StatusOK:
		return well{answered: true}, fmt.Errorf("it answered %d", resp.StatusCode)
	case len(body) > wellBytes || cjson.Check(body) != nil:
		return well{answered: true}, errors.New("it answered with something else")
	}
	text, _ := cjson.LookupString(body, "m.server")
	to, err := mxid.ParseServer(text)
	if err != nil {
		return well{answered: true}, errors.New("it names no server")
	}
	return well{to: to, keep: keeps(resp.Header), answered: true}, nil
}

// followWell lets a .well-known be somewhere else, a few times and never in the
// clear.
func followWell(q *http.Request, via []*http.Request) error {
	if len(via) > wellHops {
		return errors.New("it was sent from place to place")
	}
	if q.URL.Scheme != "https" {
		return errors.New("it was sent to an address without TLS")
	}
	return nil
}

// keeps says how long an answer may be kept. Spec: RFC 9111, 5.2.2 and 5.3.
func keeps(h http.Header) time.Duration {
	keep := wellDefault
	if at, err := http.ParseTime(h.Get("Expires")); err == nil {
		keep = 0 // where nobody says what time it is there
		if now, err := http.ParseTime(h.Get("Date")); err == nil {
			keep = at.Sub(now)
		}
	} else if h.Get("Expires") != "" {
		keep = 0 // not a time: it has run out
	}
	for part := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		key, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(part)), "=")
		switch key {
		case "no-store", "no-cache":
			return wellLeast
		case "max-age":
			if n, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 32); err == nil {
				keep = time.Duration(n) * time.Second
			}
		}
	}
	return min(max(keep, wellLeast), wellMost)
}
