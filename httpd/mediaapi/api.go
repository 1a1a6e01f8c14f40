// Package mediaapi is the content repository over HTTP: uploads, downloads,
// thumbnails and link previews.
//
// It owns the form of what is served: which types a browser may show, which
// part of a file is asked for, how long a client waits for a file that is still
// to come, and what a web page says of itself. It refuses to hold a file: bodies
// go from the socket to the disk and back in small pieces. What may be stored,
// and for how long, is for package media to say; which addresses may be dialled
// for a preview, for whoever gives Get.
package mediaapi

import (
	"context"
	"strconv"
	"time"

	"hearth/engine/fault"
	"hearth/engine/media"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// Options are what the API is made with.
type Options struct {
	Media  *media.Records
	Server mxid.Server

	// Frozen hides what came later from whoever asks without a token. Zero: the
	// old endpoints serve everything. The specification says that servers should
	// freeze them, considering who their clients are; those of a hub are often
	// old, show pictures by plain links, and stay blank without. A media id is 144
	// random bits, so what is served is what somebody was told.
	Frozen time.Time

	// Remote brings a file of another server into Media. Nil: there are none.
	Remote func(ctx context.Context, origin mxid.Server, id string) error

	// RemoteThumb brings a thumbnail that another server makes of its file. Unknown,
	// TooLarge and NotFound: none, the file has to be fetched for it. Nil: as that.
	RemoteThumb func(ctx context.Context, origin mxid.Server, id string, want media.Want) error

	// Get asks for pages of the web, and refuses what users must not reach. Nil:
	// there are no previews.
	Get Get

	Now func() time.Time // nil: time.Now
}

// API is the handlers and what they share.
type API struct {
	o        Options
	media    *media.Records
	previews *previews // nil: off
}

// New makes the API.
func New(o Options) *API {
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &API{o: o, media: o.Media}
	if o.Get != nil {
		a.previews = newPreviews(&a.o)
	}
	return a
}

// Routes is the whole content repository. Spec: client-server, content
// repository. The paths below /_matrix/media existed as r0, v1 and v3.
func (a *API) Routes() []wire.Route {
	const files = "/{serverName}/{mediaId}"
	const guest = wire.Auth | wire.GuestOK
	const now = "/_matrix/client/v1/media"
	all := []wire.Route{
		{Method: "GET", Pattern: now + "/config", Handle: a.config, Flags: wire.Auth},
		{Method: "GET", Pattern: now + "/download" + files, Handle: a.download, Flags: guest},
		{Method: "GET", Pattern: now + "/download" + files + "/{fileName}", Handle: a.downloadAs, Flags: guest},
		{Method: "GET", Pattern: now + "/thumbnail" + files, Handle: a.thumbnail, Flags: guest},
		{Method: "GET", Pattern: now + "/preview_url", Handle: a.preview, Flags: wire.Auth, Class: wire.Read},
		{Method: "POST", Pattern: "/_matrix/media/v1/create", Handle: a.create, Flags: wire.Auth, Class: wire.Create},
		{Method: "PUT", Pattern: "/_matrix/media/v3/upload" + files, Handle: a.fill, Flags: wire.Auth, Class: wire.Create},
	}
	for _, version := range [...]string{"v3", "v1", "r0"} {
		old := "/_matrix/media/" + version
		all = append(all,
			wire.Route{Method: "POST", Pattern: old + "/upload", Handle: a.upload, Flags: wire.Auth, Class: wire.Create},
			wire.Route{Method: "GET", Pattern: old + "/config", Handle: a.config, Flags: wire.Auth},
			wire.Route{Method: "GET", Pattern: old + "/download" + files, Handle: a.download, Flags: wire.AuthMaybe},
			wire.Route{Method: "GET", Pattern: old + "/download" + files + "/{fileName}", Handle: a.downloadAs, Flags: wire.AuthMaybe},
			wire.Route{Method: "GET", Pattern: old + "/thumbnail" + files, Handle: a.thumbnail, Flags: wire.AuthMaybe},
			wire.Route{Method: "GET", Pattern: old + "/preview_url", Handle: a.preview, Flags: wire.Auth, Class: wire.Read},
		)
	}
	return all
}

// Spec: client-server, GET /_matrix/client/v1/media/config.
func (a *API) config(r *wire.Req) error {
	out := strconv.AppendInt(append(r.Out(), `{"m.upload.size":`...), a.media.MaxUpload(), 10)
	return r.OK(append(out, '}'))
}

// Spec: client-server, POST /_matrix/media/v1/create.
func (a *API) create(r *wire.Req) error {
	m, until, err := a.media.Reserve(r.Session.User)
	if err != nil {
		return err
	}
	out := append(append(r.Out(), `{"content_uri":"`...), m.URI()...)
	out = strconv.AppendInt(append(out, `","unused_expires_at":`...), until.UnixMilli(), 10)
	return r.OK(append(out, '}'))
}

// Spec: client-server, POST /_matrix/media/v3/upload.
func (a *API) upload(r *wire.Req) error {
	m, err := a.take(r, "")
	if err != nil {
		return err
	}
	return r.OK(append(append(append(r.Out(), `{"content_uri":"`...), m.URI()...), `"}`...))
}

// fill is an upload under an id that create gave.
// Spec: client-server, PUT /_matrix/media/v3/upload/{serverName}/{mediaId}.
func (a *API) fill(r *wire.Req) error {
	if r.Path("serverName") != string(a.o.Server) {
		return fault.E(fault.NotFound, "mediaapi.fill", "this media id is not of this server")
	}
	if _, err := a.take(r, r.Path("mediaId")); err != nil {
		return err
	}
	return r.Empty()
}

// take stores the body. What is refused is refused before it is read.
func (a *API) take(r *wire.Req, id string) (*media.Media, error) {
	name, _ := r.Query("filename")
	return a.media.Upload(&media.Upload{
		ID: id, Owner: r.Session.User, Kind: media.Local,
		Type: string(r.Ctx.Request.Header.ContentType()), Name: name, Length: int64(r.BodyLen()),
	}, r.Stream())
}
