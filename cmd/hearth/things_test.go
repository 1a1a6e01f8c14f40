package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"hearth/engine"
	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/telemetry"
)

// world is a hub with an owner, a room, and the tools that everybody has.
type world struct {
	t          *testing.T
	h          *runningHub
	dir        string
	host, port string
	room       room.Num
	owner      mxid.UserID
}

func tool(t *testing.T, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("HEARTH_MOSQUITTO") == "must" {
			t.Fatalf("%s is not here", name)
		}
		t.Skipf("NOT TESTED: %s is not here (apt-get install mosquitto-clients)", name)
	}
	return p
}

// newWorld starts a hub with mappings into one room, #house.
func newWorld(t *testing.T, mappings string) *world {
	t.Helper()
	tool(t, "mosquitto_pub")
	w := &world{t: t, dir: t.TempDir(), owner: "@alice:localhost"}
	file := filepath.Join(w.dir, "hearth.toml")
	if err := os.WriteFile(file, []byte(mappings), 0o600); err != nil {
		t.Fatal(err)
	}
	w.h = launch(t, nil, "--data-dir", filepath.Join(w.dir, "data"), "--config", file, "--mqtt-listen", "127.0.0.1:0, tls://127.0.0.1:0")
	w.host, w.port, _ = net.SplitHostPort(regexp.MustCompile(`mqtt://([0-9.:]+)`).FindStringSubmatch(w.h.greet)[1])
	e := w.engine()
	if _, err := e.Accounts.Create(account.NewUser{Localpart: "alice", Admin: true}); err != nil {
		t.Fatal(err)
	}
	id, err := e.CreateRoom(&engine.NewRoom{Creator: w.owner, Alias: "house"})
	w.ok(err)
	w.room, err = e.Rooms.Find(id)
	w.ok(err)
	return w
}

func (w *world) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) engine() *engine.Engine { return w.h.hub.engine }

// add makes a thing and gives its secret.
func (w *world) add(name string, more ...string) string {
	w.t.Helper()
	out, code := runThing(w.t, append([]string{"add", name, "--json", "--data-dir", filepath.Join(w.dir, "data")}, more...)...)
	var got thingReport
	if err := json.Unmarshal([]byte(out), &got); code != 0 || err != nil {
		w.t.Fatal(out, err)
	}
	return got.Password
}

func (w *world) pub(name, secret string, args ...string) (string, error) {
	out, err := exec.Command("mosquitto_pub", append([]string{"-h", w.host, "-p", w.port, "-u", name, "-P", secret, "-q", "1"}, args...)...).CombinedOutput()
	return string(out), err
}

func (w *world) mustPub(name, secret string, args ...string) {
	w.t.Helper()
	if out, err := w.pub(name, secret, args...); err != nil {
		w.t.Fatal(out, err)
	}
}

// hears starts mosquitto_sub; the answer is what it printed.
func (w *world) hears(name, secret string, args ...string) func() string {
	w.t.Helper()
	c := exec.Command("mosquitto_sub", append([]string{"-h", w.host, "-p", w.port, "-u", name, "-P", secret, "-q", "1", "-W", "20"}, args...)...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	w.ok(c.Start())
	return func() string { _ = c.Wait(); return out.String() }
}

// until waits for the newest event of a type in the room that a test accepts.
func (w *world) until(typ string, good func(e *room.Event) bool) *room.Event {
	w.t.Helper()
	var last *room.Event
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var found *room.Event
		e := w.engine()
		err := e.Rooms.Timeline(w.room, room.Key{}, room.After(1<<62), true, func(_ room.Key, num room.EventNum) (bool, error) {
			ev, err := e.Rooms.Event(num)
			if err == nil && ev.Type == typ {
				if last = ev; good(ev) {
					found = ev
				}
			}
			return found == nil, err
		})
		w.ok(err)
		if found != nil {
			return found
		}
	}
	w.t.Fatalf("no such %s came; the last is %+v", typ, last)
	return nil
}

func text(e *room.Event, key string) string {
	s, _ := cjson.LookupString(e.Content, key)
	return s
}

func (w *world) say(typ, content string) mxid.EventID {
	w.t.Helper()
	id, err := w.engine().Send(w.room, &room.Draft{Type: typ, Sender: w.owner, Content: []byte(content)})
	w.ok(err)
	return id
}

func TestEventsAndCommands(t *testing.T) {
	w := newWorld(t, `
[[mapping]]
topic = "porch/alarm"
room = "#house:localhost"
mode = "event"
type = "m.room.message"

[[mapping]]
topic = "{thing}/raw"
room = "#house:localhost"
mode = "event"
type = "io.test.{thing}"

[[mapping]]
topic = "porch/light"
room = "#house:localhost"
mode = "command"
`)
	secret := w.add("porch")
	w.mustPub("porch", secret, "-t", "porch/alarm", "-m", "door open")
	e := w.until("m.room.message", func(e *room.Event) bool { return text(e, "body") == "door open" })
	if e.Sender != "@porch:localhost" || text(e, "io.hearth.topic") != "porch/alarm" {
		t.Errorf("%s", e.JSON)
	}
	for i, payload := range []string{`{"a":1}`, `{"a":1.5}`, `plain`, "\xff\x01"} {
		w.mustPub("porch", secret, "-t", "porch/raw", "-m", payload)
		want := []string{`"a":1,`, `"payload":"{\"a\":1.5}"`, `"payload":"plain"`, `"payload":"/wE="`}[i]
		w.until("io.test.porch", func(e *room.Event) bool { return strings.Contains(string(e.Content), want) })
	}
	if out, err := w.pub("porch", secret, "-V", "5", "-t", "porch/alarm", "-m", strings.Repeat("x", 70_000)); err == nil && !strings.Contains(out, "uota") {
		t.Errorf("too much for an event: %v %s", err, out)
	}
	// A command waits for a thing that sleeps, and the answer comes back to it.
	if out := w.hears("porch", secret, "-V", "5", "-c", "-i", "porch1", "-t", "porch/light", "-E")(); out != "" {
		t.Fatal(out)
	}
	id := w.say("m.room.message", `{"msgtype":"m.text","body":"on"}`)
	got := w.hears("porch", secret, "-V", "5", "-c", "-i", "porch1", "-t", "porch/light", "-C", "1", "-F", "%t %p %R %D")()
	if got != "porch/light on porch/light/reply "+string(id)+"\n" {
		t.Errorf("the command came as %q", got)
	}
	w.mustPub("porch", secret, "-t", "porch/light/reply", "-m", "is on")
	e = w.until("m.room.message", func(e *room.Event) bool { return text(e, "body") == "is on" })
	if target, rel := room.RelationOf(e); target != id || rel != room.RelReference {
		t.Errorf("the answer: %s", e.JSON)
	}
	// Who may do what: others' topics are closed, and a stranger knocks.
	attic := w.add("attic")
	if out, _ := w.pub("attic", attic, "-V", "5", "-t", "porch/light", "-m", "off"); !strings.Contains(strings.ToLower(out), "not authori") {
		t.Errorf("another thing commands the light: %q", out)
	}
	if out, err := w.pub("stranger", "a-long-secret", "-t", "x", "-m", "x"); err == nil {
		t.Errorf("a stranger is let in: %s", out)
	}
	if out, code := runThing(t, "approve", "stranger", "--data-dir", filepath.Join(w.dir, "data")); code != 0 {
		t.Fatal(out)
	}
	w.mustPub("stranger", "a-long-secret", "-t", "stranger/x", "-m", "x")
}

func TestShadowsAndTelemetry(t *testing.T) {
	w := newWorld(t, `
[[mapping]]
topic = "lamp/state"
room = "#house:localhost"
mode = "shadow"
interval = "1s"
state_key = "{topic}"

[[mapping]]
topic = "lamp/power"
room = "#house:localhost"
mode = "telemetry"
interval = "1s"
`)
	secret := w.add("lamp")
	w.mustPub("lamp", secret, "-t", "lamp/state", "-m", `{"on":false,"level":20}`)
	e := w.until("io.hearth.shadow", func(e *room.Event) bool { return strings.Contains(string(e.Content), `"on":false`) })
	if e.StateKey != "lamp/state" {
		t.Errorf("%s", e.JSON)
	}
	w.ok(w.engine().Bridge.Desire("lamp", "lamp/state", []byte(`{"on":true}`), 0))
	got := w.hears("lamp", secret, "-t", "$shadow/lamp/state/delta", "-C", "1", "-F", "%t %p")()
	if got != "$shadow/lamp/state/delta {\"on\":true}\n" {
		t.Errorf("the wish came as %q", got)
	}
	w.mustPub("lamp", secret, "-t", "lamp/state", "-m", `{"on":true,"level":20}`)
	w.until("io.hearth.shadow", func(e *room.Event) bool {
		return strings.Contains(string(e.Content), `"reported":{"level":20,"on":true}`)
	})
	w.ok(w.engine().Bridge.DeleteShadow("lamp", "lamp/state"))
	w.until("io.hearth.shadow", func(e *room.Event) bool { return string(e.Content) == "{}" })

	for i := range 3 {
		w.mustPub("lamp", secret, "-t", "lamp/power", "-m", fmt.Sprintf(`{"w":%d.5}`, i))
	}
	var csv bytes.Buffer
	w.ok(w.engine().Telemetry.Export(&csv, telemetry.CSV, "lamp/#", 0, 1<<50))
	if n := strings.Count(csv.String(), "\n"); n != 4 {
		t.Errorf("%s", csv.String())
	}
	w.until("io.hearth.digest", func(e *room.Event) bool { return strings.Contains(string(e.Content), `"lamp/power":{"w":{"count":`) })
}

func TestThingWithCertificate(t *testing.T) {
	w := newWorld(t, "")
	w.add("cam")
	out, code := runThing(t, "cert", "cam", "--data-dir", filepath.Join(w.dir, "data"))
	if code != 0 {
		t.Fatal(out)
	}
	block, rest := pem.Decode([]byte(out))
	cert, key := filepath.Join(w.dir, "cam.crt"), filepath.Join(w.dir, "cam.key")
	w.ok(os.WriteFile(cert, pem.EncodeToMemory(block), 0o600))
	w.ok(os.WriteFile(key, rest, 0o600))
	host, port, _ := net.SplitHostPort(regexp.MustCompile(`mqtts://([0-9.:]+)`).FindStringSubmatch(w.h.greet)[1])
	args := []string{"-h", host, "-p", port, "--cafile", filepath.Join(w.dir, "data", "self-signed.crt"), "--insecure", "--cert", cert, "--key", key,
		"-q", "1", "-t", "cam/x", "-m", "x"}
	if out, err := exec.Command("mosquitto_pub", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	w.ok(w.engine().RevokeThing("cam"))
	if out, err := exec.Command("mosquitto_pub", args...).CombinedOutput(); err == nil {
		t.Errorf("a revoked certificate: %s", out)
	}
}
