package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
	mqtt3 "github.com/eclipse/paho.mqtt.golang"
)

// serveThings starts the hub again with doors for things: plain, TLS, and
// WebSocket at the door for clients.
func (h *hub) serveThings() (plain, secure string) {
	h.t.Helper()
	for _, p := range []*string{&plain, &secure} {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			h.t.Fatal(err)
		}
		*p = free.Addr().String()
		free.Close()
	}
	h.stop()
	h.args[slices.Index(h.args, "--mqtt-listen")+1] = plain + ",tls://" + secure
	h.start()
	return plain, secure
}

// thing runs a command about things that prints JSON.
func (h *hub) thing(args ...string) (got struct{ Username, Password, PEM string }) {
	h.t.Helper()
	out, err := exec.Command(program, append([]string{"thing"}, append(args, "--json", "--data-dir", h.dir)...)...).Output()
	if err == nil {
		err = json.Unmarshal(out, &got)
	}
	if err != nil {
		h.t.Fatalf("hearth thing %v: %v %s", args, err, out)
	}
	return got
}

// The client library that most programs in Go use speaks to the hub: by TCP, by
// TLS with a certificate in place of a secret, and by WebSocket.
func TestThingsMQTT3(t *testing.T) {
	h := startHub(t)
	plain, secure := h.serveThings()
	lamp := h.thing("add", "lamp")
	pair := h.thing("cert", "lamp").PEM
	cert, err := tls.X509KeyPair([]byte(pair), []byte(pair))
	if err != nil {
		t.Fatal(err)
	}
	for _, way := range []struct {
		name, url string
		conf      *tls.Config
	}{
		{"tcp", "tcp://" + plain, nil},
		{"tls", "tls://" + secure, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}}},
		{"websocket", strings.Replace(h.url, "http://", "ws://", 1) + "/mqtt", nil},
	} {
		t.Run(way.name, func(t *testing.T) {
			o := mqtt3.NewClientOptions().AddBroker(way.url).SetClientID("paho-" + way.name).SetCleanSession(false).SetConnectTimeout(10 * time.Second)
			if way.conf == nil {
				o.SetUsername(lamp.Username).SetPassword(lamp.Password)
			} else {
				o.SetTLSConfig(way.conf)
			}
			came := make(chan string, 100)
			o.SetDefaultPublishHandler(func(_ mqtt3.Client, m mqtt3.Message) { came <- string(m.Payload()) })
			c := mqtt3.NewClient(o)
			done := func(token mqtt3.Token) {
				t.Helper()
				if !token.WaitTimeout(10*time.Second) || token.Error() != nil {
					t.Fatal(token.Error())
				}
			}
			done(c.Connect())
			done(c.Subscribe("lamp/"+way.name+"/#", 2, nil))
			for qos := range byte(3) {
				for i := range 10 {
					text := fmt.Sprint(qos, i, strings.Repeat("x", i*1000))
					done(c.Publish("lamp/"+way.name+"/x", qos, false, text))
					if got := receive(t, came); got != text {
						t.Fatalf("got %.20q, not %.20q", got, text)
					}
				}
			}
			if token := c.Subscribe("forbidden/#", 1, nil); token.WaitTimeout(10*time.Second) && token.(*mqtt3.SubscribeToken).Result()["forbidden/#"] != 0x80 {
				t.Error("it may subscribe to everything")
			}
			c.Disconnect(100)
			other := mqtt3.NewClient(mqtt3.NewClientOptions().AddBroker("tcp://" + plain).SetClientID("other").SetUsername(lamp.Username).SetPassword(lamp.Password))
			done(other.Connect())
			done(other.Publish("lamp/"+way.name+"/away", 1, false, "while it was away"))
			other.Disconnect(100)
			done(c.Connect())
			if got := receive(t, came); got != "while it was away" {
				t.Errorf("got %q", got)
			}
			c.Disconnect(100)
		})
	}
}

func receive(t *testing.T, came chan string) string {
	t.Helper()
	select {
	case text := <-came:
		return text
	case <-time.After(10 * time.Second):
		t.Fatal("no message came")
	}
	return ""
}

// The same by MQTT 5, with a request and its response.
func TestThingsMQTT5(t *testing.T) {
	h := startHub(t)
	plain, _ := h.serveThings()
	lamp := h.thing("add", "lamp")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	at, err := url.Parse("mqtt://" + plain)
	if err != nil {
		t.Fatal(err)
	}
	came := make(chan *paho.Publish, 10)
	client := func(id string) *autopaho.ConnectionManager {
		cm, err := autopaho.NewConnection(ctx, autopaho.ClientConfig{
			ServerUrls: []*url.URL{at}, KeepAlive: 20, CleanStartOnInitialConnection: true, SessionExpiryInterval: 60,
			ConnectUsername: lamp.Username, ConnectPassword: []byte(lamp.Password),
			ClientConfig: paho.ClientConfig{ClientID: id, OnPublishReceived: []func(paho.PublishReceived) (bool, error){
				func(r paho.PublishReceived) (bool, error) { came <- r.Packet; return true, nil },
			}},
		})
		if err == nil {
			err = cm.AwaitConnection(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
		return cm
	}
	server, asker := client("server"), client("asker")
	if _, err := server.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "lamp/ask", QoS: 2, NoLocal: true}}}); err != nil {
		t.Fatal(err)
	}
	for qos := range byte(3) {
		if _, err := asker.Publish(ctx, &paho.Publish{
			Topic: "lamp/ask", QoS: qos, Payload: []byte("on?"),
			Properties: &paho.PublishProperties{ResponseTopic: "lamp/answer", CorrelationData: []byte{qos}, User: paho.UserProperties{{Key: "a", Value: "b"}}},
		}); err != nil {
			t.Fatal(err)
		}
		select {
		case m := <-came:
			p := m.Properties
			if m.Topic != "lamp/ask" || m.QoS != qos || p.ResponseTopic != "lamp/answer" || string(p.CorrelationData) != string([]byte{qos}) || p.User.Get("a") != "b" {
				t.Errorf("QoS %d: %+v %+v", qos, m, p)
			}
		case <-ctx.Done():
			t.Fatal("no message came")
		}
	}
	for _, cm := range []*autopaho.ConnectionManager{server, asker} {
		if err := cm.Disconnect(ctx); err != nil {
			t.Error(err)
		}
	}
}
