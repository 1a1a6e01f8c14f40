package clientapi

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"slices"
	"strings"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
)

// The stages of user-interactive authentication that the hub knows.
const (
	stageDummy    = "m.login.dummy"
	stagePassword = "m.login.password"
	stageToken    = "m.login.registration_token"
	stageEmail    = "m.login.email.identity"
	stagePhone    = "m.login.msisdn"
	stageTerms    = "m.login.terms"
	stageOAuth    = "m.oauth"
	stageOAuthOld = "org.matrix.cross_signing_reset" // as clients knew it before it was in the specification
)

// stage tries the stage that auth names.
func (u *interactive) stage(x *exchange, q *question, auth []byte) error {
	typ, ok := cjson.LookupString(auth, "type")
	if !ok {
		if _, present := cjson.Lookup(auth, "type"); present {
			return fault.E(fault.BadJSON, "clientapi.auth", "the type of auth must be a string")
		}
		// The session alone: the client asks how things stand, unless it is one
		// of those that log in without naming the stage.
		u.byPage(x)
		return nil
	}
	u.mu.Lock()
	done, next := slices.Contains(x.done, typ), x.next(typ)
	u.mu.Unlock()
	switch {
	case done:
		return nil
	case !next:
		return u.challenge(x, fault.E(fault.Unrecognised, "clientapi.auth", "%s is not a stage that could come now", typ))
	}
	var p proof
	var err error
	switch typ {
	case stagePassword:
		p, err = u.byPassword(x, q, auth)
	case stageToken:
		p, err = u.byToken(x, q, auth)
	case stageEmail, stagePhone:
		p, err = u.byAddress(x, q, auth)
	case stageOAuth, stageOAuthOld:
		if u.byPage(x) {
			return nil
		}
		err = u.challenge(x, fault.E(fault.Unauthorised, "clientapi.auth", "this is allowed on your account page first"))
	case stageSSO:
		err = u.challenge(x, fault.E(fault.Unauthorised, "clientapi.auth", "this stage is passed in a browser"))
	}
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if slices.Contains(x.done, typ) || u.open[x.id] != x {
		if p.token != "" { // another request was first, or the exchange has ended
			u.accounts.Free(p.token)
		}
		return nil
	}
	x.done = append(x.done, typ)
	switch typ {
	case stagePassword:
		x.got.who = p.who
	case stageToken:
		x.got.token = p.token
	case stageEmail, stagePhone:
		x.got.medium, x.got.address, x.got.sid = p.medium, p.address, p.sid
	}
	return nil
}

// byPage passes the stage of who allowed on their account page what the exchange
// is for. Spec: client-server, OAuth authentication.
func (u *interactive) byPage(x *exchange) bool {
	if !u.renewals.allowed(x.q.user, u.now().UnixMilli()) {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.open[x.id] == x && x.next(stageOAuth) {
		x.done = append(x.done, stageOAuth)
		return true
	}
	return false
}

// asks says that the user has logged in at a provider for the stage of that, and
// gives the code with which they agree to what it is for; false where it is not
// theirs to pass, or could not come now.
func (u *interactive) asks(x *exchange, user uint32) (code string, ok bool) {
	var b [18]byte
	_, _ = rand.Read(b[:]) // never fails
	u.mu.Lock()
	defer u.mu.Unlock()
	if x.q.user != user || u.open[x.id] != x || !x.next(stageSSO) {
		return "", false
	}
	x.agree = base64.RawURLEncoding.EncodeToString(b[:])
	return x.agree, true
}

// agreed passes the stage of a login at a provider.
func (u *interactive) agreed(x *exchange, code string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if x.agree == "" || subtle.ConstantTimeCompare([]byte(code), []byte(x.agree)) != 1 || u.open[x.id] != x || !x.next(stageSSO) {
		return false
	}
	x.done = append(x.done, stageSSO)
	x.got.who, x.agree = x.q.user, ""
	return true
}

// byPassword takes the stage of that name: it must be the password of the user
// whose operation it is, or where nobody is logged in, of any.
func (u *interactive) byPassword(x *exchange, q *question, auth []byte) (p proof, err error) {
	id, err := loginName(auth, u.accounts)
	if err != nil {
		return p, err
	}
	password, ok := cjson.LookupString(auth, "password")
	if !ok {
		return p, fault.E(fault.Missing, "clientapi.auth", "the stage needs a password")
	}
	if id == "" {
		id = q.id // who is logged in need not say it again
	}
	if p.who, err = u.accounts.CheckPassword(id, password); err != nil {
		return p, u.retry(x, err)
	}
	if q.user != 0 && p.who != q.user {
		return p, fault.E(fault.Forbidden, "clientapi.auth", "this is not the user whose request it is")
	}
	return p, nil
}

// byToken takes a registration token, and reserves it.
func (u *interactive) byToken(x *exchange, q *question, auth []byte) (p proof, err error) {
	var isText bool
	if p.token, isText = cjson.LookupString(auth, "token"); !isText {
		return p, fault.E(fault.Missing, "clientapi.auth", "the stage needs a token")
	}
	if q.only != "" && subtle.ConstantTimeCompare([]byte(q.only), []byte(p.token)) == 0 {
		return p, u.challenge(x, fault.E(fault.Unauthorised, "clientapi.auth", "the registration token is not valid"))
	}
	if err := u.accounts.Reserve(p.token); err != nil {
		return p, u.retry(x, err)
	}
	return p, nil
}

// byAddress takes an address that was proved by following the link in a mail, or
// by the code in a text message. Older clients write the name of the member in
// another way.
func (u *interactive) byAddress(x *exchange, q *question, auth []byte) (p proof, err error) {
	creds, ok := cjson.Lookup(auth, "threepid_creds")
	if !ok {
		creds, ok = cjson.Lookup(auth, "threepidCreds")
	}
	switch {
	case !ok:
		return p, fault.E(fault.Missing, "clientapi.auth", "the stage needs threepid_creds")
	case cjson.KindOf(creds) != cjson.ObjectKind:
		return p, fault.E(fault.BadJSON, "clientapi.auth", "threepid_creds must be an object")
	}
	sid, _ := cjson.LookupString(creds, "sid")
	secret, _ := cjson.LookupString(creds, "client_secret")
	typ, _ := cjson.LookupString(auth, "type")
	v, ok := u.proofs.proved(sid, secret, q.purpose)
	if !ok || (v.medium == account.Phone) != (typ == stagePhone) {
		return p, u.challenge(x, fault.E(fault.ThreepidAuth, "clientapi.auth", "the address has not been confirmed yet"))
	}
	server, _ := cjson.LookupString(creds, "id_server")
	return proof{medium: v.medium, address: v.address, sid: sid, server: server}, nil
}

// loginName reads who an identifier, or the older members beside it, means.
// Empty means that none is named; a user that does not exist means somebody
// whom the hub does not know by the address that was given.
// Spec: client-server, identifier types.
func loginName(obj []byte, accounts *account.Accounts) (mxid.UserID, error) {
	const op = "clientapi.login"
	name, has := cjson.Lookup(obj, "user")
	if ident, ok := cjson.Lookup(obj, "identifier"); ok {
		if cjson.KindOf(ident) != cjson.ObjectKind {
			return "", fault.E(fault.BadJSON, op, "the identifier must be an object")
		}
		typ, _ := cjson.Lookup(ident, "type")
		switch kind, isText := cjson.String(typ); {
		case !isText:
			return "", fault.E(fault.BadJSON, op, "the identifier needs a type")
		case kind == "m.id.phone":
			return byPhone(ident, accounts)
		case kind == "m.id.thirdparty":
			return byThreepid(ident, accounts)
		case kind != "m.id.user":
			return "", fault.E(fault.Unknown, op, "the hub knows no identifiers of the type %q", kind)
		}
		name, has = cjson.Lookup(ident, "user")
		if !has {
			return "", fault.E(fault.Missing, op, "the identifier needs a user")
		}
	} else if _, ok := cjson.Lookup(obj, "medium"); ok && !has {
		return byThreepid(obj, accounts)
	}
	if !has {
		return "", nil
	}
	text, ok := cjson.String(name)
	if !ok {
		return "", fault.E(fault.BadJSON, op, "the user must be a string")
	}
	if text == "" || text[0] != '@' {
		return mxid.UserID("@" + text + ":" + string(accounts.Server())), nil
	}
	return mxid.UserID(text), nil
}

// canonical gives an address in the form in which it is stored.
func canonical(medium, address string) (string, bool) {
	var err error
	switch medium {
	case account.Email:
		address, err = account.CanonicalEmail(address)
	case account.Phone:
		address, err = account.CanonicalPhone("", "+"+strings.TrimPrefix(address, "+"))
	}
	return address, err == nil
}

// byThreepid finds the user who has the address of a third-party identifier.
func byThreepid(obj []byte, accounts *account.Accounts) (mxid.UserID, error) {
	medium, ok := cjson.LookupString(obj, "medium")
	address, ok2 := cjson.LookupString(obj, "address")
	if !ok || !ok2 {
		return "", fault.E(fault.Missing, "clientapi.login", "a third-party identifier has a medium and an address")
	}
	nobody := accounts.ID("") // no user has this name
	if address, ok = canonical(medium, address); !ok {
		return nobody, nil
	}
	num, err := accounts.FindThreepid(medium, address)
	if err != nil || num == 0 {
		return nobody, err
	}
	u, err := accounts.User(num)
	return u.ID, err
}

// byPhone finds the user who has a phone, told as it is dialled in a country.
// Spec: client-server, identifier types, phone number.
func byPhone(ident []byte, accounts *account.Accounts) (mxid.UserID, error) {
	country, ok := cjson.LookupString(ident, "country")
	number, ok2 := cjson.LookupString(ident, "phone")
	if !ok2 {
		number, ok2 = cjson.LookupString(ident, "number") // as it was called once
	}
	if !ok || !ok2 {
		return "", fault.E(fault.Missing, "clientapi.login", "a phone has a country and a phone")
	}
	nobody := accounts.ID("")
	address, err := account.CanonicalPhone(country, number)
	if err != nil {
		return nobody, nil
	}
	num, err := accounts.FindThreepid(account.Phone, address)
	if err != nil || num == 0 {
		return nobody, err
	}
	u, err := accounts.User(num)
	return u.ID, err
}
