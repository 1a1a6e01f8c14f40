package federation

import (
	"cmp"
	"slices"

	"hearth/engine/event"
	"hearth/engine/mxid"
)

// inOrder sorts events so that what one points at by refs comes before it, where
// both are in the list; otherwise the lower depth first, then the older, so that
// the same events are in the same order whoever sent them. What is in a cycle,
// which only forged events can be, is left out.
func inOrder(events []*event.Event, refs func(e *event.Event) []mxid.EventID) []*event.Event {
	sorted := slices.Clone(events)
	slices.SortFunc(sorted, func(a, b *event.Event) int {
		return cmp.Or(cmp.Compare(a.Depth, b.Depth), cmp.Compare(a.Time, b.Time), cmp.Compare(a.ID, b.ID))
	})
	at := make(map[mxid.EventID]int, len(sorted))
	for i, e := range sorted {
		at[e.ID] = i
	}
	const (
		fresh = iota
		open
		done
	)
	state := make([]uint8, len(sorted))
	out := make([]*event.Event, 0, len(sorted))
	type frame struct{ i, next int }
	for i := range sorted {
		if state[i] != fresh {
			continue
		}
		stack := []frame{{i, 0}}
		state[i] = open
		for len(stack) > 0 {
			top := &stack[len(stack)-1]
			list := refs(sorted[top.i])
			if top.next == len(list) {
				state[top.i] = done
				out = append(out, sorted[top.i])
				stack = stack[:len(stack)-1]
				continue
			}
			j, ok := at[list[top.next]]
			top.next++
			if ok && state[j] == fresh {
				state[j] = open
				stack = append(stack, frame{j, 0})
			}
		}
	}
	return out
}

func prevOf(e *event.Event) []mxid.EventID { return e.Prev }
