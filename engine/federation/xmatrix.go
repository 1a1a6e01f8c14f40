package federation

import (
	"context"
	"encoding/base64"
	"math/rand/v2"
	"strings"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
)

// Credentials are what an Authorization header of scheme X-Matrix says.
// Spec: server-server, request authentication.
type Credentials struct {
	Origin, Destination mxid.Server // Destination is empty where the header has none
	Key, Signature      string
}

// maxHeader bounds an Authorization header: two names, a key id and a signature.
const maxHeader = 2048

// ParseCredentials reads an Authorization header. Error: Unauthorised.
func ParseCredentials(header string) (Credentials, error) {
	var c Credentials
	bad := func(why string) (Credentials, error) {
		return Credentials{}, fault.E(fault.Unauthorised, "federation.ParseCredentials", "the Authorization header is not of the form that servers use: %s", why)
	}
	if len(header) > maxHeader {
		return bad("it is too long")
	}
	scheme, rest, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "X-Matrix") {
		return bad("its scheme is not X-Matrix")
	}
	for rest = strings.TrimLeft(rest, " \t,"); rest != ""; rest = strings.TrimLeft(rest, " \t,") {
		name, after, ok := strings.Cut(rest, "=")
		if !ok {
			return bad("a parameter without a value")
		}
		val, after, ok := headerValue(after)
		if !ok {
			return bad("a quote that does not end")
		}
		rest = after
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "origin":
			c.Origin = mxid.Server(val)
		case "destination":
			c.Destination = mxid.Server(val)
		case "key":
			c.Key = val
		case "sig":
			c.Signature = val
		}
	}
	if c.Origin == "" || c.Key == "" || c.Signature == "" {
		return bad("origin, key and sig are needed")
	}
	if _, err := mxid.ParseServer(string(c.Origin)); err != nil {
		return bad("its origin is no server name")
	}
	return c, nil
}

// headerValue reads a token or a quoted string, and gives what comes after it.
func headerValue(s string) (val, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexAny(s, ", \t")
		if end < 0 {
			end = len(s)
		}
		return s[:end], s[end:], true
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			if i++; i == len(s) {
				return "", "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}

// appendRequest appends the object that a request's signature covers.
func appendRequest(dst []byte, method, uri string, origin, dest mxid.Server, content []byte) []byte {
	dst = append(dst, '{')
	if content != nil {
		dst = append(append(append(dst, `"content":`...), content...), ',')
	}
	if dest != "" { // older servers leave it out
		dst = append(cjson.AppendString(append(dst, `"destination":`...), string(dest)), ',')
	}
	dst = cjson.AppendString(append(dst, `"method":`...), method)
	dst = cjson.AppendString(append(dst, `,"origin":`...), string(origin))
	dst = cjson.AppendString(append(dst, `,"uri":`...), uri)
	return append(dst, '}')
}

// authorise fills in the Authorization header of a request of ours.
func (f *Federation) authorise(r *Request) error {
	signed, err := event.SignJSON(nil, appendRequest(nil, r.Method, r.Path, f.server, r.Dest, r.Body), &f.o.Signer)
	if err != nil {
		return fault.E(fault.Internal, "federation.Do", "a request cannot be signed: %w", err)
	}
	for _, s := range event.Signatures(signed, string(f.server)) {
		if s.KeyID == f.o.Signer.KeyID {
			r.Authorization = `X-Matrix origin="` + string(f.server) + `",destination="` + string(r.Dest) + `",key="` + s.KeyID +
				`",sig="` + base64.RawStdEncoding.EncodeToString(s.Sig) + `"`
			return nil
		}
	}
	return fault.E(fault.Internal, "federation.Do", "a signature of ours got lost")
}

// Sign fills in the Authorization header of a request of ours to a service that
// is no homeserver, such as an identity server; Dest is its name.
func (f *Federation) Sign(r *Request) error { return f.authorise(r) }

// Signed is a request from another server, as its signature covers it.
type Signed struct {
	Header  string // Authorization
	Method  string
	URI     string // path and query as they came
	Content []byte // the body, checked JSON; nil where there was none
}

// Authenticate finds out which server made a request. Errors: Unauthorised
// where it cannot be known, Forbidden for a server that the owner keeps out.
// Spec: server-server, request authentication.
func (f *Federation) Authenticate(ctx context.Context, s *Signed) (mxid.Server, error) {
	const op = "federation.Authenticate"
	c, obj, err := s.signed(f.server, "destination")
	if err != nil {
		return "", err
	}
	if c.Origin == f.server {
		return "", fault.E(fault.Unauthorised, op, "a server does not ask itself")
	}
	if !f.Allowed(c.Origin) {
		return "", fault.E(fault.Forbidden, op, "this hub does not federate with %s", c.Origin)
	}
	if err := f.o.VerifyJSON(ctx, c.Origin, obj, f.o.Now()); err != nil {
		return "", fault.E(fault.Unauthorised, op, "the signature of %s does not hold: %w", c.Origin, err)
	}
	if f.sender != nil {
		f.sender.seen(c.Origin)
		f.lists.seen(c.Origin)
	}
	return c.Origin, nil
}

// Signer finds out which server made a request to a service of the name us that
// is no homeserver; verify checks signatures. Homeservers sign for such a service
// as for each other, or, as identity servers once had it, with another name for
// the destination. Error: Unauthorised.
func (s *Signed) Signer(us mxid.Server, verify func(server mxid.Server, obj []byte) error) (mxid.Server, error) {
	c, obj, err := s.signed(us, "destination")
	if err != nil {
		return "", err
	}
	err = verify(c.Origin, obj)
	if err != nil && c.Destination != "" {
		if _, obj, err = s.signed(us, "destination_is"); err == nil {
			err = verify(c.Origin, obj)
		}
	}
	if err != nil {
		return "", fault.E(fault.Unauthorised, "federation.Signer", "the signature of %s does not hold: %w", c.Origin, err)
	}
	return c.Origin, nil
}

// signed is the object that the request's signature covers, with the signature;
// to is the member that names the destination.
func (s *Signed) signed(us mxid.Server, to string) (c Credentials, obj []byte, err error) {
	if c, err = ParseCredentials(s.Header); err != nil {
		return c, nil, err
	}
	if c.Destination != "" && c.Destination != us {
		return c, nil, fault.E(fault.Unauthorised, "federation.Authenticate", "the request was meant for %s", c.Destination)
	}
	obj = appendRequest(nil, s.Method, s.URI, c.Origin, "", s.Content)
	if c.Destination != "" {
		obj = append(append(append(obj[:len(obj)-1], `,"`...), to...), `":`...)
		obj = append(cjson.AppendString(obj, string(c.Destination)), '}')
	}
	obj = append(obj[:len(obj)-1], `,"signatures":{`...)
	obj = cjson.AppendString(obj, string(c.Origin))
	obj = cjson.AppendString(append(obj, `:{`...), c.Key)
	obj = cjson.AppendString(append(obj, ':'), c.Signature)
	return c, append(obj, `}}}`...), nil
}

// Allowed says whether the owner lets this server and ours talk.
func (f *Federation) Allowed(s mxid.Server) bool {
	if len(f.o.Allow) == 0 {
		return true
	}
	for _, a := range f.o.Allow {
		if a == s {
			return true
		}
	}
	return false
}

// Reaches says whether there is a way to the server that the owner leaves open.
func (f *Federation) Reaches(s mxid.Server) bool {
	return f.o.Peer != nil && s != f.server && f.Allowed(s)
}

// chance is a number in [0,1), for waits that must not end together.
func (f *Federation) chance() float64 { return rand.Float64() }

// Now is the clock that validity is judged by.
func (f *Federation) Now() time.Time { return f.o.Now() }
