package clientapi

import (
	"crypto/rand"
	"fmt"
	"slices"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// registration is the body of POST /register.
type registration struct {
	newDevice
	Username *string `json:"username"`
	Password *string `json:"password"`
	Inhibit  bool    `json:"inhibit_login"`
	Guest    *string `json:"guest_access_token"`
	Email    bool    `json:"bind_email"` // of older clients: others are to find the user by the address
	Phone    bool    `json:"bind_msisdn"`

	guest uint32 // the guest that becomes an ordinary user; 0: none does
}

// check says what is wrong with a registration before anybody is asked to
// prove anything, as the specification wants it.
func (q *registration) check(accounts *account.Accounts) error {
	if q.Username != nil {
		*q.Username = mxid.LowerLocalpart(*q.Username)
	}
	if q.Guest != nil {
		if err := q.upgrade(accounts); err != nil {
			return err
		}
	} else if q.Username != nil {
		if err := accounts.CheckName(*q.Username); err != nil {
			return err
		}
	}
	if q.Password != nil {
		return accounts.CheckNewPassword(*q.Password)
	}
	return nil
}

// upgrade finds the guest of a registration that makes one an ordinary user.
// Spec: client-server, guest access.
func (q *registration) upgrade(accounts *account.Accounts) error {
	const op = "clientapi.register"
	s, err := accounts.Authenticate([]byte(*q.Guest))
	switch {
	case err != nil && fault.KindOf(err) < fault.NotFound:
		return err
	case err != nil || !s.Guest:
		return fault.E(fault.Forbidden, op, "the guest_access_token is no guest's")
	case q.Username == nil:
		return fault.E(fault.Missing, op, "a guest who becomes a user keeps their username, and has to give it")
	case accounts.ID(*q.Username) != s.UserID:
		return fault.E(fault.Forbidden, op, "the guest has another username")
	}
	q.guest = s.User
	return nil
}

// gates says which stages lead to an account now, and the one registration
// token that is good where others are not.
func (a *API) gates() (flows [][]string, only string, err error) {
	claim, err := a.accounts.ClaimCode()
	if err != nil {
		return nil, "", err
	}
	switch {
	case a.o.Registration == Anyone && claim == "":
		return [][]string{{stageDummy}}, "", nil
	case a.o.Registration == Anyone:
		return [][]string{{stageDummy}, {stageToken}}, "", nil
	case a.o.Registration == WithToken:
		return [][]string{{stageToken}}, "", nil
	case claim != "":
		return [][]string{{stageToken}}, claim, nil
	}
	return nil, "", fault.E(fault.Forbidden, "clientapi.register", "registration is closed on this hub")
}

// staged adds to each way to an account what else is asked of new users: to
// accept the terms, and an e-mail address or a phone number, which may be left
// out unless the owner wants an e-mail address.
func (a *API) staged(flows [][]string) [][]string {
	var all [][]string
	for _, f := range flows {
		if slices.Equal(f, []string{stageDummy}) {
			f = nil // nothing is no stage beside others
		}
		f = slices.Clone(f)
		if a.terms != "" {
			f = append(f, stageTerms)
		}
		if !a.o.NeedEmail || !a.mails() {
			if all = append(all, f); len(f) == 0 {
				all[len(all)-1] = []string{stageDummy}
			}
		}
		if a.mails() {
			all = append(all, append(slices.Clone(f), stageEmail))
		}
		if a.texts() && !a.o.NeedEmail {
			all = append(all, append(slices.Clone(f), stagePhone))
		}
	}
	return all
}

// Spec: client-server, POST /register.
func (a *API) register(r *wire.Req) error {
	const op = "clientapi.register"
	body, err := r.Object()
	if err != nil {
		return err
	}
	switch kind := r.QueryOr("kind", "user"); kind {
	case "user":
	case "guest":
		return a.newGuest(r, body)
	default:
		return fault.E(fault.Invalid, op, "there is no kind of account called %q", kind)
	}
	if typeOf(body) == loginService {
		return a.registerFor(r, body)
	}
	flows, only, err := a.gates()
	if err != nil {
		return err
	}
	var q registration
	if err := wire.Decode(body, &q); err != nil {
		return err
	}
	if err := q.check(a.accounts); err != nil {
		return err
	}
	if q.Username != nil {
		if err := a.engine.Exclusive(a.accounts.ID(*q.Username), ""); err != nil {
			return err
		}
	}
	ask := question{op: "register", flows: a.staged(flows), body: body, loose: true, only: only, params: a.terms, purpose: forRegister}
	x, full, err := a.uia.prove(&ask)
	if err != nil {
		return a.challenged(r, err)
	}
	q = registration{} // what counts is what the exchange began with, where the client sent no more than its auth
	if err := wire.Decode(full, &q); err != nil {
		return err
	}
	if err := q.check(a.accounts); err != nil {
		return err
	}
	if q.Password == nil {
		return fault.E(fault.Missing, op, "an account needs a password")
	}
	got := a.uia.proofOf(x)
	num, name, err := a.enrol(&q, got)
	if err != nil {
		return err
	}
	a.uia.end(x)
	if err := a.bind(num, got, got.medium == account.Email && q.Email || got.medium == account.Phone && q.Phone); err != nil {
		return err
	}
	if q.Inhibit {
		dst := cjson.AppendString(append(r.Out(), `{"home_server":`...), a.engine.Server)
		dst = cjson.AppendString(append(dst, `,"user_id":`...), a.accounts.ID(name))
		return r.OK(append(dst, '}'))
	}
	return a.enter(r, num, q.newDevice)
}

// enrol makes the account.
func (a *API) enrol(q *registration, got proof) (num uint32, name string, err error) {
	if name, err = q.name(); err != nil {
		return 0, "", err
	}
	if got.address != "" {
		other, err := a.accounts.FindThreepid(got.medium, got.address)
		if err != nil {
			return 0, "", err
		}
		if other != 0 {
			return 0, "", fault.E(fault.ThreepidInUse, "clientapi.register", "the address belongs to another user")
		}
	}
	n := account.NewUser{Localpart: name, Password: *q.Password, Token: got.token}
	if q.guest != 0 {
		return q.guest, name, a.accounts.Upgrade(q.guest, n)
	}
	num, err = a.accounts.Create(n)
	return num, name, err
}

// bind gives a new account the address that was proved, for others to find where
// the user wants that, and notes which terms were accepted.
func (a *API) bind(num uint32, got proof, found bool) error {
	if got.address != "" {
		t := account.Threepid{Medium: got.medium, Address: got.address, Validated: a.o.Now()}
		if err := a.addThreepid(num, t, found && a.ownIdentity(got.server)); err != nil {
			return err
		}
		a.proofs.used(got.sid)
	}
	if a.terms == "" {
		return nil
	}
	_, err := a.accounts.SetData(num, 0, "m.accepted_terms", a.accepted)
	return err
}

// newGuest makes a guest. All that a guest may choose is the name of the
// device. Spec: client-server, guest access.
func (a *API) newGuest(r *wire.Req, body []byte) error {
	if !a.o.Guests {
		return fault.E(fault.GuestAccess, "clientapi.register", "the hub takes no guests")
	}
	name, err := randomName()
	if err != nil {
		return err
	}
	num, err := a.accounts.Create(account.NewUser{Localpart: "guest-" + name, Guest: true})
	if err != nil {
		return err
	}
	device, _ := cjson.LookupString(body, "initial_device_display_name")
	return a.enter(r, num, newDevice{Name: device})
}

// name is the wanted name, or a random one that nobody will have taken.
func (q *registration) name() (string, error) {
	if q.Username != nil {
		return *q.Username, nil
	}
	return randomName()
}

func randomName() (string, error) {
	var b [12]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("clientapi: %w", err)
	}
	for i, c := range b {
		b[i] = 'a' + c%26
	}
	return string(b[:]), nil
}

// Spec: client-server, GET /register/available.
func (a *API) available(r *wire.Req) error {
	name, ok := r.Query("username")
	if !ok {
		return fault.E(fault.Missing, "clientapi.available", "which username?")
	}
	if _, _, err := a.gates(); err != nil {
		return err
	}
	if err := a.accounts.CheckName(mxid.LowerLocalpart(name)); err != nil {
		return err
	}
	if err := a.engine.Exclusive(a.accounts.ID(mxid.LowerLocalpart(name)), ""); err != nil {
		return err
	}
	return r.OK(append(r.Out(), `{"available":true}`...))
}

// Spec: client-server, GET /register/m.login.registration_token/validity.
func (a *API) tokenValidity(r *wire.Req) error {
	token, ok := r.Query("token")
	if !ok {
		return fault.E(fault.Missing, "clientapi.tokenValidity", "which token?")
	}
	_, only, err := a.gates()
	if err != nil {
		return err
	}
	valid, err := a.accounts.RegistrationValid(token)
	if err != nil {
		return err
	}
	if only != "" {
		valid = valid && token == only
	}
	if valid {
		return r.OK(append(r.Out(), `{"valid":true}`...))
	}
	return r.OK(append(r.Out(), `{"valid":false}`...))
}
