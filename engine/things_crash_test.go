package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/account"
	mqttbridge "hearth/engine/bridge"
	"hearth/engine/fault"
	"hearth/engine/mqtt"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/stream"
	"hearth/engine/thing"
)

// farm is a hub with things on a disk that loses its power.
type farm struct {
	*hub
	fs       *vfs.MemFS
	broker   *mqtt.Broker
	mappings []string
	clock    *farmClock
	secret   string
	early    func() // called before the broker is there; nil: not
}

type farmClock struct {
	mu sync.Mutex
	at time.Time
}

func (c *farmClock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.at }
func (c *farmClock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func (f *farm) start() {
	f.t.Helper()
	var own []*mqttbridge.Mapping
	for i, text := range f.mappings {
		m, err := mqttbridge.ParseMapping([]byte(text), fmt.Sprint("mapping ", i))
		if err != nil {
			f.t.Fatal(err)
		}
		own = append(own, m)
	}
	e, err := Open(Options{
		Dir: "data", FS: f.fs, Server: "hub", Now: f.clock.now, Things: ThingOptions{Served: true, Mappings: own},
		Accounts: account.Options{Cost: account.Cost{KiB: 64, Passes: 1}},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.Engine = e
	f.ok(e.verifyThings(func(format string, args ...any) { f.t.Errorf(format, args...) }))
	if f.early != nil {
		f.early()
	}
	if f.broker, err = e.ServeThings(mqtt.Limits{}); err != nil {
		f.t.Fatal(err)
	}
}

// newFarm has the admin @a, @b, the room #house of @a and the thing lamp.
func newFarm(t *testing.T, mappings ...string) (*farm, room.Num) {
	f := &farm{hub: &hub{t: t, nums: map[mxid.UserID]uint32{}}, fs: vfs.NewCrashableMem(), mappings: mappings,
		clock: &farmClock{at: time.UnixMilli(1_700_000_000_000)}}
	f.start()
	t.Cleanup(func() { f.ok(f.Close()) })
	f.user("a")
	f.user("b")
	f.ok(f.Accounts.SetAdmin(f.nums["@a:hub"], true))
	lamp, err := f.AddThing("lamp", []thing.Grant{{Filter: "#", Access: thing.Read | thing.Write}})
	f.ok(err)
	f.secret = lamp.Secret
	id, err := f.CreateRoom(&NewRoom{Creator: "@a:hub", Alias: "house", Version: "11"})
	f.ok(err)
	num, err := f.Rooms.Find(id)
	f.ok(err)
	return f, num
}

// powerCut opens the hub on what is left.
func (f *farm) powerCut() {
	f.t.Helper()
	left := f.fs.CrashClone(vfs.CrashCloneCfg{})
	old := f.Engine
	f.fs = left
	f.start()
	f.ok(old.Close())
}

// wire is a client of the broker.
type wire struct {
	c    *mqtt.Client
	mu   sync.Mutex
	got  []string // topic and payload
	acks map[uint16]mqtt.Reason
}

func (f *farm) connect(o mqtt.Opening) *wire {
	f.t.Helper()
	w := &wire{acks: map[uint16]mqtt.Reason{}}
	l := &mqtt.Link{
		Deliver: func(d *mqtt.Delivery) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.got = append(w.got, fmt.Sprintf("%s %s %s", d.Topic, d.Payload, d.Correlation))
			return true
		},
		Answer: func(a mqtt.Answer) { w.mu.Lock(); w.acks[a.ID] = a.Reason; w.mu.Unlock() },
		Full:   func() bool { return false },
		Close:  func(mqtt.Reason, string) {},
	}
	c, _, err := f.broker.Connect(context.Background(), &mqtt.Connect{ClientID: "lamp1", Username: "lamp", Password: []byte(f.secret), Version: 5}, &o, l)
	f.ok(err)
	c.Start()
	w.c = c
	return w
}

// publish publishes and waits for the answer.
func (f *farm) publish(w *wire, m mqtt.Message, id uint16) (r mqtt.Reason) {
	f.t.Helper()
	w.mu.Lock()
	delete(w.acks, id)
	w.mu.Unlock()
	m.QoS = 1
	f.ok(w.c.Publish(&m, id))
	f.waitFor("the answer", func() (ok bool) {
		w.mu.Lock()
		defer w.mu.Unlock()
		r, ok = w.acks[id]
		return ok
	})
	return r
}

func (w *wire) heard() []string { w.mu.Lock(); defer w.mu.Unlock(); return slices.Clone(w.got) }

// events are the contents of a type in a room, the oldest first; redacted ones are
// empty.
func (f *farm) events(num room.Num, typ string) (all []string) {
	f.t.Helper()
	f.ok(f.Rooms.Timeline(num, room.Key{}, room.After(1<<62), false, func(_ room.Key, n room.EventNum) (bool, error) {
		e, err := f.Rooms.Event(n)
		if err == nil && e.Type == typ {
			all = append(all, string(e.Content))
		}
		return true, err
	}))
	return all
}

var kept = mqtt.Opening{Expiry: 3600}

// A message that comes again is one event, whatever was lost in between; two that
// are alike are two.
func TestRepeatsAreOneEvent(t *testing.T) {
	f, num := newFarm(t, `{"topic":"lamp/alarm","room":"#house:hub","mode":"event","type":"io.t"}`)
	alarm := mqtt.Message{Topic: "lamp/alarm", Payload: []byte("fire")}
	again := alarm
	again.Dup = true
	want := func(n int, what string) {
		t.Helper()
		if got := f.events(num, "io.t"); len(got) != n {
			t.Fatalf("%s: %d events, not %d", what, len(got), n)
		}
	}
	w := f.connect(kept)
	f.publish(w, alarm, 5)
	want(1, "the first")
	w.c.Lost()
	w = f.connect(kept)
	f.publish(w, again, 5)
	want(1, "a repeat")
	f.powerCut()
	w = f.connect(kept)
	f.publish(w, again, 5)
	want(1, "a repeat after a power cut")
	f.publish(w, alarm, 5)
	want(2, "another that is alike")
	f.publish(w, again, 6)
	want(3, "a repeat of what never came")
	other := again
	other.Payload = []byte("smoke")
	f.publish(w, other, 5)
	want(4, "another with an old packet id")
}

// A command goes out again after a power cut, in the same words, and is not lost.
func TestCommandsSurvive(t *testing.T) {
	f, num := newFarm(t, `{"topic":"lamp/light","room":"#house:hub","mode":"command"}`)
	w := f.connect(kept)
	done := make(chan struct{})
	w.c.Subscribe([]mqtt.Request{{Filter: "lamp/light", QoS: 1}}, 0, func([]mqtt.Reason) { close(done) })
	<-done
	w.c.Lost()
	id, err := f.Send(num, &room.Draft{Type: "m.room.message", Sender: "@a:hub", Content: []byte(`{"msgtype":"m.text","body":"on"}`)})
	f.ok(err)
	f.powerCut() // before or after it was published
	w = f.connect(kept)
	line := "lamp/light on " + string(id)
	f.waitFor("the command", func() bool { return slices.Contains(w.heard(), line) })
	for _, got := range w.heard() {
		if got != line {
			t.Errorf("it heard %q", got)
		}
	}
	// The answer finds its command after another cut.
	f.powerCut()
	w = f.connect(kept)
	f.publish(w, mqtt.Message{Topic: "lamp/light/reply", Payload: []byte("is on")}, 1)
	if got := f.events(num, "m.room.message"); len(got) != 2 || !strings.Contains(got[1], string(id)) {
		t.Errorf("the answer: %q", got)
	}
	if got := w.heard(); slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "is on") }) {
		t.Errorf("its own answer came back: %q", got)
	}
}

// A command that came as a to-device message has its answer sent back as one, to
// the device that asked, through power cuts, once.
func TestDeviceCommandsAreAnswered(t *testing.T) {
	f, _ := newFarm(t)
	tokens, _, err := f.Accounts.Login(f.nums["@a:hub"], account.NewSession{Device: "PHONE"})
	f.ok(err)
	_, _, err = f.Accounts.Login(f.nums["@a:hub"], account.NewSession{Device: "TABLET"})
	f.ok(err)
	control, err := f.ControlRoom()
	f.ok(err)
	if m, err := f.Rooms.MemberOf(control, f.nums["@a:hub"]); err == nil && m.Membership != room.Join {
		f.ok(f.Join(control, "@a:hub", nil))
	}
	w := f.connect(kept)
	done := make(chan struct{})
	w.c.Subscribe([]mqtt.Request{{Filter: "lamp/#", QoS: 1, NoLocal: true}}, 0, func([]mqtt.Reason) { close(done) })
	<-done
	w.c.Lost()
	ask := func(txn, content string) {
		t.Helper()
		phone, err := f.Accounts.Authenticate([]byte(tokens.Access))
		f.ok(err)
		f.ok(f.SendToDevice(&phone, "io.hearth.command", txn, []byte(`{"@lamp:hub":{"*":`+content+`}}`)))
	}
	waiting := func(device string) (got []string) {
		t.Helper()
		d, err := f.Accounts.Device(f.nums["@a:hub"], device)
		f.ok(err)
		f.ok(f.E2EE.EachMessage(d.Num, 1<<62, func(_ stream.Pos, msg []byte) bool { got = append(got, string(msg)); return true }))
		return got
	}
	ask("1", `{"payload":"on","request_id":"r1","device_id":"PHONE"}`)
	f.powerCut()
	w = f.connect(kept)
	f.waitFor("the command", func() bool { return len(w.heard()) > 0 })
	topic, rest, _ := strings.Cut(w.heard()[0], " ")
	payload, correlation, _ := strings.Cut(rest, " ")
	if topic != "lamp/command" || payload != "on" || !strings.HasPrefix(correlation, "to-device/") {
		t.Errorf("it heard %q", w.heard())
	}
	f.powerCut()
	w = f.connect(kept)
	answer := mqtt.Message{Topic: "lamp/command/reply", Payload: []byte(`{"on":true}`), Correlation: []byte(correlation)}
	f.publish(w, answer, 7)
	f.powerCut()
	w = f.connect(kept)
	answer.Dup = true // it did not see the acknowledgement
	f.publish(w, answer, 7)
	got := waiting("PHONE")
	if len(got) != 1 || len(waiting("TABLET")) != 0 {
		t.Fatalf("phone %q, tablet %q", got, waiting("TABLET"))
	}
	for _, want := range []string{`"type":"io.hearth.reply"`, `"sender":"@lamp:hub"`, `"on":true`, `"request_id":"r1"`, `"io.hearth.topic":"lamp/command/reply"`} {
		if !strings.Contains(got[0], want) {
			t.Errorf("%s lacks %s", got[0], want)
		}
	}
	// Without a device all are told; on a topic of its own.
	ask("2", `{"payload":"off","topic":"lamp/light"}`)
	f.waitFor("the other command", func() bool {
		return slices.ContainsFunc(w.heard(), func(s string) bool { return strings.HasPrefix(s, "lamp/light off ") })
	})
	f.publish(w, mqtt.Message{Topic: "lamp/light/reply", Payload: []byte("done")}, 8)
	if phone, tablet := waiting("PHONE"), waiting("TABLET"); len(phone) != 2 || len(tablet) != 1 || !strings.Contains(tablet[0], `"payload":"done"`) {
		t.Errorf("phone %q, tablet %q", phone, tablet)
	}
}

// A last will waits for the thing's return, also where the hub was away.
func TestAlertsAreTakenBack(t *testing.T) {
	f, num := newFarm(t, `{"topic":"lamp/status","room":"#house:hub","mode":"event","type":"m.room.message","alert":true,"alert_in":"10m"}`)
	will := kept
	will.Will = &mqtt.Message{Topic: "lamp/status", Payload: []byte("lost"), QoS: 1}
	w := f.connect(will)
	w.c.Lost()
	f.waitFor("an alert waits", func() bool { return len(f.alerts()["lamp"]) == 1 })
	f.clock.move(time.Hour) // the power was away, and all things with it
	f.powerCut()
	if n := len(f.alerts()["lamp"]); n != 1 {
		t.Fatalf("%d alerts after the cut", n)
	}
	_, err := f.SendDue()
	f.ok(err)
	if got := f.events(num, "m.room.message"); len(got) != 0 {
		t.Fatalf("it was reported lost before it could come back: %q", got)
	}
	w = f.connect(kept) // it only listens
	f.waitFor("the alert is taken back", func() bool { return len(f.alerts()) == 0 })
	w.c.Lost()
	// One that stays away is told.
	w = f.connect(will)
	w.c.Lost()
	f.waitFor("an alert waits", func() bool { return len(f.alerts()["lamp"]) == 1 })
	f.clock.move(11 * time.Minute)
	_, err = f.SendDue()
	f.ok(err)
	if got := f.events(num, "m.room.message"); len(got) != 1 || !strings.Contains(got[0], `"room":true`) {
		t.Errorf("%q", got)
	}
}

// A deleted shadow leaves nothing in its room.
func TestDeletedShadowIsGone(t *testing.T) {
	f, num := newFarm(t, `{"topic":"lamp/state","room":"#house:hub","mode":"shadow","interval":"1s"}`)
	w := f.connect(kept)
	for i := range 3 {
		f.publish(w, mqtt.Message{Topic: "lamp/state", Payload: fmt.Appendf(nil, `{"secret":%d}`, i)}, uint16(i+1))
		f.waitFor("it is shown", func() bool {
			f.clock.move(2 * time.Second)
			return len(f.events(num, "io.hearth.shadow")) == i+1
		})
	}
	f.ok(f.Bridge.DeleteShadow("lamp", "lamp/state"))
	f.powerCut()
	if got := strings.Join(f.events(num, "io.hearth.shadow"), ""); strings.Contains(got, "secret") {
		t.Error(got)
	}
	if _, err := f.Shadows.Get("lamp", "lamp/state"); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}

// A digest is told once, whenever the power goes, and later where the room would
// not have it.
func TestDigestsAreToldOnce(t *testing.T) {
	f, num := newFarm(t, `{"topic":"lamp/t","room":"#house:hub","mode":"telemetry","interval":"1m","type":"io.digest"}`)
	key := ""
	levels := func(content string) {
		t.Helper()
		_, err := f.State(num, &room.Draft{Type: "m.room.power_levels", StateKey: &key, Sender: "@a:hub", Content: []byte(content)})
		f.ok(err)
	}
	n := uint16(0)
	sample := func(w *wire) {
		n++
		f.publish(w, mqtt.Message{Topic: "lamp/t", Payload: []byte("21.5")}, n)
	}
	w := f.connect(kept)
	count := 0
	for range 3 {
		f.waitFor("a digest", func() bool {
			sample(w)
			f.clock.move(30 * time.Second)
			got := len(f.events(num, "io.digest"))
			more := got > count
			count = got
			return more
		})
		f.powerCut()
		w = f.connect(kept)
	}
	seen := map[string]bool{}
	for _, text := range f.events(num, "io.digest") {
		from, _, _ := strings.Cut(text, `"until"`)
		if seen[from] {
			t.Errorf("told twice: %s", text)
		}
		seen[from] = true
	}
	levels(`{"users":{"@a:hub":100},"events":{"io.digest":100},"events_default":0,"state_default":100}`)
	f.ok(f.Accounts.SetAdmin(f.nums["@a:hub"], false)) // nobody gives the hub's user power now
	sample(w)
	f.waitFor("the owner is told that it is not", func() bool {
		f.clock.move(30 * time.Second)
		control, err := f.ControlRoom()
		f.ok(err)
		return strings.Contains(f.lines(control), "the digest of lamp/t is not told")
	})
	count = len(f.events(num, "io.digest"))
	f.ok(f.Accounts.SetAdmin(f.nums["@a:hub"], true))
	f.waitFor("it is told later", func() bool { f.clock.move(30 * time.Second); return len(f.events(num, "io.digest")) > count })
}

// What a mapping does it does with the power of who wrote it, and nobody else's.
func TestMappingsTakeNoPower(t *testing.T) {
	f, num := newFarm(t)
	control, err := f.ControlRoom()
	f.ok(err)
	hub := f.Accounts.ID(noticesName)
	for _, user := range []mxid.UserID{"@b:hub"} {
		f.ok(f.Invite(control, hub, user, ""))
		f.ok(f.Join(control, user, nil))
	}
	f.ok(f.Crown(control, "@b:hub"))
	key := "x"
	_, err = f.State(control, &room.Draft{Type: "io.hearth.mapping", StateKey: &key, Sender: "@b:hub",
		Content: []byte(`{"topic":"lamp/alarm","room":"#house:hub","mode":"event","type":"io.t"}`)})
	f.ok(err)
	f.waitFor("the mapping counts", func() bool { list, _ := f.Bridge.Mappings(); return len(list) == 1 })
	w := f.connect(kept)
	alarm := mqtt.Message{Topic: "lamp/alarm", Payload: []byte("fire")}
	if r := f.publish(w, alarm, 1); !r.Failed() || len(f.events(num, "io.t")) != 0 {
		t.Fatalf("a mapping into a room that its writer is not in: %v", r)
	}
	f.waitFor("the owner is told", func() bool { return strings.Contains(f.lines(control), "@b:hub, who wrote it, is not in") })
	// In the room, but without the power to invite: the thing stays outside.
	key = ""
	_, err = f.State(num, &room.Draft{Type: "m.room.power_levels", StateKey: &key, Sender: "@a:hub", Content: []byte(`{"users":{"@a:hub":100},"invite":50}`)})
	f.ok(err)
	f.ok(f.Invite(num, "@a:hub", "@b:hub", ""))
	f.ok(f.Join(num, "@b:hub", nil))
	f.waitFor("b is known to be in", func() bool { return f.Bridge.MayUser("@b:hub", mqtt.Receive, "lamp/alarm") })
	if r := f.publish(w, alarm, 2); !r.Failed() || len(f.events(num, "io.t")) != 0 {
		t.Fatalf("a thing was invited by somebody else's power: %v", r)
	}
	if err := f.crownHub(num, "@b:hub", 50); !fault.Is(err, fault.Forbidden) {
		t.Errorf("power that b does not have: %v", err)
	}
	f.ok(f.crownHub(num, "", 50)) // the owner's file, and @a is an admin
	head, err := f.Rooms.Head(num)
	f.ok(err)
	if got := head.Levels.UserLevel(hub); got != 50 {
		t.Errorf("the hub has power %d, and needs 50", got)
	}
	if _, err := mqttbridge.ParseMapping([]byte(`{"topic":"x","room":"#house:hub","mode":"event","type":"m.room.power_levels"}`), "here"); err == nil {
		t.Error("a mapping may make power levels")
	}
}

// Any payload comes through, one that is too long is refused, and nothing goes in
// circles.
func TestPayloadsAndLoops(t *testing.T) {
	f, num := newFarm(t, `{"topic":"lamp/x","room":"#house:hub","mode":"event","type":"m.room.message"}`,
		`{"topic":"lamp/x","room":"#house:hub","mode":"command"}`)
	w := f.connect(kept)
	done := make(chan struct{})
	w.c.Subscribe([]mqtt.Request{{Filter: "#", QoS: 1}}, 0, func([]mqtt.Reason) { close(done) })
	<-done
	long := strings.Repeat("\xff", 60<<10)
	for i, payload := range []string{"plain", "\x00\xff", "{\"a\":1.5}", "", strings.Repeat("x", 70<<10), long, "\x01" + strings.Repeat("\x02", 30<<10)} {
		r := f.publish(w, mqtt.Message{Topic: "lamp/x", Payload: []byte(payload)}, uint16(i+1))
		if tooLong := len(payload) > 20<<10; r.Failed() != tooLong || tooLong && r != mqtt.QuotaExceeded {
			t.Errorf("%.10q of %d bytes: %v", payload, len(payload), r)
		}
	}
	if got := f.events(num, "m.room.message"); len(got) != 4 {
		t.Errorf("%d events", len(got))
	}
	_, err := f.Send(num, &room.Draft{Type: "m.room.message", Sender: "@a:hub", Content: []byte(`{"msgtype":"m.text","body":"last"}`)})
	f.ok(err)
	f.waitFor("the command", func() bool {
		return slices.ContainsFunc(w.heard(), func(s string) bool { return strings.HasPrefix(s, "lamp/x last ") })
	})
	if n := len(f.events(num, "m.room.message")); n != 5 {
		t.Errorf("%d events: what the bridge published was bridged", n)
	}
}

// A sample that was acknowledged is there after a power cut, as what its topic has
// retained too; both wait for one sync, and the value has none of its own.
func TestAcknowledgedSamplesSurvive(t *testing.T) {
	f, _ := newFarm(t, `{"topic":"lamp/t","room":"#house:hub","mode":"telemetry"}`)
	w := f.connect(kept)
	for i, text := range []string{"20.5", "20.6"} {
		if r := f.publish(w, mqtt.Message{Topic: "lamp/t", Payload: []byte(text), Retain: true}, uint16(i+1)); r.Failed() {
			t.Fatal(r)
		}
		f.clock.move(time.Second)
	}
	f.powerCut()
	if m, err := f.broker.Retained("lamp/t"); err != nil || m == nil || string(m.Payload) != "20.6" {
		t.Errorf("retained is %v, %v", m, err)
	}
	until := time.Duration(f.clock.now().Add(time.Minute).UnixNano())
	list, err := f.Telemetry.Range("lamp/t", "*", until-time.Hour, until, 2*time.Hour)
	if err != nil || len(list) != 1 || len(list[0].Points) != 1 || list[0].Points[0].Count != 2 {
		t.Errorf("the samples are %v, %v", list, err)
	}
}
