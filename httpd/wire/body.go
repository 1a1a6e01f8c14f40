package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"time"

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
	if n < 0 {
		n = limit
	}
	var err error
	r.body, err = r.readWhole(n, limit)
	return r.body, err
}

// readWhole reads a body off the connection. n is how long it may be expected to be.
func (r *Req) readWhole(n, limit int) ([]byte, error) {
	var buf []byte
	in, until := r.Ctx.RequestBodyStream(), time.Now().Add(bodyTime)
	for {
		if len(buf) == cap(buf) {
			// One byte more than may be, to see that there are no more.
			more := min(max(len(buf), bodyStep), max(n-len(buf), 0)+1)
			if err := r.hold(int64(more)); err != nil {
				return nil, err
			}
			buf = append(make([]byte, 0, len(buf)+more), buf...)
		}
		got, err := in.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+got]
		switch {
		case len(buf) > limit:
			return nil, tooLong(limit)
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return nil, fault.E(fault.Unknown, "wire.Body", "the body ended early")
		case time.Now().After(until):
			return nil, fault.E(fault.Unknown, "wire.Body", "the body takes too long to come")
		}
	}
}

func tooLong(limit int) error {
	return fault.E(fault.TooLarge, "wire.Body", "the body is longer than %d bytes", limit)
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
