package room

import (
	"slices"

	"hearth/engine/snapshot"
)

// maxEnds bounds the extremities of a room. The present is resolved from all of
// them with each event that comes, and somebody hostile can make as many as they
// like. Those of the least depth go first.
//
// What an end that goes has changed must not go with it: whoever makes ends enough
// could so undo a ban. The state after it is joined to what is left of others that
// went before (Head.rest), which counts as one end more. An event of this hub's own
// is built on the present, and so has all of that behind it: then nothing is left
// over.
const maxEnds = 50

// boundEnds lets go of an extremity where there are too many. s is the event that
// is being staged.
func (w *Writer) boundEnds(s *staged) error {
	ext := w.head.ext
	if len(ext) <= maxEnds {
		return nil
	}
	least := 0
	for i, x := range ext {
		if x.depth < ext[least].depth {
			least = i
		}
	}
	gone, err := w.event(ext[least].num)
	if err != nil {
		return err
	}
	nums := []snapshot.Num{gone.After}
	if w.head.rest != 0 {
		nums = append(nums, w.head.rest)
	}
	ref, _, err := w.resolvedOf(s, nums)
	if err != nil {
		return err
	}
	w.head.rest = ref.Num
	w.head.ext = slices.Delete(ext, least, least+1)
	return nil
}
