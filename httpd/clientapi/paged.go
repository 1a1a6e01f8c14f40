package clientapi

import (
	"bytes"

	"hearth/engine/fault"
	"hearth/httpd/wire"
)

// paged makes a handler one whose errors people read: a browser gets a page that
// says what to do, where a program gets the error as ever. The limits are among
// these errors, so that the requests are counted here and the route is Free.
func paged(class wire.Class, h wire.Handler) wire.Handler {
	return func(r *wire.Req) error {
		err := r.Spend(class)
		if err == nil {
			err = h(r)
		}
		if err == nil || !bytes.Contains(r.Ctx.Request.Header.Peek("Accept"), []byte("text/html")) {
			return err
		}
		return failedPage(r, err)
	}
}

// failedPage tells a person of an error. The status and what programs may read in
// the header are those of the error, and the log has the hub's own troubles.
func failedPage(r *wire.Req, err error) error {
	if err := r.Fail(err, ""); err != nil {
		return err
	}
	p := page{status: r.Ctx.Response.StatusCode(), title: "This does not work"}
	text, known := reason(err)
	switch kind := fault.KindOf(err); {
	case kind == fault.Limit || kind == fault.Busy:
		p.title = "One moment"
		p.body = paragraph("Too much was asked of the hub at once. Wait " + string(r.Ctx.Response.Header.Peek("Retry-After")) + " seconds, then go back and try again.")
	case kind == fault.TooLarge:
		p.body = paragraph("What you have sent is longer than the hub takes. Go back and make it shorter.")
	case kind == fault.Full:
		p.body = paragraph("The hub's disk is full. Tell who runs it.")
	case !known:
		p.body = paragraph("Something went wrong inside the hub. Go back and try again; for who runs it, the hub's log has more under request " + r.ID() + ".")
	case text != "":
		p.body = warning(text + ".")
	}
	return show(r, p)
}
