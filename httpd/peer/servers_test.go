package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"hearth/engine/fault"
	"hearth/engine/federation"
	"hearth/engine/mxid"
	"hearth/httpd/peer/dns"
)

// The six cases of the specification, with all their parts, and each way in
// which a certificate can be for the wrong name.
func TestDiscovery(t *testing.T) {
	w := newWorld(t)
	other := freePort(t)
	w.sites(other)
	fed, web := w.fed, w.web
	p := func(host string, port uint16) string { return fmt.Sprintf("%s:%d", host, port) }
	var s federation.Peer = w.servers()
	for _, c := range []struct{ dest, addr, host string }{
		{"127.0.0.10", p("127.0.0.10", fed), "127.0.0.10"},
		{p("127.0.0.10", other), p("127.0.0.10", other), p("127.0.0.10", other)},
		{"127.0.0.11", "", "its certificate is for another name"},
		{p("port.example", other), p("127.0.0.12", other), p("port.example", other)},
		{"w31.example", p("127.0.0.10", fed), "127.0.0.10"},
		{"w31p.example", p("127.0.0.10", other), p("127.0.0.10", other)},
		{"w32.example", p("127.0.0.12", other), p("port.example", other)},
		{"w33.example", p("127.0.0.17", other), "d33.example"},
		{"w34.example", p("127.0.0.19", other), "d34.example"},
		{"w35.example", p("127.0.0.21", fed), "d35.example"},
		{"s4.example", p("127.0.0.23", other), "s4.example"},
		{"s5.example", p("127.0.0.24", other), "s5.example"},
		{"s6.example", p("127.0.0.25", fed), "s6.example"},
		{"bad4.example", "", "its certificate is for another name"},
		{"two.example", p("127.0.0.28", other), "two.example"},
		{"none.example", "", "no such service"},
		{"absent.example", "", "nothing by that name"},
		{"inhosts.example", p("127.0.0.40", fed), "inhosts.example"},
		{"no name", "", "is not a server name"},
	} {
		a, err := s.Do(t.Context(), &federation.Request{
			Dest: mxid.Server(c.dest), Method: "PUT", Path: "/_matrix/x%2Fy/%21z?q=%20", Body: []byte("{}"), Authorization: "X-Matrix a"})
		if c.addr == "" {
			if !fault.Is(err, fault.Remote) || !strings.Contains(err.Error(), c.host) {
				t.Errorf("%s: %v", c.dest, err)
			}
			continue
		}
		want := c.addr + " " + c.host + ` PUT /_matrix/x%2Fy/%21z?q=%20 auth="X-Matrix a" {}`
		if err != nil || a.Status != 200 || string(a.Body) != want {
			t.Errorf("%s: %v %v", c.dest, a, err)
		}
	}
	if n := w.count(w.hits, p("127.0.0.12", web)+"/.well-known/matrix/server"); n != 0 {
		t.Error("a name with a port was asked for its .well-known")
	}
	if n := w.count(w.asked, "SRV _matrix-fed._tcp.inhosts.example") + w.count(w.asked, "A inhosts.example"); n != 0 {
		t.Error("a name of the hosts file was asked for")
	}
}

// sites sets up what TestDiscovery looks for; other is a port that is neither of
// the two that names without one have.
func (w *world) sites(other uint16) {
	at := func(name string, addr string) { w.address(name, addr) }
	fed, web := w.fed, w.web
	p := func(host string, port uint16) string { return fmt.Sprintf("%s:%d", host, port) }
	w.hosts = "127.0.0.40 inhosts.example\n"

	// 1: literals.
	w.serve("127.0.0.10", fed, echo, "127.0.0.10")
	w.serve("127.0.0.10", other, echo, "127.0.0.10")
	w.serve("127.0.0.11", fed, echo, "wrong.example")
	// 2: an explicit port; no .well-known is asked for.
	at("port.example", "127.0.0.12")
	w.serve("127.0.0.12", other, echo, "port.example")
	w.serve("127.0.0.12", web, wellKnown("wrong.example"), "port.example")
	// 3.1: delegated to a literal.
	at("w31.example", "127.0.0.13")
	w.serve("127.0.0.13", web, wellKnown("127.0.0.10"), "w31.example")
	at("w31p.example", "127.0.0.14")
	w.serve("127.0.0.14", web, wellKnown(p("127.0.0.10", other)), "w31p.example")
	// 3.2: delegated to a name with a port.
	at("w32.example", "127.0.0.15")
	w.serve("127.0.0.15", web, wellKnown(p("port.example", other)), "w32.example")
	// 3.3, 3.4, 3.5: delegated to a name, with the new service, the old one, none.
	at("w33.example", "127.0.0.16")
	w.serve("127.0.0.16", web, wellKnown("d33.example"), "w33.example")
	w.service("_matrix-fed._tcp.d33.example", "t33.example", other)
	w.service("_matrix._tcp.d33.example", "nowhere.example", other)
	at("t33.example", "127.0.0.17")
	w.serve("127.0.0.17", other, echo, "d33.example")
	at("w34.example", "127.0.0.18")
	w.serve("127.0.0.18", web, wellKnown("d34.example"), "w34.example")
	w.service("_matrix._tcp.d34.example", "t34.example", other)
	at("t34.example", "127.0.0.19")
	w.serve("127.0.0.19", other, echo, "d34.example")
	at("w35.example", "127.0.0.20")
	w.serve("127.0.0.20", web, wellKnown("d35.example"), "w35.example")
	at("d35.example", "127.0.0.21")
	w.serve("127.0.0.21", fed, echo, "d35.example")
	// A delegated name is not asked for its own delegation.
	w.serve("127.0.0.21", web, wellKnown("wrong.example"), "d35.example")
	// 4, 5, 6: without .well-known.
	at("s4.example", "127.0.0.22")
	w.service("_matrix-fed._tcp.s4.example", "t4.example", other)
	at("t4.example", "127.0.0.23")
	w.serve("127.0.0.23", other, echo, "s4.example")
	w.service("_matrix._tcp.s5.example", "t5.example", other)
	at("t5.example", "127.0.0.24")
	w.serve("127.0.0.24", other, echo, "s5.example")
	at("s6.example", "127.0.0.25")
	w.serve("127.0.0.25", fed, echo, "s6.example")
	w.serve("127.0.0.25", web, http.NotFound, "s6.example")
	// The certificate must not be that of the service's host.
	w.service("_matrix-fed._tcp.bad4.example", "b4.example", other)
	at("b4.example", "127.0.0.26")
	w.serve("127.0.0.26", other, echo, "b4.example")
	// A service whose first host is away, and one that says that it is not there.
	w.service("_matrix-fed._tcp.two.example", "away.example", other)
	w.service("_matrix-fed._tcp.two.example", "t2.example", other)
	at("away.example", "127.0.0.27")
	at("t2.example", "127.0.0.28")
	w.serve("127.0.0.28", other, echo, "two.example")
	w.mu.Lock()
	w.zone["SRV _matrix-fed._tcp.none.example"] = []dnsmessage.ResourceBody{&dnsmessage.SRVResource{Target: dnsmessage.MustNewName(".")}}
	w.mu.Unlock()
	at("none.example", "127.0.0.25")
	// The hosts file.
	w.serve("127.0.0.40", fed, echo, "inhosts.example")
}

// What a .well-known may do to us, and for how long it is believed.
func TestHostileWellKnown(t *testing.T) {
	w := newWorld(t)
	w.address("good.example", "127.0.0.10")
	w.serve("127.0.0.10", w.fed, echo, "good.example", "huge.example", "loop.example", "clear.example", "private.example", "text.example", "odd.example", "slow.example")
	at := 20
	site := func(name string, h http.HandlerFunc) {
		at++
		addr := fmt.Sprintf("127.0.0.%d", at)
		// Where its .well-known is of no use, the name leads to the good server all the same.
		w.service("_matrix-fed._tcp."+name, "good.example", w.fed)
		w.address(name, addr)
		w.serve(addr, w.web, h, name)
	}
	site("huge.example", func(rw http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(rw, `{"m.server":"wrong.example","x":"%s"}`, strings.Repeat("x", wellBytes))
	})
	site("loop.example", func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, "/loop"+r.URL.Path, http.StatusFound)
	})
	site("clear.example", func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, "http://wrong.example/", http.StatusFound)
	})
	site("private.example", func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, "https://10.0.0.1/", http.StatusFound)
	})
	site("text.example", func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "m.server: wrong.example") })
	site("odd.example", func(rw http.ResponseWriter, _ *http.Request) {
		io.WriteString(rw, `{"m.server":"a b","M.Server":"wrong.example"}`)
	})
	site("slow.example", func(rw http.ResponseWriter, r *http.Request) {
		io.WriteString(rw, `{"m.server":`)
		rw.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	s := w.servers()
	for _, name := range []string{"huge", "loop", "clear", "private", "text", "odd", "slow"} {
		if name == "slow" {
			s.patience = 200 * time.Millisecond
		}
		a, err := s.Do(t.Context(), &federation.Request{Dest: mxid.Server(name + ".example"), Method: "GET", Path: "/x"})
		if err != nil || !strings.HasSuffix(string(a.Body), name+`.example GET /x auth="" `) {
			t.Errorf("%s: %v %v", name, a, err)
		}
	}
	if n := w.count(w.hits, fmt.Sprintf("127.0.0.22:%d", w.web)+strings.Repeat("/loop", wellHops)+"/.well-known/matrix/server"); n != 1 {
		t.Error("a loop was not followed as far as it may be")
	}
	if n := w.count(w.hits, fmt.Sprintf("127.0.0.22:%d", w.web)+strings.Repeat("/loop", wellHops+1)+"/.well-known/matrix/server"); n != 0 {
		t.Error("a loop was followed too far")
	}
}

func TestWellKnownKept(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	now := time.Now()
	w.now = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	move := func(d time.Duration) {
		mu.Lock()
		now = now.Add(d)
		mu.Unlock()
	}
	answer := wellKnown("first.example:1")
	w.address("a.example", "127.0.0.10")
	w.serve("127.0.0.10", w.web, func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		h := answer
		mu.Unlock()
		h(rw, r)
	}, "a.example")
	set := func(h http.HandlerFunc) {
		mu.Lock()
		answer = h
		mu.Unlock()
	}
	s := w.servers()
	expect := func(want mxid.Server, asked int) {
		t.Helper()
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				got, err := s.delegate(t.Context(), "a.example")
				if err != nil || got != want {
					t.Errorf("%s %v, not %s", got, err, want)
				}
			})
		}
		all.Wait()
		if n := w.count(w.hits, fmt.Sprintf("127.0.0.10:%d/.well-known/matrix/server", w.web)); n != asked {
			t.Errorf("asked %d times, not %d", n, asked)
		}
	}
	expect("first.example:1", 1)
	move(wellDefault - wellDefault/9)
	expect("first.example:1", 1)
	set(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Cache-Control", "max-age=600")
		wellKnown("second.example:1")(rw, r)
	})
	move(wellDefault / 9)
	expect("second.example:1", 2)
	// While it has a fault, what it said last goes on for as long as it might have said.
	set(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(502) })
	move(10 * time.Minute)
	expect("second.example:1", 3)
	move(wellFailed / 2)
	expect("second.example:1", 3)
	// Nobody answers where it led: it is asked at once.
	s.doubt("a.example")
	expect("second.example:1", 4)
	move(wellMost)
	expect("a.example", 5)
	// An answer that there is none counts at once, and is asked for ever less often.
	set(wellKnown("third.example:1"))
	move(wellWorst)
	expect("third.example:1", 6)
	set(http.NotFound)
	move(wellMost)
	expect("a.example", 7)
	s.doubt("a.example") // too soon for one that did answer
	expect("a.example", 7)
	move(wellAbsent)
	s.doubt("a.example")
	expect("a.example", 8)
	move(wellAbsent)
	expect("a.example", 8)
	move(wellAbsent)
	expect("a.example", 9)
}

func TestKeeps(t *testing.T) {
	date := "Tue, 10 Nov 2026 12:00:00 GMT"
	for _, c := range []struct {
		cache, expires, date string
		want                 time.Duration
	}{
		{"", "", "", wellDefault}, {"max-age=3600", "", "", time.Hour}, {"public, Max-Age=7200", "", "", 2 * time.Hour},
		{"max-age=1", "", "", wellLeast}, {"max-age=99999999", "", "", wellMost}, {"max-age=999999999999999999999", "", "", wellDefault},
		{"no-store", "", "", wellLeast}, {"no-cache, max-age=3600", "", "", wellLeast}, {"max-age=x", "", "", wellDefault},
		{"", "Tue, 10 Nov 2026 13:00:00 GMT", date, time.Hour}, {"", "0", date, wellLeast}, {"", "Tue, 10 Nov 2026 13:00:00 GMT", "", wellLeast},
		{"", "Tue, 10 Nov 2036 13:00:00 GMT", date, wellMost}, {"max-age=7200", "0", date, 2 * time.Hour},
	} {
		h := http.Header{}
		for k, v := range map[string]string{"Cache-Control": c.cache, "Expires": c.expires, "Date": c.date} {
			if v != "" {
				h.Set(k, v)
			}
		}
		if got := keeps(h); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// The table of delegations has a bound in bytes.
func TestTable(t *testing.T) {
	s := table{most: 10000}
	for i := range 1000 {
		s.put(mxid.Server(fmt.Sprintf("n%d.example", i%500)), &delegation{to: "x"})
	}
	sum := 0
	for name, d := range s.byName {
		sum += weight(name, d)
	}
	if s.size != sum || sum > s.most || len(s.byName) < 30 {
		t.Error(s.size, sum, len(s.byName))
	}
}

// Addresses of the hub's own network are refused for servers too, and the error
// says what would allow them.
func TestServersGuard(t *testing.T) {
	w := newWorld(t)
	w.address("a.example", "127.0.0.10", "10.1.2.3")
	w.serve("127.0.0.10", w.fed, echo, "a.example")
	s := w.servers()
	s.guard.Allow = nil
	for _, dest := range []mxid.Server{"a.example", "127.0.0.10", "[::1]", "localhost", "192.168.1.1:22"} {
		_, err := s.Do(t.Context(), &federation.Request{Dest: dest, Method: "GET", Path: "/x"})
		if !fault.Is(err, fault.Forbidden) || !strings.Contains(err.Error(), "allow_networks") {
			t.Errorf("%s: %v", dest, err)
		}
	}
	if !s.guard.Permits(netip.MustParseAddrPort("8.8.8.8:22")) || !s.guard.Permits(netip.MustParseAddrPort("[2a00:1450::1]:853")) {
		t.Error("a server may be at any port")
	}
}

// A name that could not be reached costs nothing for a moment.
func TestDead(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	now := time.Now()
	w.now = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	s := w.servers()
	ask := func() error {
		_, err := s.Do(t.Context(), &federation.Request{Dest: mxid.Server(fmt.Sprintf("127.0.0.10:%d", w.fed)), Method: "GET", Path: "/x"})
		return err
	}
	if err := ask(); !fault.Is(err, fault.Remote) || !strings.Contains(err.Error(), "connection refused") {
		t.Fatal(err)
	}
	w.serve("127.0.0.10", w.fed, echo, "127.0.0.10")
	if ask() == nil {
		t.Error("it was tried again at once")
	}
	mu.Lock()
	now = now.Add(mostGrave)
	mu.Unlock()
	if err := ask(); err != nil {
		t.Error(err)
	}
	for i := range 2 * maxDead {
		s.mu.Lock()
		s.dead[mxid.Server(fmt.Sprint("n", i%(maxDead-1)))] = grave{until: now.Add(time.Hour), err: errors.New("x")}
		s.mu.Unlock()
	}
	for i := range 3 {
		_, _ = s.Do(t.Context(), &federation.Request{Dest: mxid.Server(fmt.Sprintf("127.0.0.11:%d", i+1)), Method: "GET", Path: "/x"})
	}
	if len(s.dead) > maxDead {
		t.Error(len(s.dead))
	}
}

func TestServersBounds(t *testing.T) {
	w := newWorld(t)
	over := make(chan struct{}) // not the request's end: an answer that is given then may still be read
	t.Cleanup(func() { close(over) })
	w.serve("127.0.0.10", w.fed, func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/large":
			rw.(http.Flusher).Flush()
			io.WriteString(rw, strings.Repeat("x", 101))
		case "/told":
			io.WriteString(rw, strings.Repeat("x", 101))
		case "/head":
			rw.Header().Set("X", strings.Repeat("x", 2*serverHead))
		case "/silent":
			<-over
		case "/moved":
			http.Redirect(rw, r, "/large", http.StatusFound)
		}
	}, "127.0.0.10")
	s := w.servers()
	for path, want := range map[string]string{
		"/large": "more than 100 bytes", "/told": "more than 100 bytes", "/head": "server response headers exceeded", "/silent": "it took too long",
		"//x": "no path", "/a b": "no path", "": "no path", "/\r\nX: y": "no path", "/a#b": "no path",
	} {
		r := &federation.Request{Dest: "127.0.0.10", Method: "GET", Path: path, MaxAnswer: 100, Time: time.Minute}
		if path == "/silent" {
			r.Time = 50 * time.Millisecond
		}
		if _, err := s.Do(t.Context(), r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", path, err)
		}
	}
	a, err := s.Do(t.Context(), &federation.Request{Dest: "127.0.0.10", Method: "GET", Path: "/moved"})
	if err != nil || a.Status != http.StatusFound {
		t.Error("a redirect is an answer like any other:", a, err)
	}
	st, err := s.Open(t.Context(), &federation.Request{Dest: "127.0.0.10", Method: "GET", Path: "/told"})
	if err != nil || st.Status != 200 || st.Length != 101 {
		t.Fatal(st, err)
	}
	if b, err := io.ReadAll(st.Body); err != nil || len(b) != 101 || st.Body.Close() != nil {
		t.Error(len(b), err)
	}
}

// There are only so many connections; those that nobody uses make room.
func TestServersConns(t *testing.T) {
	w := newWorld(t)
	s := w.servers()
	s.slots = make(chan struct{}, 2)
	for i := range 6 {
		addr := fmt.Sprintf("127.0.0.%d", 10+i)
		w.serve(addr, w.fed, echo, addr)
		if _, err := s.Do(t.Context(), &federation.Request{Dest: mxid.Server(addr), Method: "GET", Path: "/x"}); err != nil {
			t.Fatal(err)
		}
	}
	var open []*federation.Stream
	for i := range 2 {
		st, err := s.Open(t.Context(), &federation.Request{Dest: mxid.Server(fmt.Sprintf("127.0.0.%d", 10+i)), Method: "GET", Path: "/x"})
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, st)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Open(ctx, &federation.Request{Dest: "127.0.0.13", Method: "GET", Path: "/x"}); !fault.Is(err, fault.Remote) {
		t.Error(err)
	}
	for _, st := range open {
		_, _ = io.ReadAll(st.Body)
		_ = st.Body.Close()
	}
	if _, err := s.Do(t.Context(), &federation.Request{Dest: "127.0.0.13", Method: "GET", Path: "/x"}); err != nil {
		t.Error(err)
	}
}

// What the owner is shown of a server.
func TestLook(t *testing.T) {
	w := newWorld(t)
	w.address("a.example", "127.0.0.10")
	w.serve("127.0.0.10", w.web, wellKnown("b.example"), "a.example")
	w.address("b.example", "127.0.0.11", "127.0.0.12")
	w.serve("127.0.0.11", w.fed, echo, "b.example")
	w.address("c.example", "127.0.0.11")
	s := w.servers()
	look := s.Look(t.Context(), "a.example")
	if look.Name != "b.example" || look.Well != nil || len(look.Places) != 1 || len(look.Places[0].Addrs) != 2 || look.Places[0].Port != w.fed || look.Failed != nil {
		t.Errorf("%+v", look)
	}
	look = s.Look(t.Context(), "c.example")
	if look.Name != "c.example" || look.Well == nil || !Mismatch(look.Failed) {
		t.Errorf("%+v", look)
	}
	look = s.Look(t.Context(), "d.example")
	if len(look.Places) != 1 || !errors.Is(look.Places[0].Err, dns.ErrNone) || look.Failed == nil || Mismatch(look.Failed) {
		t.Errorf("%+v", look)
	}
}

func TestSplit(t *testing.T) {
	for name, want := range map[mxid.Server]string{
		"a.example": "a.example 0", "a.example:1": "a.example 1", "192.0.2.1": "192.0.2.1 0", "192.0.2.1:8448": "192.0.2.1 8448",
		"[2001:db8::1]": "2001:db8::1 0", "[2001:db8::1]:8448": "2001:db8::1 8448",
	} {
		host, port := split(name)
		if got := fmt.Sprint(host, " ", port); got != want {
			t.Errorf("%s: %s", name, got)
		}
		if again, err := named(pipe(name) + ":443"); again != name || err != nil {
			t.Errorf("%s: %s %v", name, again, err)
		}
	}
	for _, bad := range []string{"", "a.example:443", ".peer:443", "zz.peer:443", pipe("a b") + ":443"} {
		if name, err := named(bad); err == nil {
			t.Errorf("%q: %s", bad, name)
		}
	}
}

// Only so many names are looked for at a time.
func TestFlights(t *testing.T) {
	w := newWorld(t)
	s := w.servers()
	for i := range maxFlights {
		s.flights[mxid.Server(fmt.Sprint("n", i))] = &flight{done: make(chan struct{})}
	}
	if _, err := s.Do(t.Context(), &federation.Request{Dest: "a.example", Method: "GET", Path: "/x"}); !fault.Is(err, fault.Remote) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.delegate(ctx, "n1"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
