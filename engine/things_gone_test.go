package engine

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hearth/engine/account"
	"hearth/engine/fault"
	"hearth/engine/mqtt"
	"hearth/engine/room"
)

// come connects as somebody; gone says whether the hub ended the connection.
func (f *farm) come(user, password string) (gone func() bool, err error) {
	f.t.Helper()
	var closed atomic.Bool
	l := &mqtt.Link{
		Deliver: func(*mqtt.Delivery) bool { return true },
		Answer:  func(mqtt.Answer) {},
		Full:    func() bool { return false },
		Close:   func(mqtt.Reason, string) { closed.Store(true) },
	}
	c, _, err := f.broker.Connect(context.Background(), &mqtt.Connect{ClientID: "x", Username: user, Password: []byte(password), Version: 5},
		&mqtt.Opening{Expiry: 3600}, l)
	if err == nil {
		c.Start()
	}
	return closed.Load, err
}

func (f *farm) sessionsOf(name string) (n int) {
	for _, l := range f.broker.Loads(100) {
		if l.Name == name {
			n++
		}
	}
	return n
}

// A connection lives no longer than what let it in.
func TestConnectionsEndWithTheirAccount(t *testing.T) {
	f, _ := newFarm(t)
	a := f.nums["@a:hub"]
	login := func() (account.Tokens, account.Session) {
		t.Helper()
		tokens, s, err := f.Accounts.Login(a, account.NewSession{})
		f.ok(err)
		return tokens, s
	}
	for name, end := range map[string]func(s *account.Session) error{
		"logout":   f.Logout,
		"password": func(*account.Session) error { return f.SetPassword(a, "another-one-23", true, "") },
		"lock":     func(*account.Session) error { return f.Accounts.SetLocked(a, true) },
		"suspend":  func(*account.Session) error { return f.Accounts.SetSuspended(a, true) },
	} {
		tokens, s := login()
		gone, err := f.come("a", tokens.Access)
		f.ok(err)
		_, other := login() // another device of the user's ends without harm
		f.ok(f.Logout(&other))
		f.ok(end(&s))
		f.waitFor("the end of the connection after "+name, gone)
		waits := name == "lock" || name == "suspend"
		f.waitFor("what is left of the session after "+name, func() bool { return f.sessionsOf("@a:hub") == map[bool]int{true: 1}[waits] })
		if _, err := f.come("a", tokens.Access); err == nil {
			t.Error("in again after", name)
		}
		f.ok(f.Accounts.SetLocked(a, false))
		f.ok(f.Accounts.SetSuspended(a, false))
		f.ok(f.LogoutAll(a))
	}
	tokens, _ := login()
	gone, err := f.come("a", tokens.Access)
	f.ok(err)
	f.ok(f.Deactivate(a, "@a:hub", false))
	f.waitFor("the end of the connection after the account's", gone)

	lamp, err := f.Things.Find("lamp")
	f.ok(err)
	if gone, err = f.come("lamp", f.secret); err != nil {
		t.Fatal(err)
	}
	f.ok(f.Accounts.SetLocked(lamp.User, true))
	f.waitFor("the end of a locked thing's connection", gone)
	if _, err := f.come("lamp", f.secret); !fault.Is(err, fault.Locked) {
		t.Error("a locked thing:", err)
	}
	f.ok(f.Accounts.SetLocked(lamp.User, false))
	if gone, err = f.come("lamp", f.secret); err != nil {
		t.Fatal(err)
	}
	f.ok(f.RevokeThing("lamp"))
	f.waitFor("the end of a revoked thing's connection", gone)
}

// Who is ended between being judged and being given a session gets none.
func TestRevokedWhileConnecting(t *testing.T) {
	f, _ := newFarm(t)
	id, err := f.letIn(context.Background(), &mqtt.Connect{ClientID: "x", Username: "lamp", Password: []byte(f.secret)})
	f.ok(err)
	f.ok(f.RevokeThing("lamp"))
	late, err := mqtt.Open(mqtt.Options{Store: f.st, Alive: f.alive, Auth: func(context.Context, *mqtt.Connect) (mqtt.Identity, error) { return id, nil }})
	f.ok(err)
	defer func() { f.ok(late.Close()) }()
	f.broker, late = late, f.broker
	defer func() { f.broker, late = late, f.broker }()
	if _, err := f.come("lamp", f.secret); !fault.Is(err, fault.Forbidden) {
		t.Error("a thing that was revoked meanwhile:", err)
	}
	if n := f.sessionsOf("lamp"); n != 0 {
		t.Errorf("%d sessions", n)
	}
}

// A thing whose messages go wrong does not fill the control room with that.
func TestFaultsDoNotFillTheControlRoom(t *testing.T) {
	f, _ := newFarm(t, `{"topic":"lamp/#","room":"#nowhere:hub","mode":"event"}`)
	w := f.connect(kept)
	for i := range 60 {
		if r := f.publish(w, mqtt.Message{Topic: fmt.Sprintf("lamp/%d", i), Payload: []byte("x")}, uint16(i+1)); !r.Failed() {
			t.Fatal(r)
		}
	}
	num, err := f.ControlRoom()
	f.ok(err)
	told := func() int { return strings.Count(f.lines(num), "lamp on lamp/") }
	f.waitFor("the first faults in the control room", func() bool { return told() > 10 })
	f.ok(f.RevokeThing("lamp"))
	if n := told(); n > 25 {
		t.Errorf("%d faults were told within a moment", n)
	}
}

// A command that came before the broker was there, as those do that were written
// when the power failed, reaches its thing.
func TestCommandBeforeTheBroker(t *testing.T) {
	f, num := newFarm(t, `{"topic":"lamp/do","room":"#house:hub","mode":"command"}`)
	w := f.connect(kept)
	done := make(chan struct{})
	w.c.Subscribe([]mqtt.Request{{Filter: "lamp/do", QoS: 1}}, 0, func([]mqtt.Reason) { close(done) })
	<-done
	f.early = func() {
		before, err := f.log.Cursor("mqtt")
		f.ok(err)
		_, err = f.Send(num, &room.Draft{Type: "m.room.message", Sender: "@a:hub", Content: []byte(`{"msgtype":"m.text","body":"on"}`)})
		f.ok(err)
		for range 40 { // it must not be read yet, however long that is
			now, err := f.log.Cursor("mqtt")
			f.ok(err)
			if now != before {
				t.Error("the command was passed over")
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	f.powerCut()
	w = f.connect(kept)
	f.waitFor("the command", func() bool { return strings.Contains(strings.Join(w.heard(), "\n"), "lamp/do on") })
}
