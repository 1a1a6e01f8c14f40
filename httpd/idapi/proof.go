package idapi

import (
	"crypto/rand"
	"encoding/hex"
	"html"
	"net/url"
	"strings"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/identity"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// proofRequest is what the requests for a proof have in common.
type proofRequest struct {
	Secret  *string `json:"client_secret"`
	Email   *string `json:"email"`
	Country *string `json:"country"`
	Phone   *string `json:"phone_number"`
	Attempt *int64  `json:"send_attempt"`
	Next    string  `json:"next_link"`
}

func (q *proofRequest) check(address bool) error {
	const op = "idapi.requestToken"
	switch {
	case q.Secret == nil || q.Attempt == nil || !address:
		return missing("client_secret, send_attempt and an address")
	case !wire.Opaque(*q.Secret):
		return fault.E(fault.Invalid, op, "client_secret has 1 to 255 characters of A-Z, a-z, 0-9 and .=_-")
	case q.Next != "" && !wire.WebLink(q.Next):
		return fault.E(fault.Invalid, op, "next_link must be a link")
	}
	return nil
}

// Spec: identity service, POST /validate/email/requestToken.
func (a *API) requestEmail(r *wire.Req, user mxid.UserID) error {
	var q proofRequest
	if err := body(r, &q); err != nil {
		return err
	}
	if err := q.check(q.Email != nil); err != nil {
		return err
	}
	address, err := account.CanonicalEmail(*q.Email)
	if err != nil {
		return fault.E(fault.BadEmail, "idapi.requestToken", "")
	}
	if a.o.Mail == nil || a.o.PublicURL == "" {
		return fault.E(fault.MailFailed, "idapi.requestToken", "this service sends no mail")
	}
	to := identity.Address{Medium: account.Email, Text: address}
	return a.prove(r, identity.Want{Address: to, Secret: *q.Secret, Attempt: *q.Attempt, Next: q.Next, Origin: asker(r, user)}, a.mailLink)
}

// Spec: identity service, POST /validate/msisdn/requestToken.
func (a *API) requestPhone(r *wire.Req, user mxid.UserID) error {
	var q proofRequest
	if err := body(r, &q); err != nil {
		return err
	}
	if err := q.check(q.Country != nil && q.Phone != nil); err != nil {
		return err
	}
	number, err := account.CanonicalPhone(*q.Country, *q.Phone)
	if err != nil {
		return fault.E(fault.BadPhone, "idapi.requestToken", "")
	}
	if a.o.Text == nil {
		return fault.E(fault.TextFailed, "idapi.requestToken", "this service sends no text messages")
	}
	to := identity.Address{Medium: account.Phone, Text: number}
	return a.prove(r, identity.Want{Address: to, Secret: *q.Secret, Attempt: *q.Attempt, Next: q.Next, Origin: asker(r, user)}, a.textCode)
}

// prove begins a proof and has its code sent.
func (a *API) prove(r *wire.Req, w identity.Want, send func(r *wire.Req, w identity.Want, p identity.Begun) error) error {
	p, err := a.records.Begin(w)
	if err != nil {
		return err
	}
	if p.Code != "" {
		if err := send(r, w, p); err != nil {
			a.records.Unsent(p.SID)
			return err
		}
	}
	return r.OK(append(cjson.AppendString(append(r.Out(), `{"sid":`...), p.SID), '}'))
}

func (a *API) base() string { return strings.TrimSuffix(a.o.PublicURL, "/") }

func (a *API) mailLink(_ *wire.Req, w identity.Want, p identity.Begun) error {
	// The page of version 1, which asks for no token: browsers have none.
	link := a.base() + v1 + "/validate/email/submitToken?" +
		url.Values{"sid": {p.SID}, "client_secret": {w.Secret}, "token": {p.Code}}.Encode()
	name := string(a.records.Name())
	text := "Somebody, most likely you, wants to prove to " + name + " that this e-mail address is theirs, so that people find them by it on Matrix.\n" +
		"To confirm it, open this link within a day:\n\n" + link + "\n\nIf it was not you, nothing needs to be done.\n"
	if err := a.o.Mail(w.Address.Text, "Confirm your e-mail address for "+name, text); err != nil {
		return fault.E(fault.MailFailed, "idapi.requestToken", "the mail could not be sent; try again later")
	}
	return nil
}

func (a *API) textCode(r *wire.Req, w identity.Want, p identity.Begun) error {
	err := a.o.Text(r.Remote(), w.Address.Text, p.Code+" is your code for "+string(a.records.Name())+".")
	if err != nil && !fault.Is(err, fault.Limit) {
		err = fault.E(fault.TextFailed, "idapi.requestToken", "the text message could not be sent; try again later")
	}
	return err
}

// credentials name a proof.
type credentials struct {
	SID    *string `json:"sid"`
	Secret *string `json:"client_secret"`
}

func (c *credentials) check() error {
	if c.SID == nil || c.Secret == nil {
		return missing("sid and client_secret")
	}
	if !wire.Opaque(*c.SID) || !wire.Opaque(*c.Secret) {
		return fault.E(fault.Invalid, "idapi", "sid and client_secret have 1 to 255 characters of A-Z, a-z, 0-9 and .=_-")
	}
	return nil
}

// Spec: identity service, POST /validate/email/submitToken and /validate/msisdn/submitToken.
func (a *API) submit(r *wire.Req, _ mxid.UserID) error {
	var q struct {
		credentials
		Token *string `json:"token"`
	}
	if err := body(r, &q); err != nil {
		return err
	}
	if q.Token == nil {
		return missing("token")
	}
	if err := q.check(); err != nil {
		return err
	}
	if _, err := a.records.Submit(*q.SID, *q.Secret, *q.Token); err != nil {
		return err
	}
	return r.OK(append(r.Out(), `{"success":true}`...))
}

// submitPage is where the link in a mail leads a person.
// Spec: identity service, GET /validate/email/submitToken and /validate/msisdn/submitToken.
func (a *API) submitPage(r *wire.Req, _ mxid.UserID) error {
	sid, secret, token := r.QueryOr("sid", ""), r.QueryOr("client_secret", ""), r.QueryOr("token", "")
	next, err := a.records.Submit(sid, secret, token)
	if err != nil {
		if !strings.Contains(string(r.Ctx.Request.Header.Peek("Accept")), "text/html") {
			return err // no browser
		}
		return show(r, 400, "Not confirmed", "This link is not valid, or no longer. Ask for another mail in your app.")
	}
	if next != "" {
		r.Ctx.Response.Header.Set("Location", next)
		return show(r, 302, "Confirmed", "Thank you. You are being sent back.")
	}
	return show(r, 200, "Confirmed", "Thank you. Go back to your app now; you can close this page.")
}

// show answers with a page of one sentence, which loads nothing and runs nothing.
func show(r *wire.Req, status int, title, text string) error {
	h := &r.Ctx.Response.Header
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	nonce := hex.EncodeToString(b[:])
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'nonce-"+nonce+"'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Frame-Options", "DENY")
	h.Del("Access-Control-Allow-Origin") // the API is for all web clients, a page is for its reader
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	out := append(r.Out(), `<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>`...)
	out = append(append(append(append(out, html.EscapeString(title)...), `</title><style nonce="`...), nonce...),
		`">:root{color-scheme:light dark}body{font:1.06rem/1.5 system-ui,sans-serif;max-width:26rem;margin:0 auto;padding:1.5rem 1.25rem}h1{font-size:1.5rem}</style></head><body><h1>`...)
	out = append(append(out, html.EscapeString(title)...), `</h1><p>`...)
	out = append(append(out, html.EscapeString(text)...), `</p></body></html>`...)
	r.Ctx.Response.SetStatusCode(status)
	h.SetContentType("text/html; charset=utf-8")
	r.Ctx.Response.SwapBody(out)
	return nil
}

// Spec: identity service, GET /3pid/getValidated3pid.
func (a *API) proved(r *wire.Req, _ mxid.UserID) error {
	sid, ok := r.Query("sid")
	secret, ok2 := r.Query("client_secret")
	if !ok || !ok2 {
		return missing("sid and client_secret")
	}
	address, at, err := a.records.Proved(sid, secret)
	if err != nil {
		return err
	}
	return r.Answer(struct {
		Medium  string `json:"medium"`
		Address string `json:"address"`
		At      int64  `json:"validated_at"`
	}{address.Medium, address.Text, at.UnixMilli()})
}
