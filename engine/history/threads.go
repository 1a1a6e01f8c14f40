package history

import (
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// ThreadQuery asks for a page of a room's threads.
// Spec: client-server, GET /rooms/{roomId}/threads.
type ThreadQuery struct {
	Mine  bool // those the user took part in
	From  *room.Key
	Limit int

	until *room.Key             // the page ends here, whatever follows
	done  map[mxid.EventID]bool // first events that are not to be had
}

// End has the page end at a hole: what is behind it comes with the next page.
func (q *ThreadQuery) End(at room.Key) { q.until = &at }

// Without has the page do without the first event of a thread.
func (q *ThreadQuery) Without(root mxid.EventID) {
	if q.done == nil {
		q.done = map[mxid.EventID]bool{}
	}
	q.done[root] = true
}

// maxThreads bounds the threads one page looks at.
const maxThreads = 1000

// threadPage is a page of threads.
type threadPage struct {
	roots []*room.Event
	next  room.Key     // the token of the next page
	more  bool         // whether there may be one
	lacks mxid.EventID // the first event of a thread on the page that is not here
}

func (v *View) before(q *ThreadQuery) room.Key {
	if q.From != nil {
		return earlier(*q.From, v.end)
	}
	return v.end
}

// threads reads a page.
func (v *View) threads(q *ThreadQuery) (p threadPage, err error) {
	looked := 0
	p.next = v.before(q)
	err = v.rooms.Threads(v.Room, p.next, func(last room.Key, root mxid.EventID) (bool, error) {
		if len(p.roots) == q.Limit || looked == maxThreads || q.until != nil && last.Before(*q.until) {
			p.more = true
			return false, nil
		}
		looked++
		p.next = last
		e, err := v.find(root)
		if fault.Is(err, fault.NotFound) {
			if _, err := v.rooms.Lookup(root); p.lacks == "" && !q.done[root] && fault.Is(err, fault.NotFound) {
				p.lacks = root
			}
			return true, nil
		}
		if err == nil && !e.IsState && v.ignores(e.Sender) {
			e, err = withheld(e)
		}
		if err != nil {
			return false, err
		}
		ok := !q.Mine || e.Sender == v.bundle.User
		if !ok {
			ok, err = v.tookPart(e)
		}
		if ok {
			p.roots = append(p.roots, e)
		}
		return true, err
	})
	if q.until != nil && len(p.roots) < q.Limit && looked < maxThreads {
		p.next, p.more = *q.until, true
	}
	return p, err
}

// withheld is an event of somebody whom the user ignores, without its content:
// the thread is there, for what others say in it. Spec: client-server, GET
// /rooms/{roomId}/threads, thread roots of ignored users.
func withheld(e *room.Event) (*room.Event, error) {
	bare := *e
	var err error
	bare.Event, err = e.Event.Redacted()
	return &bare, err
}

// ThreadsLack says what a page lacks that other servers may have: what lies in a
// hole of the room's past, where replies may be that are later than others on the
// page, or the first event of a thread.
func (v *View) ThreadsLack(q *ThreadQuery) (hole *room.Key, root mxid.EventID, err error) {
	if v.Head.Hole == (room.Key{}) {
		return nil, "", nil // the usual room is whole
	}
	p, err := v.threads(q)
	if err != nil {
		return nil, "", err
	}
	var lower room.Key
	if p.more {
		lower = p.next
	}
	v.stops = true
	defer func() { v.stops = false }()
	hole, err = v.hole(lower, v.before(q), true)
	return hole, p.lacks, err
}

// AppendThreads appends the first events of threads, those with the latest
// replies first.
func (v *View) AppendThreads(dst []byte, q *ThreadQuery) ([]byte, error) {
	p, err := v.threads(q)
	if err != nil {
		return dst, err
	}
	if dst, err = v.appendList(append(dst, `{"chunk":`...), p.roots, v.append); err != nil {
		return dst, err
	}
	if p.more {
		dst = cjson.AppendString(append(dst, `,"next_batch":`...), p.next.String())
	}
	return append(dst, '}'), nil
}
