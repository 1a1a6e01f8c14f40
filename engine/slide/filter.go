package slide

import (
	"slices"
	"strings"

	"hearth/engine/cjson"
	"hearth/engine/fault"
)

// Filter says which rooms a list is about. The zero Filter lets every room pass.
// Spec: MSC4186, SlidingRoomFilter.
type Filter struct {
	DM, Encrypted, Invited Choice

	Types, NotTypes []RoomType // nil: not asked
	Tags, NotTags   []string
	Spaces          []string // nil: not asked
	Name            string   // in lower case; part of the room's name
}

// None says whether every room passes.
func (f *Filter) None() bool {
	return f.DM == Either && f.Encrypted == Either && f.Invited == Either && f.Types == nil && f.NotTypes == nil &&
		f.Tags == nil && f.NotTags == nil && f.Spaces == nil && f.Name == ""
}

// Choice is what a filter says about something that is or is not.
type Choice uint8

// The choices.
const (
	Either Choice = iota
	Only
	Without
)

// Passes says whether something passes.
func (c Choice) Passes(is bool) bool { return c == Either || is == (c == Only) }

// RoomType is the type of a room; Plain is one that has none.
type RoomType struct {
	Name  string
	Plain bool
}

// Facts says whether the filter asks for what only a room's state tells.
func (f *Filter) Facts() bool {
	return f.Encrypted != Either || f.Types != nil || f.NotTypes != nil
}

// PassesType says whether rooms of a type pass; empty is none.
func (f *Filter) PassesType(typ string) bool {
	t := RoomType{typ, typ == ""}
	return (f.Types == nil || slices.Contains(f.Types, t)) && !slices.Contains(f.NotTypes, t)
}

// PassesTags says whether rooms with these tags pass.
func (f *Filter) PassesTags(tags []string) bool {
	has := func(list []string) bool {
		return slices.ContainsFunc(list, func(t string) bool { return slices.Contains(tags, t) })
	}
	return (f.Tags == nil || has(f.Tags)) && !has(f.NotTags)
}

func (f *Filter) parse(p *parser, val []byte) {
	p.members(val, func(key string, val []byte) {
		switch key {
		case "is_dm":
			f.DM = p.choice(key, val)
		case "is_encrypted":
			f.Encrypted = p.choice(key, val)
		case "is_invite", "is_invited":
			f.Invited = p.choice(key, val)
		case "room_types":
			f.Types = p.types(key, val)
			p.asked(key, len(f.Types))
		case "not_room_types":
			f.NotTypes = p.types(key, val)
			p.asked(key, len(f.NotTypes))
		case "tags":
			f.Tags = p.texts(key, val)
			p.asked(key, len(f.Tags))
		case "not_tags":
			f.NotTags = p.texts(key, val)
			p.asked(key, len(f.NotTags))
		case "spaces":
			f.Spaces = p.texts(key, val)
			p.asked(key, len(f.Spaces))
		case "room_name_like":
			f.Name = strings.ToLower(p.text(key, val, maxString))
		}
	})
}

// asked counts what the filters of all lists name: each is looked for in each room.
func (p *parser) asked(key string, n int) {
	if p.filtered += n; p.filtered > maxFiltered {
		p.fail(fault.Invalid, "filters name at most %d things in all, with those of %s there are more", maxFiltered, key)
	}
}

func (p *parser) choice(key string, val []byte) Choice {
	if p.flag(key, val) {
		return Only
	}
	return Without
}

func (p *parser) types(key string, val []byte) []RoomType {
	list := []RoomType{}
	if cjson.KindOf(val) != cjson.ArrayKind {
		p.fail(fault.BadJSON, "%s must be an array", key)
		return nil
	}
	p.each(key, val, maxListed, func(val []byte) {
		if cjson.KindOf(val) == cjson.NullKind {
			list = append(list, RoomType{Plain: true})
			return
		}
		list = append(list, RoomType{Name: p.text(key, val, maxString)})
	})
	return list
}
