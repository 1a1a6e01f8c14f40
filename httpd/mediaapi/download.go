package mediaapi

import (
	"context"
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
	m, err := a.find(r)
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
	m, err := a.find(r)
	if err != nil {
		return err
	}
	b, err := a.media.Thumbnail(m, want, r.Done())
	if err != nil {
		return err
	}
	name := "thumbnail.png"
	if b.Type != media.PNG.Type() {
		name = "thumbnail." + b.Type[len("image/"):]
	}
	return a.serve(r, b, disposition(b.Type, name))
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

// find gives the file that the path names, perhaps after waiting for it, or for
// another server. Redirects are never sent, whatever allow_redirect says: the
// files are here.
func (a *API) find(r *wire.Req) (*media.Media, error) {
	wait, err := r.QueryInt("timeout_ms", waitDefault.Milliseconds(), 0, waitMost.Milliseconds())
	if err != nil {
		return nil, err
	}
	remote, err := r.QueryBool("allow_remote", true)
	if err != nil {
		return nil, err
	}
	id := r.Path("mediaId")
	origin, err := mxid.ParseServer(r.Path("serverName"))
	if err != nil || !media.ValidID(id) {
		return nil, notFound()
	}
	timeout := time.Duration(wait) * time.Millisecond
	m, err := a.media.Wait(origin, id, timeout, r.Done())
	if fault.Is(err, fault.NotFound) && origin != a.o.Server && remote && a.o.Remote != nil {
		if m, err = a.fetch(origin, id, timeout); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, err
	}
	if !r.LoggedIn && !a.o.Frozen.IsZero() && m.Created.After(a.o.Frozen) {
		return nil, notFound()
	}
	return m, nil
}

func (a *API) fetch(origin mxid.Server, id string, timeout time.Duration) (*media.Media, error) {
	ctx, cancel := context.WithTimeout(context.Background(), max(timeout, time.Second))
	defer cancel()
	if err := a.o.Remote(ctx, origin, id); err != nil {
		return nil, err
	}
	return a.media.Find(origin, id)
}

func notFound() error { return fault.E(fault.NotFound, "mediaapi", "there is no such file") }
