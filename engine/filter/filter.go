package filter

import (
	"slices"
	"strings"

	"hearth/engine/cjson"
	"hearth/engine/mxid"
)

// Filter is a parsed filter. The zero Filter lets everything pass.
// Spec: client-server, filtering.
type Filter struct {
	Fields     []string // event_fields; nil: all
	Federation bool     // event_format "federation"

	Presence    *Part
	AccountData *Part // global

	Room Room
}

// Room is what a filter says about rooms.
type Room struct {
	rooms, notRooms []string
	IncludeLeave    bool

	State       *Part
	Timeline    *Part
	Ephemeral   *Part
	AccountData *Part
}

// Part is an EventFilter or a RoomEventFilter. A nil *Part lets everything
// pass; so does each list that is nil, while an empty one lets nothing.
type Part struct {
	types, notTypes     []string
	senders, notSenders []string
	rooms, notRooms     []string

	// RelatedSenders and RelatedTypes ask for events that others relate to:
	// with a relation by one of these senders, of one of these types. nil: not
	// asked. Spec: client-server, filtering on related events.
	RelatedSenders []string
	RelatedTypes   []string

	relTypes, notRelTypes []string // of the relation an event has itself; MSC3874

	limit int // -1: not given
	url   urlRule

	lazyMembers      bool
	redundantMembers bool
	threadCounts     bool
}

type urlRule uint8

const (
	urlAny urlRule = iota
	urlWith
	urlWithout
)

// Passes says whether the filter shows anything of the room.
func (r *Room) Passes(id mxid.RoomID) bool { return listed(r.rooms, r.notRooms, string(id)) }

// PassesRoom says whether the part shows anything of the room.
func (p *Part) PassesRoom(id mxid.RoomID) bool {
	return p == nil || listed(p.rooms, p.notRooms, string(id))
}

// PassesSender says whether the part shows events of the sender.
func (p *Part) PassesSender(sender mxid.UserID) bool {
	return p == nil || listed(p.senders, p.notSenders, string(sender))
}

// PassesType says whether the part shows events of the type.
func (p *Part) PassesType(typ string) bool {
	if p == nil {
		return true
	}
	is := func(pattern string) bool { return typeMatches(pattern, typ) }
	return !slices.ContainsFunc(p.notTypes, is) && (p.types == nil || slices.ContainsFunc(p.types, is))
}

// Passes says whether the part shows an event of a room it shows.
func (p *Part) Passes(typ string, sender mxid.UserID, content []byte) bool {
	if p == nil {
		return true
	}
	if !p.PassesType(typ) || !p.PassesSender(sender) {
		return false
	}
	if !p.passesRelation(content) {
		return false
	}
	if p.url == urlAny {
		return true
	}
	_, has := cjson.Lookup(content, "url")
	return has == (p.url == urlWith)
}

// passesRelation says whether the part shows events that relate to another as
// this one does. Spec: MSC3874.
func (p *Part) passesRelation(content []byte) bool {
	if p.relTypes == nil && len(p.notRelTypes) == 0 {
		return true
	}
	val, _ := cjson.LookupPath(content, "m.relates_to", "rel_type")
	relType, ok := cjson.String(val)
	return !(ok && slices.Contains(p.notRelTypes, relType)) && (p.relTypes == nil || ok && slices.Contains(p.relTypes, relType))
}

// Nothing says whether the part can show no event at all, which spares the
// reader the search.
func (p *Part) Nothing() bool {
	return p != nil && (empty(p.types) || empty(p.senders) || empty(p.rooms) || empty(p.relTypes) || slices.Contains(p.notTypes, "*"))
}

// Everything says whether the part leaves nothing out of a room it shows.
func (p *Part) Everything() bool {
	return p == nil || p.types == nil && p.senders == nil && len(p.notTypes) == 0 && len(p.notSenders) == 0 &&
		p.url == urlAny && p.relTypes == nil && len(p.notRelTypes) == 0 && p.RelatedSenders == nil && p.RelatedTypes == nil
}

// Limit is how many events to give: what the filter asks for, at most max, or
// the default where it asks for nothing.
func (p *Part) Limit(def, max int) int {
	if p == nil || p.limit < 0 {
		return def
	}
	return min(p.limit, max)
}

// LazyMembers says whether only the members needed for what is shown are asked
// for. Spec: client-server, lazy-loading room members.
func (p *Part) LazyMembers() bool { return p != nil && p.lazyMembers }

// RedundantMembers says whether members are wanted again that the client was
// told before.
func (p *Part) RedundantMembers() bool { return p != nil && p.redundantMembers }

// ThreadCounts says whether unread counts are wanted by thread.
func (p *Part) ThreadCounts() bool { return p != nil && p.threadCounts }

func empty(list []string) bool { return list != nil && len(list) == 0 }

func listed(in, notIn []string, s string) bool {
	return !slices.Contains(notIn, s) && (in == nil || slices.Contains(in, s))
}

// typeMatches matches a type against a pattern in which "*" stands for any
// characters. Each piece is taken at its earliest place, which leaves the most
// room for those after it, so nothing is tried twice.
func typeMatches(pattern, typ string) bool {
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == typ
	}
	typ, ok := strings.CutPrefix(typ, head)
	for ok {
		var piece string
		if piece, rest, star = strings.Cut(rest, "*"); !star {
			return strings.HasSuffix(typ, piece)
		}
		_, typ, ok = strings.Cut(typ, piece)
	}
	return false
}
