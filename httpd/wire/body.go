package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"hearth/engine/cjson"
	"hearth/engine/fault"
)

// DefaultBody is the longest JSON body where the route does not say otherwise.
// An event is at most 64 KiB; what lists many things gets a larger one.
const DefaultBody = 1 << 20

// InlineBody is the longest body that the server reads before the handler is
// called. A longer one, or one of unknown length, is read by Body or Stream,
// after the token has been looked at.
const InlineBody = 64 << 10

// BodyLen is the announced length of the body, -1 where it is unknown.
func (r *Req) BodyLen() int {
	if !r.Ctx.Request.IsBodyStream() {
		return len(r.Ctx.Request.Body())
	}
	return max(r.Ctx.Request.Header.ContentLength(), -1)
}

// Body is the whole body, at most limit bytes, or the route's limit where limit
// is 0. Valid until the handler returns.
func (r *Req) Body(limit int) ([]byte, error) {
	if limit == 0 {
		limit = r.route.Body
	}
	n := r.BodyLen()
	if n > limit {
		return nil, tooLong(limit)
	}
	if !r.Ctx.Request.IsBodyStream() {
		return r.Ctx.Request.Body(), nil
	}
	if r.body != nil {
		return r.body, nil
	}
	want := n
	if n < 0 {
		want = limit
	}
	if err := r.hold(int64(want)); err != nil {
		return nil, err
	}
	buf := bytes.NewBuffer(make([]byte, 0, max(n, 4096)+bytes.MinRead))
	if _, err := buf.ReadFrom(io.LimitReader(r.Ctx.RequestBodyStream(), int64(limit)+1)); err != nil {
		return nil, fault.E(fault.Unknown, "wire.Body", "the body ended early")
	}
	if buf.Len() > limit {
		return nil, tooLong(limit)
	}
	r.body = buf.Bytes()
	return r.body, nil
}

func tooLong(limit int) error {
	return fault.E(fault.TooLarge, "wire.Body", "the body is longer than %d bytes", limit)
}

// hold takes room for a long body out of the allowance of all requests
// together, so that many long ones at once cannot take the hub's memory.
func (r *Req) hold(n int64) error {
	if r.mux.bodies.Add(n) > r.mux.maxBodies {
		r.mux.bodies.Add(-n)
		return fault.Wait("wire.Body", retryWhenBusy)
	}
	r.held += n
	return nil
}

// Stream is the body for a handler that reads it piece by piece, of any
// length; the handler bounds what it takes.
func (r *Req) Stream() io.Reader {
	if r.Ctx.Request.IsBodyStream() {
		return r.Ctx.RequestBodyStream()
	}
	return bytes.NewReader(r.Ctx.Request.Body())
}

// Object is the body as a JSON object that has been checked: valid UTF-8, one
// value, depth bounded. For handlers that keep the bytes or pick a few members
// with cjson.
func (r *Req) Object() ([]byte, error) {
	b, err := r.value()
	if err != nil {
		return nil, err
	}
	if cjson.KindOf(b) != cjson.ObjectKind {
		return nil, fault.E(fault.BadJSON, "wire.Object", "the body must be a JSON object")
	}
	return b, nil
}

// value is the body as any checked JSON value.
func (r *Req) value() ([]byte, error) {
	b, err := r.Body(0)
	if err != nil {
		return nil, err
	}
	if len(b) == 0 && r.route.Flags&EmptyBody != 0 {
		return []byte("{}"), nil
	}
	if err := cjson.Check(b); err != nil {
		return nil, fault.E(fault.NotJSON, "wire.Object", "the body is not JSON: %v", err)
	}
	return bytes.TrimSpace(b), nil
}

// Decode reads the body, a JSON object, into what v points to. It reflects:
// for endpoints that are seldom asked.
func (r *Req) Decode(v any) error {
	b, err := r.Object()
	if err != nil {
		return err
	}
	return Decode(b, v)
}

// Decode reads an object that Object gave, or a part of it, into v. A member of
// the wrong type is BadJSON.
func Decode(obj []byte, v any) error {
	err := json.Unmarshal(obj, v)
	if err == nil {
		return nil
	}
	var typ *json.UnmarshalTypeError
	if errors.As(err, &typ) && typ.Field != "" {
		return fault.E(fault.BadJSON, "wire.Decode", "%s must not be a %s", typ.Field, typ.Value)
	}
	return fault.E(fault.BadJSON, "wire.Decode", "the body has the wrong shape")
}
