package clientapi

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"html"
	"net/url"
	"strings"

	"github.com/valyala/fasthttp"

	"hearth/engine/cjson"
	"hearth/httpd/wire"
)

// The few pages that people see in a browser: the stages that a client cannot
// show, the links in mails, the login of last resort. They load nothing from
// anywhere, run no script but the one that is in them, and are shown in no
// frame; everything that came from outside is escaped.

const pageStyle = `:root{color-scheme:light dark;--ink:#1c2024;--ground:#fff;--line:#b6bcc4;--deed:#0b6b53;--bad:#b00020}` +
	`@media(prefers-color-scheme:dark){:root{--ink:#e6e8ea;--ground:#16181b;--line:#4a5058;--deed:#3fae8f;--bad:#ff8a8a}a{color:#8bf}}` +
	`body{font:1.06rem/1.5 system-ui,sans-serif;max-width:26rem;margin:0 auto;padding:1.5rem 1.25rem;color:var(--ink);background:var(--ground);overflow-wrap:break-word}` +
	`@media(min-height:36rem) and (min-width:32rem){body{padding-top:12vh}}h1{font-size:1.5rem;line-height:1.25;margin:0 0 1rem}h2{font-size:1.1rem;margin:1.8rem 0 0}p{margin:.6rem 0}ul{padding-left:1.2rem}code{font:.95em ui-monospace,monospace;user-select:all}` +
	`small{display:block;font-weight:400;font-size:.88rem;opacity:.75}.hint{font-size:.88rem;opacity:.75}` +
	`label{display:block;margin:1.1rem 0;font-weight:600}input{font:inherit;font-weight:400;accent-color:var(--deed)}input[type=checkbox]{width:1.2rem;height:1.2rem}` +
	`input:not([type=checkbox]){display:block;width:100%;box-sizing:border-box;margin-top:.3rem;padding:.7rem .8rem;border:1px solid var(--line);border-radius:.5rem;background:transparent;color:inherit}` +
	`button{width:100%;padding:.8rem;border:1px solid var(--deed);border-radius:.5rem;font:inherit;font-weight:600;color:var(--ground);background:var(--deed)}` +
	`button.other{margin-top:.6rem;color:inherit;background:transparent;border-color:var(--line)}button.grave{background:var(--bad);border-color:var(--bad)}` +
	`a.go{display:block;margin:1rem 0 0;padding:.8rem;border-radius:.5rem;font-weight:600;text-align:center;text-decoration:none;color:var(--ground);background:var(--deed)}` +
	`label.tick{display:flex;align-items:flex-start;gap:.6rem}label.tick input{flex:none;margin:.15rem 0 0}` +
	`ul.rows{list-style:none;padding:0;margin:1rem 0}ul.rows>li{padding:.7rem 0;border-top:1px solid var(--line)}` +
	`input:focus-visible,button:focus-visible,a.go:focus-visible{outline:3px solid var(--deed);outline-offset:2px}.bad{color:var(--bad)}.bad::first-letter{text-transform:uppercase}`

// page is one of them.
type page struct {
	status int
	title  string
	body   string // HTML
	script string // empty: none
	goTo   string // where the browser goes by itself; empty: nowhere
	leads  string // a source outside the hub at which a form may end; empty: none
}

// show answers with a page.
func show(r *wire.Req, p page) error {
	var b [12]byte
	rand.Read(b[:]) // never fails
	nonce := base64.RawURLEncoding.EncodeToString(b[:])
	h := &r.Ctx.Response.Header
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'nonce-"+nonce+"'; script-src 'nonce-"+nonce+
		"'; connect-src 'self'; form-action 'self'"+optional(" ", p.leads)+"; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	sameOrigin(r)

	out := append(r.Out(), `<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">`...)
	if p.goTo != "" {
		out = append(append(append(out, `<meta http-equiv="refresh" content="0;url=`...), html.EscapeString(p.goTo)...), `">`...)
	}
	out = append(append(append(out, `<title>`...), html.EscapeString(p.title)...), `</title><style nonce="`...)
	out = append(append(append(append(out, nonce...), `">`...), pageStyle...), `</style></head><body><h1>`...)
	out = append(append(append(out, html.EscapeString(p.title)...), `</h1>`...), p.body...)
	if p.script != "" {
		out = append(append(append(out, `<script nonce="`...), nonce...), `">`...)
		out = append(append(out, p.script...), `</script>`...)
	}
	r.Ctx.Response.SetStatusCode(p.status)
	h.SetContentType("text/html; charset=utf-8")
	r.Ctx.Response.SwapBody(append(out, `</body></html>`...))
	return nil
}

// sameOrigin takes back what lets the pages of others read an answer: the API is
// for all of them, the hub's own pages are for none. Those that stand among the API's
// paths keep it, since all of these have it; what a browser is told without its
// cookies is no secret. Spec: client-server, web browser clients; RFC 9700, 2.1.
func sameOrigin(r *wire.Req) {
	if bytes.HasPrefix(r.Ctx.Path(), []byte("/_matrix/")) {
		return
	}
	for _, name := range [...]string{"Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers"} {
		r.Ctx.Response.Header.Del(name)
	}
}

// paragraph is text in a page.
func paragraph(text string) string { return `<p>` + html.EscapeString(text) + `</p>` }

// warning is text about what went wrong; empty where nothing did.
func warning(text string) string {
	if text == "" {
		return ""
	}
	return `<p class="bad">` + html.EscapeString(text) + `</p>`
}

// form is a form that comes back to its own page. The hidden members go along.
func form(fields, button string, hidden ...[2]string) string {
	var b strings.Builder
	b.WriteString(`<form method="post">` + fields)
	for _, h := range hidden {
		b.WriteString(`<input type="hidden" name="` + html.EscapeString(h[0]) + `" value="` + html.EscapeString(h[1]) + `">`)
	}
	b.WriteString(`<button>` + html.EscapeString(button) + `</button></form>`)
	return b.String()
}

// lineField is one line to fill in.
func lineField(label, name, kind, complete string) string {
	return `<label>` + html.EscapeString(label) + `<input required name="` + name + `" type="` + kind + `" autocomplete="` + complete + `"></label>`
}

// tick is a box to tick.
func tick(label, name string, required bool) string {
	need := ""
	if required {
		need = "required "
	}
	return `<label class="tick"><input ` + need + `type="checkbox" name="` + name + `" value="yes"><span>` + html.EscapeString(label) + `</span></label>`
}

// short cuts a name that stands in a title: the page has it whole.
func short(name string) string {
	const most = 40
	if runes := []rune(name); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return name
}

// maxForm bounds a form that was sent.
const maxForm = 16 << 10

// values are what a form was filled in with.
type values struct{ args fasthttp.Args }

func readForm(r *wire.Req) (*values, error) {
	body, err := r.Body(maxForm)
	if err != nil {
		return nil, err
	}
	v := &values{}
	v.args.ParseBytes(body)
	return v, nil
}

func (v *values) get(name string) string { return string(v.args.Peek(name)) }

// Spec: client-server, adding account administrative contact information: the
// link in a mail. Confirming takes a press of a button, since programs that
// look for harm follow the links in mails too.
//
// It says what the confirmation is good for: whoever asked for the mail has it
// then, and that need not be who reads it.
func (a *API) confirmPage(r *wire.Req) error {
	hidden := [][2]string{}
	for _, name := range [...]string{"sid", "client_secret", "token"} {
		hidden = append(hidden, [2]string{name, r.QueryOr(name, "")})
	}
	v, ok := a.proofs.get(hidden[0][1], hidden[1][1])
	server := string(a.engine.Server)
	p := page{status: 200, title: "Confirm your e-mail address"}
	switch {
	case !ok:
		return badLink(r)
	case v.purpose == forPassword:
		p.title = "Set a new password?"
		p.body = paragraph("Somebody wants to set a new password for the account on "+server+" that has this e-mail address.") +
			`<p class="bad">` + `Go on only if you have just asked for this in your Matrix client. Whoever asked gets into the account.</p>` + form("", "Yes, it was me", hidden...)
	default:
		p.body = paragraph("This is the last step to confirm your e-mail address on "+server+". If you did not ask for this, close the page.") + form("", "Confirm", hidden...)
	}
	return show(r, p)
}

// badLink is the page of a link in a mail that is no longer good.
func badLink(r *wire.Req) error {
	return show(r, page{status: 400, title: "This link is not valid", body: paragraph("It is older than a day, or was used, or the server was restarted since. Ask for another mail.")})
}

// confirm takes the form of the page, or the same as JSON, as clients send it.
func (a *API) confirm(r *wire.Req) error {
	if body, err := r.Body(maxForm); err != nil {
		return err
	} else if bytes.HasPrefix(bytes.TrimSpace(body), []byte{'{'}) {
		if body, err = r.Object(); err != nil {
			return err
		}
		var val [3]string
		for i, key := range [...]string{"sid", "client_secret", "token"} {
			if val[i], err = needText(body, key); err != nil {
				return err
			}
		}
		if _, err := a.proofs.confirm(val[0], val[1], val[2]); err != nil {
			return err
		}
		return r.OK(append(r.Out(), `{"success":true}`...))
	}
	f, err := readForm(r)
	if err != nil {
		return err
	}
	v, err := a.proofs.confirm(f.get("sid"), f.get("client_secret"), f.get("token"))
	if err != nil {
		return badLink(r)
	}
	done := page{status: 200, title: "Your e-mail address is confirmed", body: paragraph("You can close this page and go on in your Matrix client.")}
	if v.next != "" {
		done.goTo = v.next
		done.body = `<p><a rel="noreferrer" href="` + html.EscapeString(v.next) + `">Go on</a></p>`
	}
	return show(r, done)
}

// loginScript logs in and tells the client around the page.
const loginScript = `const f=document.forms[0],e=document.getElementById("e"),q=new URLSearchParams(location.search);` +
	`async function login(b){for(const[k,v]of q)if(k!=="loginToken"&&!(k in b))b[k]=v==="true"?true:v;` +
	`e.textContent="";try{const r=await fetch("/_matrix/client/v3/login",{method:"POST",headers:{"Content-Type":"application/json"},body:JSON.stringify(b)});` +
	`const j=await r.json();if(!r.ok){e.textContent=j.error||"The login was refused.";return}` +
	`document.querySelector("form").hidden=true;e.textContent="";document.querySelector("h1").textContent="You are logged in";` +
	`if(window.matrixLogin&&window.matrixLogin.onLogin)window.matrixLogin.onLogin(j);else if(window.onLogin)window.onLogin(j)}` +
	`catch(x){e.textContent="The server does not answer."}}` +
	`f.addEventListener("submit",v=>{v.preventDefault();login({type:"m.login.password",identifier:{type:"m.id.user",user:f.user.value},password:f.password.value})});` +
	`if(q.has("loginToken"))login({type:"m.login.token",token:q.get("loginToken")});`

// Spec: client-server, login fallback.
func (a *API) loginPage(r *wire.Req) error {
	return show(r, page{
		status: 200, title: "Log in to " + string(a.engine.Server),
		body: a.ssoLinks(r) + form(lineField("User name", "user", "text", "username")+lineField("Password", "password", "password", "current-password"), "Log in") +
			`<p class="bad" id="e"></p><noscript>` + paragraph("This page needs JavaScript.") + `</noscript>`,
		script: loginScript,
	})
}

// ssoLinks offers the login at a provider on the page of the hub's own.
func (a *API) ssoLinks(r *wire.Req) string {
	if !a.signs() {
		return ""
	}
	back := strings.TrimSuffix(a.o.PublicURL, "/") + "/_matrix/static/client/login/"
	if q := string(r.Ctx.URI().QueryString()); q != "" {
		back += "?" + q
	}
	link := v3 + "/login/sso/redirect?" + url.Values{"redirectUrl": {back}}.Encode()
	return `<p><a href="` + html.EscapeString(link) + `">Log in with another account of yours</a></p>`
}

// Policy is a document that new users have to accept.
type Policy struct {
	ID       string // "terms_of_service", "privacy_policy"
	Version  string
	Language string // of the document: "en"
	Name     string
	URL      string
}

// policies makes the parameters of the stage of terms, and the account data of
// those who have passed it. Spec: client-server, terms of service at registration.
func policies(list []Policy) (params string, accepted []byte) {
	if len(list) == 0 {
		return "", nil
	}
	dst, urls := []byte(`{"m.login.terms":{"policies":{`), []string{}
	for i, id := range idsOf(list) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(cjson.AppendString(dst, id), ':', '{')
		version := ""
		for _, p := range list {
			if p.ID == id {
				dst = append(cjson.AppendString(dst, p.Language), `:{"name":`...)
				dst = append(cjson.AppendString(dst, p.Name), `,"url":`...)
				dst = append(cjson.AppendString(dst, p.URL), `},`...)
				version = p.Version
				urls = append(urls, p.URL)
			}
		}
		dst = append(cjson.AppendString(append(dst, `"version":`...), version), '}')
	}
	return string(append(dst, `}}}`...)), append(cjson.AppendStrings([]byte(`{"accepted":`), urls), '}')
}

func idsOf(list []Policy) (ids []string) {
	seen := map[string]bool{}
	for _, p := range list {
		if !seen[p.ID] {
			seen[p.ID] = true
			ids = append(ids, p.ID)
		}
	}
	return ids
}
