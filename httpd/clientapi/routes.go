package clientapi

import "hearth/httpd/wire"

// The bases of the paths. A route with the flag wire.R0 is served under r0 too.
const (
	v1 = "/_matrix/client/v1"
	v3 = "/_matrix/client/v3"
)

// What several routes ask for.
const (
	open  = wire.R0               // for everyone
	user  = wire.Auth | wire.R0   // for users
	guest = user | wire.GuestOK   // for guests as well
	late  = wire.Auth             // for users, and younger than r0
	maybe = wire.EmptyBody | user // for users; a body is not needed
)

// Routes is the whole client-server API, by section of the specification.
func (a *API) Routes() []wire.Route {
	var all []wire.Route
	for _, section := range [...][]wire.Route{
		a.serverRoutes(), a.accountRoutes(), a.deviceRoutes(), a.profileRoutes(), a.dataRoutes(), a.ruleRoutes(), a.pushRoutes(), a.keyRoutes(),
		a.roomRoutes(), a.syncRoutes(), a.oldRoutes(), a.adminRoutes(), a.peopleRoutes(), a.addressRoutes(), a.ssoRoutes(), a.bridgeRoutes(), a.setupRoutes(), a.oauthRoutes(),
	} {
		all = append(all, section...)
	}
	if a.shared != nil {
		all = append(all,
			wire.Route{Method: "GET", Pattern: sharedPath, Handle: a.sharedNonce, Class: wire.Register},
			wire.Route{Method: "POST", Pattern: sharedPath, Handle: a.sharedRegister, Class: wire.Register})
	}
	return all
}

// Spec: client-server, API standards, capabilities negotiation.
func (a *API) serverRoutes() []wire.Route {
	return []wire.Route{
		{Method: "GET", Pattern: "/_matrix/client/versions", Handle: a.versions},
		{Method: "GET", Pattern: "/.well-known/matrix/client", Handle: a.wellKnown},
		{Method: "GET", Pattern: "/.well-known/matrix/server", Handle: a.wellKnownServer},
		{Method: "GET", Pattern: "/.well-known/matrix/support", Handle: a.support},
		{Method: "GET", Pattern: v3 + "/capabilities", Handle: a.capabilities, Flags: user},
	}
}

// Spec: client-server, client authentication.
func (a *API) accountRoutes() []wire.Route {
	return []wire.Route{
		{Method: "GET", Pattern: v3 + "/login", Handle: a.loginFlows, Flags: open},
		{Method: "POST", Pattern: v3 + "/login", Handle: a.login, Flags: open, Class: wire.Login},
		{Method: "POST", Pattern: v1 + "/login/get_token", Handle: a.getLoginToken, Flags: late | wire.EmptyBody, Class: wire.Login},
		{Method: "POST", Pattern: v3 + "/refresh", Handle: a.refresh, Class: wire.Read},
		{Method: "POST", Pattern: "/_matrix/client/r0/tokenrefresh", Handle: a.refreshOld, Flags: late | wire.EmptyBody},
		{Method: "POST", Pattern: v3 + "/logout", Handle: a.logout, Flags: maybe | wire.GuestOK | wire.LockedOK},
		{Method: "POST", Pattern: v3 + "/logout/all", Handle: a.logoutAll, Flags: maybe | wire.GuestOK | wire.LockedOK},
		{Method: "POST", Pattern: v3 + "/register", Handle: a.register, Flags: open, Class: wire.Register},
		{Method: "GET", Pattern: v3 + "/register/available", Handle: a.available, Flags: open, Class: wire.Register},
		{Method: "GET", Pattern: v1 + "/register/m.login.registration_token/validity", Handle: a.tokenValidity, Class: wire.Register},
		{Method: "GET", Pattern: v3 + "/account/whoami", Handle: a.whoami, Flags: guest},
		{Method: "POST", Pattern: v3 + "/account/password", Handle: a.password, Flags: wire.AuthMaybe | open, Class: wire.Login},
		{Method: "POST", Pattern: v3 + "/account/deactivate", Handle: a.deactivate, Flags: wire.AuthMaybe | wire.EmptyBody | open, Class: wire.Login},
	}
}

// Spec: client-server, adding account administrative contact information;
// user-interactive authentication, fallback; login fallback.
func (a *API) addressRoutes() []wire.Route {
	const (
		own      = v3 + "/account/3pid"
		fallback = v3 + "/auth/{authType}/fallback/web"
	)
	routes := []wire.Route{
		{Method: "GET", Pattern: own, Handle: a.addresses, Flags: user},
		{Method: "POST", Pattern: own, Handle: a.addAddressOld, Flags: user},
		{Method: "POST", Pattern: own + "/add", Handle: a.addAddress, Flags: user, Class: wire.Login},
		{Method: "POST", Pattern: own + "/bind", Handle: a.bindAddress, Flags: user},
		{Method: "POST", Pattern: own + "/delete", Handle: a.deleteAddress, Flags: user | wire.Active},
		{Method: "POST", Pattern: own + "/unbind", Handle: a.unbindAddress, Flags: user | wire.Active},
		{Method: "GET", Pattern: fallback, Handle: paged(wire.Free, a.stagePage), Flags: open},
		{Method: "POST", Pattern: fallback, Handle: paged(wire.Login, a.stageForm), Flags: open},
		{Method: "GET", Pattern: confirmPath, Handle: paged(wire.Free, a.confirmPage)},
		{Method: "POST", Pattern: confirmPath, Handle: paged(wire.Login, a.confirm)},
		{Method: "GET", Pattern: "/_matrix/static/client/login/", Handle: paged(wire.Free, a.loginPage)},
		{Method: "GET", Pattern: "/_matrix/static/client/login", Handle: paged(wire.Free, a.loginPage)},
	}
	for base, p := range map[string]purpose{own: forAccount, v3 + "/register": forRegister, v3 + "/account/password": forPassword} {
		routes = append(routes,
			wire.Route{Method: "POST", Pattern: base + "/email/requestToken", Handle: a.requestEmail(p), Flags: open, Class: wire.Register},
			wire.Route{Method: "POST", Pattern: base + "/msisdn/requestToken", Handle: a.requestPhone(p), Flags: open, Class: wire.Register})
	}
	return routes
}

// Spec: client-server, single sign-on; r0.4.0, CAS-based login.
func (a *API) ssoRoutes() []wire.Route {
	const r0 = "/_matrix/client/r0"
	return []wire.Route{
		{Method: "GET", Pattern: v3 + "/login/sso/redirect", Handle: paged(wire.Login, a.ssoRedirect), Flags: open},
		{Method: "GET", Pattern: v3 + "/login/sso/redirect/{idpId}", Handle: paged(wire.Login, a.ssoRedirectTo)},
		{Method: "GET", Pattern: r0 + "/login/cas/redirect", Handle: paged(wire.Login, a.casRedirect)},
		{Method: "GET", Pattern: r0 + "/login/cas/ticket", Handle: paged(wire.Login, a.casTicket)},
		{Method: "GET", Pattern: callbackPath, Handle: paged(wire.Login, a.ssoCallback)},
	}
}

// Spec: client-server, user directory; reporting content; VoIP; OpenID.
func (a *API) peopleRoutes() []wire.Route {
	return []wire.Route{
		{Method: "POST", Pattern: v3 + "/user_directory/search", Handle: a.searchUsers, Flags: user | wire.Heavy, Class: wire.Read},
		{Method: "POST", Pattern: v3 + "/user/{userId}/openid/request_token", Handle: a.openIDToken, Flags: maybe, Class: wire.Read},
		{Method: "GET", Pattern: v3 + "/voip/turnServer", Handle: a.turnServer, Flags: user},
		{Method: "POST", Pattern: v3 + "/rooms/{roomId}/report", Handle: a.reportRoom, Flags: late, Class: wire.Create},
		{Method: "POST", Pattern: v3 + "/rooms/{roomId}/report/{eventId}", Handle: a.reportEvent, Flags: user, Class: wire.Create},
		{Method: "POST", Pattern: v3 + "/users/{userId}/report", Handle: a.reportUser, Flags: late, Class: wire.Create},
	}
}

// Spec: client-server, server administration.
func (a *API) adminRoutes() []wire.Route {
	const (
		lock    = v1 + "/admin/lock/{userId}"
		suspend = v1 + "/admin/suspend/{userId}"
	)
	return []wire.Route{
		{Method: "GET", Pattern: v3 + "/admin/whois/{userId}", Handle: a.whois, Flags: user},
		{Method: "GET", Pattern: lock, Handle: a.isLocked, Flags: late | wire.Admin},
		{Method: "PUT", Pattern: lock, Handle: a.lock, Flags: late},
		{Method: "GET", Pattern: suspend, Handle: a.isSuspended, Flags: late | wire.Admin},
		{Method: "PUT", Pattern: suspend, Handle: a.suspend, Flags: late},
	}
}

// Spec: client-server, device management.
func (a *API) deviceRoutes() []wire.Route {
	return []wire.Route{
		{Method: "GET", Pattern: v3 + "/devices", Handle: a.devices, Flags: guest},
		{Method: "GET", Pattern: v3 + "/devices/{deviceId}", Handle: a.device, Flags: guest},
		{Method: "PUT", Pattern: v3 + "/devices/{deviceId}", Handle: a.renameDevice, Flags: guest},
		{Method: "DELETE", Pattern: v3 + "/devices/{deviceId}", Handle: a.deleteDevice, Flags: maybe, Class: wire.Login},
		{Method: "POST", Pattern: v3 + "/delete_devices", Handle: a.deleteDevices, Flags: user, Class: wire.Login},
	}
}

// Spec: client-server, profiles. r0 knew two fields only, so these have routes
// of their own.
func (a *API) profileRoutes() []wire.Route {
	routes := []wire.Route{
		{Method: "GET", Pattern: v3 + "/profile/{userId}", Handle: a.profile, Flags: open},
		{Method: "GET", Pattern: v3 + "/profile/{userId}/{keyName}", Handle: a.profileField},
		{Method: "PUT", Pattern: v3 + "/profile/{userId}/{keyName}", Handle: a.setProfileField, Flags: late | wire.GuestOK | wire.Active},
		{Method: "DELETE", Pattern: v3 + "/profile/{userId}/{keyName}", Handle: a.deleteProfileField, Flags: late | wire.GuestOK | wire.Active},
	}
	for _, field := range [...]string{"displayname", "avatar_url"} {
		pattern := "/_matrix/client/r0/profile/{userId}/" + field
		routes = append(routes,
			wire.Route{Method: "GET", Pattern: pattern, Handle: a.profileField},
			wire.Route{Method: "PUT", Pattern: pattern, Handle: a.setProfileField, Flags: late | wire.GuestOK | wire.Active})
	}
	return routes
}

// Spec: client-server, client config; room tagging; filtering.
func (a *API) dataRoutes() []wire.Route {
	const (
		mine = v3 + "/user/{userId}"
		room = mine + "/rooms/{roomId}"

		msc3391 = "/_matrix/client/unstable/org.matrix.msc3391/user/{userId}"
	)
	return []wire.Route{
		{Method: "GET", Pattern: mine + "/account_data/{type}", Handle: a.accountData, Flags: user},
		{Method: "PUT", Pattern: mine + "/account_data/{type}", Handle: a.setAccountData, Flags: user},
		{Method: "GET", Pattern: room + "/account_data/{type}", Handle: a.roomAccountData, Flags: user},
		{Method: "PUT", Pattern: room + "/account_data/{type}", Handle: a.setRoomAccountData, Flags: user},
		{Method: "DELETE", Pattern: msc3391 + "/account_data/{type}", Handle: a.deleteAccountData, Flags: late},
		{Method: "DELETE", Pattern: msc3391 + "/rooms/{roomId}/account_data/{type}", Handle: a.deleteRoomAccountData, Flags: late},
		{Method: "GET", Pattern: room + "/tags", Handle: a.tags, Flags: user},
		{Method: "PUT", Pattern: room + "/tags/{tag}", Handle: a.setTag, Flags: maybe},
		{Method: "DELETE", Pattern: room + "/tags/{tag}", Handle: a.deleteTag, Flags: user},
		{Method: "POST", Pattern: mine + "/filter", Handle: a.addFilter, Flags: guest},
		{Method: "GET", Pattern: mine + "/filter/{filterId}", Handle: a.filter, Flags: guest},
	}
}

// Spec: client-server, push rules. In older versions the scope was a parameter; the
// only one there ever was is global.
func (a *API) ruleRoutes() []wire.Route {
	const rule = v3 + "/pushrules/{scope}/{kind}/{ruleId}"
	return []wire.Route{
		{Method: "GET", Pattern: v3 + "/pushrules", Handle: a.pushRules, Flags: user},
		{Method: "GET", Pattern: v3 + "/pushrules/", Handle: a.pushRules, Flags: user},
		{Method: "GET", Pattern: v3 + "/pushrules/{scope}/", Handle: a.pushRulesIn, Flags: late},
		{Method: "GET", Pattern: rule, Handle: a.pushRule, Flags: user},
		{Method: "PUT", Pattern: rule, Handle: a.setPushRule, Flags: user},
		{Method: "DELETE", Pattern: rule, Handle: a.deletePushRule, Flags: user},
		{Method: "GET", Pattern: rule + "/enabled", Handle: a.ruleEnabled, Flags: user},
		{Method: "PUT", Pattern: rule + "/enabled", Handle: a.setRuleEnabled, Flags: user},
		{Method: "GET", Pattern: rule + "/actions", Handle: a.ruleActions, Flags: user},
		{Method: "PUT", Pattern: rule + "/actions", Handle: a.setRuleActions, Flags: user},
	}
}

// Spec: client-server, push notifications.
func (a *API) pushRoutes() []wire.Route {
	return []wire.Route{
		{Method: "GET", Pattern: v3 + "/pushers", Handle: a.pushers, Flags: user},
		{Method: "POST", Pattern: v3 + "/pushers/set", Handle: a.setPusher, Flags: user, Class: wire.Create},
		{Method: "GET", Pattern: v3 + "/notifications", Handle: a.notifications, Flags: user, Class: wire.Read},
	}
}
