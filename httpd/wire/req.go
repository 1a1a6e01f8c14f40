package wire

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"

	"github.com/valyala/fasthttp"

	"hearth/engine/account"
	"hearth/engine/fault"
)

// Req is one request while its handler runs. Reqs are pooled: nothing may keep
// one.
type Req struct {
	Ctx      *fasthttp.RequestCtx // for what Req does not offer
	Session  account.Session      // who asks; see Auth
	LoggedIn bool

	mux    *Mux
	route  *Route
	params string // all path parameters, decoded, one behind the other
	ends   [maxParams]uint16
	body   []byte     // what Body read off a stream
	held   int64      // bytes taken from the mux's allowance for bodies
	holder netip.Addr // for whom
	id     uint64
}

// maxParam bounds one path parameter; ids end at 255 bytes, state keys too,
// and handlers say so themselves.
const maxParam = 4096

// setParams decodes the raw parameters.
func (r *Req) setParams(f *find) error {
	if f.n == 0 {
		return nil
	}
	var room [256]byte
	buf := room[:0]
	for i, raw := range f.params[:f.n] {
		from := len(buf)
		buf = unescape(buf, raw, false)
		if p := buf[from:]; len(p) > maxParam || !clean(p) {
			return fault.E(fault.Invalid, "wire.Path", "%s in the path must be UTF-8 without NUL and at most %d bytes", r.route.names[i], maxParam)
		}
		r.ends[i] = uint16(len(buf))
	}
	for i := f.n; i < len(r.route.names); i++ {
		r.ends[i] = uint16(len(buf)) // an empty tail
	}
	r.params = string(buf)
	return nil
}

// Path gives the path parameter of that name, percent-decoded. A name that the
// pattern lacks is a fault of ours.
func (r *Req) Path(name string) string {
	from := uint16(0)
	for i, n := range r.route.names {
		if n == name {
			return r.params[from:r.ends[i]]
		}
		from = r.ends[i]
	}
	panic("wire: " + r.route.Pattern + " has no parameter " + name)
}

// Route is the line of the table that the request came by.
func (r *Req) Route() *Route { return r.route }

// Query gives the first query parameter of that name, decoded; ok says whether
// it is there.
func (r *Req) Query(name string) (val string, ok bool) {
	r.QueryEach(name, func(v string) bool {
		val, ok = v, true
		return false
	})
	return val, ok
}

// QueryOr is Query, or def where the parameter is absent.
func (r *Req) QueryOr(name, def string) string {
	if v, ok := r.Query(name); ok {
		return v
	}
	return def
}

// QueryEach calls f for each query parameter of that name until f returns false.
func (r *Req) QueryEach(name string, f func(val string) (more bool)) {
	rest := r.Ctx.URI().QueryString()
	for len(rest) > 0 {
		var pair []byte
		pair, rest, _ = bytes.Cut(rest, []byte{'&'})
		key, val, _ := bytes.Cut(pair, []byte{'='})
		if !named(key, name) {
			continue
		}
		var room [64]byte
		if !f(string(unescape(room[:0], val, true))) {
			return
		}
	}
}

// named compares an escaped key with a name.
func named(key []byte, name string) bool {
	if string(key) == name {
		return true
	}
	if len(key) < len(name) || bytes.IndexByte(key, '%') < 0 && bytes.IndexByte(key, '+') < 0 {
		return false
	}
	var room [64]byte
	return string(unescape(room[:0], key, true)) == name
}

// QueryInt reads a whole number of at least least; anything else is Invalid. A
// number above most counts as most, which is what limits ask for.
func (r *Req) QueryInt(name string, def, least, most int64) (int64, error) {
	s, ok := r.Query(name)
	if !ok || s == "" {
		return def, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		err = nil // ParseInt gave the nearest number that there is
	}
	if err != nil || n < least {
		return 0, fault.E(fault.Invalid, "wire.QueryInt", "%s must be a whole number of at least %d", name, least)
	}
	return min(n, most), nil
}

// QueryBool reads true or false; anything else is Invalid.
func (r *Req) QueryBool(name string, def bool) (bool, error) {
	s, ok := r.Query(name)
	switch {
	case !ok || s == "":
		return def, nil
	case s == "true":
		return true, nil
	case s == "false":
		return false, nil
	}
	return false, fault.E(fault.Invalid, "wire.QueryBool", "%s must be true or false", name)
}

// Token is the access token: of the Authorization header, or of the query as
// older clients send it; nil where there is none. Valid until the handler returns.
// Spec: client-server, using access tokens.
func (r *Req) Token() []byte {
	const bearer = "bearer "
	if h := r.Ctx.Request.Header.Peek("Authorization"); len(h) > len(bearer) && bytes.EqualFold(h[:len(bearer)], []byte(bearer)) {
		return bytes.TrimSpace(h[len(bearer):])
	}
	if v, ok := r.Query("access_token"); ok {
		return []byte(v)
	}
	return nil
}

// Remote is the address of the other side. Behind a proxy on this machine it is
// the one that the proxy put last into X-Forwarded-For; from anywhere else that
// header proves nothing.
func (r *Req) Remote() netip.Addr {
	tcp, ok := r.Ctx.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	addr := tcp.AddrPort().Addr().Unmap()
	if !addr.IsLoopback() {
		return addr
	}
	h := r.Ctx.Request.Header.Peek("X-Forwarded-For")
	if i := bytes.LastIndexByte(h, ','); i >= 0 {
		h = h[i+1:]
	}
	if len(h) == 0 || len(h) > 64 {
		return addr
	}
	if a, err := netip.ParseAddr(string(bytes.TrimSpace(h))); err == nil {
		return a.Unmap().WithZone("")
	}
	return addr
}

// Context ends when the hub stops: for what a handler asks of others. It may be
// kept.
func (r *Req) Context() context.Context { return r.mux.ctx }

// Done is closed when the hub stops: a handler that waits watches it too.
func (r *Req) Done() <-chan struct{} { return r.mux.done }

// ID names the request in the log; made when first asked for.
func (r *Req) ID() string {
	if r.id == 0 {
		r.id = rand.Uint64() | 1
	}
	var b [8]byte
	for i := range b {
		b[i] = byte(r.id >> (8 * i))
	}
	return hex.EncodeToString(b[:])
}

// contentJSON is the type of all answers but media.
const contentJSON = "application/json"

// Out is an empty buffer to append the answer to, for Reply. It is the
// response's own, so that nothing is copied.
func (r *Req) Out() []byte {
	return r.Ctx.Response.SwapBody(nil)[:0]
}

// Reply answers with a status and a JSON body, which it keeps. It returns nil,
// so that a handler can end with it.
func (r *Req) Reply(status int, body []byte) error {
	r.Ctx.Response.SetStatusCode(status)
	r.Ctx.Response.Header.SetContentType(contentJSON)
	r.Ctx.Response.SwapBody(body)
	return nil
}

// OK answers 200 with body.
func (r *Req) OK(body []byte) error { return r.Reply(fasthttp.StatusOK, body) }

// Empty answers 200 with {}.
func (r *Req) Empty() error { return r.OK(append(r.Out(), '{', '}')) }

// Answer answers 200 with v as JSON. It reflects: for endpoints that are seldom
// asked. Text is written as it is, without escapes for HTML.
func (r *Req) Answer(v any) error {
	buf := bytes.NewBuffer(r.Out())
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fault.E(fault.Internal, "wire.Answer", "encoding the answer: %w", err)
	}
	return r.OK(bytes.TrimSuffix(buf.Bytes(), []byte{'\n'}))
}
