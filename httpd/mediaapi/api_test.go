package mediaapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"log/slog"
	"math/rand/v2"
	"mime"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"

	"hearth/engine"
	"hearth/engine/account"
	"hearth/engine/fault"
	"hearth/engine/media"
	"hearth/engine/mxid"
	"hearth/httpd/hubtest"
	"hearth/httpd/wire"
)

// hub is the API over an engine in memory, asked through real connections.
type hub struct {
	t      *testing.T
	e      *engine.Engine
	api    *API
	client http.Client
	clock  hubtest.Clock
}

// start serves the API. Its users are the numbers that they give as tokens;
// "guest" is one. The clock stands still until it is moved.
func start(t *testing.T, o Options, mo media.Options) *hub {
	t.Helper()
	h := &hub{t: t}
	eo := engine.Options{Now: h.clock.Now, Media: mo}
	if mo.Dir != "" {
		eo.Dir, eo.FS = mo.Dir, vfs.Default
	}
	h.e = hubtest.Open(t, eo)
	o.Media, o.Server, o.Now = h.e.Media, h.e.Server, h.clock.Now
	h.api = New(o)
	m := wire.New(wire.Options{Log: slog.New(slog.DiscardHandler), Authenticate: func(r *wire.Req) (s account.Session, err error) {
		token := string(r.Token())
		if token == "guest" {
			return account.Session{User: 99, Guest: true}, nil
		}
		if _, err := fmt.Sscan(token, &s.User); err != nil {
			return s, fault.E(fault.UnknownToken, "t", "")
		}
		return s, nil
	}})
	if err := m.Add(h.api.Routes()); err != nil {
		t.Fatal(err)
	}
	srv := &fasthttp.Server{Handler: m.Serve, StreamRequestBody: true, MaxRequestBodySize: wire.InlineBody}
	ln := fasthttputil.NewInmemoryListener()
	ended := make(chan error)
	go func() { ended <- srv.Serve(ln) }()
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return ln.Dial() }}
	h.client = http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		if err := srv.Shutdown(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return h
}

// answer is one response, its body read.
type answer struct {
	status int
	header http.Header
	body   string
}

// told is the status and the errcode, or the body.
func (a answer) told() string {
	var e struct{ Errcode string }
	if json.Unmarshal([]byte(a.body), &e) == nil && e.Errcode != "" {
		return fmt.Sprint(a.status, " ", e.Errcode)
	}
	return fmt.Sprint(a.status, " ", a.body)
}

// do sends a request; header holds names and values in turn.
func (h *hub) do(method, path, token string, body io.Reader, header ...string) answer {
	h.t.Helper()
	req, err := http.NewRequest(method, "http://hub.test"+path, body)
	if err != nil {
		h.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := h.client.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(text)}
}

func (h *hub) get(path, token string, header ...string) answer {
	return h.do("GET", path, token, nil, header...)
}

// upload gives server/id.
func (h *hub) upload(token, query, typ, text string) string {
	h.t.Helper()
	a := h.do("POST", "/_matrix/media/v3/upload"+query, token, strings.NewReader(text), "Content-Type", typ)
	var out struct {
		URI string `json:"content_uri"`
	}
	if err := json.Unmarshal([]byte(a.body), &out); err != nil || !strings.HasPrefix(out.URI, "mxc://hub.test/") {
		h.t.Fatal(a.status, a.body)
	}
	return out.URI[len("mxc://"):]
}

const v1 = "/_matrix/client/v1/media"

func TestDownload(t *testing.T) {
	h := start(t, Options{}, media.Options{})
	id := h.upload("1", "?filename=a.txt", "text/plain", "hello")
	for _, tt := range []struct{ path, token, want string }{
		{v1 + "/download/" + id, "1", "200 hello"},
		{v1 + "/download/" + id, "2", "200 hello"},
		{v1 + "/download/" + id, "guest", "200 hello"},
		{v1 + "/download/" + id, "", "401 M_MISSING_TOKEN"},
		{v1 + "/download/" + id + "/b.txt", "1", "200 hello"},
		{v1 + "/download/" + id + "/b.txt", "", "401 M_MISSING_TOKEN"},
		{"/_matrix/media/v3/download/" + id, "", "200 hello"},
		{"/_matrix/media/r0/download/" + id + "/c", "", "200 hello"},
		{"/_matrix/media/v1/download/" + id + "?allow_redirect=true&timeout_ms=1", "", "200 hello"},
		{v1 + "/download/hub.test/none", "1", "404 M_NOT_FOUND"},
		{v1 + "/download/far.test/none", "1", "404 M_NOT_FOUND"},
		{v1 + "/download/hub.test/%2e%2e%2fx", "1", "404 M_NOT_FOUND"},
		{v1 + "/download/..%2f/x", "1", "404 M_NOT_FOUND"},
		{v1 + "/download/" + id + "?timeout_ms=soon", "1", "400 M_INVALID_PARAM"},
		{"/_matrix/media/v3/download/" + id + "?allow_remote=perhaps", "", "400 M_INVALID_PARAM"},
		{v1 + "/config", "1", `200 {"m.upload.size":20971520}`},
		{v1 + "/config", "", "401 M_MISSING_TOKEN"},
		{"/_matrix/media/r0/config", "1", `200 {"m.upload.size":20971520}`},
	} {
		if got := h.get(tt.path, tt.token).told(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.path, got, tt.want)
		}
	}
	a := h.get(v1+"/download/"+id, "1")
	for name, want := range map[string]string{
		"Content-Type": "text/plain", "Content-Disposition": `inline; filename="a.txt"`, "Content-Security-Policy": policy,
		"Cross-Origin-Resource-Policy": "cross-origin", "X-Content-Type-Options": "nosniff", "Accept-Ranges": "bytes",
		"Access-Control-Allow-Origin": "*", "Content-Length": "5",
	} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	head := h.do("HEAD", v1+"/download/"+id, "1", nil)
	if head.status != 200 || head.body != "" || head.header.Get("Content-Length") != "5" {
		t.Errorf("HEAD: %+v", head)
	}
}

// What a file is called, and whether a browser may show it.
func TestDisposition(t *testing.T) {
	h := start(t, Options{}, media.Options{})
	for _, tt := range []struct{ upload, asked, typ, how, name string }{
		{"ascii", "", "image/png", "inline", "ascii"},
		{"name%20with%20spaces", "", "image/png", "inline", "name with spaces"},
		{"name;with;semicolons", "", "image/png", "inline", "name;with;semicolons"},
		{"%22quoted%22%5C", "", "image/png", "inline", `"quoted"\`},
		{"%F0%9F%90%94", "", "image/png", "inline", "🐔"},
		{"%F0%9F%90%94", "%E2%98%95", "image/png", "inline", "☕"},
		{"a", "file.png", "image/png", "inline", "file.png"},
		{"", "", "image/png", "inline", ""},
		{"a%0D%0Ab", "", "image/png", "inline", "ab"},
		{"", "x%0D%0Ay", "image/png", "inline", "x\r\ny"},
		{"", "", "Text/Plain; charset=utf-8", "inline", ""},
		{"", "", "text/html", "attachment", ""},
		{"", "", "image/svg+xml", "attachment", ""},
		{"", "", "image", "attachment", ""},
		{"", "", "", "attachment", ""},
	} {
		id := h.upload("1", "?filename="+strings.ReplaceAll(tt.upload, ";", "%3B"), tt.typ, "x")
		path := v1 + "/download/" + id
		if tt.asked != "" {
			path += "/" + tt.asked
		}
		a := h.get(path, "1")
		how, params, err := mime.ParseMediaType(a.header.Get("Content-Disposition"))
		if a.status != 200 || err != nil || how != tt.how || params["filename"] != tt.name {
			t.Errorf("%+v: %d %q %v", tt, a.status, a.header.Get("Content-Disposition"), err)
		}
		want := tt.typ
		if !strings.Contains(want, "/") {
			want = "application/octet-stream"
		}
		if got := a.header.Get("Content-Type"); got != want {
			t.Errorf("%q is served as %q", tt.typ, got)
		}
	}
}

func TestUploadLimits(t *testing.T) {
	h := start(t, Options{}, media.Options{MaxUpload: 200 << 10, UserQuota: 300 << 10})
	post := func(token string, body io.Reader) string {
		return h.do("POST", "/_matrix/media/v3/upload", token, body).told()
	}
	long := strings.Repeat("x", 200<<10)
	for _, tt := range []struct {
		name, token string
		body        io.Reader
		want        string
	}{
		{"nobody", "", strings.NewReader("x"), "401 M_MISSING_TOKEN"},
		{"guest", "guest", strings.NewReader("x"), "403 M_GUEST_ACCESS_FORBIDDEN"},
		{"too long", "1", strings.NewReader(long + "x"), "413 M_TOO_LARGE"},
		{"too long, in chunks", "1", io.LimitReader(rand.NewChaCha8([32]byte{}), 200<<10+1), "413 M_TOO_LARGE"},
		{"long", "1", strings.NewReader(long), "200"},
		{"too much", "1", strings.NewReader(long), "403 M_FORBIDDEN"},
		{"somebody else", "2", struct{ io.Reader }{strings.NewReader(long)}, "200"},
		{"nothing", "2", nil, "200"},
	} {
		if got := post(tt.token, tt.body); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// An announced length is judged before the body is there.
func TestAnnounced(t *testing.T) {
	h := start(t, Options{}, media.Options{MaxUpload: 1000})
	c, err := h.client.Transport.(*http.Transport).DialContext(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "POST /_matrix/media/v3/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer 1\r\nContent-Length: 1000000\r\n\r\n"+
		strings.Repeat("x", 8<<10)); err != nil { // this server reads so much before it calls the handler
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	if n, err := c.Read(buf); err != nil || !bytes.HasPrefix(buf[:n], []byte("HTTP/1.1 413 ")) {
		t.Errorf("%s %v", buf[:n], err)
	}
}

func TestAsyncUpload(t *testing.T) {
	h := start(t, Options{}, media.Options{})
	create := func() (path string, until int64) {
		a := h.do("POST", "/_matrix/media/v1/create", "1", nil)
		var out struct {
			URI   string `json:"content_uri"`
			Until int64  `json:"unused_expires_at"`
		}
		if err := json.Unmarshal([]byte(a.body), &out); err != nil || !strings.HasPrefix(out.URI, "mxc://hub.test/") {
			t.Fatal(a.status, a.body)
		}
		return out.URI[len("mxc://"):], out.Until
	}
	put := func(id, token, text string) string {
		return h.do("PUT", "/_matrix/media/v3/upload/"+id, token, strings.NewReader(text), "Content-Type", "text/plain").told()
	}
	id, until := create()
	if want := h.clock.Now().Add(24 * time.Hour).UnixMilli(); until != want {
		t.Errorf("expires at %d, want %d", until, want)
	}
	if got := h.get(v1+"/download/"+id+"?timeout_ms=0", "1").told(); got != "504 M_NOT_YET_UPLOADED" {
		t.Error(got)
	}
	if got := h.get(v1+"/thumbnail/"+id+"?timeout_ms=0&width=1&height=1", "1").told(); got != "504 M_NOT_YET_UPLOADED" {
		t.Error(got)
	}
	waited := make(chan string)
	go func() { waited <- h.get(v1+"/download/"+id+"?timeout_ms=60000", "1").told() }()
	for _, tt := range []struct{ id, token, want string }{
		{id, "2", "403 M_FORBIDDEN"},
		{id, "", "401 M_MISSING_TOKEN"},
		{"hub.test/other", "1", "404 M_NOT_FOUND"},
		{"far.test/other", "1", "404 M_NOT_FOUND"},
		{id, "1", "200 {}"},
		{id, "1", "409 M_CANNOT_OVERWRITE_MEDIA"},
	} {
		if got := put(tt.id, tt.token, "later"); got != tt.want {
			t.Errorf("%s by %q: %s, want %s", tt.id, tt.token, got, tt.want)
		}
	}
	if got := <-waited; got != "200 later" {
		t.Error(got)
	}
	late, _ := create()
	h.clock.Pass(25 * time.Hour)
	if got := put(late, "1", "x"); got != "404 M_NOT_FOUND" {
		t.Error(got)
	}
	for range 16 {
		create()
	}
	if got := h.do("POST", "/_matrix/media/v1/create", "1", nil).told(); got != "429 M_LIMIT_EXCEEDED" {
		t.Error(got)
	}
}

func TestRange(t *testing.T) {
	h := start(t, Options{}, media.Options{})
	id := v1 + "/download/" + h.upload("1", "", "text/plain", "0123456789")
	tag := h.get(id, "1").header.Get("ETag")
	for _, tt := range []struct{ rng, cond, want, where string }{
		{"bytes=0-3", "", "206 0123", "bytes 0-3/10"},
		{"bytes=4-", "", "206 456789", "bytes 4-9/10"},
		{"bytes=-3", "", "206 789", "bytes 7-9/10"},
		{"bytes=-30", "", "206 0123456789", "bytes 0-9/10"},
		{"bytes=8-100", "", "206 89", "bytes 8-9/10"},
		{"Bytes=9-9", "", "206 9", "bytes 9-9/10"},
		{"bytes=10-", "", "416 M_INVALID_PARAM", "bytes */10"},
		{"bytes=-0", "", "416 M_INVALID_PARAM", "bytes */10"},
		{"bytes=3-1", "", "200 0123456789", ""},
		{"bytes=+3-4", "", "200 0123456789", ""},
		{"bytes=0-1,3-4", "", "200 0123456789", ""},
		{"lines=0-1", "", "200 0123456789", ""},
		{"bytes=x", "", "200 0123456789", ""},
		{"bytes=0-1", tag, "206 01", "bytes 0-1/10"},
		{"bytes=0-1", `"other"`, "200 0123456789", ""},
	} {
		header := []string{"Range", tt.rng}
		if tt.cond != "" {
			header = append(header, "If-Range", tt.cond)
		}
		a := h.get(id, "1", header...)
		if a.told() != tt.want || a.header.Get("Content-Range") != tt.where {
			t.Errorf("%s: %s %q, want %s %q", tt.rng, a.told(), a.header.Get("Content-Range"), tt.want, tt.where)
		}
	}
	for _, match := range []string{tag, "W/" + tag + `, "x"`, "*"} {
		if a := h.get(id, "1", "If-None-Match", match); a.status != 304 || a.body != "" || a.header.Get("ETag") != tag {
			t.Errorf("%s: %+v", match, a)
		}
	}
	if a := h.get(id, "1", "If-None-Match", `"x"`); a.status != 200 {
		t.Error(a.status)
	}
}

func pngText(t *testing.T, w, h int) string {
	t.Helper()
	var buf bytes.Buffer
	if err := png.Encode(&buf, image.NewRGBA(image.Rect(0, 0, w, h))); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

func TestThumbnail(t *testing.T) {
	h := start(t, Options{}, media.Options{ImageBytes: 1 << 20})
	pic := h.upload("1", "", "image/png", pngText(t, 400, 300))
	text := h.upload("1", "", "text/plain", "hello")
	for _, tt := range []struct{ path, token, want string }{
		{pic + "?width=32&height=32&method=crop", "1", "200 image/png 32x32"},
		{pic + "?width=32&height=32&method=scale", "guest", "200 image/png 320x240"},
		{pic + "?width=32&height=32", "1", "200 image/png 320x240"},
		{pic + "?width=800&height=600", "1", "200 image/png 400x300"},
		{pic + "?width=32&height=32", "", "401 M_MISSING_TOKEN"},
		{pic + "?width=32", "1", "400 M_MISSING_PARAM"},
		{pic + "?width=32&height=-1", "1", "400 M_INVALID_PARAM"},
		{pic + "?width=32.5&height=1", "1", "400 M_INVALID_PARAM"},
		{pic + "?width=32&height=32&method=bend", "1", "400 M_INVALID_PARAM"},
		{pic + "?width=32&height=32&animated=maybe", "1", "400 M_INVALID_PARAM"},
		{text + "?width=32&height=32", "1", "400 M_UNKNOWN"},
		{"hub.test/none?width=32&height=32", "1", "404 M_NOT_FOUND"},
	} {
		a := h.get(v1+"/thumbnail/"+tt.path, tt.token)
		got := a.told()
		if a.status == 200 {
			c, _, err := image.DecodeConfig(strings.NewReader(a.body))
			got = fmt.Sprintf("200 %s %dx%d", a.header.Get("Content-Type"), c.Width, c.Height)
			if err != nil || a.header.Get("Content-Disposition") != `inline; filename="thumbnail.png"` {
				t.Error(err, a.header.Get("Content-Disposition"))
			}
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.path, got, tt.want)
		}
	}
	if a := h.get("/_matrix/media/v3/thumbnail/"+pic+"?width=32&height=32", ""); a.status != 200 {
		t.Error("the old endpoint: ", a.told())
	}
}

// After the freeze the old endpoints serve what was there before, and the rest
// to those who have a token.
func TestFrozen(t *testing.T) {
	h := start(t, Options{Frozen: time.UnixMilli(1_700_000_000_500)}, media.Options{})
	before := h.upload("1", "", "text/plain", "before")
	h.clock.Pass(time.Second)
	after := h.upload("1", "", "text/plain", "after")
	for _, tt := range []struct{ id, token, want string }{
		{before, "", "200 before"}, {after, "", "404 M_NOT_FOUND"}, {after, "1", "200 after"},
	} {
		if got := h.get("/_matrix/media/v3/download/"+tt.id, tt.token).told(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.id, got, tt.want)
		}
	}
}

// Files of other servers come in through Remote.
func TestRemote(t *testing.T) {
	var h *hub
	h = start(t, Options{Remote: func(_ context.Context, origin mxid.Server, id string) error {
		if origin != "far.test" {
			return fault.E(fault.NotFound, "t", "")
		}
		_, err := h.e.Media.Upload(&media.Upload{Origin: origin, ID: id, Kind: media.Remote, Length: -1}, strings.NewReader("far"))
		return err
	}}, media.Options{})
	for _, tt := range []struct{ path, want string }{
		{"far.test/x?allow_remote=false", "404 M_NOT_FOUND"},
		{"far.test/x", "200 far"},
		{"far.test/x?allow_remote=false", "200 far"},
		{"else.test/x", "404 M_NOT_FOUND"},
		{"hub.test/x", "404 M_NOT_FOUND"},
	} {
		if got := h.get("/_matrix/media/v3/download/"+tt.path, "").told(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.path, got, tt.want)
		}
	}
}
