package clientapi

import (
	"strings"
	"testing"

	"hearth/engine"
)

func TestProfile(t *testing.T) {
	h := start(t, Anyone)
	token := h.join("bob")
	h.join("eve")
	me := v3 + "/profile/@bob:hub.test"
	h.want(200, "{}", "GET", me, "", "")
	h.want(404, "M_NOT_FOUND", "GET", me+"/displayname", "", "")
	h.want(200, "{}", "PUT", me+"/displayname", token, `{"displayname":"Bob"}`)
	h.want(200, "{}", "PUT", me+"/avatar_url", token, `{"avatar_url":"mxc://hub.test/x","more":1}`)
	h.want(200, "{}", "PUT", me+"/org.example.job", token, `{"org.example.job":{"title":["lamp"]}}`)
	h.want(200, `{"displayname":"Bob"}`, "GET", me+"/displayname", "", "")
	h.want(200, `{"org.example.job":{"title":["lamp"]}}`, "GET", me+"/org.example.job", "", "")
	h.want(200, `{"avatar_url":"mxc://hub.test/x","displayname":"Bob","org.example.job":{"title":["lamp"]}}`, "GET", strings.Replace(me, "@", "%40", 1), "", "")
	h.want(200, "{}", "DELETE", me+"/org.example.job", token, "")
	h.want(200, "{}", "DELETE", me+"/org.example.never", token, "")
	h.want(200, "{}", "PUT", me+"/avatar_url", token, `{"avatar_url":""}`)
	h.want(200, `{"displayname":"Bob"}`, "GET", me, "", "")
	h.want(200, "{}", "DELETE", me+"/displayname", token, "")
	h.want(404, "M_NOT_FOUND", "GET", me+"/displayname", "", "")

	h.want(403, "M_FORBIDDEN", "PUT", v3+"/profile/@eve:hub.test/displayname", token, `{"displayname":"x"}`)
	h.want(400, "M_MISSING_PARAM", "PUT", me+"/displayname", token, `{"avatar_url":"x"}`)
	h.want(400, "M_INVALID_PARAM", "PUT", me+"/Bad%20Name", token, `{"Bad Name":1}`)
	long := strings.Repeat("a", 256)
	h.want(400, "M_KEY_TOO_LARGE", "PUT", me+"/"+long, token, `{"`+long+`":1}`)
	h.want(400, "M_PROFILE_TOO_LARGE", "PUT", me+"/a.b", token, `{"a.b":"`+strings.Repeat("x", 65<<10)+`"}`)
	h.want(404, "M_NOT_FOUND", "GET", v3+"/profile/@nobody:hub.test", "", "")
	h.want(404, "M_NOT_FOUND", "GET", v3+"/profile/@bob:other.test", "", "")
	h.want(400, "M_INVALID_PARAM", "GET", v3+"/profile/bob", "", "")
}

func TestAccountData(t *testing.T) {
	h := start(t, Anyone)
	token := h.join("bob")
	me := v3 + "/user/@bob:hub.test"
	room, err := h.e.CreateRoom(&engine.NewRoom{Creator: "@bob:hub.test"})
	if err != nil {
		t.Fatal(err)
	}
	inRoom := me + "/rooms/" + string(room)
	for _, base := range []string{me, inRoom} {
		h.want(404, "M_NOT_FOUND", "GET", base+"/account_data/test.key", token, "")
		h.want(200, "{}", "PUT", base+"/account_data/test.key", token, `{"value" : "first"}`)
		h.want(200, `{"value":"first"}`, "GET", base+"/account_data/test.key", token, "")
		h.want(405, "M_BAD_JSON", "PUT", base+"/account_data/m.fully_read", token, `{}`)
		h.want(405, "M_BAD_JSON", "PUT", base+"/account_data/m.push_rules", token, `{}`)
		h.want(400, "M_INVALID_PARAM", "PUT", base+"/account_data/"+strings.Repeat("x", 300), token, `{}`)
		h.want(413, "M_TOO_LARGE", "PUT", base+"/account_data/x", token, `{"x":"`+strings.Repeat("x", 200<<10)+`"}`)
	}
	h.want(403, "M_FORBIDDEN", "GET", v3+"/user/@eve:hub.test/account_data/x", token, "")
	h.want(403, "M_FORBIDDEN", "PUT", v3+"/user/@eve:hub.test/account_data/x", token, "{}")
	h.want(404, "M_NOT_FOUND", "PUT", me+"/rooms/!none:hub.test/account_data/x", token, "{}")
	rules := h.want(200, "", "GET", me+"/account_data/m.push_rules", token, "")
	if rules.get("global", "override") == nil {
		t.Fatal(rules.body)
	}

	h.want(200, `{"tags":{}}`, "GET", inRoom+"/tags", token, "")
	h.want(200, "{}", "PUT", inRoom+"/tags/u.work", token, `{"order":0.5}`)
	h.want(200, "{}", "PUT", inRoom+"/tags/m.favourite", token, ``)
	h.want(200, `{"tags":{"u.work":{"order":0.5},"m.favourite":{}}}`, "GET", inRoom+"/tags", token, "")
	h.want(200, "{}", "DELETE", inRoom+"/tags/m.favourite", token, "")
	h.want(200, `{"tags":{"u.work":{"order":0.5}}}`, "GET", inRoom+"/account_data/m.tag", token, "")
	h.want(400, "M_BAD_JSON", "PUT", inRoom+"/tags/u.work", token, `{"order":"first"}`)
	h.want(403, "M_FORBIDDEN", "GET", v3+"/user/@eve:hub.test/rooms/"+string(room)+"/tags", token, "")
}

func TestFilter(t *testing.T) {
	h := start(t, Anyone)
	token := h.join("bob")
	me := v3 + "/user/@bob:hub.test/filter"
	id := h.want(200, "", "POST", me, token, `{"room":{"timeline":{"limit":5}}}`).str("filter_id")
	h.want(200, `{"filter_id":"`+id+`"}`, "POST", me, token, `{ "room" : { "timeline":{"limit":5}} }`)
	h.want(200, `{"room":{"timeline":{"limit":5}}}`, "GET", me+"/"+id, token, "")
	h.want(404, "M_NOT_FOUND", "GET", me+"/999", token, "")
	h.want(404, "M_NOT_FOUND", "GET", me+"/{}", token, "")
	h.want(403, "M_FORBIDDEN", "GET", v3+"/user/@eve:hub.test/filter/"+id, token, "")
}

func TestPushRules(t *testing.T) {
	h := start(t, Anyone)
	token := h.join("bob")
	all := v3 + "/pushrules/"
	one := all + "global/content/probe_rule"
	h.want(200, "", "GET", all, token, "")
	if h.want(200, "", "GET", all+"global/", token, "").get("underride") == nil {
		t.Fatal("no underride rules")
	}
	h.want(404, "M_NOT_FOUND", "GET", one, token, "")
	h.want(200, "{}", "PUT", one, token, `{"actions":["notify"],"pattern":"probe"}`)
	h.want(200, `{"actions":["notify"],"pattern":"probe","default":false,"enabled":true,"rule_id":"probe_rule"}`, "GET", one, token, "")
	h.want(200, "{}", "PUT", one+"/enabled", token, `{"enabled":false}`)
	h.want(200, `{"enabled":false}`, "GET", one+"/enabled", token, "")
	h.want(200, "{}", "PUT", one+"/actions", token, `{"actions":[]}`)
	h.want(200, `{"actions":[]}`, "GET", one+"/actions", token, "")
	h.want(200, "{}", "DELETE", one, token, "")
	h.want(404, "M_NOT_FOUND", "GET", one, token, "")
	h.want(400, "M_MISSING_PARAM", "PUT", one+"/enabled", token, `{}`)
	h.want(400, "M_MISSING_PARAM", "PUT", one+"/actions", token, `{}`)
	h.want(404, "M_NOT_FOUND", "GET", all+"device/content/x", token, "")
	h.want(404, "M_NOT_FOUND", "GET", all+"global/none/x", token, "")
	h.want(400, "M_INVALID_PARAM", "PUT", all+"global/none/x", token, `{"actions":[]}`)
}
