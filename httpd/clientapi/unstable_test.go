package clientapi

import (
	"net/url"
	"slices"
	"strings"
	"testing"
)

// What is set for one device goes with the device, however it goes, and what is
// set for another stays.
func TestDeviceSettingsGoWithTheDevice(t *testing.T) {
	h := start(t, Anyone)
	amy := h.join("amy")
	for _, prefix := range []string{"m.", "org.matrix.msc3890."} {
		data := func(device string) string {
			return v3 + "/user/@amy:hub.test/account_data/" + prefix + "local_notification_settings." + device
		}
		const silent = `{"is_silenced":true}`
		h.want(200, "{}", "PUT", data("KEPT"), amy, silent)
		for device, drop := range map[string]func(token string){
			"LOGOUT": func(token string) { h.want(200, "{}", "POST", v3+"/logout", token, "") },
			"DELETE": func(token string) {
				h.want(200, "{}", "DELETE", v3+"/devices/DELETE", token, "{"+auth("amy", pw)+"}")
			},
		} {
			token := h.loginAs("amy", device)
			h.want(200, "{}", "PUT", data(device), token, silent)
			since := h.want(200, "", "GET", v3+"/sync", amy, "").str("next_batch")
			drop(token)
			h.want(404, "M_NOT_FOUND", "GET", data(device), amy, "")
			if a := h.want(200, "", "GET", v3+"/sync?since="+since, amy, ""); !strings.Contains(a.body, `{"content":{},"type":"`+prefix+`local_notification_settings.`+device+`"}`) {
				t.Error(a)
			}
		}
		h.want(200, silent, "GET", data("KEPT"), amy, "")
	}
}

// Events are paged by the relation that they have.
func TestMessagesByRelation(t *testing.T) {
	h := start(t, Anyone)
	amy := h.join("amy")
	id := h.create(amy, `{}`)
	root := h.say(amy, id, "root", "x")
	reply := h.mustReply(amy, id, "1", root, "m.thread", "")
	mention := h.mustReply(amy, id, "2", root, "m.reference", "")
	for filter, want := range map[string][3]bool{
		`{}`: {true, true, true},
		`{"org.matrix.msc3874.rel_types":["m.thread"]}`:               {false, true, false},
		`{"org.matrix.msc3874.rel_types":["m.thread","m.reference"]}`: {false, true, true},
		`{"org.matrix.msc3874.not_rel_types":["m.thread"]}`:           {true, false, true},
		`{"rel_types":[]}`: {},
	} {
		got := h.pages(amy, id, "b", "&filter="+url.QueryEscape(filter), func() int { return 2 })
		for i, event := range []string{root, reply, mention} {
			if slices.Contains(got, event) != want[i] {
				t.Error(filter, i, got)
			}
		}
	}
}
