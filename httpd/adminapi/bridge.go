package adminapi

import (
	"strconv"

	"hearth/engine/cjson"
	"hearth/httpd/wire"
)

// Where application services stand with what the hub has to tell them.

func (a *API) bridgeRoutes() []wire.Route {
	return []wire.Route{{Method: "GET", Pattern: v1 + "/application_services", Handle: a.bridges}}
}

// bridges lists the application services; error is there while one fails.
func (a *API) bridges(r *wire.Req) error {
	list, err := a.engine.AppServices.Statuses()
	if err != nil {
		return err
	}
	dst := append(r.Out(), `{"application_services":[`...)
	for i := range list {
		s := &list[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = cjson.AppendString(append(dst, `{"id":`...), s.Service.ID)
		dst = cjson.AppendString(append(dst, `,"sender":`...), s.Service.Sender)
		dst = cjson.AppendString(append(dst, `,"url":`...), s.Service.URL)
		dst = strconv.AppendUint(append(dst, `,"behind":`...), s.Behind, 10)
		if s.Error != "" {
			dst = cjson.AppendString(append(dst, `,"error":`...), s.Error)
		}
		dst = append(dst, '}')
	}
	return r.OK(append(dst, `]}`...))
}
