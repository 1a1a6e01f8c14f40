package media

import (
	"errors"
	"io"

	"hearth/engine/fault"
	"hearth/engine/mxid"
)

// A thumbnail that another server made of a file of its own is kept as a file by
// itself, under an id that nobody can ask for: the file's, a dot and the size.
// Where the file is here too, its own thumbnails are made of it instead.

// maxAwayThumb is how long such a thumbnail may be. A longer one is no saving.
const maxAwayThumb = 4 << 20

// Kept is the size that a thumbnail is kept in for who wants this one; ok is false
// where there is none, or it may move.
func (w Want) Kept() (width, height int, ok bool) {
	s, ok := pick(w.Width, w.Height, w.Crop)
	return s.w, s.h, ok && !w.Animated
}

// awayID is the id of another server's thumbnail.
func awayID(id string, w Want) (string, bool) {
	s, ok := pick(w.Width, w.Height, w.Crop)
	return id + s.suffix(), ok && !w.Animated && ValidID(id)
}

// KeepThumbnail takes in what another server gave as a thumbnail of its file.
//
// Errors: those of Upload; Unknown where it is no picture, or moves.
func (r *Records) KeepThumbnail(origin mxid.Server, id string, want Want, body io.Reader) error {
	const op = "media.KeepThumbnail"
	name, ok := awayID(id, want)
	if !ok {
		return fault.E(fault.NotFound, op, "there is no such thumbnail")
	}
	m, err := r.Upload(&Upload{Origin: origin, ID: name, Kind: Thumb, Length: -1}, &atMost{body, maxAwayThumb})
	if err != nil {
		return err
	}
	b, err := r.openAway(m)
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		return errors.Join(err, r.forget(m))
	}
	return b.Close()
}

// atMost breaks off what is longer than allowed.
type atMost struct {
	io.Reader
	left int64
}

func (a *atMost) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	if a.left -= int64(n); a.left < 0 {
		return 0, errTooLong
	}
	return n, err
}

// AwayThumbnail opens a thumbnail that another server made. NotFound where there
// is none here, or its file is hidden.
func (r *Records) AwayThumbnail(origin mxid.Server, id string, want Want) (*Media, *Blob, error) {
	name, ok := awayID(id, want)
	if !ok {
		return nil, nil, fault.E(fault.NotFound, "media.AwayThumbnail", "there is no such thumbnail")
	}
	m, err := r.Find(origin, name)
	if err != nil {
		return nil, nil, err
	}
	b, err := r.openAway(m)
	return m, b, err
}

// openAway opens one that is of the form that thumbnails have.
func (r *Records) openAway(m *Media) (*Blob, error) {
	b, err := r.Open(m)
	if err != nil {
		return nil, err
	}
	p, err := Look(b, b.Size)
	if err != nil || p.Animated {
		return nil, errors.Join(fault.E(fault.Unknown, "media.AwayThumbnail", "this is no thumbnail"), b.Close())
	}
	b.Type = p.Format.Type()
	return b, nil
}

// family lists what is here of a file: itself, and thumbnails that came from
// elsewhere.
func (r *Records) family(origin mxid.Server, id string) (list []*Media, err error) {
	add := func(id string) error {
		m, err := r.get(keyOf(origin, id))
		if m != nil {
			list = append(list, m)
		}
		return err
	}
	err = add(id)
	for _, s := range sizes {
		if err == nil && origin != r.o.Server {
			err = add(id + s.suffix())
		}
	}
	return list, err
}

// Blocked says whether a file is hidden from everybody.
func (r *Records) Blocked(origin mxid.Server, id string) (bool, error) {
	list, err := r.family(origin, id)
	for _, m := range list {
		if m.Blocked {
			return true, err
		}
	}
	return false, err
}

// Delete removes a file and all that was made of it.
func (r *Records) Delete(origin mxid.Server, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	list, err := r.family(origin, id)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return fault.E(fault.NotFound, "media.Delete", "there is no such file")
	}
	for _, m := range list {
		if _, busy := r.flying[m.key]; busy {
			return fault.E(fault.BadState, "media.Delete", "the file is being uploaded")
		}
	}
	return r.forget(list...)
}

// Block hides a file from everybody, or shows it again.
func (r *Records) Block(origin mxid.Server, id string, blocked bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	list, err := r.family(origin, id)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return fault.E(fault.NotFound, "media.Block", "there is no such file")
	}
	b := r.st.NewBatch()
	for _, m := range list {
		m.Blocked = blocked
		b.Set(m.key.row(), m.append(nil))
	}
	return r.st.Commit(b)
}
