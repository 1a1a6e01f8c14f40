package appservice

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
)

// QueryUser asks the services in whose namespaces a user of this hub would be
// whether there is one, which makes them create it. false where none knows it.
// Spec: application-service, GET /_matrix/app/v1/users/{userId}.
func (a *AppServices) QueryUser(ctx context.Context, id mxid.UserID) (bool, error) {
	return a.query(ctx, "/users/"+url.PathEscape(string(id)), func(s *Service) bool { return id != s.Sender && s.User(id) })
}

// QueryAlias is QueryUser for an alias of this hub.
// Spec: application-service, GET /_matrix/app/v1/rooms/{roomAlias}.
func (a *AppServices) QueryAlias(ctx context.Context, alias mxid.Alias) (bool, error) {
	return a.query(ctx, "/rooms/"+url.PathEscape(string(alias)), func(s *Service) bool { return s.Alias(alias) })
}

// A service that does not answer a query is asked again, because somebody waits
// for the answer; not where it is known to be away.
const (
	queryTries = 3
	queryPause = 300 * time.Millisecond
)

func (a *AppServices) query(ctx context.Context, path string, whose func(s *Service) bool) (bool, error) {
	var failed error
	for _, s := range a.Services().All() {
		if s.URL == "" || !whose(s) {
			continue
		}
		err := a.queryOne(ctx, s, path)
		switch {
		case err == nil:
			return true, nil
		case !fault.Is(err, fault.NotFound):
			failed = err
		}
	}
	return false, failed
}

func (a *AppServices) queryOne(ctx context.Context, s *Service, path string) error {
	tries := queryTries
	if _, away, err := a.box.Of(s.ID); err != nil {
		return err
	} else if away {
		tries = 1
	}
	for {
		_, err := a.ask(ctx, s, "GET", path, nil)
		tries--
		if err == nil || fault.Is(err, fault.NotFound) || tries == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-a.stop:
			return err
		case <-time.After(queryPause):
		}
	}
}

// ThirdParty asks all services of a protocol, or all services where protocol is
// empty, for what is below /thirdparty, and appends what they answer to dst,
// separated by commas: the items of their lists, or their objects. Who does not
// answer is left out. Spec: application-service, third-party networks.
func (a *AppServices) ThirdParty(ctx context.Context, dst []byte, protocol, path, query string) []byte {
	if query != "" {
		path += "?" + query
	}
	for _, s := range a.Services().All() {
		if s.URL == "" || len(s.Protocols) == 0 || protocol != "" && !s.bridges(protocol) {
			continue
		}
		answer, err := a.ask(ctx, s, "GET", "/thirdparty/"+path, nil)
		if err != nil || cjson.Check(answer) != nil {
			continue
		}
		add := func(item []byte) bool {
			if cjson.KindOf(item) != cjson.ObjectKind {
				return true
			}
			if len(dst) > 0 && dst[len(dst)-1] == '}' {
				dst = append(dst, ',')
			}
			dst = append(dst, item...)
			return true
		}
		if cjson.KindOf(answer) == cjson.ArrayKind {
			_ = cjson.Array(answer, add) // it was checked
			continue
		}
		add(answer)
	}
	return dst
}

// Ping asks a service whether it hears the hub, with a transaction id that the
// service has chosen (empty: none). status and body are what it answered; the
// error is that it did not. Spec: application-service, pinging.
func (a *AppServices) Ping(ctx context.Context, s *Service, txn string) (status int, body []byte, err error) {
	if a.o.Ask == nil || s.URL == "" {
		return 0, nil, fault.E(fault.Missing, "appservice.Ping", "the registration has no url")
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	out := []byte(`{}`)
	if txn != "" {
		out = append(cjson.AppendString([]byte(`{"transaction_id":`), txn), '}')
	}
	return a.o.Ask(ctx, &Request{Method: "POST", URL: s.URL + prefix + "/ping", Token: s.hs, Body: out})
}

// Status is where a service stands, for its owner.
type Status struct {
	Service *Service
	Behind  uint64 // log entries it has not been told of
	Error   string // why the last try failed; empty where none did
}

// Statuses lists where all services stand.
func (a *AppServices) Statuses() (list []Status, err error) {
	for _, s := range a.Services().All() {
		st := Status{Service: s}
		p, _, err := a.place(s.ID)
		if err != nil {
			return nil, err
		}
		row, waits, err := a.box.Of(s.ID)
		if err != nil {
			return nil, err
		}
		if waits {
			st.Behind, st.Error = uint64(a.Log.Tip()-max(row.From, p.acked)), row.Error
		}
		list = append(list, st)
	}
	return list, nil
}

func (s Status) String() string {
	if s.Service.URL == "" {
		return s.Service.ID + ": wants to be told nothing"
	}
	if s.Error == "" {
		return s.Service.ID + ": in step"
	}
	return s.Service.ID + ": " + strconv.FormatUint(s.Behind, 10) + " entries behind: " + s.Error
}
