package mediaapi

import (
	"crypto/rand"
	"io"
	"strings"
	"time"

	"hearth/engine/fault"
	"hearth/engine/media"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// Signed makes a handler of requests that another server has to have signed.
type Signed func(handle func(r *wire.Req, origin mxid.Server) error) wire.Handler

// Federated is the content repository as other servers ask for it.
// Spec: server-server, content repository.
func (a *API) Federated(signed Signed) []wire.Route {
	const base = "/_matrix/federation/v1/media"
	return []wire.Route{
		{Method: "GET", Pattern: base + "/download/{mediaId}", Handle: signed(a.give), Flags: wire.Federation},
		{Method: "GET", Pattern: base + "/thumbnail/{mediaId}", Handle: signed(a.giveThumbnail), Flags: wire.Federation},
	}
}

// own finds a file of this hub's that another server asks for.
func (a *API) own(r *wire.Req) (*media.Media, error) {
	wait, err := r.QueryInt("timeout_ms", waitDefault.Milliseconds(), 0, waitMost.Milliseconds())
	if err != nil {
		return nil, err
	}
	id := r.Path("mediaId")
	if !media.ValidID(id) {
		return nil, notFound()
	}
	return a.media.Wait(a.o.Server, id, time.Duration(wait)*time.Millisecond, r.Done())
}

// Spec: server-server, GET /_matrix/federation/v1/media/download/{mediaId}.
func (a *API) give(r *wire.Req, _ mxid.Server) error {
	m, err := a.own(r)
	if err != nil {
		return err
	}
	b, err := a.media.Open(m)
	if err != nil {
		return err
	}
	return a.mixed(r, b, m.Name)
}

// Spec: server-server, GET /_matrix/federation/v1/media/thumbnail/{mediaId}.
func (a *API) giveThumbnail(r *wire.Req, _ mxid.Server) error {
	want, err := asked(r)
	if err != nil {
		return err
	}
	m, err := a.own(r)
	if err != nil {
		return err
	}
	b, err := a.media.Thumbnail(m, want, r.Done())
	if err != nil {
		return err
	}
	return a.mixed(r, b, "thumbnail")
}

// mixed answers with two parts: an empty object, in which servers may once say
// something of the file, and the file.
func (a *API) mixed(r *wire.Req, b *media.Blob, name string) error {
	boundary := rand.Text()
	head := "--" + boundary + "\r\nContent-Type: application/json\r\n\r\n{}\r\n--" + boundary +
		"\r\nContent-Type: " + contentType(b.Type) + "\r\nContent-Disposition: " + disposition(b.Type, name) + "\r\n\r\n"
	tail := "\r\n--" + boundary + "--\r\n"
	size := int64(len(head)) + b.Size + int64(len(tail))
	if size != int64(int(size)) {
		return fault.E(fault.TooLarge, "mediaapi", "the file is too large to be sent")
	}
	r.Ctx.Response.Header.SetContentType("multipart/mixed; boundary=" + boundary)
	r.Ctx.Response.SetBodyStream(&sending{
		part: io.MultiReader(strings.NewReader(head), io.NewSectionReader(b, 0, b.Size), strings.NewReader(tail)),
		file: b, conn: r.Ctx.Conn(), until: time.Now().Add(sendTime),
	}, int(size))
	return nil
}
