package room

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"

	"hearth/engine/event"
	"hearth/engine/mxid"
)

// linkOld adds what only events of room versions 1 and 2 have: an id of their
// own and the hashes of the events they point at.
func (w *Writer) linkOld(b *event.Draft) (err error) {
	var opaque [18]byte
	if _, err := rand.Read(opaque[:]); err != nil {
		return err
	}
	b.ID = mxid.EventID("$" + base64.RawURLEncoding.EncodeToString(opaque[:]) + ":" + string(w.r.Server()))
	if b.PrevHashes, err = w.hashes(b.Prev); err != nil {
		return err
	}
	b.AuthHashes, err = w.hashes(b.Auth)
	return err
}

func (w *Writer) hashes(ids []mxid.EventID) ([][sha256.Size]byte, error) {
	list := make([][sha256.Size]byte, 0, len(ids))
	for _, id := range ids {
		e, err := w.byID(id)
		if err != nil {
			return nil, err
		}
		hash, err := event.ReferenceHash(e.Version, e.JSON)
		if err != nil {
			return nil, err
		}
		list = append(list, hash)
	}
	return list, nil
}

// byID finds an event that may be staged.
func (w *Writer) byID(id mxid.EventID) (*Event, error) {
	for i := range w.staged {
		if w.staged[i].ev.ID == id {
			return w.staged[i].ev, nil
		}
	}
	return w.r.Lookup(id)
}
