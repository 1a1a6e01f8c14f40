package wire

import (
	"errors"
	"fmt"
	"strings"
)

// Flags say what a route asks for before its handler is called.
type Flags uint16

// The flags of a route.
const (
	Auth       Flags = 1 << iota // an access token is needed; Req.Session is set
	AuthMaybe                    // a token is looked at where there is one; Req.Session is set if Req.LoggedIn
	GuestOK                      // with Auth: guests too
	R0                           // served under r0 in place of the version as well: only what r0 had
	EmptyTail                    // the last parameter may be empty, and its slash may be missing
	EmptyBody                    // no body at all counts as {}
	Heavy                        // works hard: passes the gate, where few are at work and few wait
	Federation                   // asked by servers, not by clients: errors are told as servers expect
	LockedOK                     // with Auth: locked users too
	Active                       // with Auth: not for suspended users
	Admin                        // with Auth: for admins of the hub only
	Identity                     // of the identity service, whose errors have other names
)

// Class is the kind of work the rate limiter counts a route as.
type Class uint8

// The classes. Each has its own bucket for each user or, where nobody is logged
// in, for each address.
const (
	Free     Class = iota // not limited
	Login                 // tries at a password or token
	Register              // new accounts
	Send                  // writes to rooms
	Create                // rooms, invites, joins, uploads: dear
	Read                  // reads that search or walk
	numClasses
)

// Route is one line of a route table.
type Route struct {
	Method  string // GET, PUT, ...; a GET answers HEAD too
	Pattern string // "/_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}"
	Handle  Handler
	Flags   Flags
	Class   Class
	Body    int // longest body in bytes; 0 is DefaultBody

	names []string // of the parameters, in order
}

// Handler serves one request. An error becomes the answer by the fault table;
// a handler that has answered returns nil.
type Handler func(r *Req) error

// maxParams is the most parameters a pattern may have.
const maxParams = 8

// tree matches paths against patterns by segments, on the path as it came:
// decoding first would let a %2F inside a segment end it.
type tree struct {
	next   map[string]*tree // by literal segment
	param  *tree
	routes []*Route // one for each method
}

// errPattern is what add's errors wrap.
var errPattern = errors.New("wire: bad route")

// add enters one route under its pattern.
func (t *tree) add(rt *Route, pattern string) error {
	if !strings.HasPrefix(pattern, "/") || rt.Handle == nil || rt.Method == "" {
		return fmt.Errorf("%w: %s %s", errPattern, rt.Method, pattern)
	}
	at := t
	for seg := range strings.SplitSeq(pattern[1:], "/") {
		if rt.Flags&EmptyTail != 0 && strings.HasPrefix(seg, "{") && strings.HasSuffix(pattern, "/"+seg) {
			if err := at.put(rt); err != nil { // without the last parameter and its slash
				return err
			}
		}
		at = at.child(seg)
	}
	return at.put(rt)
}

func (t *tree) child(seg string) *tree {
	if strings.HasPrefix(seg, "{") {
		if t.param == nil {
			t.param = &tree{}
		}
		return t.param
	}
	c := t.next[seg]
	if c == nil {
		c = &tree{}
		if t.next == nil {
			t.next = map[string]*tree{}
		}
		t.next[seg] = c
	}
	return c
}

func (t *tree) put(rt *Route) error {
	for _, have := range t.routes {
		if have.Method == rt.Method {
			return fmt.Errorf("%w: %s %s and %s are the same", errPattern, rt.Method, rt.Pattern, have.Pattern)
		}
	}
	t.routes = append(t.routes, rt)
	return nil
}

// find is the state of one look-up: the raw parameters so far, and whether any
// pattern fitted the path in another method.
type find struct {
	params [maxParams][]byte
	n      int
	known  bool
}

// match walks the rest of a path, which begins behind a slash. A literal is
// tried before a parameter, and left again where nothing below it fits.
func (t *tree) match(f *find, path, method []byte) *Route {
	seg, rest, more := cut(path)
	if c := t.next[string(seg)]; c != nil {
		if rt := c.below(f, rest, method, more); rt != nil {
			return rt
		}
	}
	if t.param == nil || f.n == maxParams {
		return nil
	}
	n := f.n
	f.params[n] = seg
	f.n++
	if rt := t.param.below(f, rest, method, more); rt != nil && (len(seg) > 0 || rt.Flags&EmptyTail != 0 && n == len(rt.names)-1) {
		return rt
	}
	f.n = n
	return nil
}

// below goes on where a segment has been used up.
func (t *tree) below(f *find, rest, method []byte, more bool) *Route {
	if more {
		return t.match(f, rest, method)
	}
	for _, rt := range t.routes {
		if rt.Method == string(method) || rt.Method == "GET" && string(method) == "HEAD" {
			return rt
		}
		f.known = true
	}
	return nil
}

// cut splits off the first segment; more says that a slash followed it.
func cut(path []byte) (seg, rest []byte, more bool) {
	for i, c := range path {
		if c == '/' {
			return path[:i], path[i+1:], true
		}
	}
	return path, nil, false
}

// prepare fills in what add and dispatch need, and gives the patterns under
// which the route is served.
func (rt *Route) prepare() ([]string, error) {
	rt.names = nil
	for seg := range strings.SplitSeq(rt.Pattern, "/") {
		if strings.HasPrefix(seg, "{") && strings.HasSuffix(seg, "}") {
			rt.names = append(rt.names, seg[1:len(seg)-1])
		}
	}
	if len(rt.names) > maxParams {
		return nil, fmt.Errorf("%w: %s has more than %d parameters", errPattern, rt.Pattern, maxParams)
	}
	if rt.Body == 0 {
		rt.Body = DefaultBody
	}
	all := []string{rt.Pattern}
	if rt.Flags&R0 != 0 {
		// "/_matrix/client/v3/…": the version is the third segment.
		seg := strings.SplitN(rt.Pattern, "/", 5)
		if len(seg) < 5 {
			return nil, fmt.Errorf("%w: %s has no version to replace by r0", errPattern, rt.Pattern)
		}
		seg[3] = "r0"
		all = append(all, strings.Join(seg, "/"))
	}
	return all, nil
}
