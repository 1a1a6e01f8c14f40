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

// oldFor is how long a service is believed to know an old manner only.
const oldFor = time.Hour

// manner is how a service is spoken to.
type manner byte

const (
	today   manner = iota
	inQuery        // today's paths, but it reads the token from the query, as was right before version 1.4
	oldPath        // paths without a version, and the token in the query
)

// spoken is the manner that a service understood last.
type spoken struct {
	manner
	until time.Time // when that is asked anew
}

// askTime bounds one exchange with a service.
const askTime = 30 * time.Second

// ask puts a request to a service, below the prefix of today and with the token
// in the header; where the service refuses that token it goes into the query too,
// and where that path is not known there the path of older services is tried. An
// answer that is no success is an error: NotFound, Forbidden or Remote.
// Spec: application-service, authorisation and legacy routes.
func (a *AppServices) ask(ctx context.Context, s *Service, method, path string, body []byte) ([]byte, error) {
	if a.o.Ask == nil || s.URL == "" {
		return nil, fault.E(fault.Remote, "appservice.Ask", "%s has no address", s.ID)
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	m := a.manner(s)
	for {
		r := Request{Method: method, URL: m.link(s, path), Token: s.hs, Body: body}
		status, answer, err := a.o.Ask(ctx, &r)
		if err != nil {
			return a.judge(s, status, answer, err)
		}
		next := today // an old manner that is not understood any more is forgotten
		switch {
		case unknown(status, answer) && m == today:
			next = oldPath
		case refused(status) && m == today:
			next = inQuery
		case !unknown(status, answer) && !refused(status):
			next = m
		}
		if next == m || next == today {
			a.settle(s, next)
			return a.judge(s, status, answer, nil)
		}
		m = next
	}
}

// manner is how a service is spoken to first.
func (a *AppServices) manner(s *Service) manner {
	a.mu.Lock()
	defer a.mu.Unlock()
	if old, ok := a.old[s.ID]; ok && a.o.Now().Before(old.until) {
		return old.manner
	}
	return today
}

func (a *AppServices) settle(s *Service, m manner) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if m == today {
		delete(a.old, s.ID)
	} else if old, ok := a.old[s.ID]; !ok || old.manner != m {
		a.old[s.ID] = spoken{m, a.o.Now().Add(oldFor)}
	}
}

// link is the address of what stands below the prefix of today.
func (m manner) link(s *Service, path string) string {
	switch {
	case m == today:
		return s.URL + prefix + path
	case m == inQuery:
		path = prefix + path
	case strings.HasPrefix(path, "/thirdparty/"):
		path = "/_matrix/app/unstable" + path
	}
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	return s.URL + path + sep + "access_token=" + url.QueryEscape(s.hs)
}

func refused(status int) bool { return status == 401 || status == 403 }

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
	case refused(status):
		return nil, fault.E(fault.Remote, op, "the application service %s refuses the hub (status %d): is its hs_token the one it was registered with?", s.ID, status)
	}
	return nil, fault.E(fault.Remote, op, "the application service %s answered with status %d", s.ID, status)
}
