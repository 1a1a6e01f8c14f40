package sync

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/e2ee"
	"hearth/engine/ephemeral"
	"hearth/engine/room"
	"hearth/engine/stream"
)

// receiptsSince says whether receipts of a room moved since a position, and
// whether the user's did.
func (x *slider) receiptsSince(num room.Num, since stream.Pos) (some, mine bool, err error) {
	from := x.since.pos
	x.since.pos = since
	some, mine, err = x.readSince(num)
	x.since.pos = from
	return some, mine, err
}

// scoped writes what the extensions have of a room that the user is in: all of it
// where the client has none, else what has changed.
func (x *slider) scoped(sh *shift) error {
	if err := x.scopedData(sh); err != nil {
		return err
	}
	if err := x.scopedReceipts(sh); err != nil {
		return err
	}
	return x.scopedTyping(sh)
}

// misses says whether an extension leaves a room out. The client then has not
// everything any more, if anything may have changed.
func (x *slider) misses(sh *shift, is toldMark, changed bool) bool {
	if sh.scope&is != 0 {
		return false
	}
	if changed || sh.back {
		sh.now.mark &^= is
	}
	return true
}

// Spec: MSC3959, the account data extension.
func (x *slider) scopedData(sh *shift) error {
	changed := slices.ContainsFunc(x.data, func(d datum) bool { return d.room == sh.room })
	if x.misses(sh, hasData, changed) {
		return nil
	}
	begin := len(x.outData)
	add := func(typ string, content []byte) {
		if len(x.outData) == begin {
			x.outData = openMember(x.outData, string(sh.id), '[')
		} else {
			x.outData = append(x.outData, ',')
		}
		x.outData = appendDatum(x.outData, typ, content)
	}
	var err error
	switch {
	case sh.now.mark&hasData == 0:
		err = x.s.accounts.RoomData(x.req.User, uint32(sh.room), func(typ string, content []byte) {
			if !account.IsDeleted(typ, content) {
				add(typ, content)
			}
		})
	case sh.back:
		if !x.aged {
			x.older, err = x.dataSince(x.earliest())
			x.aged = true
		}
		for _, d := range x.older {
			if d.room == sh.room && d.pos > sh.from {
				add(d.typ, d.json)
			}
		}
	default:
		for _, d := range x.data {
			if d.room == sh.room {
				add(d.typ, d.json)
			}
		}
	}
	if len(x.outData) > begin {
		x.outData = append(x.outData, ']')
		x.extra = true
	}
	sh.now.mark |= hasData
	return err
}

// earliest is the position up to which the client has everything of every room it
// was told of.
func (x *slider) earliest() stream.Pos {
	pos := x.c.has.pos
	for i := range x.c.has.rooms {
		if at := x.c.has.rooms[i].pos; at != 0 {
			pos = min(pos, at)
		}
	}
	return pos
}

// Spec: MSC3960, the receipts extension.
func (x *slider) scopedReceipts(sh *shift) error {
	if x.misses(sh, hasReceipt, sh.seen.receipt) {
		return nil
	}
	since := sh.from
	if sh.now.mark&hasReceipt == 0 {
		since = 0
	} else if !sh.seen.receipt && !sh.back {
		return nil
	}
	mark := len(x.outReceipts)
	out, told, err := x.s.eph.AppendReceipts(openMember(x.outReceipts, string(sh.id), 0), uint32(sh.room),
		ephemeral.Reader{User: x.req.User}, since, x.next.pos)
	if x.outReceipts = out; !told {
		x.outReceipts = out[:mark]
	}
	x.extra = x.extra || told
	sh.now.mark |= hasReceipt
	return err
}

// Spec: MSC3961, the typing extension.
func (x *slider) scopedTyping(sh *shift) (err error) {
	if x.misses(sh, hasTypists, sh.seen.typing) {
		return nil
	}
	whole := sh.now.mark&hasTypists == 0 || sh.back
	sh.now.mark |= hasTypists
	if !whole && !sh.seen.typing {
		return nil
	}
	some := len(x.s.eph.Typists(uint32(sh.room))) > 0
	if !sh.seen.typing && !some && sh.now.mark&someType == 0 {
		return nil
	}
	if sh.now.mark &^= someType; some {
		sh.now.mark |= someType
	}
	x.extra = true
	x.outTyping, err = x.s.eph.AppendTyping(openMember(x.outTyping, string(sh.id), 0), uint32(sh.room))
	return err
}

// openMember begins a member of an object, with what its value begins with.
func openMember(dst []byte, name string, open byte) []byte {
	if len(dst) > 0 {
		dst = append(dst, ',')
	}
	dst = append(cjson.AppendString(dst, name), ':')
	if open != 0 {
		dst = append(dst, open)
	}
	return dst
}

func (x *slider) appendExtensions() error {
	x.comma()
	x.dst = append(x.dst, `"extensions":{`...)
	for _, add := range [...]func() error{x.appendMessages, x.appendKeys, x.appendAccount, x.appendRead, x.appendThreads} {
		if err := add(); err != nil {
			return err
		}
	}
	x.dst = append(x.dst, '}')
	x.news = x.news || x.extra
	return nil
}

// messagesPrefix begins the token of the to-device extension: "d1", the store's
// incarnation, the position of the last message told.
const messagesPrefix = "d1_"

// messagesAfter reads the token of the to-device extension. What is none, or of
// another incarnation, is 0: messages are told again rather than lost.
func (s *Sync) messagesAfter(since string) stream.Pos {
	rest, ok := strings.CutPrefix(since, messagesPrefix)
	inc, at, found := strings.Cut(rest, "_")
	n, err := strconv.ParseUint(inc, 36, 64)
	pos, err2 := strconv.ParseUint(at, 10, 64)
	if !ok || !found || err != nil || err2 != nil || n != s.incarnation || stream.Pos(pos) > s.log.Tip() {
		return 0
	}
	return stream.Pos(pos)
}

// appendMessages writes the messages that wait for the device. The extension has a
// token of its own, which outlives connections. Spec: MSC3885.
func (x *slider) appendMessages() error {
	td := &x.ask.Body.ToDevice
	if !td.On {
		return nil
	}
	after := x.s.messagesAfter(td.Since)
	last, n := after, 0
	x.key("to_device")
	x.dst = append(x.dst, `{"events":[`...)
	if !x.ask.NoMessages {
		var err error
		if td.Limit >= e2ee.MaxTold {
			x.dst, last, _, err = x.s.e2ee.AppendMessages(x.dst, x.req.Device, after, x.next.pos)
		} else {
			err = x.s.e2ee.EachMessage(x.req.Device, x.next.pos, func(at stream.Pos, msg []byte) bool {
				if at <= after {
					return true
				}
				if n++; n > td.Limit {
					return false
				}
				x.comma()
				x.dst, last = append(x.dst, msg...), at
				return true
			})
		}
		if err != nil {
			return err
		}
	}
	x.extra = x.extra || last > after
	x.dst = append(x.dst, `],"next_batch":"`+messagesPrefix...)
	x.dst = strconv.AppendUint(x.dst, x.s.incarnation, 36)
	x.dst = strconv.AppendUint(append(x.dst, '_'), uint64(last), 10)
	x.dst = append(x.dst, `"}`...)
	return nil
}

// appendKeys writes whose devices changed, and how many keys the device has left.
// Spec: MSC3884.
func (x *slider) appendKeys() error {
	if !x.ask.Body.E2EE {
		return nil
	}
	x.key("e2ee")
	x.dst = append(x.dst, '{')
	since := x.c.has.keys
	x.step.keys = x.next.pos
	if since != 0 && x.keysMayHaveChanged(since) {
		lists, err := x.s.keyChanges(x.req.User, x.req.UserID, since)
		if err != nil {
			return err
		}
		if len(lists) > 0 {
			x.dst = append(append(append(x.dst, `"device_lists":`...), lists...), ',')
			x.extra = true
		}
	}
	var err error
	if x.dst, err = x.s.e2ee.AppendCounts(append(x.dst, `"device_one_time_keys_count":`...), x.req.Device); err != nil {
		return err
	}
	x.dst, err = x.s.e2ee.AppendUnused(append(x.dst, `,"device_unused_fallback_key_types":`...), x.req.Device)
	x.dst = append(x.dst, '}')
	return err
}

// keysMayHaveChanged spares the look where nobody's devices changed and nobody
// came or went.
func (x *slider) keysMayHaveChanged(since stream.Pos) bool {
	if !x.brief || since != x.c.has.pos || x.devices {
		return true
	}
	return slices.ContainsFunc(x.lines, func(l line) bool { return l.state || l.kind == stream.Standing && l.user == x.req.User })
}

// appendAccount writes the user's account data, and that of rooms.
func (x *slider) appendAccount() error {
	if !x.ask.Body.AccountData.On {
		return nil
	}
	since := x.c.has.data
	x.step.data = x.next.pos
	x.key("account_data")
	x.dst = append(x.dst, `{"global":[`...)
	begin := len(x.dst)
	rules := since == 0
	err := x.s.accounts.DataSince(x.req.User, since, x.next.pos, func(c *account.Change) bool {
		switch {
		case c.Room != 0, since == 0 && account.IsDeleted(c.Type, c.Content):
		case c.Type == account.TypePushRules:
			rules = true
		default:
			x.comma()
			x.dst = appendDatum(x.dst, c.Type, c.Content)
		}
		return true
	})
	if err != nil {
		return err
	}
	if rules {
		x.comma()
		if err := x.appendPushRules(); err != nil {
			return err
		}
	}
	x.extra = x.extra || len(x.dst) > begin
	x.dst = append(append(append(x.dst, `],"rooms":{`...), x.outData...), `}}`...)
	return nil
}

// appendRead writes who has read what, and who types.
func (x *slider) appendRead() error {
	if len(x.outReceipts) > 0 {
		x.key("receipts")
		x.dst = append(append(append(x.dst, `{"rooms":{`...), x.outReceipts...), `}}`...)
	}
	if len(x.outTyping) > 0 {
		x.key("typing")
		x.dst = append(append(append(x.dst, `{"rooms":{`...), x.outTyping...), `}}`...)
	}
	return nil
}

// appendThreads writes what changed of the user's thread subscriptions, the latest
// of it where it is much. Spec: MSC4308.
func (x *slider) appendThreads() error {
	t := &x.ask.Body.Threads
	if !t.On {
		return nil
	}
	since := x.c.has.threads
	x.step.threads = x.next.pos
	if since != 0 && x.brief && since == x.c.has.pos && !slices.ContainsFunc(x.lines, func(l line) bool {
		return l.kind == stream.Local && l.user == x.req.User
	}) {
		return nil
	}
	mark := len(x.dst)
	if x.ask.Final {
		x.key("thread_subscriptions")
	} else {
		x.key("io.element.msc4308.thread_subscriptions")
	}
	page, err := x.s.Threads(x.dst, x.req.User, ThreadRange{After: since, Upto: x.next.pos, Limit: t.Limit, Sync: true})
	if err != nil {
		return err
	}
	if x.dst = page.Body; page.Told == 0 {
		x.dst = x.dst[:mark]
		return nil
	}
	x.extra = true
	return nil
}

// ThreadRange says which changes of thread subscriptions are asked for: those
// after one position up to another, the latest of them.
type ThreadRange struct {
	After, Upto stream.Pos
	Limit       int
	Sync        bool // in an answer of sliding sync; else the page of a list
}

// ThreadPage is some changes of thread subscriptions.
type ThreadPage struct {
	Body []byte
	Told int
}

// Threads appends an object with changes of a user's thread subscriptions, and
// where to go on if there are more. Spec: MSC4308.
func (s *Sync) Threads(dst []byte, user uint32, r ThreadRange) (ThreadPage, error) {
	list, err := s.accounts.Subscriptions(user, r.After, r.Upto)
	if err != nil {
		return ThreadPage{dst, 0}, err
	}
	slices.SortFunc(list, func(a, b account.ThreadChange) int { return cmp.Compare(b.Pos, a.Pos) })
	more := len(list) > r.Limit
	list = list[:min(len(list), r.Limit)]
	var next stream.Pos
	if more {
		next = list[len(list)-1].Pos - 1
	}
	slices.SortStableFunc(list, func(a, b account.ThreadChange) int { return cmp.Compare(a.Room, b.Room) })
	dst = append(dst, '{')
	for _, ended := range [...]bool{false, true} {
		mark := len(dst)
		if dst, err = s.appendThreads(dst, list, ended); err != nil {
			return ThreadPage{dst, 0}, err
		}
		switch { // of the list clients that are about want both members
		case r.Sync || len(dst) > mark:
		case ended:
			dst = append(dst, `,"unsubscribed":{}`...)
		default:
			dst = append(dst, `"subscribed":{}`...)
		}
	}
	if more {
		name := "end"
		if r.Sync {
			name = "prev_batch"
		}
		dst = appendMember(dst, name, "h1_"+strconv.FormatUint(uint64(next), 10))
	}
	return ThreadPage{append(dst, '}'), len(list)}, nil
}

// appendThreads writes the subscriptions, or those that have ended, by room.
func (s *Sync) appendThreads(dst []byte, list []account.ThreadChange, ended bool) ([]byte, error) {
	var in uint32
	name := `"subscribed":{`
	if ended {
		name = `"unsubscribed":{`
	}
	for i := range list {
		c := &list[i]
		if c.Ended != ended {
			continue
		}
		if in != c.Room {
			id, err := s.rooms.RoomID(room.Num(c.Room))
			if err != nil {
				return dst, err
			}
			switch {
			case in != 0:
				dst = append(dst, `},`...)
			case dst[len(dst)-1] != '{':
				dst = append(append(dst, ','), name...)
			default:
				dst = append(dst, name...)
			}
			dst = append(cjson.AppendString(dst, id), `:{`...)
			in = c.Room
		} else {
			dst = append(dst, ',')
		}
		dst = append(cjson.AppendString(dst, c.Root), `:{`...)
		if !ended {
			dst = append(strconv.AppendBool(append(dst, `"automatic":`...), c.Automatic), ',')
		}
		dst = append(strconv.AppendUint(append(dst, `"bump_stamp":`...), uint64(c.Pos), 10), '}')
	}
	if in != 0 {
		dst = append(dst, `}}`...)
	}
	return dst, nil
}

// ThreadsFrom reads the place where a list of thread subscriptions goes on.
func ThreadsFrom(text string) (stream.Pos, bool) {
	rest, ok := strings.CutPrefix(text, "h1_")
	n, err := strconv.ParseUint(rest, 10, 63)
	return stream.Pos(n), ok && err == nil
}
