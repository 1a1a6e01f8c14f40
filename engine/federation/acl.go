package federation

import (
	"net/netip"
	"strings"
	"sync"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// aclAllows judges a server by the content of an m.room.server_acl event. The
// port of its name counts for nothing. Spec: m.room.server_acl.
func aclAllows(content []byte, s mxid.Server) bool {
	host := withoutPort(string(s))
	if v, ok := cjson.Lookup(content, "allow_ip_literals"); ok && isLiteral(host) {
		if literals, ok := cjson.Bool(v); ok && !literals {
			return false
		}
	}
	return !anyGlob(content, "deny", host) && anyGlob(content, "allow", host)
}

// withoutPort cuts a server name's port and makes it lower case.
func withoutPort(name string) string {
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, ']') {
		name = name[:i]
	}
	return strings.ToLower(name)
}

func isLiteral(host string) bool {
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil
}

// anyGlob says whether a list of patterns holds one that fits. What is no list,
// and what in it is no text, fits nothing.
func anyGlob(content []byte, list, host string) (found bool) {
	globs, _ := cjson.Lookup(content, list)
	if cjson.KindOf(globs) != cjson.ArrayKind {
		return false
	}
	_ = cjson.Array(globs, func(val []byte) bool { // the event was checked when it came
		if g, ok := cjson.String(val); ok {
			found = matches(strings.ToLower(g), host)
		}
		return !found
	})
	return found
}

// matches says whether the whole of a text fits a pattern with * and ?. Going
// back to the last star is enough, so the time is bounded by the product of the
// lengths.
func matches(glob, text string) bool {
	g, t, star, from := 0, 0, -1, 0
	for t < len(text) {
		switch {
		case g < len(glob) && glob[g] == '*':
			star, from = g, t
			g++
		case g < len(glob) && (glob[g] == '?' || glob[g] == text[t]):
			g++
			t++
		case star >= 0:
			from++
			g, t = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(glob[g:], "*") == ""
}

// acls remembers judgements: a list may have thousands of patterns, and is asked
// about with every transaction. An event never changes, so they stay true.
type acls struct {
	mu sync.Mutex
	m  map[judged]bool
}

type judged struct {
	acl    room.EventNum
	server mxid.Server
}

// maxJudged bounds the judgements in memory; a full memory is emptied.
const maxJudged = 2048

func (a *acls) allows(e *room.Event, s mxid.Server) bool {
	k := judged{e.Num, s}
	a.mu.Lock()
	defer a.mu.Unlock()
	yes, ok := a.m[k]
	if !ok {
		if yes = aclAllows(e.Content, s); a.m == nil || len(a.m) >= maxJudged {
			a.m = map[judged]bool{}
		}
		a.m[k] = yes
	}
	return yes
}

// Admits refuses a server that a room's access list keeps out, as the room's
// state is given by head: an error of kind Forbidden. Our own server is never kept
// out: what its users may do is for the auth rules to say.
// Spec: server-server, server access control lists.
func (f *Federation) Admits(head *room.Head, s mxid.Server) error {
	if s == f.server {
		return nil
	}
	e, err := f.Rooms.StateEvent(head.State, "m.room.server_acl", "")
	if err != nil || e == nil {
		return err
	}
	if !f.acls.allows(e, s) {
		return fault.E(fault.Forbidden, "federation.Admits", "the room's access list keeps %s out", s)
	}
	return nil
}
