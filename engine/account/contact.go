package account

import (
	"sync"

	"hearth/engine/cjson"
	"hearth/engine/mxid"
	"hearth/engine/pushrule"
	"hearth/engine/store"
)

// What a user says in account data about others, for the hub to act on.
const (
	TypeIgnored = "m.ignored_user_list"
	TypeInvites = "m.invite_permission_config"
	// typeInvitesOld is the form of MSC4155 that came before, with lists. The
	// specification took its default action only; clients still write the lists.
	typeInvitesOld = "org.matrix.msc4155.invite_permission_config"
)

// Invites says what becomes of an invite.
type Invites uint8

// The answers.
const (
	TakeInvites  Invites = iota // it is shown
	HideInvites                 // it stands in the room and is not shown
	BlockInvites                // it is refused
)

// contacts is what is read off the account data above and the push rules,
// compiled.
type contacts struct {
	ignored map[mxid.UserID]struct{}
	block   bool
	lists   []inviteList // in the order in which they decide
	rules   *pushrule.Ruleset
	size    int
}

// inviteList is one of MSC4155's lists: patterns of users or of servers.
type inviteList struct {
	servers  bool
	action   Invites
	patterns []string
}

// contactBytes bounds what is kept in memory of all users together, by the
// length of the account data.
const contactBytes = 512 << 10

// rulesWeight is what the push rules of a user who changed none count for.
const rulesWeight = 512

// contactCache keeps contacts by user. gen is raised by each change, so that
// what was read before it is not kept after it.
type contactCache struct {
	mu   sync.Mutex
	gen  uint64
	size int
	m    map[uint32]*contacts
}

func (c *contactCache) get(user uint32) (*contacts, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.m[user], c.gen
}

func (c *contactCache) put(user uint32, e *contacts, gen uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gen != gen || e.size > contactBytes/2 {
		return
	}
	c.drop(user)
	for u := range c.m {
		if c.size+e.size <= contactBytes {
			break
		}
		c.drop(u)
	}
	if c.m == nil {
		c.m = map[uint32]*contacts{}
	}
	c.m[user] = e
	c.size += e.size
}

// drop needs mu.
func (c *contactCache) drop(user uint32) {
	if e := c.m[user]; e != nil {
		c.size -= e.size
		delete(c.m, user)
	}
}

// forgetContacts has to follow a change of account data of the type.
func (a *Accounts) forgetContacts(user uint32, typ string) {
	if typ != TypeIgnored && typ != TypeInvites && typ != typeInvitesOld && typ != TypePushRules {
		return
	}
	c := &a.contacts
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gen++
	c.drop(user)
}

func (a *Accounts) contactsOf(user uint32) (*contacts, error) {
	e, gen := a.contacts.get(user)
	if e != nil {
		return e, nil
	}
	e = &contacts{size: rulesWeight}
	id, err := a.names.Name(store.Users, user)
	if err != nil {
		return nil, err
	}
	stored, _, err := a.Data(nil, user, 0, TypePushRules)
	if err != nil {
		return nil, err
	}
	if e.rules, err = pushrule.Parse(mxid.UserID(id), stored); err != nil {
		return nil, err
	}
	e.size += 4 * len(stored)
	for _, typ := range [...]string{TypeIgnored, TypeInvites, typeInvitesOld} {
		content, ok, err := a.Data(nil, user, 0, typ)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		e.size += 2 * len(content)
		switch typ {
		case TypeIgnored:
			e.ignored = parseIgnored(content)
		case typeInvitesOld:
			e.lists = parseInviteLists(content)
		}
		if action, ok := cjson.LookupString(content, "default_action"); ok && typ != TypeIgnored {
			e.block = e.block || action == "block"
		}
	}
	a.contacts.put(user, e, gen)
	return e, nil
}

// parseIgnored reads what clients wrote, so whatever is of the wrong shape
// ignores nobody.
func parseIgnored(content []byte) map[mxid.UserID]struct{} {
	users, ok := cjson.Lookup(content, "ignored_users")
	if !ok || cjson.KindOf(users) != cjson.ObjectKind {
		return nil
	}
	all := map[mxid.UserID]struct{}{}
	_ = cjson.Object(users, func(id, _ []byte) bool { // stored content is sound JSON
		all[mxid.UserID(id)] = struct{}{}
		return true
	})
	return all
}

func parseInviteLists(content []byte) (all []inviteList) {
	for _, l := range [...]struct {
		key string
		inviteList
	}{
		{"allowed_users", inviteList{false, TakeInvites, nil}},
		{"ignored_users", inviteList{false, HideInvites, nil}},
		{"blocked_users", inviteList{false, BlockInvites, nil}},
		{"allowed_servers", inviteList{true, TakeInvites, nil}},
		{"ignored_servers", inviteList{true, HideInvites, nil}},
		{"blocked_servers", inviteList{true, BlockInvites, nil}},
	} {
		list, ok := cjson.Lookup(content, l.key)
		if !ok || cjson.KindOf(list) != cjson.ArrayKind {
			continue
		}
		_ = cjson.Array(list, func(val []byte) bool { // as above
			if s, ok := cjson.String(val); ok {
				l.patterns = append(l.patterns, s)
			}
			return true
		})
		if len(l.patterns) > 0 {
			all = append(all, l.inviteList)
		}
	}
	return all
}

// Rules gives a user's push rules for evaluation. They are shared and must not
// be changed; see EditPushRules.
func (a *Accounts) Rules(user uint32) (*pushrule.Ruleset, error) {
	e, err := a.contactsOf(user)
	if err != nil {
		return nil, err
	}
	return e.rules, nil
}

// Ignored gives those whom a user ignores; nil where there are none. The map is
// shared and must not be written to. Spec: client-server, ignoring users.
func (a *Accounts) Ignored(user uint32) (map[mxid.UserID]struct{}, error) {
	e, err := a.contactsOf(user)
	if err != nil {
		return nil, err
	}
	return e.ignored, nil
}

// InvitesFrom says what becomes of an invite of the user by the other. An
// invite by somebody who is ignored is hidden; the rest is the user's own
// setting. Spec: client-server, invite permission.
func (a *Accounts) InvitesFrom(user uint32, from mxid.UserID) (Invites, error) {
	e, err := a.contactsOf(user)
	if err != nil {
		return TakeInvites, err
	}
	action := e.judge(from)
	if _, ignored := e.ignored[from]; ignored && action == TakeInvites {
		action = HideInvites
	}
	return action, nil
}

func (e *contacts) judge(from mxid.UserID) Invites {
	for i := range e.lists {
		l := &e.lists[i]
		text := string(from)
		if l.servers {
			text = string(from.Server())
		}
		for _, p := range l.patterns {
			if pushrule.Match(p, text) {
				return l.action
			}
		}
	}
	if e.block {
		return BlockInvites
	}
	return TakeInvites
}
