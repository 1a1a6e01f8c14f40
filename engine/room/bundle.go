package room

import (
	"slices"
	"strconv"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
)

// Bundle asks AppendClient to tell with an event what relates to it, as far as
// one user may know. It is for one room and one request.
// Spec: client-server, aggregations of child events.
type Bundle struct {
	User    mxid.UserID
	Ignores func(sender mxid.UserID) bool // nil: nobody
	Viewer  *Viewer                       // of the room; nil: made where it is needed

	editsOnly bool // for what is itself told with another event

	in      Num  // the room of the event before
	looked  int  // how many of that room's were looked up
	nothing bool // nothing in that room relates to anything
}

// Bounds of what is told with one event.
const (
	maxEdits      = 64  // the newest edits that are looked at for the one that counts
	maxReferences = 500 // references that are listed, the first ones
	maxLatest     = 16  // the newest replies that are looked at for one the user may see
)

// aggregate is what relates to an event, read off the rows.
type aggregate struct {
	edits, replies []EventNum // the newest, oldest first
	references     []EventNum
	count          int  // replies in the thread
	took           bool // part in the thread, the user
}

// sees says whether the user may read an event of the room.
func (r *Rooms) sees(b *Bundle, e *Event) (bool, error) {
	if b.Viewer == nil {
		v, err := r.Viewer(e.In, b.User)
		if err != nil {
			return false, err
		}
		b.Viewer = v
	}
	return b.Viewer.Sees(e)
}

// keepLast appends x and lets the oldest go beyond n.
func keepLast[T any](list []T, x T, n int) []T {
	if len(list) == 2*n {
		list = append(list[:0], list[n:]...)
	}
	return append(list, x)
}

// aggregate is what relates to an event, without what the user ignores.
func (r *Rooms) aggregate(e *Event, b *Bundle) (*aggregate, error) {
	user, err := r.User(b.User)
	if err != nil {
		return nil, err
	}
	t, err := r.tally(e)
	if err != nil {
		return nil, err
	}
	_, took := t.find(user)
	g := &aggregate{took: e.Sender == b.User || took, count: t.count}
	ignored, err := r.ignored(t, b)
	if err != nil {
		return nil, err
	}
	if b.Ignores == nil || !b.Ignores(e.Sender) {
		g.edits = t.edits
	}
	for _, x := range t.replies {
		if !ignored[x.sender] {
			g.replies = append(g.replies, x.num)
		}
	}
	for _, x := range t.references {
		if !ignored[x.sender] {
			g.references = append(g.references, x.num)
		}
	}
	for _, s := range t.senders {
		if ignored[s.sender] {
			g.count -= s.count
		}
	}
	if g.count > 0 && len(g.replies) == 0 {
		g.replies, err = r.repliesBack(e, ignored)
	}
	return g, err
}

// ignored says who of those that a tally names is ignored.
func (r *Rooms) ignored(t *tally, b *Bundle) (map[uint32]bool, error) {
	if b.Ignores == nil {
		return nil, nil
	}
	set := map[uint32]bool{}
	look := func(sender uint32) error {
		id, err := r.UserID(sender)
		if err == nil && b.Ignores(id) {
			set[sender] = true
		}
		return err
	}
	for _, s := range t.senders {
		if err := look(s.sender); err != nil {
			return nil, err
		}
	}
	for _, x := range t.references {
		if err := look(x.sender); err != nil {
			return nil, err
		}
	}
	return set, nil
}

// repliesBack finds the newest replies behind those of ignored senders.
func (r *Rooms) repliesBack(e *Event, ignored map[uint32]bool) (list []EventNum, err error) {
	err = r.RelatedBack(e.In, e.ID, func(rel *Relation) (bool, error) {
		if rel.RelType == RelThread && !ignored[rel.Sender] {
			list = append(list, rel.Num)
		}
		return len(list) < maxLatest, nil
	})
	slices.Reverse(list)
	return list, err
}

// appendBundle appends the member m.relations of unsigned with a comma before
// it, or nothing.
func (r *Rooms) appendBundle(dst []byte, e *Event, to *Reader) ([]byte, error) {
	b := to.Bundle
	if linked, err := r.linkedIn(e, b); err != nil || !linked {
		return dst, err
	}
	g, err := r.aggregate(e, b)
	if err != nil {
		return dst, err
	}
	mark := len(dst)
	dst = append(dst, `,"m.relations":{`...)
	start := len(dst)
	if dst, err = r.appendReferences(dst, g, b); err != nil {
		return dst, err
	}
	if dst, err = r.appendEdit(dst, e, g, to); err != nil {
		return dst, err
	}
	if dst, err = r.appendThread(dst, g, to); err != nil {
		return dst, err
	}
	if len(dst) == start {
		return dst[:mark], nil
	}
	return append(dst[:len(dst)-1], '}'), nil // each wrote a comma behind itself
}

// visible reads an event that relates to another; nil where it is gone or not
// for the user to see.
func (r *Rooms) visible(num EventNum, b *Bundle) (*Event, error) {
	e, err := r.Event(num)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil || e.Redacted() {
		return nil, err
	}
	if ok, err := r.sees(b, e); err != nil || !ok {
		return nil, err
	}
	return e, nil
}

// Spec: client-server, server-side aggregation of m.reference.
func (r *Rooms) appendReferences(dst []byte, g *aggregate, b *Bundle) ([]byte, error) {
	if b.editsOnly || len(g.references) == 0 {
		return dst, nil
	}
	mark := len(dst)
	dst = append(dst, `"m.reference":{"chunk":[`...)
	start := len(dst)
	for _, num := range g.references {
		e, err := r.visible(num, b)
		if err != nil {
			return dst, err
		}
		if e == nil {
			continue
		}
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = append(cjson.AppendString(append(dst, `{"event_id":`...), e.ID), '}')
	}
	if len(dst) == start {
		return dst[:mark], nil
	}
	return append(dst, `]},`...), nil
}

// appendEdit appends the edit that counts: the newest valid one.
// Spec: client-server, validity of replacement events, and their aggregation.
func (r *Rooms) appendEdit(dst []byte, e *Event, g *aggregate, to *Reader) ([]byte, error) {
	if e.Redacted() || e.IsState || len(g.edits) == 0 || relatesTo(e.Content).relType == RelReplace {
		return dst, nil
	}
	var best *Event
	for _, num := range g.edits {
		edit, err := r.visible(num, to.Bundle)
		if err != nil {
			return dst, err
		}
		if edit == nil || edit.IsState || !replaces(edit) {
			continue
		}
		if best == nil || edit.Time > best.Time || edit.Time == best.Time && edit.ID > best.ID {
			best = edit
		}
	}
	if best == nil {
		return dst, nil
	}
	dst, err := r.AppendClient(append(dst, `"m.replace":`...), best, Reader{Device: to.Device, OmitRoom: to.OmitRoom})
	return append(dst, ','), err
}

// Spec: client-server, server-side aggregation of m.thread relationships.
func (r *Rooms) appendThread(dst []byte, g *aggregate, to *Reader) ([]byte, error) {
	b := to.Bundle
	if b.editsOnly || g.count == 0 {
		return dst, nil
	}
	var latest *Event
	for i := len(g.replies) - 1; i >= 0 && latest == nil; i-- {
		var err error
		if latest, err = r.visible(g.replies[i], b); err != nil {
			return dst, err
		}
	}
	if latest == nil {
		return dst, nil
	}
	dst = strconv.AppendInt(append(dst, `"m.thread":{"count":`...), int64(g.count), 10)
	dst = strconv.AppendBool(append(dst, `,"current_user_participated":`...), g.took)
	inner := *b
	inner.editsOnly = true
	dst, err := r.AppendClient(append(dst, `,"latest_event":`...), latest, Reader{Device: to.Device, OmitRoom: to.OmitRoom, Bundle: &inner})
	return append(dst, `},`...), err
}

// replaces says whether an edit has what takes the place of the old content. Of
// an encrypted one only clients can tell.
func replaces(edit *Event) bool {
	if edit.Type == "m.room.encrypted" {
		return true
	}
	val, ok := cjson.Lookup(edit.Content, "m.new_content")
	return ok && cjson.KindOf(val) == cjson.ObjectKind
}
