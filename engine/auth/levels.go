package auth

import (
	"math"
	"strings"

	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/mxid"
)

// Infinite is the power level of a creator where creators stand above all levels.
// No power levels event can say it.
const Infinite = math.MaxInt64

// maxLevel bounds what a power levels event of an old version can say: strings and
// floats there have no limit, and whatever is beyond is taken for the limit.
const maxLevel = 1 << 62

// creatorLevel is what a room's creator has before the first power levels event.
const creatorLevel = 100

// PowerLevels are the power levels of a room, read once from its create and power
// levels events. Values of a wrong shape count as absent.
// Spec: client-server-api, m.room.power_levels.
type PowerLevels struct {
	create *event.Event // nil where not known
	v      *event.Version
	absent bool // there is no power levels event

	usersDefault, eventsDefault, stateDefault int64
	invite, kick, ban, redact                 int64

	users, events, notifications []byte // JSON objects, nil where absent

	byUser map[mxid.UserID]int64 // users parsed; nil where only users is at hand
	byType map[string]int64      // events parsed, likewise
}

// ParsePowerLevels reads power levels to be kept and asked often. Either event may
// be nil: without a power levels event the defaults hold, and the creator has 100.
func ParsePowerLevels(create, pl *event.Event) *PowerLevels {
	p := new(PowerLevels)
	v := versionOf(pl, create)
	p.read(v, create, pl)
	p.byUser = make(map[mxid.UserID]int64)
	_ = cjson.Object(p.users, func(key, val []byte) bool {
		if n, ok := parseLevel(v, val); ok {
			p.byUser[mxid.UserID(key)] = n
		}
		return true
	})
	p.byType = make(map[string]int64)
	_ = cjson.Object(p.events, func(key, val []byte) bool {
		if n, ok := parseLevel(v, val); ok {
			p.byType[string(key)] = n
		}
		return true
	})
	return p
}

// versionOf is the room version of the first event there is. Without any nothing
// can be parsed and the version does not matter.
func versionOf(events ...*event.Event) *event.Version {
	for _, e := range events {
		if e != nil {
			return e.Version
		}
	}
	return event.LookupVersion(event.DefaultVersion)
}

// read fills p without building maps, for one or two questions.
func (p *PowerLevels) read(v *event.Version, create, pl *event.Event) {
	p.create, p.v, p.absent = create, v, pl == nil
	p.stateDefault, p.kick, p.ban, p.redact = 50, 50, 50, 50
	if pl == nil {
		return
	}
	_ = cjson.Object(pl.Content, func(key, val []byte) bool {
		p.set(key, val)
		return true
	})
}

// set takes one member of the content of a power levels event.
func (p *PowerLevels) set(key, val []byte) {
	var to *int64
	switch string(key) {
	case "users":
		p.users = val
		return
	case "events":
		p.events = val
		return
	case "notifications":
		p.notifications = val
		return
	case "users_default":
		to = &p.usersDefault
	case "events_default":
		to = &p.eventsDefault
	case "state_default":
		to = &p.stateDefault
	case "invite":
		to = &p.invite
	case "kick":
		to = &p.kick
	case "ban":
		to = &p.ban
	case "redact":
		to = &p.redact
	default:
		return
	}
	if n, ok := parseLevel(p.v, val); ok {
		*to = n
	}
}

// UserLevel is the power level of a user, Infinite for the creators of version 12.
func (p *PowerLevels) UserLevel(user mxid.UserID) int64 {
	if standsAbove(p.create, user) {
		return Infinite
	}
	if p.absent {
		if user != "" && creatorOf(p.create) == user {
			return creatorLevel
		}
		return 0
	}
	if p.byUser != nil {
		if n, ok := p.byUser[user]; ok {
			return n
		}
		return p.usersDefault
	}
	return p.find(p.users, string(user), p.usersDefault)
}

// EventLevel is the power level it takes to send an event of the type.
func (p *PowerLevels) EventLevel(typ string, isState bool) int64 {
	otherwise := p.eventsDefault
	if isState {
		otherwise = p.stateDefault
	}
	if p.byType != nil {
		if n, ok := p.byType[typ]; ok {
			return n
		}
		return otherwise
	}
	return p.find(p.events, typ, otherwise)
}

// Invite is the power level it takes to invite.
func (p *PowerLevels) Invite() int64 { return p.invite }

// Kick is the power level it takes to remove a member.
func (p *PowerLevels) Kick() int64 { return p.kick }

// Ban is the power level it takes to ban and, with Kick, to lift a ban.
func (p *PowerLevels) Ban() int64 { return p.ban }

// Redact is the power level it takes to redact what others have sent.
func (p *PowerLevels) Redact() int64 { return p.redact }

// UsersDefault is the power level of users who are not named.
func (p *PowerLevels) UsersDefault() int64 {
	if p.absent {
		return 0
	}
	return p.usersDefault
}

// Notification is the power level it takes to notify in the way of the key, as
// "room" for @room.
func (p *PowerLevels) Notification(key string) int64 { return p.find(p.notifications, key, 50) }

// find reads one level of a JSON object.
func (p *PowerLevels) find(obj []byte, key string, otherwise int64) int64 {
	if val, ok := cjson.Lookup(obj, key); ok {
		if n, ok := parseLevel(p.v, val); ok {
			return n
		}
	}
	return otherwise
}

// parseLevel reads one power level: an integer, in versions before 10 also a
// string that is an integer or a float whose fraction is dropped.
// Spec: rooms v9, m.room.power_levels events accept values as strings;
// rooms v5, m.room.power_levels events accept values as floats.
func parseLevel(v *event.Version, val []byte) (int64, bool) {
	if n, ok := cjson.Int(val); ok {
		return bounded(n), true
	}
	if v.IntegerPL {
		return 0, false
	}
	switch cjson.KindOf(val) {
	case cjson.NumberKind:
		f, ok := cjson.Float(val)
		return int64(max(-maxLevel, min(maxLevel, f))), ok
	case cjson.StringKind:
		s, ok := cjson.String(val)
		if !ok {
			return 0, false
		}
		return parseText(strings.TrimSpace(s))
	}
	return 0, false
}

// parseText reads a sign, if any, and digits.
func parseText(s string) (n int64, ok bool) {
	negative := false
	if s != "" && (s[0] == '-' || s[0] == '+') {
		negative = s[0] == '-'
		s = s[1:]
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		if n > (maxLevel-9)/10 {
			n = maxLevel // and stays there
			continue
		}
		n = n*10 + int64(s[i]-'0')
	}
	if negative {
		n = -n
	}
	return n, s != ""
}

func bounded(n int64) int64 { return max(-maxLevel, min(maxLevel, n)) }

// UserLevel is the power level of one user, for who asks only once of these events;
// either may be nil.
func UserLevel(create, pl *event.Event, user mxid.UserID) int64 {
	var p PowerLevels
	p.read(versionOf(pl, create), create, pl)
	return p.UserLevel(user)
}
