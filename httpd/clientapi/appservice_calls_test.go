package clientapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hearth/engine/appservice"
)

// calls are all that the specification has the hub ask a service: what stands
// here is what of the URL comes before names and queries.
// Spec: application-service v1.19, all endpoints.
var calls = []string{
	"GET /_matrix/app/v1/rooms/", "GET /_matrix/app/v1/thirdparty/location", "GET /_matrix/app/v1/thirdparty/location/irc",
	"GET /_matrix/app/v1/thirdparty/protocol/irc", "GET /_matrix/app/v1/thirdparty/user", "GET /_matrix/app/v1/thirdparty/user/irc",
	"GET /_matrix/app/v1/users/", "POST /_matrix/app/v1/ping", "PUT /_matrix/app/v1/transactions/",
}

// oldCalls are the same, but for the ping, as they were before they had a version.
// Spec: application-service, legacy routes.
var oldCalls = []string{
	"GET /_matrix/app/unstable/thirdparty/location", "GET /_matrix/app/unstable/thirdparty/location/irc",
	"GET /_matrix/app/unstable/thirdparty/protocol/irc", "GET /_matrix/app/unstable/thirdparty/user", "GET /_matrix/app/unstable/thirdparty/user/irc",
	"GET /rooms/", "GET /users/", "PUT /transactions/",
}

// The hub makes each call there is, with its token in the header; where a service
// looks for it in the query only, there too; and where it knows only the paths
// that there were before, by those.
func TestServicesHearEveryCall(t *testing.T) {
	for _, knows := range []string{"today's paths", "tokens in the query", "old paths"} {
		t.Run(knows, func(t *testing.T) {
			old := knows == "old paths"
			h, b := startBridged(t)
			var mu sync.Mutex
			heard, told := map[string]bool{}, make(chan struct{}, 1)
			answer := func(r *appservice.Request) (int, string, error) {
				u, err := url.Parse(r.URL)
				if err != nil || u.Host != "irc.test" {
					return 404, `{}`, err
				}
				if r.Token != "hub-to-irc" {
					t.Errorf("%s %s with the token %q", r.Method, r.URL, r.Token)
				}
				if old {
					if strings.HasPrefix(u.Path, "/_matrix/app/v1/") {
						return 404, `{"errcode":"M_UNRECOGNIZED","error":"?"}`, nil
					}
					if u.Query().Get("access_token") != "hub-to-irc" {
						t.Errorf("%s %s without the token in the query", r.Method, r.URL)
					}
				} else if has := u.Query().Get("access_token") == "hub-to-irc"; !has && knows == "tokens in the query" && u.Path != "/_matrix/app/v1/ping" {
					return 401, `{"errcode":"M_UNAUTHORIZED","error":"?"}`, nil
				} else if has && knows == "today's paths" {
					t.Errorf("%s %s tells the token to every log on its way", r.Method, r.URL)
				}
				path := u.Path
				for _, stem := range []string{"/rooms/", "/users/", "/transactions/"} {
					if at := strings.Index(path, stem); at >= 0 {
						path = path[:at+len(stem)]
					}
				}
				mu.Lock()
				defer mu.Unlock()
				heard[r.Method+" "+path] = true
				if r.Method == "PUT" {
					select {
					case told <- struct{}{}:
					default:
					}
				}
				return 200, `{}`, nil
			}
			b.mu.Lock()
			b.all = answer
			b.mu.Unlock()
			bob := h.join("bob")
			h.do("GET", v3+"/profile/@_irc_x:hub.test", bob, "")
			h.do("GET", v3+"/directory/room/%23_irc_x:hub.test", bob, "")
			for _, path := range []string{"protocol/irc", "user/irc?nick=x", "location/irc?channel=x", "user?userid=@_irc_x:hub.test", "location?alias=%23_irc_x:hub.test"} {
				h.do("GET", v3+"/thirdparty/"+path, bob, "")
			}
			want := oldCalls
			if !old {
				want = calls
				h.want(200, "", "POST", v1+"/appservice/irc/ping", irc, `{"transaction_id":"t"}`)
			}
			h.want(200, "", "POST", v3+"/createRoom", irc, `{}`)
			select {
			case <-told:
			case <-time.After(30 * time.Second):
				t.Fatal("no transaction came")
			}
			mu.Lock()
			defer mu.Unlock()
			if got := slices.Sorted(maps.Keys(heard)); !slices.Equal(got, want) {
				t.Errorf("the service was asked\n%q, want\n%q", got, want)
			}
		})
	}
}

// What is sent to the devices of a service's own users comes in transactions, and
// by /sync never; of a user whom a person logs in as too it comes to both, each
// message once to each, though the service first takes it and does not say so.
// Spec: MSC4203.
func TestServicesTakeMessages(t *testing.T) {
	h, b := startBridged(t)
	var mu sync.Mutex
	txns, came := map[string]string{}, map[string]int{}
	lost, news := 0, make(chan struct{}, 100)
	b.mu.Lock()
	b.all = func(r *appservice.Request) (int, string, error) {
		if !strings.HasPrefix(r.URL, "http://shop.test/") {
			return 200, `{}`, nil
		}
		mu.Lock()
		defer mu.Unlock()
		var q struct {
			List []struct {
				Type   string
				User   string `json:"to_user_id"`
				Device string `json:"to_device_id"`
			} `json:"de.sorunome.msc2409.to_device"`
		}
		if err := json.Unmarshal(r.Body, &q); err != nil {
			t.Error(err)
		}
		if _, seen := txns[r.URL]; !seen {
			for _, m := range q.List {
				came[m.User+" "+m.Device+" "+m.Type]++
				news <- struct{}{}
			}
			txns[r.URL] = string(r.Body)
			if lost++; lost < 4 {
				return 500, `{}`, nil
			}
		}
		return 200, `{}`, nil
	}
	b.mu.Unlock()
	bob, kim := h.join("bob"), h.join("shared_kim")
	h.ghost(shop, "_shop_a")
	h.want(201, "{}", "PUT", v3+"/devices/TILL?user_id=@_shop_a:hub.test", shop, `{}`)
	device := h.want(200, "", "GET", v3+"/account/whoami", kim, "").str("device_id")
	heard := func(token, query, since string) (types []string, next string) {
		a := h.want(200, "", "GET", v3+"/sync?"+query+"since="+since, token, "")
		list, _ := a.get("to_device", "events").([]any)
		for _, one := range list {
			types = append(types, one.(map[string]any)["type"].(string))
		}
		return types, a.str("next_batch")
	}
	const ghost = "user_id=@_shop_a:hub.test&device_id=TILL&"
	since, ghostSince := "", ""
	n := 0
	for range 3 {
		var want []string
		for range 5 {
			typ := fmt.Sprintf("m.n%d", n)
			n++
			want = append(want, typ)
			h.want(200, "{}", "PUT", v3+"/sendToDevice/"+typ+"/t"+typ, bob, `{"messages":{"@_shop_a:hub.test":{"*":{}},"@shared_kim:hub.test":{"*":{}}}}`)
		}
		var types []string
		if types, since = heard(kim, "", since); !slices.Equal(types, want) {
			t.Errorf("kim hears %q, want %q", types, want)
		}
		if types, ghostSince = heard(shop, ghost, ghostSince); len(types) > 0 {
			t.Errorf("the service hears %q by /sync", types)
		}
		for range 10 {
			select {
			case <-news:
			case <-time.After(30 * time.Second):
				t.Fatal("the service is not told all")
			}
		}
	}
	if types, _ := heard(kim, "", since); len(types) > 0 {
		t.Errorf("kim hears again %q", types)
	}
	mu.Lock()
	defer mu.Unlock()
	for i := range n {
		for _, to := range []string{"@_shop_a:hub.test TILL", "@shared_kim:hub.test " + device} {
			if times := came[fmt.Sprintf("%s m.n%d", to, i)]; times != 1 {
				t.Errorf("m.n%d to %s came %d times", i, to, times)
			}
		}
	}
	if len(came) != 2*n || lost < 4 {
		t.Errorf("%d messages, %d answers: %v", len(came), lost, came)
	}
}
