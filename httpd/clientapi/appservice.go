package clientapi

import (
	"bytes"
	"strconv"
	"time"

	"hearth/engine/account"
	"hearth/engine/appservice"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// loginService is how an application service registers and logs in the users it
// speaks for. Spec: application-service, server admin style permissions.
const loginService = "m.login.application_service"

// byService makes the session of a request with the token of an application
// service: of the user it names, or of its own. ok is false where the token is
// no service's. Spec: application-service, identity assertion; MSC3202.
func (a *API) byService(r *wire.Req) (s account.Session, ok bool, err error) {
	services := a.engine.AppServices.Services()
	if len(services.All()) == 0 {
		return s, false, nil
	}
	service := services.ByToken(r.Token())
	if service == nil {
		return s, false, nil
	}
	as := service.Sender
	if name, given := r.Query("user_id"); given && name != "" {
		as = mxid.UserID(name)
		if !service.User(as) {
			return s, true, fault.E(fault.Forbidden, "clientapi.Authenticate", "the application service does not speak for %s", name)
		}
	}
	device, given := r.Query("device_id")
	if !given {
		device, _ = r.Query("org.matrix.msc3202.device_id")
	}
	if s, err = a.accounts.Assume(as, device); err != nil {
		return s, true, err
	}
	s.Service, s.Unlimited = service.ID, as == service.Sender || !service.RateLimited
	return s, true, a.engine.AppServices.Heard(service)
}

// provide lets the application services make the users who are to be invited and
// are not there: a bridge makes somebody of another network when they are spoken
// to. What comes of it is seen when they are invited. A service is not asked for
// users of its own, which it can make before it invites them.
// Spec: application-service, querying.
func (a *API) provide(r *wire.Req, users ...mxid.UserID) {
	services := a.engine.AppServices.Services()
	if len(services.All()) == 0 {
		return
	}
	ctx := r.Context()
	asks := services.ByID(r.Session.Service)
	for _, id := range users {
		if asks != nil && asks.User(id) {
			continue
		}
		if _, err := a.engine.FindUser(ctx, id); fault.Is(err, fault.ServiceSilent) {
			return // the next would wait for the same
		}
	}
}

// service is the application service that asks; an error for anybody else.
func (a *API) service(r *wire.Req) (*appservice.Service, error) {
	if s := a.engine.AppServices.Services().ByToken(r.Token()); s != nil {
		return s, nil
	}
	if r.Token() == nil {
		return nil, fault.E(fault.MissingToken, "clientapi.appservice", "the token of an application service is needed")
	}
	return nil, fault.E(fault.UnknownToken, "clientapi.appservice", "the token is no application service's")
}

// registerFor makes a user of an application service.
func (a *API) registerFor(r *wire.Req, body []byte) error {
	const op = "clientapi.register"
	s, err := a.service(r)
	if err != nil {
		return err
	}
	var q registration
	if err := wire.Decode(body, &q); err != nil {
		return err
	}
	if q.Username == nil {
		return fault.E(fault.Missing, op, "which username?")
	}
	name := mxid.LowerLocalpart(*q.Username)
	if !s.User(a.accounts.ID(name)) {
		return fault.E(fault.Exclusive, op, "the name is outside the namespaces of the application service")
	}
	if err := a.engine.Exclusive(a.accounts.ID(name), s.ID); err != nil {
		return err
	}
	num, err := a.accounts.Create(account.NewUser{Localpart: name})
	if err != nil {
		return err
	}
	if q.Inhibit {
		dst := cjson.AppendString(append(r.Out(), `{"home_server":`...), a.engine.Server)
		dst = cjson.AppendString(append(dst, `,"user_id":`...), a.accounts.ID(name))
		return r.OK(append(dst, '}'))
	}
	return a.enter(r, num, q.newDevice)
}

// loginFor finds the user whom an application service logs in.
func (a *API) loginFor(r *wire.Req, body []byte) (uint32, error) {
	const op = "clientapi.login"
	s, err := a.service(r)
	if err != nil {
		return 0, err
	}
	id, err := loginName(body, a.accounts)
	if err != nil {
		return 0, err
	}
	if id == "" {
		return 0, fault.E(fault.Missing, op, "a login needs an identifier")
	}
	if !s.User(id) {
		return 0, fault.E(fault.Exclusive, op, "the application service does not speak for %s", id)
	}
	as, err := a.accounts.Assume(id, "")
	return as.User, err
}

// typeOf reads the type that a registration names beside its auth.
func typeOf(body []byte) string {
	t, _ := cjson.LookupString(body, "type")
	return t
}

// newDeviceFor makes a device for a user of an application service, which needs
// no login; made is false where there was one of that name.
// Spec: application-service, device management.
func (a *API) newDeviceFor(r *wire.Req, id string, name string) (made bool, err error) {
	_, err = a.accounts.Device(r.Session.User, id)
	if !fault.Is(err, fault.NotFound) {
		return false, err
	}
	// The tokens of this login are nobody's: the service goes on with its own.
	_, _, err = a.accounts.Login(r.Session.User, account.NewSession{Device: id, Name: name, From: r.Remote()})
	return true, err
}

// stamp reads the time that an application service wants on its event.
// Spec: application-service, timestamp massaging.
func stamp(r *wire.Req) (int64, error) {
	if r.Session.Service == "" {
		return 0, nil
	}
	text, given := r.Query("ts")
	if !given {
		return 0, nil
	}
	ts, err := strconv.ParseInt(text, 10, 64)
	if err != nil || ts < 0 || ts > 1<<53-1 {
		return 0, fault.E(fault.Invalid, "clientapi.stamp", "ts is a time in milliseconds")
	}
	return ts, nil
}

// Spec: client-server, POST /_matrix/client/v1/appservice/{appserviceId}/ping.
func (a *API) pingService(r *wire.Req) error {
	const op = "clientapi.ping"
	var q struct {
		Txn string `json:"transaction_id"`
	}
	if err := r.Decode(&q); err != nil {
		return err
	}
	s := a.engine.AppServices.Services().ByID(r.Session.Service)
	if s == nil || s.ID != r.Path("appserviceId") {
		return fault.E(fault.Forbidden, op, "an application service pings itself only")
	}
	if s.URL == "" {
		return fault.E(fault.NoServiceURL, op, "")
	}
	ctx := r.Context()
	began := time.Now()
	status, body, err := a.engine.AppServices.Ping(ctx, s, q.Txn)
	switch {
	case err != nil && ctx.Err() == nil && isTimeout(err):
		return fault.E(fault.ServiceTimeout, op, "")
	case err != nil:
		return fault.E(fault.ServiceUnreachable, op, "the application service does not answer: %w", err)
	case status/100 != 2:
		extra := strconv.AppendInt([]byte(`"status":`), int64(status), 10)
		extra = cjson.AppendString(append(extra, `,"body":`...), string(bytes.ToValidUTF8(body[:min(len(body), 1024)], nil)))
		return r.Fail(fault.E(fault.ServiceStatus, op, "the application service answered with status %d", status), string(extra))
	}
	if err := a.engine.AppServices.Alive(s); err != nil {
		return err
	}
	dst := strconv.AppendInt(append(r.Out(), `{"duration_ms":`...), time.Since(began).Milliseconds(), 10)
	return r.OK(append(dst, '}'))
}

// isTimeout says whether somebody did not answer in time.
func isTimeout(err error) bool {
	for err != nil {
		if t, ok := err.(interface{ Timeout() bool }); ok && t.Timeout() {
			return true
		}
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return false
		}
		err = u.Unwrap()
	}
	return false
}
