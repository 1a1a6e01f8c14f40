package clientapi

import (
	"strconv"
	"strings"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/push"
	"hearth/httpd/wire"
)

func appendPusher(dst []byte, p *account.Pusher) []byte {
	dst = append(dst, '{')
	for _, f := range [...]struct{ key, text string }{
		{"app_display_name", p.AppName}, {"app_id", p.App}, {"device_display_name", p.DeviceName}, {"kind", p.Kind},
		{"lang", p.Lang}, {"pushkey", p.Key},
	} {
		dst = append(append(append(dst, '"'), f.key...), `":`...)
		dst = append(cjson.AppendString(dst, f.text), ',')
	}
	if p.Tag != "" {
		dst = append(cjson.AppendString(append(dst, `"profile_tag":`...), p.Tag), ',')
	}
	return append(append(append(dst, `"data":`...), p.Data...), '}')
}

// Spec: client-server, GET /pushers.
func (a *API) pushers(r *wire.Req) error {
	list, err := a.accounts.Pushers(r.Session.User)
	if err != nil {
		return err
	}
	dst := append(r.Out(), `{"pushers":[`...)
	for i := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendPusher(dst, &list[i])
	}
	return r.OK(append(dst, `]}`...))
}

// Spec: client-server, POST /pushers/set.
func (a *API) setPusher(r *wire.Req) error {
	const op = "clientapi.setPusher"
	body, err := r.Object()
	if err != nil {
		return err
	}
	var p account.Pusher
	if p.App, err = needText(body, "app_id"); err != nil {
		return err
	}
	if p.Key, err = needText(body, "pushkey"); err != nil {
		return err
	}
	kind, ok := cjson.Lookup(body, "kind")
	if !ok {
		return fault.E(fault.Missing, op, "the body has no kind")
	}
	if cjson.KindOf(kind) == cjson.NullKind {
		if err := a.engine.DropPusher(r.Session.User, account.NewPusherID(p.App, p.Key)); err != nil {
			return err
		}
		return r.Empty()
	}
	for _, f := range [...]struct {
		key string
		to  *string
	}{{"kind", &p.Kind}, {"app_display_name", &p.AppName}, {"device_display_name", &p.DeviceName}, {"lang", &p.Lang}} {
		if *f.to, err = needText(body, f.key); err != nil {
			return err
		}
	}
	if p.Tag, _, err = text(body, "profile_tag"); err != nil {
		return err
	}
	if p.Data, ok = cjson.Lookup(body, "data"); !ok {
		return fault.E(fault.Missing, op, "the body has no data")
	}
	others := false
	if val, ok := cjson.Lookup(body, "append"); ok && cjson.KindOf(val) != cjson.NullKind {
		if others, ok = cjson.Bool(val); !ok {
			return fault.E(fault.BadJSON, op, "append must be true or false")
		}
	}
	if err := a.engine.SetPusher(&r.Session, p, !others); err != nil {
		return err
	}
	return r.Empty()
}

// defaultNotifications is how long a page is where the client does not say.
const defaultNotifications = 20

// Spec: client-server, GET /notifications.
func (a *API) notifications(r *wire.Req) error {
	const op = "clientapi.notifications"
	page := push.Page{User: r.Session.User, Device: r.Session.DeviceNum}
	limit, err := r.QueryInt("limit", defaultNotifications, 0, push.MaxPage)
	if err != nil {
		return err
	}
	page.Limit = int(limit)
	if from := r.QueryOr("from", ""); from != "" {
		num, ok := strings.CutPrefix(from, "n")
		pos, err := strconv.ParseUint(num, 10, 63)
		if !ok || err != nil {
			return fault.E(fault.Invalid, op, "from is no token of this server")
		}
		page.From = max(pos, 1)
	}
	page.Highlight = r.QueryOr("only", "") == "highlight"
	dst, err := a.engine.Push.AppendList(r.Out(), &page)
	if err != nil {
		return err
	}
	return r.OK(dst)
}
