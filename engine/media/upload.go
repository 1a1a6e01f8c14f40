package media

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"syscall"
	"time"
	"unicode/utf8"

	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
)

// Upload is a file that is about to come.
type Upload struct {
	Origin mxid.Server // empty: this hub
	ID     string      // empty: a new one
	Owner  uint32      // interned user; 0 for what nobody here uploads
	Kind   Kind
	Type   string // empty: application/octet-stream
	Name   string // may be empty
	Length int64  // bytes announced; -1: not known
}

// newID makes a media id that nobody guesses. Spec: client-server, content
// repository: letters, digits, _ and -.
func newID() (string, error) {
	var b [18]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fault.E(fault.Internal, "media", "no randomness: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(b[:]), nil
}

// ValidID says whether a media id may stand in an mxc address.
func ValidID(id string) bool {
	for _, c := range []byte(id) {
		if c != '_' && c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return id != "" && len(id) <= maxID
}

// Reserve gives a user an id for a file that comes later, and says until when.
// Spec: client-server, POST /_matrix/media/v1/create.
func (r *Records) Reserve(owner uint32) (*Media, time.Time, error) {
	id, err := newID()
	if err != nil {
		return nil, time.Time{}, err
	}
	now := r.o.Now()
	m := &Media{Origin: r.o.Server, ID: id, Owner: owner, Created: now, Access: now, expires: now.Add(r.o.Reserve)}
	m.key = keyOf(m.Origin, m.ID)
	r.mu.Lock()
	defer r.mu.Unlock()
	u, err := r.usage(owner)
	if err != nil {
		return nil, time.Time{}, err
	}
	if u.reserved >= int64(r.o.Pending) {
		if u.reserved, err = r.expire(owner, u.reserved); err != nil {
			return nil, time.Time{}, err
		}
		if u.reserved >= int64(r.o.Pending) {
			return nil, time.Time{}, fault.Wait("media.Reserve", time.Minute)
		}
	}
	b := r.st.NewBatch()
	b.Set(m.key.row(), m.append(nil))
	b.Set(m.key.owned(owner), nil)
	t := tally{}
	t.add(m, usage{reserved: 1})
	if err := r.settle(b, t); err != nil {
		b.Drop()
		return nil, time.Time{}, err
	}
	return m, m.expires, r.st.Commit(b)
}

// expire drops the ids that a user reserved and let run out, and gives how many
// of had are left. It needs mu.
func (r *Records) expire(owner uint32, had int64) (left int64, err error) {
	var out []*Media
	prefix := store.U32(store.MediaOwner.Prefix(), owner)
	err = r.st.ScanPrefix(prefix, func(row, _ []byte) (bool, error) {
		var k key
		copy(k[:], row[len(prefix):])
		m, err := r.get(k)
		if err == nil && m != nil && r.outdated(m) {
			out = append(out, m)
		}
		return int64(len(out)) < had, err
	})
	if err != nil {
		return had, err
	}
	return had - int64(len(out)), r.forget(out...)
}

// outdated says whether a reserved id has run out. It needs mu.
func (r *Records) outdated(m *Media) bool {
	_, busy := r.flying[m.key]
	return !m.stored && !busy && !m.expires.After(r.o.Now())
}

// Upload takes a file: into the id that was reserved, or under a new one. What
// can be refused is refused before the first byte is read. When it returns the
// file is safe on the disk.
func (r *Records) Upload(u *Upload, body io.Reader) (*Media, error) {
	m, err := r.begin(u)
	if err != nil {
		return nil, err
	}
	defer r.landed(m.key)
	name := m.key.name()
	limit := r.o.MaxUpload
	if u.Length >= 0 {
		limit = u.Length
	}
	if m.Size, m.Hash, err = r.files.write(name, body, limit); err != nil {
		return nil, r.uploadFault(err)
	}
	if u.Length >= 0 && m.Size != u.Length {
		return nil, errors.Join(fault.E(fault.Unknown, "media.Upload", "the file ended after %d of %d bytes", m.Size, u.Length), r.files.drop(name))
	}
	if err := r.makeRoom(m); err != nil {
		return nil, errors.Join(err, r.files.drop(name))
	}
	if err := r.files.place(name, true); err != nil {
		return nil, errors.Join(r.uploadFault(&diskError{err}), gone(r.files.drop(name)), r.files.remove(name))
	}
	if err := r.commit(m); err != nil {
		return nil, errors.Join(err, r.files.remove(name))
	}
	return m, nil
}

// begin judges an upload and claims its id.
func (r *Records) begin(u *Upload) (*Media, error) {
	now := r.o.Now()
	m := &Media{Origin: u.Origin, ID: u.ID, Owner: u.Owner, Kind: u.Kind, Type: cutText(u.Type, maxType), Name: cutText(u.Name, maxName),
		Created: now, Access: now, stored: true}
	if m.Type == "" {
		m.Type = "application/octet-stream"
	}
	if m.Origin == "" {
		m.Origin = r.o.Server
	}
	if r.st.ReadOnly() {
		return nil, fault.E(fault.Full, "media.Upload", "the hub's disk can only be read: nothing new is taken")
	}
	if u.Length > r.o.MaxUpload {
		return nil, tooLong(r.o.MaxUpload)
	}
	if u.ID == "" {
		id, err := newID()
		if err != nil {
			return nil, err
		}
		m.ID = id
	}
	if u.Kind != Thumb && !ValidID(m.ID) {
		return nil, fault.E(fault.NotFound, "media.Upload", "this is no media id")
	}
	m.key = keyOf(m.Origin, m.ID)
	if err := r.claim(m, u); err != nil {
		return nil, err
	}
	if err := r.makeRoom(&Media{key: m.key, Owner: m.Owner, Kind: m.Kind, Size: max(u.Length, 0)}); err != nil {
		r.landed(m.key)
		return nil, err
	}
	return m, nil
}

// claim sees that the id is this upload's to fill, and that nobody else does.
func (r *Records) claim(m *Media, u *Upload) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.flying) >= maxFlying {
		return fault.Wait("media.Upload", 5*time.Second)
	}
	if _, busy := r.flying[m.key]; busy {
		return fault.E(fault.CannotOverwrite, "media.Upload", "this file is being uploaded")
	}
	if u.ID != "" {
		old, err := r.get(m.key)
		if err != nil {
			return err
		}
		if err := r.fits(old, u); err != nil {
			return err
		}
	}
	r.flying[m.key] = max(u.Length, 0)
	return nil
}

// fits says whether an upload with an id may fill what there is under it.
// Spec: client-server, PUT /_matrix/media/v3/upload.
func (r *Records) fits(old *Media, u *Upload) error {
	switch {
	case old != nil && old.stored:
		return fault.E(fault.CannotOverwrite, "media.Upload", "this file is here already")
	case u.Kind != Local:
		return nil // its id comes from elsewhere
	case old == nil || r.outdated(old):
		return fault.E(fault.NotFound, "media.Upload", "this media id was not reserved, or not in the last %s", r.o.Reserve)
	case old.Owner != u.Owner:
		return fault.E(fault.Forbidden, "media.Upload", "this media id was reserved by somebody else")
	}
	return nil
}

// landed gives up the claim.
func (r *Records) landed(k key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.flying, k)
}

// commit writes the row of a file that is in its place, and wakes who waits.
func (r *Records) commit(m *Media) error {
	b, err := r.start(m)
	if err != nil {
		return err
	}
	if err := b.Wait(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.parked[m.key]; p != nil {
		close(p.done)
		delete(r.parked, m.key)
	}
	return nil
}

func (r *Records) start(m *Media) (*store.Batch, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := usage{bytes: m.Size, files: 1}
	old, err := r.get(m.key)
	if err != nil {
		return nil, err
	}
	if old != nil {
		d.reserved = -1
		m.Blocked = old.Blocked
	}
	b := r.st.NewBatch()
	b.Set(m.key.row(), m.append(nil))
	if m.Owner != 0 {
		b.Set(m.key.owned(m.Owner), nil)
	}
	t := tally{}
	t.add(m, d)
	if err := r.settle(b, t); err != nil {
		b.Drop()
		return nil, err
	}
	return b, r.st.Start(b)
}

func tooLong(limit int64) error {
	return fault.E(fault.TooLarge, "media.Upload", "a file may have %d bytes here", limit)
}

// uploadFault says whose fault it is that a file could not be written.
func (r *Records) uploadFault(err error) error {
	var disk *diskError
	switch {
	case errors.Is(err, errTooLong):
		return tooLong(r.o.MaxUpload)
	case errors.Is(err, syscall.ENOSPC):
		return fault.E(fault.Full, "media.Upload", "the disk is full")
	case errors.As(err, &disk):
		return fault.E(fault.Internal, "media.Upload", "writing the file: %w", err)
	}
	return fault.E(fault.Unknown, "media.Upload", "the file ended early")
}

// cutText bounds what a client says about its file, and drops what no header
// can say back.
func cutText(s string, most int) string {
	clean := make([]byte, 0, min(len(s), most))
	for _, c := range s {
		if c < ' ' || c == 0x7f || c == utf8.RuneError {
			continue
		}
		if len(clean)+utf8.RuneLen(c) > most {
			break
		}
		clean = utf8.AppendRune(clean, c)
	}
	return string(clean)
}
