package clientapi

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"html"
	"net/url"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"hearth/engine/account"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// The pages of the hub's own on which people sign in, let clients in and manage
// their account. A browser is known by a cookie, which opens nothing but these
// pages; each form holds a mark that only a page of the hub shown to that browser
// can hold, so that no other site can send one in somebody's name.
const (
	browserCookie = "hearth_account"
	// proofLife is how long after a sign-in somebody may do what cannot be undone.
	proofLife = 10 * time.Minute
	// modeParam says in a page's own address which of its forms it is to begin with.
	modeParam = "hearth"
	signUp    = "sign-up"
	signIn    = "sign-in"
	goOn      = "on"
)

// visitor is a browser at one of these pages.
type visitor struct {
	account.Browser
	cookie string
	in     bool   // somebody is signed in
	lead   string // HTML above the form to sign in: what it is for
	hint   string // who is expected
	create bool   // the page is to begin with a new account
}

// view is one of the pages. f is what its form was filled in with, and nil where
// the page is only looked at. A view is asked before anybody is signed in too, and
// calls known where it needs to know who is there.
type view func(r *wire.Req, v *visitor, f *values) error

// visited finds out who is there, and keeps out forms that come from elsewhere.
func (a *API) visited(p view) wire.Handler {
	return func(r *wire.Req) error {
		v := &visitor{cookie: string(r.Ctx.Request.Header.Cookie(browserCookie))}
		var err error
		if v.Browser, v.in, err = a.accounts.Browser(v.cookie); err != nil {
			return err
		}
		if raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(v.cookie, "hearth_")); !v.in && (err != nil || len(raw) != 32) {
			if v.cookie, err = randomText(32); err != nil {
				return err
			}
			a.keepCookie(r, v.cookie)
		}
		if !r.Ctx.IsPost() {
			return p(r, v, nil)
		}
		f, err := readForm(r)
		if err != nil {
			return err
		}
		from := string(r.Ctx.Request.Header.Peek("Sec-Fetch-Site"))
		if !a.marked(v, f.get("mark"), self(r, "")) || from != "" && from != "same-origin" {
			return show(r, page{status: 403, title: "This page has expired", body: paragraph("It was open for too long, or you have signed in or out elsewhere, or the hub was started anew. Where this comes up again and again, let your browser keep cookies of this site.") +
				`<p><a href="` + html.EscapeString(self(r, "")) + `">Open it again</a></p>`})
		}
		return p(r, v, f)
	}
}

// keepCookie has the browser keep a cookie for these pages, for as long as it is open.
func (a *API) keepCookie(r *wire.Req, value string) {
	var c fasthttp.Cookie
	c.SetKey(browserCookie)
	c.SetValue(value)
	c.SetPath("/_hearth")
	c.SetHTTPOnly(true)
	c.SetSecure(a.encrypted(r))
	c.SetSameSite(fasthttp.CookieSameSiteLaxMode)
	r.Ctx.Response.Header.SetCookie(&c)
}

// self is the page's own address, told to begin with one of its forms.
func self(r *wire.Req, mode string) string {
	var query []string
	for part := range strings.SplitSeq(string(r.Ctx.URI().QueryString()), "&") {
		if part != "" && !strings.HasPrefix(part, modeParam+"=") {
			query = append(query, part)
		}
	}
	if mode != "" {
		query = append(query, modeParam+"="+mode)
	}
	path := string(r.Ctx.URI().PathOriginal())
	if len(query) == 0 {
		return path
	}
	return path + "?" + strings.Join(query, "&")
}

// mark is what a form of the page holds. where is the page's address with all that
// it was asked for: a mark is good for the very same question only.
func (a *API) mark(v *visitor, where string) string {
	h := hmac.New(sha256.New, a.markKey[:])
	h.Write([]byte(v.cookie + "\x00" + where)) // never fails
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

func (a *API) marked(v *visitor, mark, where string) bool {
	return hmac.Equal([]byte(mark), []byte(a.mark(v, where)))
}

// formFor is a form of the page: do says what it is for.
func (a *API) formFor(r *wire.Req, v *visitor, do, fields, button string, hidden ...[2]string) string {
	b := a.otherForm(r, v, do, fields, button, hidden...)
	return strings.Replace(b, `<button class="other">`, `<button>`, 1)
}

// otherForm is formFor for what is not the page's first purpose.
func (a *API) otherForm(r *wire.Req, v *visitor, do, fields, button string, hidden ...[2]string) string {
	var b strings.Builder
	b.WriteString(`<form method="post" action="` + html.EscapeString(self(r, mode(r))) + `">` + fields)
	for _, h := range append(hidden, [2]string{"do", do}, [2]string{"mark", a.mark(v, self(r, ""))}) {
		b.WriteString(`<input type="hidden" name="` + html.EscapeString(h[0]) + `" value="` + html.EscapeString(h[1]) + `">`)
	}
	b.WriteString(`<button class="other">` + html.EscapeString(button) + `</button></form>`)
	return b.String()
}

// mode is which form the page's address asks for.
func mode(r *wire.Req) string {
	switch m := r.QueryOr(modeParam, ""); m {
	case signUp, signIn, goOn:
		return m
	}
	return ""
}

// goBack sends the browser to look at a page after a form.
func goBack(r *wire.Req, link string) error {
	r.Ctx.Response.Header.Set("Location", link)
	r.Ctx.Response.Header.Set("Cache-Control", "no-store")
	sameOrigin(r)
	return r.Reply(fasthttp.StatusSeeOther, append(r.Out(), '{', '}'))
}

// known says whether somebody is signed in; where nobody is, the browser has been
// shown how. fresh asks for a sign-in of just now.
func (a *API) known(r *wire.Req, v *visitor, f *values, fresh bool) (in bool, err error) {
	if f != nil {
		switch f.get("do") {
		case "sign-in":
			return false, a.signInForm(r, v, f)
		case "sign-up":
			if err := r.Spend(wire.Register); err != nil { // as POST /register
				return false, err
			}
			return false, a.signUpForm(r, v, f)
		case "mailed":
			return false, a.signUpMailed(r, v, f)
		case "sign-out":
			a.accounts.SignOut(v.cookie)
			return false, goBack(r, self(r, signIn))
		}
	}
	m := mode(r)
	if m == "" && v.create {
		m = signUp
	}
	switch {
	case f == nil && m == signUp && (!v.in || v.create):
		return false, a.askSignUp(r, v, 200, &values{}, "")
	case v.in && (!fresh || a.o.Now().Sub(v.Proved) < proofLife):
		return true, nil
	case v.in:
		v.hint = v.User.ID.Localpart()
		v.lead = paragraph("Please show once more that it is you: what you are about to do cannot be undone.")
	}
	return false, a.askSignIn(r, v, 200, "")
}

// askSignIn shows the form to sign in.
func (a *API) askSignIn(r *wire.Req, v *visitor, status int, wrong string) error {
	name := `<label>User name<input required name="user" type="text" autocomplete="username" autocapitalize="none" spellcheck="false" maxlength="255" value="` + html.EscapeString(v.hint) + `"></label>`
	body := v.lead + warning(wrong) + a.formFor(r, v, "sign-in", name+lineField("Password", "password", "password", "current-password"), "Sign in")
	if a.signs() {
		for i := range a.o.Providers {
			p := &a.o.Providers[i]
			link := providerPath + "?" + url.Values{"id": {p.ID}, "back": {self(r, goOn)}}.Encode()
			body += `<p><a href="` + html.EscapeString(link) + `">Sign in with ` + html.EscapeString(p.Name) + `</a></p>`
		}
	}
	if _, _, err := a.gates(); err == nil && !v.in {
		body += `<p>No account yet? <a href="` + html.EscapeString(self(r, signUp)) + `">Make one</a></p>`
	}
	return show(r, page{status: status, title: "Sign in to " + string(a.engine.Server), body: body + a.openWire(r)})
}

// encrypted says whether the browser came over TLS. A proxy in front may be what
// speaks that; and a hub with an https public_url is also there in plain HTTP, by
// another name on its own network, where a browser drops a cookie that is Secure.
func (a *API) encrypted(r *wire.Req) bool {
	base := a.base(r)
	_, host, _ := strings.Cut(base, "://")
	return r.Ctx.IsTLS() || strings.HasPrefix(base, "https:") && strings.EqualFold(hostOf("https://"+string(r.Ctx.Host())), hostOf("https://"+host)) ||
		forwardedTLS(r)
}

// forwardedTLS says whether a proxy in front speaks TLS. Who says so without one
// deceives nobody but themselves: what follows is in the answer to them alone.
func forwardedTLS(r *wire.Req) bool {
	return strings.EqualFold(string(r.Ctx.Request.Header.Peek("X-Forwarded-Proto")), "https")
}

// openWire warns who would send a password over a network as it is.
func (a *API) openWire(r *wire.Req) string {
	if r.Remote().IsLoopback() || a.encrypted(r) {
		return ""
	}
	return `<p class="hint">What you type here crosses the network as it is. Do this on a network of your own.</p>`
}

// typed is who a person means by what they type: a user name, an id, or an
// e-mail address that they have shown to be theirs.
func (a *API) typed(name string) (mxid.UserID, error) {
	name = strings.TrimSpace(name)
	if i := strings.IndexByte(name, '@'); i > 0 {
		num := uint32(0)
		address, err := account.CanonicalEmail(name)
		if err == nil {
			num, err = a.accounts.FindThreepid(account.Email, address)
		} else {
			err = nil
		}
		if err != nil || num == 0 {
			return a.accounts.ID(""), err // nobody has this name
		}
		u, err := a.accounts.User(num)
		return u.ID, err
	}
	if strings.HasPrefix(name, "@") {
		return a.small(mxid.UserID(name)), nil
	}
	return a.small(a.accounts.ID(name)), nil
}

// signInForm takes the form to sign in.
func (a *API) signInForm(r *wire.Req, v *visitor, f *values) error {
	v.hint = f.get("user")
	id, err := a.typed(v.hint)
	if err != nil {
		return err
	}
	num, err := a.accounts.CheckPassword(id, f.get("password"))
	if err == nil {
		err = a.signsIn(r, v, num)
	}
	if err != nil {
		text, again := reason(err)
		if !again {
			return err
		}
		status, _ := wire.Errcode(fault.KindOf(err))
		return a.askSignIn(r, v, status, text+".")
	}
	return goBack(r, self(r, goOn))
}

// signsIn gives the browser of a user who has shown who they are a cookie of its
// own: what it had before, others may have given it.
func (a *API) signsIn(r *wire.Req, v *visitor, num uint32) error {
	cookie, err := a.accounts.SignIn(num)
	if err != nil {
		return err
	}
	a.accounts.SignOut(v.cookie)
	v.cookie = cookie
	a.keepCookie(r, cookie)
	return nil
}

// toProvider sends the browser to an identity provider, to come back to one of
// these pages signed in.
func (a *API) toProvider(r *wire.Req) error {
	p, back := a.provider(r.QueryOr("id", "")), r.QueryOr("back", "")
	if !a.signs() || p == nil {
		return fault.E(fault.NotFound, "clientapi.sso", "there is no such identity provider")
	}
	if !strings.HasPrefix(back, "/_hearth/") || len(back) > 4096 || strings.ContainsAny(back, "\r\n\\") {
		return fault.E(fault.Invalid, "clientapi.sso", "back must be a page of the hub's")
	}
	return a.sendAway(r, &signOn{provider: p, back: back})
}

// cameBack signs in who came back from a provider.
func (a *API) cameBack(r *wire.Req, s *signOn, num uint32) error {
	v := &visitor{cookie: string(r.Ctx.Request.Header.Cookie(browserCookie))}
	if err := a.signsIn(r, v, num); err != nil {
		text, again := reason(err)
		if !again {
			return err
		}
		return show(r, page{status: 403, title: "The login did not work", body: warning(text)})
	}
	return goTo(r, s.back)
}

// signOnPage is where the login by a token begins that clients without OAuth know:
// it ends with a token for the client. Spec: client-server, GET
// /login/sso/redirect; OAuth 2.0 aware clients.
func (a *API) signOnPage(r *wire.Req, v *visitor, f *values) error {
	next := r.QueryOr("redirectUrl", "")
	if _, ok := mayGoTo(next); !ok {
		return fault.E(fault.Invalid, "clientapi.sso", "the redirectUrl is no address to go to")
	}
	v.create = r.QueryOr("action", "") == "register"
	if in, err := a.known(r, v, f, false); !in {
		return err
	}
	return a.handOver(r, &signOn{next: next}, v.User.Num, a.notYou(r, v))
}

// notYou lets another user sign in.
func (a *API) notYou(r *wire.Req, v *visitor) string {
	return a.otherForm(r, v, "sign-out", "", "Use another account")
}
