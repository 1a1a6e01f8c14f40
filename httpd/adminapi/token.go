package adminapi

import (
	"time"

	"hearth/engine/account"
	"hearth/engine/fault"
	"hearth/httpd/wire"
)

// tokenJSON is a registration token as the tools read one.
type tokenJSON struct {
	Token     string  `json:"token"`
	Uses      *uint32 `json:"uses_allowed"`
	Pending   uint32  `json:"pending"`
	Completed uint32  `json:"completed"`
	Expires   *int64  `json:"expiry_time"`
}

func describeToken(t *account.RegistrationToken) tokenJSON {
	j := tokenJSON{Token: t.Token, Pending: t.Pending, Completed: t.Completed}
	if t.Uses != 0 {
		j.Uses = &t.Uses
	}
	if !t.Expires.IsZero() {
		ms := t.Expires.UnixMilli()
		j.Expires = &ms
	}
	return j
}

func (a *API) tokens(r *wire.Req) error {
	filter := r.QueryOr("valid", "")
	if filter != "" && filter != "true" && filter != "false" {
		return fault.E(fault.Invalid, "adminapi.tokens", "valid must be true or false")
	}
	list, err := a.accounts.Registrations()
	if err != nil {
		return err
	}
	all := []tokenJSON{}
	for i := range list {
		valid, err := a.accounts.RegistrationValid(list[i].Token)
		if err != nil {
			return err
		}
		if filter == "" || valid == (filter == "true") {
			all = append(all, describeToken(&list[i]))
		}
	}
	return r.Answer(struct {
		Tokens []tokenJSON `json:"registration_tokens"`
	}{all})
}

// find reads one token.
func (a *API) find(token string) (*account.RegistrationToken, error) {
	list, err := a.accounts.Registrations()
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i].Token == token {
			return &list[i], nil
		}
	}
	return nil, fault.E(fault.NotFound, "adminapi.token", "there is no such registration token")
}

func (a *API) token(r *wire.Req) error {
	t, err := a.find(r.Path("token"))
	if err != nil {
		return err
	}
	return r.Answer(describeToken(t))
}

// tokenChange is what may be said of a token. Null lifts a limit, an absent
// member leaves it.
type tokenChange struct {
	Token   *string      `json:"token"`
	Uses    maybe[int64] `json:"uses_allowed"`
	Expires maybe[int64] `json:"expiry_time"`
}

// apply sets the limits.
func (q *tokenChange) apply(t *account.RegistrationToken, now time.Time) error {
	const op = "adminapi.token"
	if q.Uses.said {
		t.Uses = 0
		if n := q.Uses.val; n != nil {
			if *n <= 0 || *n > 1<<31 {
				return fault.E(fault.Invalid, op, "uses_allowed must be null or above 0")
			}
			t.Uses = uint32(*n)
		}
	}
	if q.Expires.said {
		t.Expires = time.Time{}
		if ms := q.Expires.val; ms != nil {
			if t.Expires = time.UnixMilli(*ms); t.Expires.Before(now) {
				return fault.E(fault.Invalid, op, "expiry_time has passed")
			}
		}
	}
	return nil
}

func (a *API) newToken(r *wire.Req) error {
	var q tokenChange
	if err := r.Decode(&q); err != nil {
		return err
	}
	var t account.RegistrationToken
	if q.Token != nil {
		t.Token = *q.Token
		_, err := a.find(t.Token)
		if err == nil {
			return fault.E(fault.Invalid, "adminapi.newToken", "there is such a token already")
		}
		if !fault.Is(err, fault.NotFound) {
			return err
		}
		if t.Token == "" {
			return fault.E(fault.Invalid, "adminapi.newToken", "a token must not be empty")
		}
	}
	return a.putToken(r, &q, t)
}

func (a *API) setToken(r *wire.Req) error {
	var q tokenChange
	if err := r.Decode(&q); err != nil {
		return err
	}
	t, err := a.find(r.Path("token"))
	if err != nil {
		return err
	}
	return a.putToken(r, &q, *t)
}

func (a *API) putToken(r *wire.Req, q *tokenChange, t account.RegistrationToken) error {
	if err := q.apply(&t, a.now()); err != nil {
		return err
	}
	t, err := a.accounts.AddRegistration(t)
	if err != nil {
		return err
	}
	return r.Answer(describeToken(&t))
}

func (a *API) dropToken(r *wire.Req) error {
	if err := a.accounts.DropRegistration(r.Path("token")); err != nil {
		return err
	}
	return r.Empty()
}
