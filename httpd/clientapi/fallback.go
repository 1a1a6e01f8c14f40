package clientapi

import (
	"errors"
	"html"
	"slices"
	"strings"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/httpd/wire"
)

// The pages on which people pass a stage in their browser that their client
// does not know. Spec: client-server, user-interactive authentication, fallback.

// passedScript tells the client that the stage has been passed.
const passedScript = `if(window.onAuthDone)window.onAuthDone();else if(window.opener&&window.opener.postMessage)window.opener.postMessage("authDone","*");`

func passedPage(r *wire.Req) error {
	return show(r, page{status: 200, title: "That was all", body: paragraph("You can close this page and go on in your Matrix client."), script: passedScript})
}

// stageOf finds the exchange of a page. answered says that a page has told the
// reader why there is none.
func (a *API) stageOf(r *wire.Req, session string) (x *exchange, answered bool) {
	stage := r.Path("authType")
	x = a.uia.session(session)
	switch {
	case x == nil:
		_ = show(r, page{status: 400, title: "This page has expired", body: paragraph("Begin again in your Matrix client.")})
		return nil, true
	case !slices.ContainsFunc(x.q.flows, func(f []string) bool { return slices.Contains(f, stage) }):
		_ = show(r, page{status: 400, title: "This is not asked for", body: paragraph("The server does not ask for this step here.")})
		return nil, true
	}
	return x, false
}

// Spec: client-server, GET /auth/{authType}/fallback/web.
func (a *API) stagePage(r *wire.Req) error {
	x, answered := a.stageOf(r, r.QueryOr("session", ""))
	if answered {
		return nil
	}
	a.uia.mu.Lock()
	done := slices.Contains(x.done, r.Path("authType"))
	a.uia.mu.Unlock()
	switch {
	case done:
		return passedPage(r)
	case r.Path("authType") == stageSSO:
		return a.ssoStage(r, x)
	}
	return a.askStage(r, x, 200, "")
}

// ssoStage sends the browser to a provider that knows the user.
// Spec: client-server, single sign-on, user-interactive authentication.
func (a *API) ssoStage(r *wire.Req, x *exchange) error {
	list, err := a.accounts.Externals(x.q.user)
	if err != nil {
		return err
	}
	for _, e := range list {
		if p := a.provider(e.Medium); p != nil {
			return a.sendAway(r, &signOn{provider: p, session: x.id})
		}
	}
	return show(r, page{status: 400, title: "This is not possible", body: paragraph("The identity provider that knows you is no longer used here.")})
}

// askStage shows the form of a stage.
func (a *API) askStage(r *wire.Req, x *exchange, status int, wrong string) error {
	p := page{status: status, title: "One more step"}
	session := [2]string{"session", x.id}
	switch r.Path("authType") {
	case stageDummy:
		p.body = form("", "Go on", session)
	case stagePassword:
		fields := lineField("Password", "password", "password", "current-password")
		if x.q.user == 0 {
			fields = lineField("User name", "user", "text", "username") + fields
		}
		p.body = paragraph("Please enter the password of your account.") + form(fields, "Go on", session)
	case stageToken:
		p.body = paragraph("This server asks for a registration token.") + form(lineField("Token", "token", "text", "off"), "Go on", session)
	case stageTerms:
		var list string
		for _, t := range a.o.Terms {
			list += `<li><a target="_blank" rel="noreferrer noopener" href="` + html.EscapeString(t.URL) + `">` + html.EscapeString(t.Name) + `</a></li>`
		}
		p.body = paragraph("Please read and accept:") + `<ul>` + list + `</ul>` +
			form(tick("I accept", "accept", true), "Go on", session)
	case stageOAuth, stageOAuthOld:
		p.body = paragraph("You allow this on your account page. Then come back to this page.") + `<a class="go" target="_blank" rel="noopener" href="` + accountPath + `?action=` + toReset + `">Your account page</a>` +
			strings.Replace(form("", "I have allowed it", session), "<button>", `<button class="other">`, 1)
	case stagePhone:
		p.body = paragraph("Please enter your phone number, with the code of your country. You will get a text message with a code.") +
			form(lineField("Phone number, as +44 7700 900001", "phone", "tel", "tel"), "Send the message", session)
	case stageEmail:
		p.body = paragraph("Please enter your e-mail address. You will get a mail with a link.") + form(lineField("E-mail address", "email", "email", "email"), "Send the mail", session)
	}
	p.body = forWhat(x) + warning(wrong) + p.body
	return show(r, p)
}

// forWhat says what the page's stage is for. Whoever has stolen a token, or only
// knows the address of the page, may have sent the reader here.
func forWhat(x *exchange) string {
	what := deed(x.q.op)
	if what == "" {
		return ""
	}
	whose := ""
	if x.q.id != "" {
		whose = " The account is " + string(x.q.id) + "."
	}
	return paragraph("A Matrix client wants to " + what + ". If you did not expect this, close this page." + whose)
}

// stageForm takes the form of a stage.
func (a *API) stageForm(r *wire.Req) error {
	f, err := readForm(r)
	if err != nil {
		return err
	}
	session := f.get("session")
	if session == "" {
		session = r.QueryOr("session", "")
	}
	x, answered := a.stageOf(r, session)
	if answered {
		return nil
	}
	stage := r.Path("authType")
	if stage == stageEmail && f.get("sid") == "" {
		return a.mailStage(r, x, f.get("email"))
	}
	if stage == stagePhone {
		if f.get("sid") == "" {
			return a.phoneStage(r, x, f.get("phone"))
		}
		return a.codeStage(r, x, f)
	}
	if stage == stageSSO {
		if !a.uia.agreed(x, f.get("agree")) {
			return show(r, page{status: 403, title: "The login did not work", body: paragraph("Begin again in your Matrix client.")})
		}
		return passedPage(r)
	}
	if stage == stageTerms && f.get("accept") != "yes" {
		return a.askStage(r, x, 400, "Without this you cannot go on.")
	}
	auth := cjson.AppendString([]byte(`{"type":`), stage)
	for _, name := range [...]string{"user", "password", "token"} {
		if f.args.Has(name) {
			auth = append(cjson.AppendString(append(auth, ','), name), ':')
			auth = cjson.AppendString(auth, f.get(name))
		}
	}
	creds := cjson.AppendString([]byte(`{"sid":`), f.get("sid"))
	creds = append(cjson.AppendString(append(creds, `,"client_secret":`...), f.get("client_secret")), '}')
	auth = append(append(append(auth, `,"threepid_creds":`...), creds...), '}')
	if err := cjson.Check(auth); err != nil {
		return a.askStage(r, x, 400, "This is not valid text.")
	}
	if err = a.uia.stage(x, &x.q, auth); err == nil {
		return passedPage(r)
	}
	text, again := reason(err)
	if !again {
		return err
	}
	if stage == stageEmail {
		return a.mailSent(r, x, f.get("sid"), f.get("client_secret"), text)
	}
	return a.askStage(r, x, 400, text)
}

// reason is what a person is told of an error; again says whether they may try
// once more.
func reason(err error) (text string, again bool) {
	var c *challenge
	if errors.As(err, &c) && c.cause != nil {
		err = c.cause
	}
	var f *fault.Error
	if !errors.As(err, &f) || f.Kind < fault.NotFound {
		return "", false
	}
	return f.Text, true
}

// mailStage sends the mail of the stage, and shows what is to be done then. The
// secret is the exchange's id: whoever has that may pass its stages.
func (a *API) mailStage(r *wire.Req, x *exchange, email string) error {
	address, err := account.CanonicalEmail(email)
	if err == nil {
		err = a.mayProve(x.q.purpose, account.Email, address)
	}
	var sid string
	if err == nil {
		sid, err = a.sendProof(want{x.q.purpose, x.id, account.Email, address, a.o.Now().UnixMilli(), ""})
	}
	if err != nil {
		text, again := reason(err)
		if !again {
			text = "The mail could not be sent. Please try again later."
		}
		return a.askStage(r, x, 400, text)
	}
	return a.mailSent(r, x, sid, x.id, "")
}

func (a *API) mailSent(r *wire.Req, x *exchange, sid, secret, wrong string) error {
	return show(r, page{status: 200, title: "One more step", body: warning(wrong) +
		paragraph("A mail is on its way. Open the link in it, and then come back to this page.") +
		form("", "I have opened the link", [2]string{"session", x.id}, [2]string{"sid", sid}, [2]string{"client_secret", secret})})
}
