package adminapi

import (
	"io"

	"hearth/engine/fault"
	"hearth/httpd/wire"
)

// Updates is the box that the hub runs on, which takes new versions of all of it. The hub only brings them: the box
// judges them by their signature.
type Updates struct {
	Order func(order string) (status []byte, err error) // "status", "install", or "pull " and a URL; the answer is JSON
	Bring func(archive io.Reader) error                 // puts an archive where install finds it
}

// longestURL is how long the URL of an update may be, in bytes.
const longestURL = 1024

func (a *API) updateRoutes() []wire.Route {
	const update = "/_hearth/admin/v1/update"
	if a.updates == nil {
		return nil // only a box has them
	}
	return []wire.Route{
		{Method: "GET", Pattern: update, Handle: a.updateStatus},
		{Method: "PUT", Pattern: update, Handle: a.pushUpdate, Class: wire.Create},
		{Method: "POST", Pattern: update, Handle: a.pullUpdate, Class: wire.Create},
	}
}

// order passes an order on to the box and answers with its status.
func (a *API) order(r *wire.Req, order string) error {
	status, err := a.updates.Order(order)
	if err != nil {
		return fault.E(fault.Unknown, "adminapi.update", "%v", err)
	}
	return r.OK(append(r.Out(), status...))
}

// updateStatus tells version, slot, what is under way, and what became of the last update.
func (a *API) updateStatus(r *wire.Req) error { return a.order(r, "status") }

// pushUpdate takes an archive as the body, and has it installed. The answer comes before the box has looked at it.
func (a *API) pushUpdate(r *wire.Req) error {
	if err := a.updates.Bring(r.Stream()); err != nil {
		return err
	}
	return a.order(r, "install")
}

// pullUpdate has the box fetch a newer version from a URL.
func (a *API) pullUpdate(r *wire.Req) error {
	var q struct {
		URL string `json:"url"`
	}
	if err := r.Decode(&q); err != nil {
		return err
	}
	if q.URL == "" || len(q.URL) > longestURL {
		return fault.E(fault.Invalid, "adminapi.update", "url must be that of an update")
	}
	return a.order(r, "pull "+q.URL)
}
