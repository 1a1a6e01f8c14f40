package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt3 "github.com/eclipse/paho.mqtt.golang"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// house is a hub with ready mappings into one room, and its owner in there.
type house struct {
	*hub
	door  string // for things
	owner *mautrix.Client
	room  id.RoomID
}

// waits are the times that ready mappings let pass; a test has a second.
var waits = regexp.MustCompile(`(interval|alert_in) = "\w+"`)

// startHouse starts a hub with ready mappings as hearth mapping show prints them.
func startHouse(t *testing.T, mappings ...string) *house {
	t.Helper()
	h := &house{hub: newHub(t, serverName), door: vacant(t)}
	file := filepath.Join(t.TempDir(), "hearth.toml")
	var text []byte
	for _, name := range mappings {
		text = append(text, must(exec.Command(program, "mapping", "show", name, "--room", "#house:"+serverName).Output())(t)...)
	}
	if err := os.WriteFile(file, waits.ReplaceAll(text, []byte(`$1 = "1s"`)), 0o600); err != nil {
		t.Fatal(err)
	}
	h.args[slices.Index(h.args, "--mqtt-listen")+1] = h.door
	h.args = append(h.args, "--federation-listen", "", "--config", file)
	h.run()
	h.owner = h.ownedBy("owner")
	h.room = must(h.owner.CreateRoom(t.Context(), &mautrix.ReqCreateRoom{Preset: "private_chat", RoomAliasName: "house"}))(t).RoomID
	return h
}

// ownedBy makes an admin by the command line, and gives a client of theirs.
func (h *hub) ownedBy(name string) *mautrix.Client {
	h.t.Helper()
	h.command("user", "add", name, "--admin", "--password-file", h.secret)
	c := h.client()
	must(c.Login(h.t.Context(), &mautrix.ReqLogin{
		Type: mautrix.AuthTypePassword, Identifier: mautrix.UserIdentifier{Type: mautrix.IdentifierTypeUser, User: name},
		Password: password, StoreCredentials: true,
	}))(h.t)
	return c
}

// command runs a command of hearth on the hub's folder.
func (h *hub) command(args ...string) string {
	h.t.Helper()
	out, err := exec.Command(program, append(args, "--data-dir", h.dir)...).CombinedOutput()
	if err != nil {
		h.t.Fatalf("hearth %v: %v %s", args, err, out)
	}
	return string(out)
}

// restarts are the ways in which a hub goes and comes back.
func (h *house) restarts() map[string]func() {
	return map[string]func(){
		"stopped": func() { h.stop(); h.start() },
		"killed":  func() { h.kill(); h.start() },
	}
}

// again runs a story after a clean stop of the hub, and then after its death: what
// came by QoS 0 and is retained may wait for the disk for 30 seconds, so that a
// death is no test of what came just before it.
func (h *house) again(t *testing.T, story func(t *testing.T)) {
	for _, way := range []string{"stopped", "killed"} {
		h.restarts()[way]()
		t.Run(way, story)
	}
}

// events are those of a type in the room, the newest first.
func (h *house) events(typ string) (all []*event.Event) {
	h.t.Helper()
	for from := ""; ; {
		page := must(h.owner.Messages(h.t.Context(), h.room, from, "", mautrix.DirectionBackward, nil, 200))(h.t)
		for _, e := range page.Chunk {
			if e.Type.Type == typ {
				all = append(all, e)
			}
		}
		if from = page.End; from == "" {
			return all
		}
	}
}

// sees waits for an event whose sender and content fit.
func (h *house) sees(typ, sender, content string) *event.Event {
	h.t.Helper()
	var found *event.Event
	eventually(h.t, fmt.Sprintf("%s of %s with %s", typ, sender, content), func() bool {
		for _, e := range h.events(typ) {
			if strings.HasPrefix(string(e.Sender), "@"+sender+":") && strings.Contains(string(e.Content.VeryRaw), content) {
				found = e
			}
		}
		return found != nil
	})
	return found
}

// digests has a reading repeated until the room is told of it in a digest.
func (h *house) digests(a *appliance, topic, payload, content string) {
	h.t.Helper()
	eventually(h.t, "a digest with "+content, func() bool {
		a.publish(topic, payload, 0, true)
		return slices.ContainsFunc(h.events("io.hearth.digest"), func(e *event.Event) bool { return strings.Contains(string(e.Content.VeryRaw), content) })
	})
}

// state waits until a state event of the room has some content.
func (h *house) state(typ, key, content string) {
	h.t.Helper()
	eventually(h.t, fmt.Sprintf("%s %q with %s", typ, key, content), func() bool {
		var got json.RawMessage
		err := h.owner.StateEvent(h.t.Context(), h.room, event.Type{Type: typ, Class: event.StateEventType}, key, &got)
		return err == nil && strings.Contains(string(got), content)
	})
}

// says has the owner write into the room.
func (h *house) says(text string) id.EventID {
	h.t.Helper()
	return must(h.owner.SendText(h.t.Context(), h.room, text))(h.t).EventID
}

// heard is a message as a client was given it.
type heard struct {
	topic, payload string
	retained       bool
}

// appliance is a client of MQTT 3.1.1 with the habits of some program or firmware:
// what it says at each connect is its business, and it comes back by itself.
type appliance struct {
	t      *testing.T
	c      mqtt3.Client
	secret string

	mu   sync.Mutex
	got  []heard
	line net.Conn
	ups  int
	seen int // ups that comesBack knows
}

// newAppliance is a client that has not connected.
func (h *house) newAppliance(clientID, name, secret string, habits func(a *appliance), more func(o *mqtt3.ClientOptions)) *appliance {
	a := &appliance{t: h.t, secret: secret}
	o := mqtt3.NewClientOptions().AddBroker("tcp://" + h.door).SetClientID(clientID).SetUsername(name).SetPassword(secret).
		SetProtocolVersion(4).SetKeepAlive(60 * time.Second).SetMaxReconnectInterval(200 * time.Millisecond).SetConnectTimeout(10 * time.Second).
		SetOrderMatters(true).SetResumeSubs(false)
	o.SetCustomOpenConnectionFn(func(uri *url.URL, _ mqtt3.ClientOptions) (net.Conn, error) {
		c, err := net.Dial("tcp", uri.Host)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.line = c
		return c, err
	})
	o.SetDefaultPublishHandler(func(_ mqtt3.Client, m mqtt3.Message) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.got = append(a.got, heard{m.Topic(), string(m.Payload()), m.Retained()})
	})
	o.SetOnConnectHandler(func(mqtt3.Client) {
		habits(a)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.ups++
	})
	if more != nil {
		more(o)
	}
	a.c = mqtt3.NewClient(o)
	return a
}

func (a *appliance) done(token mqtt3.Token) {
	if !token.WaitTimeout(10*time.Second) || token.Error() != nil {
		a.t.Logf("an appliance: %v", token.Error()) // the hub went away meanwhile; it comes again
	}
}

// connect waits until the appliance has said what it says at each connect.
func (a *appliance) connect() {
	a.t.Helper()
	a.done(a.c.Connect())
	a.comesBack()
}

// comesBack waits for one more connect than the last time.
func (a *appliance) comesBack() {
	a.t.Helper()
	eventually(a.t, "an appliance comes back", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		back := a.ups > a.seen
		if back {
			a.seen = a.ups
		}
		return back
	})
}

func (a *appliance) publish(topic, payload string, qos byte, retain bool) {
	a.done(a.c.Publish(topic, qos, retain, payload))
}

// subscribe asks for each filter by a packet of its own.
func (a *appliance) subscribe(qos byte, filters ...string) {
	for _, f := range filters {
		a.done(a.c.Subscribe(f, qos, nil))
	}
}

// dies is the end of an appliance without a DISCONNECT, for good.
func (a *appliance) dies() {
	a.t.Helper()
	a.mu.Lock()
	line := a.line
	a.mu.Unlock()
	line.Close() // the client finds its connection gone, and comes back no more
	a.c.Disconnect(0)
}

// off ends an appliance's connection with a DISCONNECT.
func (a *appliance) off() { a.c.Disconnect(250) }

// hears waits for a message, and forgets all that came before it and itself.
func (a *appliance) hears(want heard) {
	a.t.Helper()
	eventually(a.t, fmt.Sprintf("%.200v is heard", want), func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		i := slices.Index(a.got, want)
		if i >= 0 {
			a.got = slices.Delete(a.got, i, i+1)
		}
		return i >= 0
	})
}

// forget drops what was heard so far.
func (a *appliance) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.got = nil
}

// heardOf says whether something was heard on a topic.
func (a *appliance) heardOf(topic string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(a.got, func(h heard) bool { return h.topic == topic })
}

// visits connects somebody for a moment who only asks for some topics, and gives
// what is retained there, once it has come for those that are wanted.
func (h *house) visits(name, secret string, wanted []string, filters ...string) map[string]string {
	h.t.Helper()
	a := h.newAppliance("visitor", name, secret, func(*appliance) {}, nil)
	a.connect()
	defer a.off()
	a.subscribe(0, filters...)
	found := map[string]string{}
	eventually(h.t, fmt.Sprintf("a visitor finds what is retained on %v", wanted), func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, m := range a.got {
			if m.retained {
				found[m.topic] = m.payload
			}
		}
		return !slices.ContainsFunc(wanted, func(topic string) bool { return found[topic] == "" })
	})
	return found
}
