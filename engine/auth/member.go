package auth

import (
	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/mxid"
)

// membership is the membership of an m.room.member event, as the rules tell them
// apart.
type membership uint8

const (
	none    membership = iota // no event
	unknown                   // an event whose membership is none of those below
	invite
	join
	knock
	leave
	ban
)

// membershipOf reads the membership without allocating.
func membershipOf(member *event.Event) membership {
	if member == nil {
		return none
	}
	val, _ := cjson.Lookup(member.Content, "membership")
	return parseMembership(val)
}

func parseMembership(val []byte) membership {
	switch string(val) {
	case `"join"`:
		return join
	case `"leave"`:
		return leave
	case `"invite"`:
		return invite
	case `"ban"`:
		return ban
	case `"knock"`:
		return knock
	}
	return unknown
}

// Membership is the membership that an m.room.member event sets, as the text the
// specification gives it; "" where the event is nil or says none.
func Membership(member *event.Event) string {
	switch membershipOf(member) {
	case none:
		return ""
	case join:
		return "join"
	case leave:
		return "leave"
	case invite:
		return "invite"
	case ban:
		return "ban"
	case knock:
		return "knock"
	}
	val, _ := cjson.Lookup(member.Content, "membership")
	other, _ := cjson.String(val)
	return other
}

// AuthorisedVia is the user whose server has to have signed a membership event
// next to the sender's, because the event says that this user let the member in. ok
// is false where no such signature is called for. Check takes it for given; whoever
// takes events from other servers verifies it. Spec: rooms v12, auth rule 5.2.
func AuthorisedVia(e *event.Event) (user mxid.UserID, ok bool) {
	if e.Type != typeMember || !e.Version.Restricted {
		return "", false
	}
	val, ok := cjson.Lookup(e.Content, "join_authorised_via_users_server")
	if !ok {
		return "", false
	}
	id, _ := cjson.String(val)
	return mxid.UserID(id), true
}

// member is the rule for m.room.member.
func (c *check) member() error {
	// Spec: rooms v12, auth rule 5.1.
	val, ok := cjson.Lookup(c.e.Content, "membership")
	if !ok || !c.e.IsState {
		return malformed("a membership needs a state key and a membership")
	}
	// No rule says it, but deployed servers refuse the member that is no user.
	if !namesUser(c.e.StateKey) {
		return malformed("the state key of a membership is not a user id")
	}
	// Spec: rooms v12, auth rule 5.2. Whose signature is not to be told is not signed.
	if via, ok := AuthorisedVia(c.e); ok && !namesUser(string(via)) {
		return malformed("join_authorised_via_users_server is not a user id")
	}
	switch m := parseMembership(val); {
	case m == join:
		return c.join()
	case m == invite:
		return c.invite()
	case m == leave:
		return c.leave()
	case m == ban:
		return c.ban()
	case m == knock && c.v.Knock:
		return c.knock()
	}
	return malformed("the membership is unknown") // Spec: rooms v12, auth rule 5.8.
}

func (c *check) join() error {
	// Spec: rooms v12, auth rule 5.3.1.
	if len(c.e.Prev) == 1 && c.e.Prev[0] == c.create.ID && c.e.StateKey == string(creatorOf(c.create)) {
		return nil
	}
	// Spec: rooms v12, auth rule 5.3.2.
	if string(c.e.Sender) != c.e.StateKey {
		return deny("nobody can make another user join")
	}
	// Spec: rooms v12, auth rule 5.3.3.
	current := c.membership(c.e.StateKey)
	if current == ban {
		return deny("%s is banned", c.e.Sender)
	}
	welcome := current == invite || current == join
	switch rule := c.joinRule(); {
	case rule == "invite", rule == "knock" && c.v.Knock:
		// Spec: rooms v12, auth rule 5.3.4.
		if welcome {
			return nil
		}
		return deny("%s is not invited", c.e.Sender)
	case rule == "restricted" && c.v.Restricted, rule == "knock_restricted" && c.v.KnockRestricted:
		// Spec: rooms v12, auth rule 5.3.5.1.
		if welcome {
			return nil
		}
		return c.authorised()
	case rule == "public":
		return nil // Spec: rooms v12, auth rule 5.3.6.
	}
	return deny("the room's join rule lets nobody in") // Spec: rooms v12, auth rule 5.3.7.
}

// authorised judges the user who let a new member into a restricted room.
func (c *check) authorised() error {
	// Spec: rooms v12, auth rule 5.3.5.2.
	via, ok := AuthorisedVia(c.e)
	if !ok {
		return deny("%s is neither invited nor let in by a member", c.e.Sender)
	}
	if c.membership(string(via)) != join {
		return deny("%s is not in the room to let others in", via)
	}
	if levels := c.levels(); levels.UserLevel(via) < levels.Invite() {
		return deny("%s has not the power level to let others in", via)
	}
	return nil // Spec: rooms v12, auth rule 5.3.5.3.
}

func (c *check) invite() error {
	// Spec: rooms v12, auth rule 5.4.1.
	if third, ok := cjson.Lookup(c.e.Content, "third_party_invite"); ok {
		return c.thirdParty(third)
	}
	// Spec: rooms v12, auth rule 5.4.2.
	if c.membership(string(c.e.Sender)) != join {
		return deny("%s is not in the room", c.e.Sender)
	}
	// Spec: rooms v12, auth rule 5.4.3.
	switch c.membership(c.e.StateKey) {
	case join:
		return deny("%s is in the room already", c.e.StateKey)
	case ban:
		return deny("%s is banned", c.e.StateKey)
	}
	// Spec: rooms v12, auth rule 5.4.4.
	if levels := c.levels(); levels.UserLevel(c.e.Sender) < levels.Invite() {
		return deny("inviting needs power level %d", levels.Invite())
	}
	return nil
}

func (c *check) leave() error {
	current := c.membership(c.e.StateKey)
	// Spec: rooms v12, auth rule 5.5.1.
	if string(c.e.Sender) == c.e.StateKey {
		if current == join || current == invite || current == knock && c.v.Knock {
			return nil
		}
		return deny("%s is not in the room", c.e.Sender)
	}
	// Spec: rooms v12, auth rule 5.5.2.
	if c.membership(string(c.e.Sender)) != join {
		return deny("%s is not in the room", c.e.Sender)
	}
	levels := c.levels()
	level := levels.UserLevel(c.e.Sender)
	// Spec: rooms v12, auth rule 5.5.3.
	if current == ban && level < levels.Ban() {
		return deny("lifting a ban needs power level %d", levels.Ban())
	}
	// Spec: rooms v12, auth rule 5.5.4.
	if level < levels.Kick() {
		return deny("removing a member needs power level %d", levels.Kick())
	}
	if levels.UserLevel(mxid.UserID(c.e.StateKey)) >= level {
		return deny("%s has no lower power level than the sender", c.e.StateKey)
	}
	return nil
}

func (c *check) ban() error {
	// Spec: rooms v12, auth rule 5.6.1.
	if c.membership(string(c.e.Sender)) != join {
		return deny("%s is not in the room", c.e.Sender)
	}
	// Spec: rooms v12, auth rule 5.6.2.
	levels := c.levels()
	level := levels.UserLevel(c.e.Sender)
	if level < levels.Ban() {
		return deny("banning needs power level %d", levels.Ban())
	}
	if levels.UserLevel(mxid.UserID(c.e.StateKey)) >= level {
		return deny("%s has no lower power level than the sender", c.e.StateKey)
	}
	return nil
}

func (c *check) knock() error {
	// Spec: rooms v12, auth rule 5.7.1.
	if rule := c.joinRule(); rule != "knock" && (rule != "knock_restricted" || !c.v.KnockRestricted) {
		return deny("the room takes no knocks")
	}
	// Spec: rooms v12, auth rule 5.7.2.
	if string(c.e.Sender) != c.e.StateKey {
		return deny("nobody can knock for another user")
	}
	// Spec: rooms v12, auth rule 5.7.3.
	switch c.membership(c.e.StateKey) {
	case ban:
		return deny("%s is banned", c.e.Sender)
	case invite:
		return deny("%s is invited already", c.e.Sender)
	case join:
		return deny("%s is in the room already", c.e.Sender)
	}
	return nil
}
