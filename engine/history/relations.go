package history

import (
	"slices"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// RelationQuery asks for the events that relate to one.
// Spec: client-server, GET /rooms/{roomId}/relations/{eventId}.
type RelationQuery struct {
	Target  mxid.EventID
	RelType string // empty: any
	Type    string // of the events; empty: any
	Forth   bool   // oldest first
	From    *room.Key
	To      *room.Key
	Limit   int
	Recurse bool
}

// Bounds of one question about relations.
const (
	maxDepth   = 3     // of relations to relations
	maxRelated = 50000 // rows that are looked at
)

// AppendRelations appends a page of what relates to an event.
func (v *View) AppendRelations(dst []byte, q *RelationQuery) ([]byte, error) {
	target, err := v.find(q.Target)
	if err != nil {
		return dst, err
	}
	list, err := v.collect(target, q)
	if err != nil {
		return dst, err
	}
	slices.SortFunc(list, func(a, b room.Relation) int {
		if a.At.Before(b.At) == q.Forth {
			return -1
		}
		return 1
	})
	events, next, more, err := v.pickRelated(list, q)
	if err != nil {
		return dst, err
	}
	if dst, err = v.appendList(append(dst, `{"chunk":`...), events, v.append); err != nil {
		return dst, err
	}
	if more {
		dst = cjson.AppendString(append(dst, `,"next_batch":`...), next.String())
	}
	if q.From != nil {
		dst = cjson.AppendString(append(dst, `,"prev_batch":`...), q.From.String())
	}
	if q.Recurse {
		dst = append(dst, `,"recursion_depth":3`...)
	}
	return append(dst, '}'), nil
}

// pickRelated reads the events of a page off the sorted rows.
func (v *View) pickRelated(list []room.Relation, q *RelationQuery) (events []*room.Event, next room.Key, more bool, err error) {
	for _, rel := range list {
		if len(events) == q.Limit {
			return events, next, true, nil
		}
		e, err := v.rooms.Event(rel.Num)
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return nil, next, false, err
		}
		if next = rel.At; q.Forth {
			next = rel.At.Next()
		}
		if ok, err := v.shows(e, nil); err != nil {
			return nil, next, false, err
		} else if ok {
			events = append(events, e)
		}
	}
	return events, next, false, nil
}

// collect gives the rows of what relates to an event, between the places that
// are asked for. What does not fit the question is gone through all the same.
func (v *View) collect(target *room.Event, q *RelationQuery) (list []room.Relation, err error) {
	level := []mxid.EventID{target.ID}
	rows := 0
	for depth := 0; len(level) > 0 && depth < maxDepth && rows < maxRelated; depth++ {
		var below []mxid.EventID
		for _, id := range level {
			err := v.rooms.Related(v.Room, id, func(rel *room.Relation) (bool, error) {
				rows++
				if rel.RelType == "" {
					return true, nil // a plain reply relates to what it answers in no typed way
				}
				if v.inPage(rel, q) {
					list = append(list, *rel)
				}
				if q.Recurse && depth+1 < maxDepth {
					e, err := v.rooms.Event(rel.Num)
					if err != nil && !fault.Is(err, fault.NotFound) {
						return false, err
					}
					if err == nil {
						below = append(below, e.ID)
					}
				}
				return rows < maxRelated, nil
			})
			if err != nil {
				return nil, err
			}
		}
		level = below
	}
	return list, nil
}

// inPage says whether a row is asked for and lies between the places of a query.
func (v *View) inPage(rel *room.Relation, q *RelationQuery) bool {
	if q.RelType != "" && rel.RelType != q.RelType || q.Type != "" && rel.Type != q.Type {
		return false
	}
	lower, upper := q.To, q.From
	if q.Forth {
		lower, upper = q.From, q.To
	}
	return (lower == nil || !rel.At.Before(*lower)) && (upper == nil || rel.At.Before(*upper)) && rel.At.Before(v.end)
}

// tookPart says whether the user has replied in a thread.
func (v *View) tookPart(root *room.Event) (found bool, err error) {
	user, err := v.rooms.User(v.bundle.User)
	if err != nil {
		return false, err
	}
	err = v.rooms.Related(v.Room, root.ID, func(rel *room.Relation) (bool, error) {
		found = rel.RelType == room.RelThread && rel.Sender == user
		return !found, nil
	})
	return found, err
}
