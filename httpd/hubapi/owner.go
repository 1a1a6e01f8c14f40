package hubapi

import (
	"bytes"
	"io"
	"time"

	"hearth/httpd/wire"
)

// Owner is what the hub's owner asks of the program around the engine.
type Owner struct {
	// Support writes the file that goes to who helps: a tar.gz without anybody's secrets or messages.
	Support func(w io.Writer) error
	// Metrics appends the hub's figures in the text form of Prometheus.
	Metrics func(dst []byte) []byte
}

// Routes are those for admins:
//
//	GET  support   one file with what is needed to help
//	GET  metrics   figures, for programs that watch
func (o Owner) Routes() []wire.Route {
	return []wire.Route{
		{Method: "GET", Pattern: base + "/support", Handle: o.support, Flags: wire.Auth | wire.Admin | wire.Heavy},
		{Method: "GET", Pattern: base + "/metrics", Handle: o.metrics, Flags: wire.Auth | wire.Admin},
	}
}

func (o Owner) support(r *wire.Req) error {
	var b bytes.Buffer
	if err := o.Support(&b); err != nil {
		return err
	}
	h := &r.Ctx.Response.Header
	h.Set("Content-Disposition", `attachment; filename="hearth-support-`+time.Now().UTC().Format("20060102-1504")+`.tar.gz"`)
	h.Set("Cache-Control", "no-store")
	h.SetContentType("application/gzip")
	r.Ctx.Response.SetBodyRaw(b.Bytes())
	return nil
}

func (o Owner) metrics(r *wire.Req) error {
	body := o.Metrics(r.Out())
	r.Ctx.Response.Header.SetContentType("text/plain; version=0.0.4; charset=utf-8")
	r.Ctx.Response.SwapBody(body)
	return nil
}
