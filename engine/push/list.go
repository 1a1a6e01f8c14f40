package push

import (
	"strconv"

	"hearth/engine/cjson"
	"hearth/engine/room"
	"hearth/engine/stream"
)

const (
	// maxScan is how many entries of the log one page looks through, and maxJudged
	// how many events it asks the rules about: a page may come out short, with a
	// token to go on from.
	maxScan   = 20_000
	maxJudged = 1000
	// MaxPage is the longest page.
	MaxPage = 100
)

// Page is what a client asks of the list of notifications.
type Page struct {
	User      uint32
	Device    uint64 // told the transaction ids of its own events
	From      uint64 // a position: only what is before it; 0: from the newest on
	Limit     int    // at most MaxPage
	Highlight bool   // only what is highlighted
}

// AppendList appends the answer to a page: notifications, newest first. They are
// found in the log anew each time, by the user's rules as they are now: to keep
// them would be a row for each event and member. Spec: client-server,
// GET /notifications.
func (p *Push) AppendList(dst []byte, page *Page) ([]byte, error) {
	upto := p.Log.Tip()
	if page.From != 0 {
		upto = min(upto, stream.Pos(page.From-1))
	}
	s, err := p.seeker(page.User, p.Log.Tip())
	if err != nil {
		return dst, err
	}
	l := &lister{seeker: s, page: page, dst: append(dst, `{"notifications":[`...), views: map[room.Num]*room.Viewer{}}
	after := stream.Pos(0)
	if upto > maxScan {
		after = upto - maxScan
	}
	next := after + 1 // where the page ended
	judged := 0
	var failed error
	err = p.Log.ReadBack(after, upto, func(pos stream.Pos, e *stream.Entry) bool {
		if e.Kind == stream.Standing && e.User != page.User || e.Kind == stream.RoomEvent && e.User == page.User {
			return true
		}
		if e.Kind != stream.RoomEvent && e.Kind != stream.Standing {
			return true
		}
		if l.n == page.Limit || judged == maxJudged {
			next = pos + 1
			return false
		}
		judged++
		failed = l.take(room.Num(e.Room), room.EventNum(e.Event))
		return failed == nil
	})
	if err == nil {
		err = failed
	}
	l.dst = append(l.dst, ']')
	if next > 1 {
		l.dst = strconv.AppendUint(append(l.dst, `,"next_token":"n`...), uint64(next), 10)
		l.dst = append(l.dst, '"')
	}
	return append(l.dst, '}'), err
}

// lister makes one page.
type lister struct {
	*seeker
	page  *Page
	dst   []byte
	n     int
	views map[room.Num]*room.Viewer
}

// take appends an event if it is on the page.
func (l *lister) take(num room.Num, ev room.EventNum) error {
	h, e, a, err := l.judge(num, ev)
	if err != nil || e == nil || l.page.Highlight && !a.Highlight {
		return err
	}
	was, err := l.membershipAt(num, e)
	if err != nil {
		return err
	}
	asked := e.Is("m.room.member", string(l.r.ID)) && was == room.Invite
	if was != room.Join && !asked {
		return nil // they were not there to be notified
	}
	pending := asked && l.rooms[num] == room.Invite
	if !pending && l.rooms[num] == room.Join {
		if pending, err = l.Unread.Pending(l.r, h, l.upto, e.At.Pos); err != nil {
			return err
		}
	}
	if l.n++; l.n > 1 {
		l.dst = append(l.dst, ',')
	}
	l.dst = append(append(l.dst, `{"actions":`...), a.Raw...)
	l.dst = append(l.dst, `,"event":`...)
	if l.dst, err = l.Rooms.AppendClient(l.dst, e, room.Reader{Device: l.page.Device, OmitRoom: true}); err != nil {
		return err
	}
	l.dst = strconv.AppendBool(append(l.dst, `,"read":`...), !pending)
	l.dst = cjson.AppendString(append(l.dst, `,"room_id":`...), string(h.ID))
	l.dst = strconv.AppendInt(append(l.dst, `,"ts":`...), e.Time, 10)
	l.dst = append(l.dst, '}')
	return nil
}

// membershipAt is the reader's standing when an event came.
func (l *lister) membershipAt(num room.Num, e *room.Event) (room.Membership, error) {
	if e.At.Pos == 0 {
		return room.Invite, nil // to a room that the hub was not in; judge lets no other pass
	}
	v := l.views[num]
	if v == nil {
		var err error
		if v, err = l.Rooms.Viewer(num, l.r.ID); err != nil {
			return room.None, err
		}
		l.views[num] = v
	}
	return v.MembershipAt(e)
}
