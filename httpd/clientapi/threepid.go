package clientapi

import (
	"net/url"
	"strings"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/httpd/wire"
)

// Mail sends an e-mail, and returns when it is on its way.
type Mail func(to, subject, text string) error

// confirmPath is where the links in mails lead.
const confirmPath = "/_matrix/client/unstable/email/submit_token"

// mails says whether the hub sends mail. It has to know its own address for the
// links: that of a request is whatever its sender wrote into it.
func (a *API) mails() bool { return a.o.Mail != nil && a.o.PublicURL != "" }

// tokenRequest is what the requests for a proof have in common.
type tokenRequest struct {
	Secret  *string `json:"client_secret"`
	Email   *string `json:"email"`
	Country *string `json:"country"`
	Phone   *string `json:"phone_number"`
	Attempt *int64  `json:"send_attempt"`
	Next    string  `json:"next_link"`
}

// check holds the request to its grammar; address says whether what it is about is there.
func (q *tokenRequest) check(address bool) error {
	const op = "clientapi.requestToken"
	switch {
	case q.Secret == nil || q.Attempt == nil || !address:
		return fault.E(fault.Missing, op, "client_secret, send_attempt and an address are needed")
	case !wire.Opaque(*q.Secret):
		return fault.E(fault.Invalid, op, "client_secret has 1 to 255 characters of A-Z, a-z, 0-9 and .=_-")
	case q.Next != "" && !wire.WebLink(q.Next):
		return fault.E(fault.Invalid, op, "next_link must be a link")
	}
	return nil
}

// unsupported is the answer where the hub cannot prove addresses of a kind.
func unsupported(p purpose, what string) error {
	if p == forAccount {
		return fault.E(fault.MediumUnsupported, "clientapi.requestToken", "the hub sends no %s", what)
	}
	return fault.E(fault.ThreepidDenied, "clientapi.requestToken", "the hub sends no %s", what)
}

// requestEmail is the three requests for a proof by a mail.
// Spec: client-server, POST /register/email/requestToken, POST
// /account/password/email/requestToken, POST /account/3pid/email/requestToken.
func (a *API) requestEmail(p purpose) wire.Handler {
	return func(r *wire.Req) error {
		var q tokenRequest
		if err := r.Decode(&q); err != nil {
			return err
		}
		if err := q.check(q.Email != nil); err != nil {
			return err
		}
		if !a.mails() {
			return unsupported(p, "mail")
		}
		address, err := account.CanonicalEmail(*q.Email)
		if err != nil {
			return err
		}
		if err := a.mayProve(p, account.Email, address); err != nil {
			return err
		}
		sid, err := a.sendProof(want{p, *q.Secret, account.Email, address, *q.Attempt, q.Next})
		if err != nil {
			return err
		}
		return r.OK(append(cjson.AppendString(append(r.Out(), `{"sid":`...), sid), '}'))
	}
}

// mayProve says whether it is of use to prove an address.
func (a *API) mayProve(p purpose, medium, address string) error {
	user, err := a.accounts.FindThreepid(medium, address)
	switch {
	case err != nil:
		return err
	case p == forPassword && user == 0:
		return fault.E(fault.ThreepidNotFound, "clientapi.requestToken", "nobody here has this address")
	case p != forPassword && user != 0:
		return fault.E(fault.ThreepidInUse, "clientapi.requestToken", "the address belongs to a user already")
	}
	return nil
}

// sendProof sends the mail with the link, unless that was done for the same
// request before.
func (a *API) sendProof(w want) (sid string, err error) {
	v, send, err := a.proofs.begin(w)
	if err != nil || !send {
		return v.sid, err
	}
	link := strings.TrimSuffix(a.o.PublicURL, "/") + confirmPath + "?" +
		url.Values{"sid": {v.sid}, "client_secret": {v.secret}, "token": {v.token}}.Encode()
	server := string(a.engine.Server)
	subject, why := "Confirm your e-mail address for "+server, "Somebody, most likely you, has entered this e-mail address on "+server+"."
	if w.purpose == forPassword {
		subject, why = "A new password for "+server, "Somebody, most likely you, wants to set a new password for the account on "+server+" that has this e-mail address."
	}
	text := why + "\nTo confirm it, open this link within a day:\n\n" + link + "\n\nIf it was not you, nothing needs to be done.\n"
	if err := a.o.Mail(v.address, subject, text); err != nil {
		a.proofs.failed(v.sid)
		return "", fault.E(fault.Remote, "clientapi.requestToken", "the mail could not be sent; try again later")
	}
	return v.sid, nil
}

// Spec: client-server, GET /account/3pid.
func (a *API) addresses(r *wire.Req) error {
	list, err := a.accounts.Threepids(r.Session.User)
	if err != nil {
		return err
	}
	type threepid struct {
		Added     int64  `json:"added_at"`
		Address   string `json:"address"`
		Medium    string `json:"medium"`
		Validated int64  `json:"validated_at"`
	}
	all := []threepid{}
	for _, t := range list {
		all = append(all, threepid{t.Added.UnixMilli(), t.Address, t.Medium, t.Validated.UnixMilli()})
	}
	return r.Answer(struct {
		All []threepid `json:"threepids"`
	}{all})
}

// credentials name a proof.
type credentials struct {
	SID    *string `json:"sid"`
	Secret *string `json:"client_secret"`
	Server string  `json:"id_server"` // the identity server of older clients
}

func (c *credentials) missing() error {
	if c == nil || c.SID == nil || c.Secret == nil {
		return fault.E(fault.Missing, "clientapi.threepid", "sid and client_secret are needed")
	}
	return nil
}

// addThreepid gives a user an address; with found others find the user by it.
func (a *API) addThreepid(user uint32, t account.Threepid, found bool) error {
	if err := a.accounts.AddThreepid(user, t.Medium, t.Address, t.Validated); err != nil {
		return err
	}
	a.engine.Proved(user, t, found)
	return nil
}

// ownIdentity says whether the identity server that a client names is the hub
// itself, which is who binds where none is named.
func (a *API) ownIdentity(name string) bool {
	if name == "" || name == string(a.engine.Server) {
		return true
	}
	u, err := url.Parse(a.o.IdentityAt)
	return err == nil && name == u.Host
}

// adopt gives the user the address of a proof.
func (a *API) adopt(r *wire.Req, c *credentials, found bool) error {
	v, ok := a.proofs.proved(*c.SID, *c.Secret, forAccount)
	if !ok {
		return fault.E(fault.ThreepidAuth, "clientapi.threepid", "the address has not been confirmed")
	}
	if err := a.addThreepid(r.Session.User, account.Threepid{Medium: v.medium, Address: v.address, Validated: v.proved}, found); err != nil {
		return err
	}
	a.proofs.used(v.sid)
	return r.Empty()
}

// Spec: client-server, POST /account/3pid, which asked for no password.
func (a *API) addAddressOld(r *wire.Req) error {
	var q struct {
		Creds *credentials `json:"three_pid_creds"`
		Old   *credentials `json:"threePidCreds"`
		Bind  bool         `json:"bind"` // others are to find the user by the address
	}
	if err := r.Decode(&q); err != nil {
		return err
	}
	if q.Creds == nil {
		q.Creds = q.Old
	}
	if err := q.Creds.missing(); err != nil {
		return err
	}
	return a.adopt(r, q.Creds, q.Bind && a.ownIdentity(q.Creds.Server))
}

// Spec: client-server, POST /account/3pid/add.
func (a *API) addAddress(r *wire.Req) error {
	body, err := r.Object()
	if err != nil {
		return err
	}
	var q credentials
	if err := wire.Decode(body, &q); err != nil {
		return err
	}
	x, full, err := a.proved(r, "add address", body)
	if x == nil {
		return err
	}
	if err := wire.Decode(full, &q); err != nil {
		return err
	}
	if err := q.missing(); err != nil {
		return err
	}
	if err := a.adopt(r, &q, false); err != nil {
		return err
	}
	a.uia.end(x)
	return nil
}
