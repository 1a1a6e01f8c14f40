package clientapi

import (
	"strconv"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/httpd/wire"
)

// What a search of the user directory gives where no limit is said, and at most.
const (
	defaultFound = 10
	maxFound     = 200
)

// Spec: client-server, POST /user_directory/search.
func (a *API) searchUsers(r *wire.Req) error {
	const op = "clientapi.searchUsers"
	var q struct {
		Term  *string `json:"search_term"`
		Limit *int64  `json:"limit"`
	}
	if err := r.Decode(&q); err != nil {
		return err
	}
	if q.Term == nil {
		return fault.E(fault.Missing, op, "which search_term?")
	}
	limit := int64(defaultFound)
	if q.Limit != nil {
		if limit = *q.Limit; limit < 0 {
			return fault.E(fault.Invalid, op, "limit must not be negative")
		}
	}
	list, limited, err := a.engine.SearchUsers(r.Session.User, *q.Term, int(min(limit, maxFound)))
	if err != nil {
		return err
	}
	dst := strconv.AppendBool(append(r.Out(), `{"limited":`...), limited)
	dst = append(dst, `,"results":[`...)
	for i := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '{')
		if u := &list[i]; u.Avatar != "" {
			dst = append(cjson.AppendString(append(dst, `"avatar_url":`...), u.Avatar), ',')
		}
		if u := &list[i]; u.Name != "" {
			dst = append(cjson.AppendString(append(dst, `"display_name":`...), u.Name), ',')
		}
		dst = append(cjson.AppendString(append(dst, `"user_id":`...), list[i].ID), '}')
	}
	return r.OK(append(dst, `]}`...))
}
