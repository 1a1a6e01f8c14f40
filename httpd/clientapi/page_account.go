package clientapi

import (
	"html"
	"net/url"
	"strings"
	"time"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/httpd/wire"
)

// The page on which people manage their account: what a client that signed in by
// OAuth may not do itself, since it was never told the password.
// Spec: client-server, OAuth 2.0 API, account management.

// resetLife is how long a client may replace the keys of somebody who allowed it.
const resetLife = 10 * time.Minute

// accountPage leads to what the address asks for.
// Spec: client-server, account management URL parameters.
func (a *API) accountPage(r *wire.Req, v *visitor, f *values) error {
	action, device := r.QueryOr("action", ""), r.QueryOr("device_id", "")
	if f == nil {
		v.lead = paragraph("This is where you manage your account.")
	}
	grave := action == toDelete || action == toDeleteOld || action == toDeactivate || action == toReset
	if in, err := a.known(r, v, f, grave); !in {
		return err
	}
	if f != nil {
		err := a.manage(r, v, f, device)
		text, again := reason(err)
		if err == nil || !again {
			return err
		}
		status, _ := wire.Errcode(fault.KindOf(err))
		return show(r, page{status: status, title: "This does not work", body: warning(text+".") +
			`<p><a href="` + html.EscapeString(self(r, "")) + `">Back</a></p>`})
	}
	switch action {
	case toProfile:
		return a.profilePage(r, v)
	case toDevices, toDevicesOld:
		return a.devicesPage(r, v)
	case toDevice, toDeviceOld:
		return a.devicePage(r, v, device, false)
	case toDelete, toDeleteOld:
		return a.devicePage(r, v, device, true)
	case toDeactivate:
		return a.endPage(r, v)
	case toReset:
		return show(r, page{status: 200, title: "Reset your digital identity?", body: paragraph("A client wants to replace the keys by which others know your devices. Allow it only if you have just asked for this in your client: because you have lost your recovery key and every verified device.") +
			paragraph("Messages that only your old keys can read stay unread, and people you have verified will see a warning.") +
			a.formFor(r, v, "reset", "", "Allow it for ten minutes") + back()})
	}
	return a.overview(r, v)
}

// to is a link to another part of the page.
func to(action, device, text string) string {
	link := accountPath
	if action != "" {
		link += "?action=" + action
	}
	if device != "" {
		link += "&device_id=" + url.QueryEscape(device)
	}
	return `<a href="` + html.EscapeString(link) + `">` + html.EscapeString(text) + `</a>`
}

// back leads to where the page begins.
func back() string { return `<p>` + to("", "", "Your account") + `</p>` }

func (a *API) overview(r *wire.Req, v *visitor) error {
	return show(r, page{status: 200, title: "Your account", body: `<p>You are signed in as <b>` + html.EscapeString(string(v.User.ID)) + `</b>.</p><ul class="rows">` +
		`<li>` + to(toProfile, "", "Name, picture and password") + `</li><li>` + to(toDevices, "", "Devices") + `</li><li>` + to(toReset, "", "Reset your digital identity") +
		`</li><li>` + to(toDeactivate, "", "End the account") + `</li></ul>` + a.otherForm(r, v, "sign-out", "", "Sign out of this page")})
}

// profilePage shows what others see of the user, and the user alone.
func (a *API) profilePage(r *wire.Req, v *visitor) error {
	name, avatar, err := a.accounts.NameAndAvatar(v.User.Num)
	if err != nil {
		return err
	}
	body := a.formFor(r, v, "name", `<label>Display name<small>Others see it in every room.</small><input name="name" type="text" autocomplete="nickname" maxlength="256" value="`+html.EscapeString(name)+`"></label>`, "Save")
	if avatar != "" {
		body += `<h2>Picture</h2>` + paragraph("You have one. A client sets another.") + a.otherForm(r, v, "no-avatar", "", "Remove the picture")
	}
	contacts, err := a.accounts.Threepids(v.User.Num)
	if err != nil {
		return err
	}
	if len(contacts) > 0 {
		body += `<h2>Addresses</h2><ul class="rows">`
		for _, c := range contacts {
			body += `<li>` + html.EscapeString(c.Address) + a.otherForm(r, v, "no-address", "", "Remove", [2]string{"medium", c.Medium}, [2]string{"address", c.Address}) + `</li>`
		}
		body += `</ul>`
	}
	if v.User.HasPassword {
		body += `<h2>Password</h2>` + a.formFor(r, v, "password", `<input hidden type="text" name="user" autocomplete="username" value="`+html.EscapeString(v.User.ID.Localpart())+`">`+lineField("Current password", "password", "password", "current-password")+
			lineField("New password", "new", "password", "new-password")+lineField("New password again", "again", "password", "new-password")+
			tick("Log out all my devices", "logout", false), "Change the password") + a.openWire(r)
	}
	return show(r, page{status: 200, title: "Your profile", body: body + back()})
}

// lastSeen is when and where a device was there.
func lastSeen(d *account.Device) string {
	if d.Seen.IsZero() {
		return ""
	}
	text := "Last seen " + d.Seen.UTC().Format("2 January 2006, 15:04") + " UTC"
	if d.SeenFrom.IsValid() {
		text += " from " + d.SeenFrom.String()
	}
	return text
}

func called(d *account.Device) string {
	if d.Name != "" {
		return d.Name
	}
	return d.ID
}

func (a *API) devicesPage(r *wire.Req, v *visitor) error {
	list, err := a.accounts.Devices(v.User.Num)
	if err != nil {
		return err
	}
	var b strings.Builder
	for i := range list {
		d := &list[i]
		b.WriteString(`<li>` + to(toDevice, d.ID, called(d)) + `<small>` + html.EscapeString(lastSeen(d)) + `</small></li>`)
	}
	body := `<ul class="rows">` + b.String() + `</ul>`
	if len(list) == 0 {
		body = paragraph("No client is signed in.")
	}
	return show(r, page{status: 200, title: "Your devices", body: body + back()})
}

// devicePage shows one device, or asks whether it is to be logged out.
func (a *API) devicePage(r *wire.Req, v *visitor, id string, end bool) error {
	d, err := a.accounts.Device(v.User.Num, id)
	if fault.Is(err, fault.NotFound) {
		return show(r, page{status: 404, title: "There is no such device", body: paragraph("It may have been logged out already.") + `<p>` + to(toDevices, "", "Your devices") + `</p>`})
	}
	if err != nil {
		return err
	}
	body := `<p><code>` + html.EscapeString(d.ID) + `</code></p>`
	if text := lastSeen(&d); text != "" {
		body += paragraph(text + ".")
	}
	if m, err := a.accounts.Client(d.Client); err == nil && m != nil {
		body += `<p>Signed in with <b>` + html.EscapeString(m.Name(string(r.Ctx.Request.Header.Peek("Accept-Language")))) + `</b> of <b>` + html.EscapeString(m.Host()) + `</b>.</p>`
	}
	devices := `<p>` + to(toDevices, "", "Your devices") + `</p>`
	if end {
		return show(r, page{status: 200, title: "Log out " + short(called(&d)) + "?", body: body + paragraph("It loses its keys: messages that only it can read are lost.") +
			strings.Replace(a.formFor(r, v, "delete", "", "Log it out"), "<button>", `<button class="grave">`, 1) + devices})
	}
	return show(r, page{status: 200, title: short(called(&d)), body: body +
		a.formFor(r, v, "rename", `<label>Name<input name="name" type="text" autocomplete="off" maxlength="256" value="`+html.EscapeString(d.Name)+`"></label>`, "Save") +
		`<p>` + to(toDelete, d.ID, "Log this device out") + `</p>` + devices})
}

// endPage asks whether the account is to end.
func (a *API) endPage(r *wire.Req, v *visitor) error {
	fields := tick("Hide my messages from people who join later", "erase", false)
	if v.User.HasPassword {
		fields += lineField("Password", "password", "password", "current-password")
	} else {
		fields += tick("I will not want it back", "sure", true)
	}
	return show(r, page{status: 200, title: "End your account?", body: `<p>The account <b>` + html.EscapeString(string(v.User.ID)) + `</b> ends for good. It leaves all rooms, and nobody can ever have its name again.</p>` +
		strings.Replace(a.formFor(r, v, "deactivate", fields, "End the account"), "<button>", `<button class="grave">`, 1) + back()})
}

// done tells that it was done.
func done(r *wire.Req, title, text string) error {
	return show(r, page{status: 200, title: title, body: paragraph(text) + back()})
}

// manage does what a form of the page says. Errors are told to the person.
func (a *API) manage(r *wire.Req, v *visitor, f *values, device string) error {
	const op = "clientapi.manage"
	user := v.User.Num
	fresh := a.o.Now().Sub(v.Proved) < proofLife
	do := f.get("do")
	switch do {
	case "name", "no-avatar":
		return a.manageProfile(r, v, do, f.get("name"))
	case "no-address":
		if v.User.Suspended {
			return fault.E(fault.Suspended, op, "this account is suspended: it stays as it is")
		}
		if err := a.accounts.DropThreepid(user, f.get("medium"), f.get("address")); err != nil {
			return err
		}
		// The identity server's word is not waited for: what it keeps is told to no one here.
		_, _ = a.unbind(&account.Session{User: user, UserID: v.User.ID}, named{medium: f.get("medium"), address: f.get("address")})
		return goBack(r, self(r, ""))
	case "password":
		return a.managePassword(r, v, f)
	case "rename":
		if err := a.engine.RenameDevice(user, device, f.get("name")); err != nil {
			return err
		}
		return goBack(r, self(r, ""))
	}
	if !fresh {
		return goBack(r, self(r, "")) // the page asks for a sign-in
	}
	switch do {
	case "delete":
		if err := a.engine.DeleteDevices(user, func(d *account.Device) bool { return d.ID == device }); err != nil {
			return err
		}
		return done(r, "The device is logged out", "Its keys are gone from the hub.")
	case "reset":
		now := a.o.Now()
		a.renewals.allow(user, now.UnixMilli(), now.Add(resetLife).UnixMilli())
		return done(r, "It is allowed", "Go back to your client within ten minutes, and go on there.")
	case "deactivate":
		if v.User.HasPassword {
			if num, err := a.accounts.CheckPassword(v.User.ID, f.get("password")); err != nil {
				return err
			} else if num != user {
				return fault.E(fault.Forbidden, op, "this is not your password")
			}
		} else if f.get("sure") != "yes" {
			return fault.E(fault.Invalid, op, "you have to say that you are sure")
		}
		if _, err := a.engine.Retire(user, v.User.ID, f.get("erase") == "yes"); err != nil {
			return err
		}
		return show(r, page{status: 200, title: "The account has ended", body: paragraph("You can close this page.")})
	}
	return fault.E(fault.Invalid, op, "the page has no such form")
}

// manageProfile changes what others see.
func (a *API) manageProfile(r *wire.Req, v *visitor, do, name string) error {
	if v.User.Suspended {
		return fault.E(fault.Suspended, "clientapi.manage", "this account is suspended: its profile stays as it is")
	}
	field, value := account.AvatarURL, []byte(nil)
	if do == "name" {
		field = account.DisplayName
		if name = strings.TrimSpace(name); name != "" {
			value = cjson.AppendString(nil, name)
		}
	}
	if err := a.engine.SetProfile(v.User.Num, v.User.ID, field, value); err != nil {
		return err
	}
	return goBack(r, self(r, ""))
}

// managePassword changes the password of who knows the one of now. The other
// browsers are signed out by it; this one signs in anew.
func (a *API) managePassword(r *wire.Req, v *visitor, f *values) error {
	const op = "clientapi.manage"
	num, err := a.accounts.CheckPassword(v.User.ID, f.get("password"))
	switch {
	case err != nil:
		return err
	case num != v.User.Num:
		return fault.E(fault.Forbidden, op, "this is not your password")
	case f.get("new") != f.get("again"):
		return fault.E(fault.Invalid, op, "the two passwords are not the same")
	}
	if err := a.engine.SetPassword(num, f.get("new"), f.get("logout") == "yes", ""); err != nil {
		return err
	}
	a.renewals.used(num)
	if err := a.signsIn(r, v, num); err != nil {
		return err
	}
	return done(r, "The password is changed", "Use the new one from now on.")
}
