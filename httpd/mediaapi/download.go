package mediaapi

import (
	"context"
	"errors"
	"time"

	"hearth/engine/fault"
	"hearth/engine/media"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// How long a client waits for a file that is still to come.
// Spec: client-server, content repository, timeout_ms.
const (
	waitDefault = 20 * time.Second
	waitMost    = 60 * time.Second
)

// Spec: client-server, GET /_matrix/client/v1/media/download.
func (a *API) download(r *wire.Req) error { return a.send(r, "") }

// downloadAs is a download under a name that the client chooses.
func (a *API) downloadAs(r *wire.Req) error { return a.send(r, r.Path("fileName")) }

func (a *API) send(r *wire.Req, name string) error {
	q, err := readQuery(r)
	if err != nil {
		return err
	}
	m, err := a.find(r, q)
	if err != nil {
		return err
	}
	b, err := a.media.Open(m)
	if err != nil {
		return err
	}
	if name == "" {
		name = m.Name
	}
	return a.serve(r, b, disposition(b.Type, name))
}

// maxAsked is above every screen; the numbers are only compared.
const maxAsked = 1 << 16

// Spec: client-server, GET /_matrix/client/v1/media/thumbnail.
func (a *API) thumbnail(r *wire.Req) error {
	want, err := asked(r)
	if err != nil {
		return err
	}
	b, err := a.small(r, want)
	if err != nil {
		return err
	}
	name := "thumbnail.png"
	if b.Type != media.PNG.Type() {
		name = "thumbnail." + b.Type[len("image/"):]
	}
	return a.serve(r, b, disposition(b.Type, name))
}

// small gives the thumbnail of the file that the path names. Of another server's
// file that is not here, that server's thumbnail is asked for first: the file may
// be a hundred times as long.
func (a *API) small(r *wire.Req, want media.Want) (*media.Blob, error) {
	q, err := readQuery(r)
	if err != nil {
		return nil, err
	}
	if a.away(q) {
		if b, err := a.smallAway(r, q, want); b != nil || err != nil {
			return b, err
		}
	}
	m, err := a.find(r, q)
	if err != nil {
		return nil, err
	}
	return a.media.Thumbnail(m, want, r.Done())
}

// away says whether a file would have to be fetched.
func (a *API) away(q *query) bool {
	if q.origin == a.o.Server || !q.remote || a.o.RemoteThumb == nil {
		return false
	}
	_, err := a.media.Find(q.origin, q.id)
	return fault.Is(err, fault.NotFound)
}

// smallAway gives a thumbnail that another server made; nil where there is none,
// and the file is to be fetched.
func (a *API) smallAway(r *wire.Req, q *query, want media.Want) (*media.Blob, error) {
	m, b, err := a.media.AwayThumbnail(q.origin, q.id, want)
	if fault.Is(err, fault.NotFound) {
		ctx, cancel := q.context()
		defer cancel()
		err = a.o.RemoteThumb(ctx, q.origin, q.id, want)
		switch {
		case fault.Is(err, fault.Unknown), fault.Is(err, fault.TooLarge), fault.Is(err, fault.NotFound):
			return nil, nil
		case err != nil:
			return nil, err
		}
		m, b, err = a.media.AwayThumbnail(q.origin, q.id, want)
	}
	if err != nil {
		return nil, err
	}
	if a.frozen(r, m) {
		return nil, errors.Join(notFound(), b.Close())
	}
	return b, nil
}

func asked(r *wire.Req) (w media.Want, err error) {
	for name, to := range map[string]*int{"width": &w.Width, "height": &w.Height} {
		n, err := r.QueryInt(name, 0, 1, maxAsked)
		if err != nil {
			return w, err
		}
		if *to = int(n); n == 0 {
			return w, fault.E(fault.Missing, "mediaapi.thumbnail", "width and height are needed")
		}
	}
	switch r.QueryOr("method", "scale") {
	case "scale":
	case "crop":
		w.Crop = true
	default:
		return w, fault.E(fault.Invalid, "mediaapi.thumbnail", "method must be crop or scale")
	}
	w.Animated, err = r.QueryBool("animated", false)
	return w, err
}

// query is what a request says of the file that it asks for.
type query struct {
	origin mxid.Server
	id     string
	wait   time.Duration // for a file that is still to come
	remote bool          // another server may be asked
}

func readQuery(r *wire.Req) (*query, error) {
	wait, err := r.QueryInt("timeout_ms", waitDefault.Milliseconds(), 0, waitMost.Milliseconds())
	if err != nil {
		return nil, err
	}
	q := &query{id: r.Path("mediaId"), wait: time.Duration(wait) * time.Millisecond}
	if q.remote, err = r.QueryBool("allow_remote", true); err != nil {
		return nil, err
	}
	if q.origin, err = mxid.ParseServer(r.Path("serverName")); err != nil || !media.ValidID(q.id) {
		return nil, notFound()
	}
	return q, nil
}

// context ends when who asked is answered.
func (q *query) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), max(q.wait, time.Second))
}

// find gives the file that the path names, perhaps after waiting for it, or for
// another server. Redirects are never sent, whatever allow_redirect says: the
// files are here.
func (a *API) find(r *wire.Req, q *query) (*media.Media, error) {
	m, err := a.media.Wait(q.origin, q.id, q.wait, r.Done())
	if fault.Is(err, fault.NotFound) && q.origin != a.o.Server && q.remote && a.o.Remote != nil {
		if m, err = a.fetch(q); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, err
	}
	if a.frozen(r, m) {
		return nil, notFound()
	}
	return m, nil
}

// frozen says whether a file is too new for who asks without a token.
func (a *API) frozen(r *wire.Req, m *media.Media) bool {
	return !r.LoggedIn && !a.o.Frozen.IsZero() && m.Created.After(a.o.Frozen)
}

func (a *API) fetch(q *query) (*media.Media, error) {
	ctx, cancel := q.context()
	defer cancel()
	if err := a.o.Remote(ctx, q.origin, q.id); err != nil {
		return nil, err
	}
	return a.media.Find(q.origin, q.id)
}

func notFound() error { return fault.E(fault.NotFound, "mediaapi", "there is no such file") }
