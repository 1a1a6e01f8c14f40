package clientapi

import "testing"

func TestNoBridges(t *testing.T) {
	h := start(t, Anyone)
	token := h.join("bob")
	const third = "/_matrix/client/v3/thirdparty"
	h.want(200, "{}", "GET", third+"/protocols", token, "")
	h.want(401, "M_MISSING_TOKEN", "GET", third+"/protocols", "", "")
	for _, path := range []string{"/protocol/irc", "/location/irc", "/user/irc", "/location?alias=%23a:hub", "/user?userid=%40a:hub"} {
		h.want(404, "M_NOT_FOUND", "GET", third+path, token, "")
	}
	h.want(400, "M_MISSING_PARAM", "GET", third+"/user", token, "")
	const ping, list = "/_matrix/client/v1/appservice/irc/ping", "/_matrix/client/r0/directory/list/appservice/net/!r:hub"
	h.want(403, "M_FORBIDDEN", "POST", ping, token, "")
	h.want(403, "M_FORBIDDEN", "PUT", list, token, `{"visibility":"public"}`)
	h.want(400, "M_BAD_JSON", "PUT", list, token, `{"visibility":[]}`)
	h.want(400, "M_NOT_JSON", "PUT", list, token, `{`)
}
