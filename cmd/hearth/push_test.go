package main

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"hearth/engine/fault"
	"hearth/httpd/peer"
	"hearth/httpd/pushapi"
)

// Apple's service speaks nothing but HTTP/2.
func TestPushServicesByHTTP2(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "7")
		fmt.Fprint(w, r.Proto, r.Header.Get("apns-topic"), r.Header.Get("Content-Type"))
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	ask := asking(peer.New(peer.Options{Allow: everywhere(), Roots: roots}))
	a, err := ask(t.Context(), &pushapi.Request{Method: "POST", URL: server.URL, Header: map[string]string{"apns-topic": "x", "Content-Type": "a/b"}, Body: []byte("{}")})
	if err != nil || string(a.Body) != "HTTP/2.0xa/b" || a.Retry != "7" || a.Status != 200 {
		t.Errorf("%+v %v", a, err)
	}
	ask = asking(peer.New(peer.Options{Roots: roots}))
	if _, err := ask(t.Context(), &pushapi.Request{Method: "POST", URL: server.URL}); !fault.Is(err, fault.Forbidden) {
		t.Errorf("a private address is asked for whoever likes: %v", err)
	}
}

// A person with nothing but MQTT is told of a message: an endpoint of the hub is
// the pushkey, the hub the gateway, its broker the way.
func TestNotifiedByMQTT(t *testing.T) {
	tool(t, "mosquitto_sub")
	const public = "https://hub.example"
	h := launch(t, nil, "--data-dir", filepath.Join(t.TempDir(), "data"), "--mqtt-listen", "127.0.0.1:0",
		"--public-url", public, "--push-gateway", "on", "--registration", "open")
	w := &world{t: t, h: h}
	_, at, _ := strings.Cut(h.greet, "mqtt://")
	at, _, _ = strings.Cut(at, "\n")
	var err error
	w.host, w.port, err = net.SplitHostPort(strings.TrimSpace(at))
	w.ok(err)
	var tokens []string
	for _, name := range [...]string{"alice", "bob"} {
		_, got := call(t, "POST", h.url+"/_matrix/client/v3/register", "",
			`{"username":"`+name+`","password":"correct horse","device_id":"DEV","auth":{"type":"m.login.dummy"}}`)
		token, _ := got["access_token"].(string)
		if token == "" {
			t.Fatal(got)
		}
		tokens = append(tokens, token)
	}
	alice, bob := tokens[0], tokens[1]
	const client = "/_matrix/client/v3"
	_, made := call(t, "POST", h.url+client+"/createRoom", bob, `{"preset":"private_chat","invite":["@alice:localhost"]}`)
	id, _ := made["room_id"].(string)
	if status, got := call(t, "POST", h.url+client+"/join/"+id, alice, `{}`); status != 200 {
		t.Fatal(status, got)
	}
	_, e := call(t, "POST", h.url+"/_matrix/client/unstable/org.hearth.push/endpoint", alice, "")
	endpoint, _ := e["endpoint"].(string)
	topic, _ := e["topic"].(string)
	gate, _ := e["gateway"].(string)
	if !strings.HasPrefix(endpoint, public+"/") || topic != "$push/alice/DEV" {
		t.Fatal(e)
	}
	if out := w.hears("@bob:localhost", bob, "-t", "$push/alice/DEV", "-E", "-d")(); !strings.Contains(out, "denied") && !strings.Contains(out, "135") && !strings.Contains(out, "128") {
		t.Errorf("bob may read what alice is told: %s", out)
	}
	// The session is there before anything is said, and is away while it is.
	if out := w.hears("@alice:localhost", alice, "-c", "-i", "watch", "-t", topic, "-E")(); out != "" {
		t.Fatal(out)
	}
	status, got := call(t, "POST", h.url+client+"/pushers/set", alice, `{"kind":"http","app_id":"up","pushkey":"`+endpoint+`","app_display_name":"a",`+
		`"device_display_name":"d","lang":"en","data":{"url":"`+gate+`"}}`)
	if status != 200 {
		t.Fatal(status, got)
	}
	if status, got := call(t, "PUT", h.url+client+"/rooms/"+id+"/send/m.room.message/1", bob, `{"msgtype":"m.text","body":"the kettle boils"}`); status != 200 {
		t.Fatal(status, got)
	}
	heard := w.hears("@alice:localhost", alice, "-c", "-i", "watch", "-t", topic, "-C", "1")
	if out := heard(); !strings.Contains(out, "the kettle boils") || !strings.Contains(out, `"notification"`) {
		t.Errorf("alice heard %q", out)
	}
}
