package mxid

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Link points at a user, a room, or an event in a room, for apps to open.
// Spec: appendices, URIs.
type Link struct {
	User  UserID
	Room  RoomID
	Alias Alias // in place of Room
	Event EventID
	Via   []Server // which servers know the room
	// Action is what the app is to offer: "join" for a room, "chat" for a user, or
	// nothing.
	Action string
}

const (
	matrixScheme = "matrix:"
	matrixTo     = "https://matrix.to/#/"
)

// maxVia bounds the servers of a link; what follows is left out.
const maxVia = 20

// maxLink bounds a link: two ids, each byte of them as three, and servers.
const maxLink = 8192

var errLink = errors.New("mxid: this is no link to anything of Matrix")

// ParseLink reads a link in either form: matrix:, also with the types that were
// in use before it was settled, and https://matrix.to, also half encoded.
func ParseLink(s string) (Link, error) {
	if len(s) > maxLink {
		return Link{}, errLink
	}
	if len(s) > len(matrixScheme) && strings.EqualFold(s[:len(matrixScheme)], matrixScheme) {
		return parseURI(s[len(matrixScheme):])
	}
	rest, ok := strings.CutPrefix(s, matrixTo)
	if !ok {
		if rest, ok = strings.CutPrefix(s, "http://matrix.to/#/"); !ok {
			return Link{}, errLink
		}
	}
	path, query, _ := strings.Cut(rest, "?")
	id, event, _ := strings.Cut(path, "/")
	var l Link
	id, err := url.PathUnescape(id)
	if err == nil && id != "" {
		err = l.point(id[0], id[1:])
	}
	if err != nil || id == "" {
		return Link{}, errLink
	}
	if event != "" {
		// Ids of room version 3 may hold slashes that were not encoded.
		if event, err = url.PathUnescape(event); err != nil {
			return Link{}, errLink
		}
		if err := l.at(strings.TrimPrefix(event, "$")); err != nil {
			return Link{}, err
		}
	}
	return l, l.ask(query)
}

// parseURI reads what follows the scheme.
func parseURI(s string) (l Link, err error) {
	s, _, _ = strings.Cut(s, "#")
	path, query, _ := strings.Cut(s, "?")
	if rest, ok := strings.CutPrefix(path, "//"); ok { // an authority, which nobody has defined
		if _, path, ok = strings.Cut(rest, "/"); !ok {
			return l, errLink
		}
	}
	part := strings.Split(path, "/")
	if len(part) != 2 && len(part) != 4 {
		return l, errLink
	}
	for i := 1; i < len(part); i += 2 {
		if part[i], err = url.PathUnescape(part[i]); err != nil {
			return Link{}, errLink
		}
	}
	sigil := map[string]byte{"u": '@', "user": '@', "r": '#', "room": '#', "roomid": '!'}[part[0]]
	if err := l.point(sigil, part[1]); err != nil {
		return Link{}, err
	}
	if len(part) == 4 {
		if part[2] != "e" && part[2] != "event" {
			return Link{}, errLink
		}
		if err := l.at(part[3]); err != nil {
			return Link{}, err
		}
	}
	return l, l.ask(query)
}

// point sets what the link is to.
func (l *Link) point(sigil byte, rest string) (err error) {
	switch id := string(sigil) + rest; sigil {
	case '@':
		l.User, err = ParseUser(id)
	case '#':
		l.Alias, err = ParseAlias(id)
	case '!':
		l.Room, err = ParseRoom(id)
	default:
		err = errLink
	}
	return err
}

// at sets the event, of which a user has none.
func (l *Link) at(rest string) (err error) {
	if l.User != "" {
		return errLink
	}
	l.Event, err = ParseEvent("$" + rest)
	return err
}

// ask reads the query. What it does not know is for other apps.
func (l *Link) ask(query string) error {
	for pair := range strings.SplitSeq(query, "&") {
		key, val, _ := strings.Cut(pair, "=")
		val, err := url.QueryUnescape(val)
		if err != nil {
			return errLink
		}
		switch {
		case key == "via" && len(l.Via) < maxVia:
			s, err := ParseServer(val)
			if err != nil {
				return fmt.Errorf("mxid: via: %w", err)
			}
			l.Via = append(l.Via, s)
		case key == "action" && (val == "join" && l.User == "" || val == "chat" && l.User != ""):
			l.Action = val
		}
	}
	return nil
}

// parts are the type of the link's target as a URI names it, and its id.
func (l *Link) parts() (typ, id string) {
	switch {
	case l.User != "":
		return "u", string(l.User)
	case l.Alias != "":
		return "r", string(l.Alias)
	}
	return "roomid", string(l.Room)
}

// query is what follows a target.
func (l *Link) query(action bool) string {
	var list []string
	for _, v := range l.Via {
		list = append(list, "via="+escape(string(v)))
	}
	if action && l.Action != "" {
		list = append(list, "action="+escape(l.Action))
	}
	if len(list) == 0 {
		return ""
	}
	return "?" + strings.Join(list, "&")
}

// URI is the link in the scheme matrix:, which opens an app.
// Spec: appendices, Matrix URI scheme.
func (l *Link) URI() string {
	typ, id := l.parts()
	if id == "" {
		return ""
	}
	s := matrixScheme + typ + "/" + escape(id[1:])
	if l.Event != "" {
		s += "/e/" + escape(string(l.Event[1:]))
	}
	return s + l.query(true)
}

// Web is the link as an address that a browser can open too.
// Spec: appendices, matrix.to navigation.
func (l *Link) Web() string {
	_, id := l.parts()
	if id == "" {
		return ""
	}
	s := matrixTo + escape(id)
	if l.Event != "" {
		s += "/" + escape(string(l.Event))
	}
	return s + l.query(false)
}

// escape encodes all that could mean something else in a segment or a query.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~!$*@:,;=()'", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
