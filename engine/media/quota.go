package media

import (
	"cmp"
	"slices"

	"hearth/engine/fault"
)

// makeRoom sees that there is room for m, whose Size is what is known of it so
// far. What is only cached gives way.
//
// What is announced by uploads under way counts as if it were here, so that
// many at once do not all fit into the same gap.
func (r *Records) makeRoom(m *Media) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var flying int64
	for k, n := range r.flying {
		if k != m.key {
			flying += n
		}
	}
	if m.Owner != 0 && r.o.UserQuota > 0 {
		u, err := r.usage(m.Owner)
		if err != nil {
			return err
		}
		if u.bytes+m.Size > r.o.UserQuota {
			return fault.E(fault.Forbidden, "media.Upload", "you have stored %d bytes, %d are allowed", u.bytes, r.o.UserQuota)
		}
	}
	all, err := r.usage(everybody)
	if err != nil {
		return err
	}
	var short int64
	if r.o.Quota > 0 {
		short = all.bytes + flying + m.Size - r.o.Quota
	}
	free, known := r.files.free(r.o.KeepFree)
	if known {
		short = max(short, flying+m.Size-free)
	}
	if short <= 0 {
		return nil
	}
	freed, err := r.evict(short)
	if err != nil {
		return err
	}
	switch {
	case freed >= short:
		return nil
	case known && flying+m.Size > free+freed:
		return fault.E(fault.Full, "media.Upload", "the disk is full")
	}
	return fault.E(fault.Forbidden, "media.Upload", "all files together may have %d bytes here", r.o.Quota)
}

// evictAtOnce bounds what one eviction remembers.
const evictAtOnce = 1024

// evict deletes copies and preview pictures, those not fetched for longest
// first, until so many bytes are freed or none is left. It needs mu.
func (r *Records) evict(need int64) (freed int64, err error) {
	u, err := r.usage(cached)
	if err != nil || u.bytes == 0 {
		return 0, err
	}
	type victim struct {
		k    key
		day  int64
		size int64
	}
	var list []victim
	older := func(a, b victim) int { return cmp.Compare(a.day, b.day) }
	if err := r.each(func(m *Media) bool {
		if m.Kind == Local || !m.stored {
			return true
		}
		day := max(m.Access.Unix()/daySeconds, r.touched[m.key])
		if list = append(list, victim{m.key, day, m.Size}); len(list) == 2*evictAtOnce {
			slices.SortFunc(list, older)
			list = list[:evictAtOnce]
		}
		return true
	}); err != nil {
		return 0, err
	}
	slices.SortFunc(list, older)
	var out []*Media
	for _, v := range list {
		if freed >= need {
			break
		}
		m, err := r.get(v.k)
		if err != nil {
			return 0, err
		}
		out = append(out, m)
		freed += v.size
	}
	return freed, r.forget(out...)
}
