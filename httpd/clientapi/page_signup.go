package clientapi

import (
	"encoding/json"
	"fmt"
	"html"
	"slices"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/httpd/wire"
)

// A new account, made on a page of the hub's. It takes the same steps as POST
// /register, by an exchange of the same kind, so that whoever may not have an
// account there gets none here.

// newcomer is what the form holds, and what its exchange remembers.
type newcomer struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// way picks the flow that a person takes who fills in the form: with a token
// where they have one, and with an e-mail address only where the hub wants it.
func way(flows [][]string, token bool) []string {
	for _, f := range flows {
		if slices.Contains(f, stageToken) == token {
			return f
		}
	}
	return nil
}

// askSignUp shows the form for a new account.
func (a *API) askSignUp(r *wire.Req, v *visitor, status int, f *values, wrong string) error {
	flows, _, err := a.gates()
	if err != nil {
		text, again := reason(err)
		if !again {
			return err
		}
		return show(r, page{status: 403, title: "No new accounts", body: warning(text+".") + a.instead(r, v)})
	}
	field := func(label, hint, name, kind, complete, value string, need bool) string {
		required := ""
		if need {
			required = "required "
		}
		return `<label>` + label + `<small>` + hint + `</small><input ` + required + `name="` + name + `" type="` + kind + `" autocomplete="` + complete +
			`" autocapitalize="none" spellcheck="false" maxlength="512" value="` + html.EscapeString(value) + `"></label>`
	}
	fields := field("User name", "Small letters and digits, as alice. It stays as it is.", "user", "text", "username", f.get("user"), true) +
		field("Password", fmt.Sprintf("At least %d characters.", a.accounts.PasswordMin()), "password", "password", "new-password", "", true) +
		field("Password again", "", "again", "password", "new-password", "", true)
	if way(flows, true) != nil {
		need := way(flows, false) == nil
		hint := "Who runs the hub gives you one."
		if !need {
			hint = "Only if you were given one."
		}
		fields += field("Registration token", hint, "token", "text", "off", f.get("token"), need)
	}
	if a.o.NeedEmail && a.mails() {
		fields += field("E-mail address", "You will get a mail with a link.", "email", "email", "email", f.get("email"), true)
	}
	if a.terms != "" {
		fields += `<ul>` + a.termsList() + `</ul>` + tick("I have read this and accept it", "accept", true)
	}
	return show(r, page{status: status, title: "A new account", body: v.lead + paragraph("Your account will be on "+string(a.engine.Server)+".") + warning(wrong) +
		a.formFor(r, v, "sign-up", fields, "Make the account") + a.instead(r, v) + a.openWire(r)})
}

// instead leads who has an account to that.
func (a *API) instead(r *wire.Req, v *visitor) string {
	if v.in {
		return `<p><a href="` + html.EscapeString(self(r, goOn)) + `">Go on as ` + html.EscapeString(string(v.User.ID)) + `</a></p>`
	}
	return `<p><a href="` + html.EscapeString(self(r, signIn)) + `">I have an account</a></p>`
}

// termsList are the documents that new users accept.
func (a *API) termsList() (list string) {
	for _, t := range a.o.Terms {
		list += `<li><a target="_blank" rel="noreferrer noopener" href="` + html.EscapeString(t.URL) + `">` + html.EscapeString(t.Name) + `</a></li>`
	}
	return list
}

// signUpForm takes the form for a new account.
func (a *API) signUpForm(r *wire.Req, v *visitor, f *values) error {
	x, err := a.beginSignUp(f)
	if err == nil {
		if !a.uia.complete(x) { // the one stage that is left
			return a.mailSignUp(r, v, x, f)
		}
		err = a.finishSignUp(r, v, x)
	}
	if err != nil {
		if x != nil {
			a.uia.end(x)
		}
		text, again := reason(err)
		if !again {
			return err
		}
		return a.askSignUp(r, v, 400, f, text+".")
	}
	return goBack(r, self(r, goOn))
}

// beginSignUp opens the exchange and passes all its stages but that of an e-mail
// address.
func (a *API) beginSignUp(f *values) (*exchange, error) {
	const op = "clientapi.signUp"
	flows, only, err := a.gates()
	if err != nil {
		return nil, err
	}
	if f.get("password") != f.get("again") {
		return nil, fault.E(fault.Invalid, op, "the two passwords are not the same")
	}
	n := newcomer{f.get("user"), f.get("password")}
	q := registration{Username: &n.Username, Password: &n.Password}
	if err := q.check(a.accounts); err != nil {
		return nil, err
	}
	if err := a.engine.Exclusive(a.accounts.ID(n.Username), ""); err != nil {
		return nil, err
	}
	body, err := json.Marshal(n)
	if err != nil {
		return nil, fault.E(fault.Invalid, op, "this is not valid text")
	}
	params, _, err := digest(body)
	if err != nil {
		return nil, fault.E(fault.Invalid, op, "this is not valid text")
	}
	flow := way(a.staged(flows), f.get("token") != "")
	if flow == nil {
		flow = way(a.staged(flows), f.get("token") == "")
	}
	x, err := a.uia.begin(&question{op: "sign up", flows: [][]string{flow}, body: body, only: only, purpose: forRegister}, params)
	if err != nil {
		return nil, err
	}
	for _, stage := range flow {
		switch {
		case stage == stageEmail:
			return x, nil
		case stage == stageTerms && f.get("accept") != "yes":
			return x, fault.E(fault.Invalid, op, "without accepting the terms you cannot have an account")
		}
		auth := cjson.AppendString([]byte(`{"type":`), stage)
		auth = append(cjson.AppendString(append(auth, `,"token":`...), f.get("token")), '}')
		if cjson.Check(auth) != nil {
			return x, fault.E(fault.Invalid, op, "this is not valid text")
		}
		if err := a.uia.stage(x, &x.q, auth); err != nil {
			return x, err
		}
	}
	return x, nil
}

// finishSignUp makes the account when all stages are passed, and signs in.
func (a *API) finishSignUp(r *wire.Req, v *visitor, x *exchange) error {
	const op = "clientapi.signUp"
	if !a.uia.complete(x) {
		return fault.E(fault.Forbidden, op, "one step is missing")
	}
	var n newcomer
	if err := json.Unmarshal(x.body, &n); err != nil {
		return fault.E(fault.Invalid, op, "the name and password are too long")
	}
	got := a.uia.proofOf(x)
	num, _, err := a.enrol(&registration{Username: &n.Username, Password: &n.Password}, got)
	if err != nil {
		return err
	}
	a.uia.end(x)
	if err := a.bind(num, got, false); err != nil {
		return err
	}
	return a.signsIn(r, v, num)
}

// mailSignUp sends the mail and shows what is to be done then.
func (a *API) mailSignUp(r *wire.Req, v *visitor, x *exchange, f *values) error {
	address, err := account.CanonicalEmail(f.get("email"))
	if err == nil {
		err = a.mayProve(forRegister, account.Email, address)
	}
	var sid string
	if err == nil {
		sid, err = a.sendProof(want{forRegister, x.id, account.Email, address, a.o.Now().UnixMilli(), ""})
	}
	if err != nil {
		a.uia.end(x)
		text, again := reason(err)
		if !again {
			text = "the mail could not be sent; please try again later"
		}
		return a.askSignUp(r, v, 400, f, text+".")
	}
	return a.awaitMail(r, v, x.id, sid, "")
}

func (a *API) awaitMail(r *wire.Req, v *visitor, session, sid, wrong string) error {
	return show(r, page{status: 200, title: "One more step", body: warning(wrong) +
		paragraph("A mail is on its way. Open the link in it, and then come back to this page.") +
		a.formFor(r, v, "mailed", "", "I have opened the link", [2]string{"session", session}, [2]string{"sid", sid})})
}

// signUpMailed takes the answer that the link was opened.
func (a *API) signUpMailed(r *wire.Req, v *visitor, f *values) error {
	session, sid := f.get("session"), f.get("sid")
	x := a.uia.session(session)
	if x == nil || x.q.op != "sign up" {
		return a.askSignUp(r, v, 400, f, "this took too long, or was done already.")
	}
	auth := cjson.AppendString([]byte(`{"type":"`+stageEmail+`","threepid_creds":{"client_secret":`), session)
	auth = append(cjson.AppendString(append(auth, `,"sid":`...), sid), '}', '}')
	err := error(fault.E(fault.Invalid, "clientapi.signUp", "this is not valid text"))
	if cjson.Check(auth) == nil {
		if err = a.uia.stage(x, &x.q, auth); err == nil {
			err = a.finishSignUp(r, v, x)
		}
	}
	if err == nil {
		return goBack(r, self(r, goOn))
	}
	text, again := reason(err)
	if !again {
		return err
	}
	return a.awaitMail(r, v, session, sid, text+".")
}
