package appservice

import (
	"context"
	"net/url"
	"strings"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/fault"
)

// prefix begins the paths of today's services.
const prefix = "/_matrix/app/v1"

// oldFor is how long a service is believed to know old paths only.
const oldFor = time.Hour

// askTime bounds one exchange with a service.
const askTime = 30 * time.Second

// ask puts a request to a service, below the prefix of today; where that path is
// not known there, under the one of older services, with the token in the query
// as they have it. An answer that is no success is an error: NotFound, Forbidden
// or Remote. Spec: application-service, legacy routes.
func (a *AppServices) ask(ctx context.Context, s *Service, method, path string, body []byte) ([]byte, error) {
	if a.o.Ask == nil || s.URL == "" {
		return nil, fault.E(fault.Remote, "appservice.Ask", "%s has no address", s.ID)
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	r := Request{Method: method, URL: s.URL + prefix + path, Token: s.hs, Body: body}
	a.mu.Lock()
	old := a.o.Now().Before(a.old[s.ID])
	a.mu.Unlock()
	if !old {
		status, answer, err := a.o.Ask(ctx, &r)
		if err != nil || !unknown(status, answer) {
			return a.judge(s, status, answer, err)
		}
	}
	r.URL = s.URL + oldPath(path)
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	r.URL += sep + "access_token=" + url.QueryEscape(s.hs)
	status, answer, err := a.o.Ask(ctx, &r)
	if err == nil {
		a.mu.Lock()
		if unknown(status, answer) {
			delete(a.old, s.ID)
		} else {
			a.old[s.ID] = a.o.Now().Add(oldFor)
		}
		a.mu.Unlock()
	}
	return a.judge(s, status, answer, err)
}

// oldPath is the path of older services for the same.
func oldPath(path string) string {
	if strings.HasPrefix(path, "/thirdparty/") {
		return "/_matrix/app/unstable" + path
	}
	return path
}

// unknown says whether an answer means that the path is not known, and not that
// what was asked for is not there.
func unknown(status int, answer []byte) bool {
	switch status {
	case 404, 405, 501:
	default:
		return false
	}
	if cjson.Check(answer) != nil || cjson.KindOf(answer) != cjson.ObjectKind {
		return true
	}
	code, ok := cjson.LookupString(answer, "errcode")
	return !ok || code == "M_UNRECOGNIZED"
}

// judge turns an answer into a result.
func (a *AppServices) judge(s *Service, status int, answer []byte, err error) ([]byte, error) {
	const op = "appservice.Ask"
	switch {
	case err != nil:
		return nil, fault.E(fault.Remote, op, "the application service %s does not answer: %w", s.ID, err)
	case status/100 == 2:
		return answer, nil
	case status == 404:
		return nil, fault.E(fault.NotFound, op, "the application service %s does not know it", s.ID)
	case status == 401 || status == 403:
		return nil, fault.E(fault.Remote, op, "the application service %s refuses the hub (status %d): is its hs_token the one it was registered with?", s.ID, status)
	}
	return nil, fault.E(fault.Remote, op, "the application service %s answered with status %d", s.ID, status)
}
