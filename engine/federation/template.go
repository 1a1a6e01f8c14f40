package federation

import (
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"strconv"

	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
)

// To change a membership in a room that the hub is not in, it asks a server that
// is for a template, completes and signs it, and gives it back. Nothing of the
// template is believed but where in the graph the event goes.

// Change is a change of membership that another server has to let in.
type Change struct {
	Room    mxid.RoomID
	User    mxid.UserID // of this hub
	Content []byte      // of the member event; its membership is the change
	Via     []mxid.Server
}

// Incompatible is the error of a room whose version one side does not know.
type Incompatible struct{ Version string }

func (i *Incompatible) Error() string { return "the room is of version " + strconv.Quote(i.Version) }

const (
	maxVia       = 8       // servers that are tried
	maxTemplate  = 1 << 20 // bytes of the answer with a template
	maxErrorText = 1024
)

// template is what a server wants an event to be like.
type template struct {
	v   *event.Version
	obj []byte
}

// make asks for a template. what is join, leave or knock; v is the room's version
// where it is known and the answer may leave it out.
// Spec: server-server, GET /make_join, /make_leave, /make_knock.
func (f *Federation) make(ctx context.Context, server mxid.Server, what string, c *Change, v *event.Version) (*template, error) {
	path := apiV1 + "make_" + what + "/" + url.PathEscape(string(c.Room)) + "/" + url.PathEscape(string(c.User))
	if what != "leave" {
		sep := byte('?')
		for _, id := range event.Versions() {
			path += string(sep) + "ver=" + url.QueryEscape(id)
			sep = '&'
		}
	}
	body, err := f.do(ctx, &Request{Dest: server, Method: "GET", Path: path, MaxAnswer: maxTemplate})
	if err != nil {
		return nil, asTold(err)
	}
	const op = "federation.make"
	t := &template{v: v}
	if id, ok := cjson.LookupString(body, "room_version"); ok {
		t.v = event.LookupVersion(id)
		if t.v == nil {
			return nil, fault.E(fault.IncompatibleRoom, op, "this hub does not know room version %q%w", id, silent{&Incompatible{id}})
		}
	}
	if t.v == nil {
		t.v = event.LookupVersion("1") // servers of old knew no other
	}
	t.obj, _ = cjson.Lookup(body, "event")
	if !t.fits(what, c) {
		return nil, fault.E(fault.Remote, op, "%s gave a template that does not fit", server)
	}
	return t, nil
}

// fits says whether the template is for the change that was asked about.
func (t *template) fits(what string, c *Change) bool {
	if cjson.KindOf(t.obj) != cjson.ObjectKind {
		return false
	}
	for _, f := range [...][2]string{{"type", "m.room.member"}, {"state_key", string(c.User)}, {"sender", string(c.User)}, {"room_id", string(c.Room)}} {
		if s, _ := cjson.LookupString(t.obj, f[0]); s != f[1] {
			return false
		}
	}
	val, _ := cjson.LookupPath(t.obj, "content", "membership")
	return cjson.Is(val, what)
}

// complete makes an event of ours from a template.
func (f *Federation) complete(t *template, c *Change) (*event.Event, error) {
	dst := []byte(`{"auth_events":`)
	list := func(name string) {
		val, ok := cjson.Lookup(t.obj, name)
		if !ok || cjson.KindOf(val) != cjson.ArrayKind {
			val = []byte(`[]`)
		}
		dst = append(dst, val...)
	}
	list("auth_events")
	content := c.Content
	if via, ok := cjson.LookupPath(t.obj, "content", "join_authorised_via_users_server"); ok && t.v.Restricted {
		if cjson.KindOf(via) != cjson.StringKind {
			return nil, fault.E(fault.Remote, "federation.complete", "a template names a voucher that is none")
		}
		content = append(append(append([]byte(nil), content[:len(content)-1]...), `,"join_authorised_via_users_server":`...), via...)
		content = append(content, '}')
	}
	dst = append(append(dst, `,"content":`...), content...)
	depth, ok := cjson.Lookup(t.obj, "depth")
	if !ok || cjson.KindOf(depth) != cjson.NumberKind {
		depth = []byte("1")
	}
	dst = append(append(dst, `,"depth":`...), depth...)
	if t.v.IDs == event.IDInEvent {
		dst = cjson.AppendString(append(dst, `,"event_id":`...), "$"+rand.Text()+":"+string(f.server))
	}
	dst = cjson.AppendString(append(dst, `,"origin":`...), f.server)
	dst = strconv.AppendInt(append(dst, `,"origin_server_ts":`...), f.o.Now().UnixMilli(), 10)
	dst = append(dst, `,"prev_events":`...)
	list("prev_events")
	dst = cjson.AppendString(append(dst, `,"room_id":`...), c.Room)
	dst = cjson.AppendString(append(dst, `,"sender":`...), c.User)
	dst = cjson.AppendString(append(dst, `,"state_key":`...), c.User)
	dst = append(dst, `,"type":"m.room.member"}`...)
	e, err := event.Complete(t.v, dst, &f.o.Signer)
	if err != nil {
		return nil, fault.E(fault.Remote, "federation.complete", "a template that no event can be made of: %w", err)
	}
	return e, nil
}

// each tries the servers of a change until one lets it in. The error is the one
// that says most: a refusal before silence.
func (f *Federation) each(ctx context.Context, c *Change, try func(server mxid.Server) error) error {
	var worst error
	tried := 0
	seen := map[mxid.Server]bool{f.server: true}
	for _, server := range c.Via {
		if _, err := mxid.ParseServer(string(server)); err != nil || seen[server] || !f.Allowed(server) || tried == maxVia {
			continue
		}
		seen[server] = true
		tried++
		err := try(server)
		if err == nil {
			return nil
		}
		f.o.Log("federation: %s does not let %s into %s: %v", server, c.User, c.Room, err)
		if worst == nil || fault.Is(worst, fault.Remote) && !fault.Is(err, fault.Remote) {
			worst = err
		}
		if fault.Is(err, fault.IncompatibleRoom) || ours(err) || ctx.Err() != nil {
			break
		}
	}
	if worst == nil {
		return fault.E(fault.NotFound, "federation.Join", "no server is known that is in the room")
	}
	return worst
}

// asTold gives a refusal of another server the kind that its errcode stands for,
// where our clients are to be told the same.
func asTold(err error) error {
	r := refused(err)
	if r == nil {
		return err
	}
	const op = "federation.refused"
	text := r.Text
	if text == "" {
		text = "the other server refuses"
	}
	switch r.Errcode {
	case "M_FORBIDDEN":
		return fault.E(fault.Forbidden, op, "%s", text)
	case "M_NOT_FOUND":
		return fault.E(fault.NotFound, op, "%s", text)
	case "M_UNABLE_TO_AUTHORISE_JOIN":
		return fault.E(fault.UnableToAuthorise, op, "%s", text)
	case "M_UNABLE_TO_GRANT_JOIN":
		return fault.E(fault.UnableToGrant, op, "%s", text)
	case "M_INVITE_BLOCKED":
		return fault.E(fault.InviteBlocked, op, "%s", text)
	case "M_INCOMPATIBLE_ROOM_VERSION":
		version, _ := cjson.LookupString(r.Body, "room_version")
		return fault.E(fault.IncompatibleRoom, op, "%s%w", text, silent{&Incompatible{version[:min(len(version), 255)]}})
	}
	return err
}

// silent lets an error be found without being printed.
type silent struct{ error }

func (silent) Error() string   { return "" }
func (s silent) Unwrap() error { return s.error }

// refused finds the refusal in an error; nil where there is none.
func refused(err error) *Refusal {
	var r *Refusal
	if errors.As(err, &r) {
		return r
	}
	return nil
}
