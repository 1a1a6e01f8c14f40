package clientapi

import (
	"crypto/subtle"
	"fmt"
	"html"
	"net/netip"
	"strings"
	"sync"
	"time"

	"hearth/engine/account"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// The page at the root of the hub. While nobody owns the hub it makes the owner's
// account, for who has the claim code; afterwards it says what the hub is and how
// clients and things reach it. No other site can send the form in somebody's name:
// it would have to know the code.

// About is what the page tells of the hub besides its name.
type About struct {
	Version   string
	MQTT      []string        // where things reach it, as mqtt://:1883; a host that is missing is the hub's
	Addresses func() []string // at which others reach the hub, without ports; may be nil
}

const setupPath = "/_hearth/setup"

func (a *API) setupRoutes() []wire.Route {
	return []wire.Route{
		{Method: "GET", Pattern: "/", Handle: paged(wire.Free, a.rootPage)},
		{Method: "GET", Pattern: setupPath, Handle: paged(wire.Free, a.rootPage)},
		{Method: "POST", Pattern: setupPath, Handle: paged(wire.Login, a.setUp), Body: maxForm},
	}
}

// Wrong codes are counted for each address. Eighty random bits cannot be guessed;
// this keeps the tries of a program from taking the hub's time.
const (
	maxTries  = 10
	triesTime = 5 * time.Minute
	triesRoom = 256 // addresses that are remembered
)

// tries counts the wrong codes of each address.
type tries struct {
	mu  sync.Mutex         // guards all
	all map[[16]byte]tried // by network: whoever has one address of it has them all
}

type tried struct {
	n     int
	until time.Time // when it is forgotten
}

// left says whether the address may try a code.
func (t *tries) left(from netip.Addr, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.all[wire.Network(from)]
	return one.n < maxTries || now.After(one.until)
}

// wrong counts one.
func (t *tries) wrong(from netip.Addr, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil || len(t.all) >= triesRoom {
		t.all = map[[16]byte]tried{}
	}
	net := wire.Network(from)
	one := t.all[net]
	if now.After(one.until) {
		one.n = 0
	}
	t.all[net] = tried{one.n + 1, now.Add(triesTime)}
}

// rootPage is the page of a browser that asks for nothing but the hub.
func (a *API) rootPage(r *wire.Req) error {
	code, err := a.accounts.ClaimCode()
	if err != nil {
		return err
	}
	if code == "" {
		return a.aboutPage(r, "")
	}
	return a.askOwner(r, 200, setupForm{code: r.QueryOr("code", "")}, "")
}

// setupForm is what the form was filled in with.
type setupForm struct{ code, user, password, again string }

// readSetup reads the form as people fill it in: a code with spaces, a user with
// the name of the hub behind it.
func (a *API) readSetup(f *values) setupForm {
	s := setupForm{f.get("code"), f.get("user"), f.get("password"), f.get("again")}
	s.code = strings.ToLower(strings.Join(strings.Fields(s.code), ""))
	s.user = mxid.LowerLocalpart(strings.TrimSpace(s.user))
	s.user = strings.TrimSuffix(strings.TrimPrefix(s.user, "@"), ":"+string(a.engine.Server))
	return s
}

// askOwner shows the form. What was wrong with it before stands above it.
func (a *API) askOwner(r *wire.Req, status int, f setupForm, wrong string) error {
	field := func(label, hint, name, kind, complete, value string) string {
		return `<label>` + label + `<small>` + hint + `</small><input required name="` + name + `" type="` + kind + `" autocomplete="` + complete +
			`" autocapitalize="none" spellcheck="false" maxlength="512" value="` + html.EscapeString(value) + `"></label>`
	}
	used, err := a.accounts.Any()
	if err != nil {
		return err
	}
	state := "Nobody owns it yet: who has its claim code makes the owner's account here."
	if used {
		state = "A new claim code was asked for at the hub itself. With it you make an admin's account here, or give one that is there a new password."
	}
	body := paragraph("This is the hub "+string(a.engine.Server)+" at "+a.base(r)+". "+state) +
		warning(wrong) +
		`<form method="post" action="` + setupPath + `">` +
		field("Claim code", "The hub shows it on its screen, or in its log.", "code", "text", "off", f.code) +
		field("User name", "Yours from now on, as alice.", "user", "text", "username", f.user) +
		field("Password", fmt.Sprintf("At least %d characters.", a.accounts.PasswordMin()), "password", "password", "new-password", "") +
		field("Password again", "Nobody can send you a new one.", "again", "password", "new-password", "") +
		`<button>Own this hub</button></form>`
	return show(r, page{status: status, title: "Set up this hub", body: body + a.openWire(r)})
}

// setUp makes the owner's account.
func (a *API) setUp(r *wire.Req) error {
	v, err := readForm(r)
	if err != nil {
		return err
	}
	f := a.readSetup(v)
	code, err := a.accounts.ClaimCode()
	if err != nil {
		return err
	}
	now := a.o.Now()
	switch {
	case code == "":
		return show(r, page{status: 409, title: "This hub has an owner", body: paragraph("It was set up already. If that was not you, see who was at its screen; the card in hand lets you begin anew.")})
	case !a.tries.left(r.Remote(), now):
		return a.askOwner(r, 429, f, "too many wrong codes came from your address. Wait five minutes, and read the code again.")
	case subtle.ConstantTimeCompare([]byte(f.code), []byte(code)) != 1:
		a.tries.wrong(r.Remote(), now)
		return a.askOwner(r, 403, f, "that is not the claim code of this hub. It has four groups of four letters and digits; after each start it is the same.")
	case f.user == "":
		return a.askOwner(r, 400, f, "your account needs a user name.")
	case f.password != f.again:
		return a.askOwner(r, 400, f, "the two passwords are not the same.")
	}
	if err = a.own(f, code); err != nil {
		text, again := reason(err)
		if !again {
			return err
		}
		return a.askOwner(r, 400, f, text+".")
	}
	return a.aboutPage(r, f.user)
}

// own makes the account, which the code makes an admin's. A user who is there gets the
// new password, since somebody who has lost theirs has asked the hub for a new code.
func (a *API) own(f setupForm, code string) error {
	id := a.accounts.ID(f.user)
	if err := a.engine.Exclusive(id, ""); err != nil {
		return err
	}
	num, err := a.accounts.Find(id)
	if err != nil {
		return err
	}
	if num != 0 {
		if f.user == account.HubName {
			return fault.E(fault.Exclusive, "clientapi.own", "the name is the hub's own")
		}
		u, err := a.accounts.User(num)
		if err != nil {
			return err
		}
		if u.Deactivated || u.Guest {
			return fault.E(fault.UserInUse, "clientapi.own", "the user name is taken by an account that is none any more")
		}
		// The code is used up last: where this is cut short it is good once more.
		if err := a.engine.SetPassword(num, f.password, true, ""); err != nil {
			return err
		}
		return a.accounts.Regain(num, code)
	}
	num, err = a.accounts.Create(account.NewUser{Localpart: f.user, Password: f.password, Token: code})
	if err != nil {
		return err
	}
	return a.bind(num, proof{}, false) // who wrote the terms accepts them
}

// aboutPage says what the hub is. owner is who has just made it theirs.
func (a *API) aboutPage(r *wire.Req, owner string) error {
	base := a.base(r)
	p := page{status: 200, title: string(a.engine.Server)}
	if owner == "" {
		p.body = paragraph("This is a Matrix hub, made with Hearth" + optional(" ", a.o.About.Version) + ".")
	} else {
		p.title = "The hub is yours"
		p.body = `<p>Your account is <b>` + html.EscapeString(string(a.accounts.ID(owner))) + `</b>.</p>`
	}
	p.body += `<h2>People</h2>` + paragraph("In a Matrix client choose another homeserver, and give it this address:") + address(base)
	if owner == "" {
		p.body += paragraph("Who runs the hub says who may have an account.")
	} else {
		p.body += paragraph("Then log in with your user name and password. Others register there with a registration token of yours.")
	}
	p.body += `<p>` + to("", "", "Manage your account") + `</p>`
	if len(a.o.About.MQTT) > 0 {
		p.body += `<h2>Things</h2>` + paragraph("They speak MQTT, with a name and secret of their own:")
		for _, m := range a.o.About.MQTT {
			scheme, rest, _ := strings.Cut(m, "://")
			if strings.HasPrefix(rest, ":") {
				rest = hostOf(base) + rest
			}
			p.body += address(scheme + "://" + rest)
		}
		p.body += paragraph("One that connects unknown is told of in the room #control:" + string(a.engine.Server) + ", and let in there by: approve NAME")
	}
	if near(r.Remote()) && a.o.About.Addresses != nil {
		if all := a.o.About.Addresses(); len(all) > 0 {
			p.body += `<h2>Also reached at</h2>`
			for _, at := range all {
				p.body += address(at)
			}
		}
	}
	return show(r, p)
}

// near says whether who asks is on a network of the hub's own: others are not told how that is made.
func near(from netip.Addr) bool {
	return from.IsLoopback() || from.IsPrivate() || from.IsLinkLocalUnicast()
}

func address(text string) string { return `<p><code>` + html.EscapeString(text) + `</code></p>` }

func optional(before, text string) string {
	if text == "" {
		return ""
	}
	return before + text
}

// base is where the browser found the hub, unless the owner says where clients
// are to. The header is not trusted to be a host.
func (a *API) base(r *wire.Req) string {
	if a.o.PublicURL != "" {
		return strings.TrimSuffix(a.o.PublicURL, "/")
	}
	host := string(r.Ctx.Host())
	if host == "" || len(host) > 255 || strings.Trim(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:[]-_") != "" {
		host = string(a.engine.Server)
	}
	if r.Ctx.IsTLS() || forwardedTLS(r) {
		return "https://" + host
	}
	return "http://" + host
}

// hostOf is the host of an address, in brackets where it had them, without the port.
func hostOf(base string) string {
	_, host, _ := strings.Cut(base, "://")
	host, _, _ = strings.Cut(host, "/")
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		host = host[:i]
	}
	return host
}
