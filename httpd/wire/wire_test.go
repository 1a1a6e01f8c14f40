package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"hearth/engine/account"
	"hearth/engine/fault"
)

// echo answers with the path parameters in order, as a JSON list.
func echo(r *Req) error {
	list := []string{r.Route().Pattern}
	for _, n := range r.route.names {
		list = append(list, r.Path(n))
	}
	return r.Answer(list)
}

func newTest(t testing.TB, o Options, routes ...Route) *Mux {
	t.Helper()
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	m := New(o)
	if err := m.Add(routes); err != nil {
		t.Fatal(err)
	}
	return m
}

// ask runs one request through the mux.
func ask(m *Mux, method, uri, body string, headers ...string) *fasthttp.RequestCtx {
	var req fasthttp.Request
	req.Header.SetMethod(method)
	req.SetRequestURI(uri)
	req.Header.SetHost("hub.test")
	req.SetBodyString(body)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	ctx := &fasthttp.RequestCtx{}
	ctx.Init(&req, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 4000}, nil)
	m.Serve(ctx)
	return ctx
}

// outcome is status and errcode, or the body where there is none.
func outcome(ctx *fasthttp.RequestCtx) string {
	var e struct {
		Errcode string `json:"errcode"`
		Error   string `json:"error"`
	}
	body := ctx.Response.Body()
	s := strconv.Itoa(ctx.Response.StatusCode()) + " "
	if json.Unmarshal(body, &e) == nil && e.Errcode != "" {
		if e.Error == "" {
			return s + e.Errcode + " without text"
		}
		return s + e.Errcode
	}
	return s + string(body)
}

const client = "/_matrix/client/v3"

func tableForTest() []Route {
	return []Route{
		{Method: "PUT", Pattern: client + "/rooms/{roomId}/send/{eventType}/{txnId}", Handle: echo, Flags: R0},
		{Method: "GET", Pattern: client + "/rooms/{roomId}/state", Handle: echo},
		{Method: "GET", Pattern: client + "/rooms/{roomId}/state/{eventType}/{stateKey}", Handle: echo, Flags: R0 | EmptyTail},
		{Method: "PUT", Pattern: client + "/rooms/{roomId}/state/{eventType}/{stateKey}", Handle: echo, Flags: EmptyTail},
		{Method: "GET", Pattern: client + "/profile/{userId}/{field}", Handle: echo},
		{Method: "PUT", Pattern: client + "/profile/{userId}/displayname", Handle: echo},
		{Method: "GET", Pattern: client + "/pushrules/", Handle: echo},
		{Method: "GET", Pattern: client + "/pushrules/global/", Handle: echo},
		{Method: "GET", Pattern: client + "/pushrules/{scope}/{kind}/{ruleId}", Handle: echo},
		{Method: "GET", Pattern: "/_matrix/client/versions", Handle: echo},
	}
}

func TestRoute(t *testing.T) {
	m := newTest(t, Options{}, tableForTest()...)
	for _, tt := range []struct{ method, path, want string }{
		{"PUT", client + "/rooms/!a:b/send/m.x/1", `["!a:b","m.x","1"]`},
		{"PUT", client + "/rooms/%21a%3Ab/send/m%2Fx/1%2f2", `["!a:b","m/x","1/2"]`},
		{"PUT", "/_matrix/client/r0/rooms/!a:b/send/m.x/1", `["!a:b","m.x","1"]`},
		{"PUT", client + "/rooms/!a:b/send/m.x/1%", `["!a:b","m.x","1%"]`},
		{"PUT", client + "/rooms/!a:b/send/m.x/a+b", `["!a:b","m.x","a+b"]`},
		{"PUT", client + "/rooms/%C3%A4/send/ä/1", `["ä","ä","1"]`},
		{"PUT", client + "/rooms/../send/./1", `["..",".","1"]`},
		{"GET", client + "/rooms/!a:b/state", `["!a:b"]`},
		{"GET", client + "/rooms/!a:b/state/m.topic", `["!a:b","m.topic",""]`},
		{"GET", client + "/rooms/!a:b/state/m.topic/", `["!a:b","m.topic",""]`},
		{"HEAD", client + "/rooms/!a:b/state/m.topic/k", `["!a:b","m.topic","k"]`},
		{"GET", client + "/profile/@a:b/displayname", `["@a:b","displayname"]`},
		{"PUT", client + "/profile/@a:b/displayname", `["@a:b"]`},
		{"GET", client + "/pushrules/", `[]`},
		{"GET", client + "/pushrules/global/", `[]`},
		{"GET", client + "/pushrules/global/override/.m.rule.master", `["global","override",".m.rule.master"]`},
		{"GET", "/_matrix/client/versions?x=1", `[]`},

		{"PUT", client + "/profile/@a:b/avatar_url", "405 M_UNRECOGNIZED"},
		{"POST", client + "/rooms/!a:b/send/m.x/1", "405 M_UNRECOGNIZED"},
		{"PUT", client + "/rooms/!a:b/send/m.x/", "404 M_UNRECOGNIZED"},
		{"PUT", client + "/rooms/!a:b/send/m.x", "404 M_UNRECOGNIZED"},
		{"PUT", client + "/rooms//send/m.x/1", "404 M_UNRECOGNIZED"},
		{"GET", client + "/rooms//state", "404 M_UNRECOGNIZED"},
		{"GET", client + "/rooms/!a:b/state/", "404 M_UNRECOGNIZED"},
		{"GET", "/_matrix/client/r0/rooms/!a:b/state", "404 M_UNRECOGNIZED"},
		{"GET", client + "/pushrules", "404 M_UNRECOGNIZED"},
		{"GET", "/", "404 M_UNRECOGNIZED"},
		{"GET", "//", "404 M_UNRECOGNIZED"},
		{"GET", "/_matrix/client/versions/", "404 M_UNRECOGNIZED"},
		{"PUT", client + "/rooms/a%00b/send/m.x/1", "400 M_INVALID_PARAM"},
		{"PUT", client + "/rooms/a%ffb/send/m.x/1", "400 M_INVALID_PARAM"},
		{"PUT", client + "/rooms/a/send/m.x/" + strings.Repeat("x", maxParam+1), "400 M_INVALID_PARAM"},
		{"GET", "/_matrix/client/versions?x=%ff", "400 M_INVALID_PARAM"},
		{"GET", "/_matrix/client/versions?x=%00", "400 M_INVALID_PARAM"},
	} {
		ctx := ask(m, tt.method, tt.path, "")
		got := outcome(ctx)
		if ctx.Response.StatusCode() == 200 {
			var list []string
			if err := json.Unmarshal(ctx.Response.Body(), &list); err != nil {
				t.Fatal(err)
			}
			b, _ := json.Marshal(list[1:])
			got = string(b)
		}
		if got != tt.want {
			t.Errorf("%s %s: %s, want %s", tt.method, tt.path, got, tt.want)
		}
		if string(ctx.Response.Header.Peek("Access-Control-Allow-Origin")) != "*" {
			t.Errorf("%s %s: no CORS headers", tt.method, tt.path)
		}
		if ct := string(ctx.Response.Header.ContentType()); ct != "application/json" {
			t.Errorf("%s %s: content type %s", tt.method, tt.path, ct)
		}
	}
}

func TestRouteClash(t *testing.T) {
	for _, rts := range [][]Route{
		{{Method: "GET", Pattern: "/a/{x}", Handle: echo}, {Method: "GET", Pattern: "/a/{y}", Handle: echo}},
		{{Method: "GET", Pattern: "/_m/c/v3/a", Handle: echo, Flags: R0}, {Method: "GET", Pattern: "/_m/c/r0/a", Handle: echo}},
		{{Method: "GET", Pattern: "/_m/a", Handle: echo, Flags: R0}},
		{{Method: "GET", Pattern: "/a"}},
		{{Method: "GET", Pattern: "a", Handle: echo}},
		{{Method: "GET", Pattern: strings.Repeat("/{x}", maxParams+1), Handle: echo}},
	} {
		if err := New(Options{}).Add(rts); !errors.Is(err, errPattern) {
			t.Errorf("%s: %v", rts[0].Pattern, err)
		}
	}
}

// Every request is matched, so matching leaves nothing to collect.
func TestMatchAllocs(t *testing.T) {
	m := newTest(t, Options{}, tableForTest()...)
	path, method := []byte(client + "/rooms/%21a:b/send/m.room.message/17")[1:], []byte("PUT")
	if n := testing.AllocsPerRun(100, func() {
		var f find
		if m.tree.match(&f, path, method) == nil {
			t.Fatal("no match")
		}
	}); n != 0 {
		t.Errorf("matching allocates %v times", n)
	}
}

// The hot request allocates for its path parameters and nothing else.
func TestServeAllocs(t *testing.T) {
	m := newTest(t, Options{
		Authenticate: func(r *Req) (account.Session, error) { return account.Session{UserID: "@a:b"}, nil },
		Limits:       NewLimits(nil),
	}, Route{Method: "PUT", Pattern: client + "/rooms/{roomId}/send/{eventType}/{txnId}", Flags: Auth, Class: Send,
		Handle: func(r *Req) error {
			if _, err := r.Object(); err != nil {
				return err
			}
			return r.Empty()
		}})
	ctx := ask(m, "PUT", client+"/rooms/!a:b/send/m.x/1", `{"body":"x"}`, "Authorization", "Bearer x")
	if got := outcome(ctx); got != "200 {}" {
		t.Fatal(got)
	}
	if n := testing.AllocsPerRun(100, func() { m.Serve(ctx) }); n > 1 {
		t.Errorf("a request allocates %v times, 1 is allowed", n)
	}
}

func TestQuery(t *testing.T) {
	var got []string
	m := newTest(t, Options{}, Route{Method: "GET", Pattern: "/q", Handle: func(r *Req) error {
		got = nil
		r.QueryEach("via", func(v string) bool {
			got = append(got, v)
			return true
		})
		a, ok := r.Query("a")
		got = append(got, a, strconv.FormatBool(ok), r.QueryOr("b", "none"))
		n, err := r.QueryInt("limit", 10, 1, 100)
		if err != nil {
			return err
		}
		full, err := r.QueryBool("full", false)
		if err != nil {
			return err
		}
		got = append(got, strconv.FormatInt(n, 10), strconv.FormatBool(full))
		return r.Empty()
	}})
	for _, tt := range []struct{ query, want string }{
		{"", ",false,none,10,false"},
		{"via=x&via=y%26z&a=1+2&a=3&b=", "x,y&z,1 2,true,,10,false"},
		{"v%69a=x&limit=7&full=true", "x,,false,none,7,true"},
		{"limit=1000&full=", ",false,none,100,false"},
		{"limit=99999999999999999999", ",false,none,100,false"},
		{"a&&=", ",true,none,10,false"},
		{"limit=0", "400 M_INVALID_PARAM"},
		{"limit=-5", "400 M_INVALID_PARAM"},
		{"limit=-99999999999999999999", "400 M_INVALID_PARAM"},
		{"limit=ten", "400 M_INVALID_PARAM"},
		{"full=yes", "400 M_INVALID_PARAM"},
	} {
		ctx := ask(m, "GET", "/q?"+tt.query, "")
		s := strings.Join(got, ",")
		if ctx.Response.StatusCode() != 200 {
			s = outcome(ctx)
		}
		if s != tt.want {
			t.Errorf("%q: %s, want %s", tt.query, s, tt.want)
		}
	}
}

func TestBody(t *testing.T) {
	m := newTest(t, Options{},
		Route{Method: "POST", Pattern: "/need", Body: 64, Handle: func(r *Req) error {
			var v struct {
				Name string `json:"name"`
				Nest struct {
					N int `json:"n"`
				} `json:"nest"`
			}
			if err := r.Decode(&v); err != nil {
				return err
			}
			return r.Answer(v.Name)
		}},
		Route{Method: "POST", Pattern: "/may", Flags: EmptyBody, Handle: func(r *Req) error {
			b, err := r.Object()
			if err != nil {
				return err
			}
			return r.OK(append(r.Out(), b...))
		}})
	for _, tt := range []struct{ path, body, want string }{
		{"/need", `{"name":"<x>"}`, `200 "<x>"`},
		{"/need", `{"name":null,"more":[1]}`, `200 ""`},
		{"/need", ``, "400 M_NOT_JSON"},
		{"/need", `{"name":"x"`, "400 M_NOT_JSON"},
		{"/need", `{"name":"x"} {}`, "400 M_NOT_JSON"},
		{"/need", "{\"name\":\"\xff\"}", "400 M_NOT_JSON"},
		{"/need", `[]`, "400 M_BAD_JSON"},
		{"/need", `"x"`, "400 M_BAD_JSON"},
		{"/need", `null`, "400 M_BAD_JSON"},
		{"/need", `{"name":7}`, "400 M_BAD_JSON"},
		{"/need", `{"nest":{"n":1.5}}`, "400 M_BAD_JSON"},
		{"/need", `{"nest":[]}`, "400 M_BAD_JSON"},
		{"/need", `{"name":"` + strings.Repeat("x", 64) + `"}`, "413 M_TOO_LARGE"},
		{"/may", ``, "200 {}"},
		{"/may", ` {"a":1} `, `200 {"a":1}`},
		{"/may", ` `, "400 M_NOT_JSON"},
		{"/may", strings.Repeat(`{"a":`, 200) + "1" + strings.Repeat("}", 200), "400 M_NOT_JSON"},
	} {
		if got := outcome(ask(m, "POST", tt.path, tt.body)); got != tt.want {
			t.Errorf("%s %.40s: %s, want %s", tt.path, tt.body, got, tt.want)
		}
	}
}

// A streamed body is read once, within the route's limit and the allowance of
// all requests together, which is given back.
func TestStreamedBody(t *testing.T) {
	m := newTest(t, Options{BodyMemory: 4000},
		Route{Method: "POST", Pattern: "/b", Body: 800, Handle: func(r *Req) error {
			b, err := r.Body(0)
			if err != nil {
				return err
			}
			again, err := r.Body(0)
			if err != nil || !bytes.Equal(b, again) {
				t.Error("the second read differs", err)
			}
			return r.OK(strconv.AppendInt(r.Out(), int64(len(b)), 10))
		}})
	send := func(body string, size int) string {
		ctx := &fasthttp.RequestCtx{}
		var req fasthttp.Request
		req.Header.SetMethod("POST")
		req.SetRequestURI("/b")
		ctx.Init(&req, nil, nil)
		ctx.Request.SetBodyStream(strings.NewReader(body), size)
		m.Serve(ctx)
		return outcome(ctx)
	}
	for range 3 {
		for _, tt := range []struct {
			n, size int
			want    string
		}{{700, 700, "200 700"}, {700, -1, "200 700"}, {801, 801, "413 M_TOO_LARGE"}, {801, -1, "413 M_TOO_LARGE"}, {0, -1, "200 0"}} {
			if got := send(strings.Repeat("x", tt.n), tt.size); got != tt.want {
				t.Errorf("%d bytes announced as %d: %s, want %s", tt.n, tt.size, got, tt.want)
			}
		}
	}
	m.bodies.held = 3400
	if got := send(strings.Repeat("x", 700), 700); got != "429 M_LIMIT_EXCEEDED" {
		t.Error("beyond the allowance: ", got)
	}
	if got := m.bodies.held; got != 3400 {
		t.Errorf("%d bytes held, want 3400", got)
	}
}

func TestAuth(t *testing.T) {
	who := func(r *Req) error { return r.Answer([]any{r.LoggedIn, r.Session.UserID}) }
	m := newTest(t, Options{Authenticate: func(r *Req) (account.Session, error) {
		switch string(r.Token()) {
		case "alice":
			return account.Session{UserID: "@alice:x"}, nil
		case "guest":
			return account.Session{UserID: "@1:x", Guest: true}, nil
		case "gone":
			return account.Session{}, fault.E(fault.SoftLoggedOut, "t", "")
		case "locked":
			return account.Session{}, fault.E(fault.Locked, "t", "")
		}
		return account.Session{}, fault.E(fault.UnknownToken, "t", "")
	}},
		Route{Method: "GET", Pattern: "/must", Flags: Auth, Handle: who},
		Route{Method: "GET", Pattern: "/guest", Flags: Auth | GuestOK, Handle: who},
		Route{Method: "GET", Pattern: "/may", Flags: AuthMaybe, Handle: who},
		Route{Method: "GET", Pattern: "/no", Handle: who})
	for _, tt := range []struct{ path, header, want string }{
		{"/must", "Bearer alice", `200 [true,"@alice:x"]`},
		{"/must", "bearer  alice ", `200 [true,"@alice:x"]`},
		{"/must?access_token=alice", "", `200 [true,"@alice:x"]`},
		{"/must?access_token=guest", "Bearer alice", `200 [true,"@alice:x"]`},
		{"/must", "", "401 M_MISSING_TOKEN"},
		{"/must", "Basic alice", "401 M_MISSING_TOKEN"},
		{"/must", "Bearer", "401 M_MISSING_TOKEN"},
		{"/must", "Bearer bob", "401 M_UNKNOWN_TOKEN"},
		{"/must", "Bearer guest", "403 M_GUEST_ACCESS_FORBIDDEN"},
		{"/guest", "Bearer guest", `200 [true,"@1:x"]`},
		{"/may", "", `200 [false,""]`},
		{"/may", "Bearer alice", `200 [true,"@alice:x"]`},
		{"/may", "Bearer bob", "401 M_UNKNOWN_TOKEN"},
		{"/no", "Bearer bob", `200 [false,""]`},
	} {
		if got := outcome(ask(m, "GET", tt.path, "", "Authorization", tt.header)); got != tt.want {
			t.Errorf("%s %q: %s, want %s", tt.path, tt.header, got, tt.want)
		}
	}
	for _, token := range []string{"gone", "locked"} {
		if b := ask(m, "GET", "/must", "", "Authorization", "Bearer "+token).Response.Body(); !bytes.Contains(b, []byte(`"soft_logout":true`)) {
			t.Errorf("%s: %s", token, b)
		}
	}
}
