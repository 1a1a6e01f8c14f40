package clientapi

import (
	"html"
	"strings"

	"hearth/engine/fault"
	"hearth/engine/oauth"
	"hearth/httpd/wire"
)

// authorization is what a client asks of a user. It is in the page's address, and
// judged anew with each look at that: nothing of it has to be remembered.
// Spec: client-server, authorisation request.
type authorization struct {
	id        string // client_id
	client    *oauth.Metadata
	redirect  string
	fragment  bool // response_mode
	state     string
	scope     oauth.Scope
	challenge string
	hint      string // who the client believes is there
	create    bool   // prompt=create
}

// maxState bounds what a client wants to have back.
const maxState = 4096

// asksFor reads an authorisation request. Where client and redirect URI are not
// good the error is not an *oauth.Error: the browser is not to be sent there. Of
// others the client is told by its redirect URI.
// Spec: RFC 6749, 4.1.2.1; RFC 9700, 4.11.
func (a *API) asksFor(r *wire.Req) (z authorization, err error) {
	const op = "clientapi.authorize"
	q := &askedFor{args: r.Ctx.QueryArgs()}
	z.id, z.redirect = q.get("client_id"), q.get("redirect_uri")
	if z.client, err = a.accounts.Client(z.id); err != nil {
		return z, err
	}
	switch {
	case q.err != nil:
		return z, fault.E(fault.Invalid, op, "%s", q.err.Text)
	case z.client == nil:
		return z, fault.E(fault.NotFound, op, "the hub does not know this client, or no longer: begin again there")
	case !z.client.Redirect(z.redirect):
		return z, fault.E(fault.Invalid, op, "the client asks to be answered at an address that is not its own")
	}
	mode := q.get("response_mode")
	z.fragment = mode == "fragment"
	if z.state = q.get("state"); len(z.state) > maxState {
		z.state = ""
		return z, oauth.E(oauth.InvalidRequest, "the state is longer than %d bytes", maxState)
	}
	typ, method := q.need("response_type"), q.need("code_challenge_method")
	z.challenge = q.need("code_challenge")
	scope, prompt := q.need("scope"), q.get("prompt")
	z.hint = q.get("login_hint")
	switch {
	case q.err != nil:
		return z, q.err
	case mode != "" && mode != "query" && mode != "fragment":
		return z, oauth.E(oauth.InvalidRequest, "response_mode is query or fragment")
	case typ != "code":
		return z, oauth.E(oauth.UnsupportedType, "the one response_type here is code")
	case !z.client.Allows(oauth.GrantCode):
		return z, oauth.E(oauth.UnauthorisedClient, "the client is not registered for this grant")
	case method != "S256" || !oauth.IsChallenge(z.challenge):
		return z, oauth.E(oauth.InvalidRequest, "the code_challenge must be one of the method S256")
	case prompt == "none":
		return z, oauth.E("interaction_required", "the user is always asked")
	}
	z.create = prompt == "create"
	z.scope, err = oauth.ParseScope(scope)
	return z, err
}

// tell gives the address at which the client hears of the outcome.
func (a *API) tell(r *wire.Req, z *authorization, pairs ...oauth.Pair) string {
	return oauth.Callback(z.redirect, z.fragment, append(pairs, oauth.Pair{Name: "state", Value: z.state}, oauth.Pair{Name: "iss", Value: a.base(r) + "/"})...)
}

// authorize is the page on which a user lets a client in.
// Spec: client-server, authorisation code flow.
func (a *API) authorize(r *wire.Req, v *visitor, f *values) error {
	z, err := a.asksFor(r)
	if no, told := err.(*oauth.Error); told {
		return goBack(r, a.tell(r, &z, oauth.Pair{Name: "error", Value: no.Code}, oauth.Pair{Name: "error_description", Value: no.Text}))
	}
	if err != nil {
		text, again := reason(err)
		if !again {
			return err
		}
		return show(r, page{status: 400, title: "This does not work", body: warning(text + ".")})
	}
	accept := string(r.Ctx.Request.Header.Peek("Accept-Language"))
	name := z.client.Name(accept)
	v.create = z.create
	v.hint = strings.TrimPrefix(z.hint, "mxid:")
	v.lead = `<p>You are about to sign in to <b>` + html.EscapeString(name) + `</b>.</p>`
	if in, err := a.known(r, v, f, false); !in {
		return err
	}
	if f == nil {
		return a.askConsent(r, v, &z, name)
	}
	switch f.get("do") {
	case "allow":
		g := &codeGrant{agreed: agreed{v.User.Num, v.cookie, z.scope}, client: z.id, redirect: z.redirect, challenge: z.challenge}
		code, err := a.grants.newCode(g, a.o.Now())
		if err != nil {
			return err
		}
		return goBack(r, a.tell(r, &z, oauth.Pair{Name: "code", Value: code}))
	case "deny":
		return goBack(r, a.tell(r, &z, oauth.Pair{Name: "error", Value: oauth.AccessDenied}, oauth.Pair{Name: "error_description", Value: "the user has refused"}))
	}
	return goBack(r, self(r, goOn))
}

// askConsent names the client and what it gets. The name is the client's own
// word; the host is what it was held to.
func (a *API) askConsent(r *wire.Req, v *visitor, z *authorization, name string) error {
	where, source := oauth.Place(z.redirect)
	body := a.consentText(r, v, z.client, z.scope, name)
	switch {
	case source == "http:":
		body += paragraph("A program on the computer of this browser gets access.")
	case where != z.client.Host():
		body += `<p>It gets access through <b>` + html.EscapeString(where) + `</b>.</p>`
	}
	body += a.formFor(r, v, "allow", "", "Let it in") + a.otherForm(r, v, "deny", "", "Cancel") + a.notYou(r, v)
	return show(r, page{status: 200, title: "Let " + short(name) + " in?", body: body, leads: source})
}

// consentText is what a client is and gets.
func (a *API) consentText(r *wire.Req, v *visitor, m *oauth.Metadata, scope oauth.Scope, name string) string {
	accept := string(r.Ctx.Request.Header.Peek("Accept-Language"))
	body := `<p><b>` + html.EscapeString(name) + `</b> of <b>` + html.EscapeString(m.Host()) + `</b> wants to use your account <b>` + html.EscapeString(string(v.User.ID)) + `</b>.</p>` +
		paragraph("It will be able to:") + `<ul><li>read your messages and rooms</li><li>write and act in your name</li><li>change your profile and settings</li>`
	if v.User.Admin {
		body += `<li><b>manage this hub</b>, as you can</li>`
	}
	body += `</ul>`
	if d, err := a.accounts.Device(v.User.Num, scope.Device); err == nil {
		called := d.ID
		if d.Name != "" {
			called = d.Name + " (" + d.ID + ")"
		}
		if d.Client == m.ID() { // it has lost its tokens and comes back, as clients do
			body += paragraph("It goes on as your device " + called + ". Where that is another one, it is logged out.")
		} else {
			body += `<p class="bad">` + html.EscapeString("It takes the place of your device "+called+", which is logged out.") + `</p>`
		}
	}
	var links []string
	for _, l := range [...][2]string{{"tos_uri", "Terms"}, {"policy_uri", "Privacy"}} {
		if uri := m.Text(l[0], accept); uri != "" {
			links = append(links, `<a target="_blank" rel="noreferrer noopener" href="`+html.EscapeString(uri)+`">`+l[1]+`</a>`)
		}
	}
	links = append(links, `<a target="_blank" rel="noreferrer noopener" href="`+html.EscapeString(m.URI)+`">About this client</a>`)
	return body + `<p class="hint">` + strings.Join(links, " · ") + `</p>`
}

// link is the page on which a user lets in a device that has no browser.
// Spec: client-server, device authorisation flow, user interaction; RFC 8628, 3.3.
func (a *API) link(r *wire.Req, v *visitor, f *values) error {
	v.lead = paragraph("You are about to sign in a device that shows a code.")
	if in, err := a.known(r, v, f, false); !in {
		return err
	}
	if f != nil && f.get("do") == "find" {
		return goBack(r, linkPath+"?user_code="+oauth.ParseUserCode(f.get("user_code")))
	}
	asked, given := r.Query("user_code")
	if !given {
		return a.askUserCode(r, v, 200, "")
	}
	now := a.o.Now()
	if !a.codeTries.left(r.Remote(), now) {
		return a.askUserCode(r, v, 429, "too many wrong codes came from your address. Wait five minutes, and look at the code again.")
	}
	code := oauth.ParseUserCode(asked)
	d := a.grants.waiting(code, now)
	if d == nil {
		a.codeTries.wrong(r.Remote(), now)
		return a.askUserCode(r, v, 404, "no device waits with this code. It may have expired: have the device show another.")
	}
	m, err := a.accounts.Client(d.client)
	if err != nil {
		return err
	}
	if m == nil {
		return a.askUserCode(r, v, 404, "the client is no longer registered: have the device show another code.")
	}
	if f == nil {
		name := m.Name(string(r.Ctx.Request.Header.Peek("Accept-Language")))
		return show(r, page{status: 200, title: "Let " + short(name) + " in?", body: `<p>The device shows the code <b>` + code + `</b>.</p>` +
			a.consentText(r, v, m, d.scope, name) + paragraph("It was asked for from the address "+d.from.String()+".") +
			`<p class="bad">Go on only if you hold this device and it shows this very code. Whoever sent you the code would get your account.</p>` +
			a.formFor(r, v, "allow", "", "Let it in") + a.otherForm(r, v, "deny", "", "Refuse") + a.notYou(r, v)})
	}
	yes := f.get("do") == "allow"
	if !yes && f.get("do") != "deny" {
		return goBack(r, self(r, goOn))
	}
	switch {
	case !a.grants.say(d, yes, agreed{v.User.Num, v.cookie, d.scope}, now):
		return a.askUserCode(r, v, 404, "the code has expired: have the device show another.")
	case !yes:
		return show(r, page{status: 200, title: "It was refused", body: paragraph("The device gets nothing. You can close this page.")})
	}
	return show(r, page{status: 200, title: "That was all", body: paragraph("The device goes on by itself in a few seconds. You can close this page.")})
}

// askUserCode asks for the code that a device shows.
func (a *API) askUserCode(r *wire.Req, v *visitor, status int, wrong string) error {
	field := `<label>Code<small>Eight letters, as the device shows them.</small><input required name="user_code" type="text" autocomplete="off" autocapitalize="characters" spellcheck="false" maxlength="32"></label>`
	return show(r, page{status: status, title: "Sign in a device", body: `<p>You are signed in as <b>` + html.EscapeString(string(v.User.ID)) + `</b>.</p>` +
		warning(wrong) + a.formFor(r, v, "find", field, "Go on") + a.notYou(r, v)})
}
