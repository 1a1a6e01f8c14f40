package auth

import (
	"strings"

	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
)

// The state event types the rules look at.
const (
	typeCreate      = "m.room.create"
	typeMember      = "m.room.member"
	typePowerLevels = "m.room.power_levels"
	typeJoinRules   = "m.room.join_rules"
	typeThirdParty  = "m.room.third_party_invite"
	typeAliases     = "m.room.aliases"
	typeRedaction   = "m.room.redaction"
)

// State gives the state event of a type and state key, nil where there is none:
// the state before an event, or the auth events it names. In version 12 too it
// has to give the create event, though no event names that as its auth event.
type State func(typ, stateKey string) *event.Event

// check is one run of the rules.
type check struct {
	e      *event.Event
	v      *event.Version
	state  State
	create *event.Event
	given  *PowerLevels // the caller's; nil where it gave none
	read   bool         // own is filled
	own    PowerLevels  // c stays off the heap because nothing in it points here
}

// Check says whether the authorisation rules allow e in the state. The error is
// of kind fault.BadJSON where e's own content has a shape no state would allow,
// else fault.Forbidden; its text is for a client to read. The auth events that e
// names are judged by CheckAuthEvents.
func Check(e *event.Event, state State) error { return CheckWith(e, state, nil) }

// CheckWith is Check for a caller that holds the parsed power levels of the state,
// as ParsePowerLevels makes them. With nil they are read from the state.
//
// A message from a member costs no allocation (TestAllocations holds that).
func CheckWith(e *event.Event, state State, pl *PowerLevels) error {
	if e.Type == typeCreate {
		return checkCreate(e)
	}
	c := check{e: e, v: e.Version, state: state, create: state(typeCreate, ""), given: pl}
	if err := c.room(); err != nil {
		return err
	}
	switch {
	case e.Type == typeAliases && c.v.AliasesOwned:
		return c.aliases()
	case e.Type == typeMember:
		return c.member()
	}
	// Spec: rooms v12, auth rule 6.
	if c.membership(string(e.Sender)) != join {
		return deny("%s is not in the room", e.Sender)
	}
	levels := c.levels()
	level := levels.UserLevel(e.Sender)
	// Spec: rooms v12, auth rule 7.1.
	if e.Type == typeThirdParty {
		if level < levels.Invite() {
			return deny("inviting needs power level %d", levels.Invite())
		}
		return nil
	}
	// Spec: rooms v12, auth rule 8.
	if need := levels.EventLevel(e.Type, e.IsState); level < need {
		return deny("sending %s needs power level %d", e.Type, need)
	}
	// Spec: rooms v12, auth rule 9.
	if e.IsState && len(e.StateKey) > 0 && e.StateKey[0] == '@' && e.StateKey != string(e.Sender) {
		if err := c.owned(levels, level); err != nil {
			return err
		}
	}
	switch {
	case e.Type == typePowerLevels:
		return c.powerLevels(level)
	case e.Type == typeRedaction && c.v.RedactByDomain:
		return c.redaction(level)
	}
	return nil // Spec: rooms v12, auth rule 11.
}

// owned judges a state key that begins as a user id and is not the sender's.
// Spec: rooms v12, auth rule 9; MSC3757.
func (c *check) owned(levels *PowerLevels, level int64) error {
	if !c.v.OwnedState {
		return deny("the state key is another user's id")
	}
	// A server name holds no "_", so the first one behind it ends the user id.
	key := c.e.StateKey
	colon := strings.IndexByte(key, ':')
	if colon < 0 {
		return fault.E(fault.BadJSON, "auth.Check", "the state key is no user id")
	}
	if end := strings.IndexByte(key[colon:], '_'); end >= 0 {
		key = key[:colon+end]
	}
	owner, err := mxid.ParseUser(key)
	if err != nil {
		return fault.E(fault.BadJSON, "auth.Check", "the state key does not begin with a user id: %w", err)
	}
	if owner != c.e.Sender && levels.UserLevel(owner) >= level {
		return deny("the state key is of a user with no lower power level than the sender")
	}
	return nil
}

// room applies what holds for every event but the create event.
func (c *check) room() error {
	// Spec: rooms v12, auth rule 2; rooms v11, auth rule 2.4.
	if c.create == nil {
		return deny("the room has no create event")
	}
	if c.v.RoomIDIsCreate && !namesCreate(c.e.Room, c.create.ID) {
		return deny("the room id is not that of the create event")
	}
	// Spec: rooms v12, auth rule 4.
	if !Federates(c.create) && c.e.Sender.Server() != c.create.Sender.Server() {
		return deny("the room does not federate")
	}
	return nil
}

// aliases is the rule for m.room.aliases, which versions 6 and up dropped.
func (c *check) aliases() error {
	// Spec: rooms v5, auth rule 4.1.
	if !c.e.IsState {
		return deny("m.room.aliases needs a state key")
	}
	// Spec: rooms v5, auth rule 4.2.
	if c.e.StateKey != string(c.e.Sender.Server()) {
		return deny("aliases of another server")
	}
	return nil // Spec: rooms v5, auth rule 4.3.
}

// levels reads the power levels of the state once, on demand.
func (c *check) levels() *PowerLevels {
	if c.given != nil {
		return c.given
	}
	if !c.read {
		c.own.read(c.v, c.create, c.state(typePowerLevels, ""))
		c.read = true
	}
	return &c.own
}

// membership is the membership of a user in the state.
func (c *check) membership(user string) membership {
	return membershipOf(c.state(typeMember, user))
}

// joinRule is the join rule of the state.
func (c *check) joinRule() string { return JoinRule(c.state(typeJoinRules, "")) }

// JoinRule is the join rule an m.room.join_rules event sets; "invite" where the
// event is nil or says nothing, which is what deployed servers assume.
func JoinRule(rules *event.Event) string {
	if rules != nil {
		if val, ok := cjson.Lookup(rules.Content, "join_rule"); ok {
			for _, known := range [...]string{"public", "invite", "knock", "restricted", "knock_restricted", "private"} {
				if cjson.Is(val, known) {
					return known
				}
			}
			rule, _ := cjson.String(val)
			return rule
		}
	}
	return "invite"
}

// AllowedRooms lists the rooms whose members may join under the restricted join
// rules that an m.room.join_rules event sets. Conditions of other types are left
// out. Spec: client-server-api, restricted rooms.
func AllowedRooms(rules *event.Event) []mxid.RoomID {
	if rules == nil {
		return nil
	}
	var rooms []mxid.RoomID
	allow, _ := cjson.Lookup(rules.Content, "allow")
	_ = cjson.Array(allow, func(cond []byte) bool {
		typ, _ := cjson.Lookup(cond, "type")
		val, _ := cjson.Lookup(cond, "room_id")
		if id, ok := cjson.String(val); ok && cjson.Is(typ, "m.room_membership") {
			rooms = append(rooms, mxid.RoomID(id))
		}
		return true
	})
	return rooms
}

// deny is a refusal by the rules.
func deny(format string, args ...any) error {
	return fault.E(fault.Forbidden, "auth.Check", format, args...)
}

// malformed is a refusal of content that no state would allow.
func malformed(format string, args ...any) error {
	return fault.E(fault.BadJSON, "auth.Check", format, args...)
}

// namesUser says whether an id has the shape of a user id: a sigil and a colon.
// It is as lenient as deployed servers are, since to refuse an event that others
// accept splits the room.
func namesUser(id string) bool {
	return len(id) > 0 && id[0] == '@' && strings.IndexByte(id, ':') > 0
}
