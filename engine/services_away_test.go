package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/account"
	"hearth/engine/appservice"
	"hearth/engine/e2ee"
	"hearth/engine/event"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/store"
	"hearth/engine/stream"
)

const cryptBridge = bridge + "org.matrix.msc3202: true\n"

// toldEvent is an event of a transaction.
type toldEvent struct {
	Room     mxid.RoomID `json:"room_id"`
	Type     string
	Content  struct{ Body, Membership string }
	Unsigned struct {
		State []struct{ Type string } `json:"invite_room_state"`
	}
}

// told is one transaction as a bridge reads it.
type told struct {
	Events   []toldEvent
	ToDevice []struct {
		Type string
		To   string `json:"to_user_id"`
		Dev  string `json:"to_device_id"`
	} `json:"to_device"`
	Ephemeral []json.RawMessage
	Lists     struct{ Changed, Left []mxid.UserID }     `json:"org.matrix.msc3202.device_lists"`
	Count     map[mxid.UserID]map[string]map[string]int `json:"org.matrix.msc3202.device_one_time_keys_count"`
}

// listener is a bridge that keeps each new transaction.
type listener struct {
	mu   sync.Mutex
	away bool
	old  bool // it knows the paths and tokens of older services only
	seen map[string]bool
	size int // the longest body
	in   chan told
	bad  error
}

func (l *listener) ask(_ context.Context, r *appservice.Request) (int, []byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away {
		return 0, nil, errors.New("away")
	}
	u, err := url.Parse(r.URL)
	if err != nil {
		l.bad = err
		return 500, nil, nil
	}
	if l.old && (!strings.HasPrefix(u.Path, "/transactions/") || u.Query().Get("access_token") != "token-of-the-hub") {
		return 404, []byte("<html>not here"), nil
	}
	if !l.old && !strings.HasPrefix(u.Path, "/_matrix/app/v1/transactions/") {
		return 404, []byte(`{"errcode":"M_UNRECOGNIZED"}`), nil
	}
	if txn := path.Base(u.Path); l.seen[txn] {
		return 200, []byte(`{}`), nil
	} else {
		l.seen[txn] = true
	}
	l.size = max(l.size, len(r.Body))
	var t told
	if err := json.Unmarshal(r.Body, &t); err != nil {
		l.bad = fmt.Errorf("%w: %s", err, r.Body)
	}
	if len(t.Events) > 100 {
		l.bad = fmt.Errorf("%d events at once", len(t.Events))
	}
	l.in <- t
	return 200, []byte(`{}`), nil
}

// until reads transactions until one fits.
func (l *listener) until(t *testing.T, what string, fits func(*told) bool) told {
	t.Helper()
	limit := time.After(30 * time.Second)
	for {
		select {
		case one := <-l.in:
			if fits(&one) {
				return one
			}
		case <-limit:
			t.Fatal("never told: ", what)
		}
	}
}

func openListened(t *testing.T, l *listener) *Engine {
	t.Helper()
	l.seen, l.in = map[string]bool{}, make(chan told, 10_000)
	e, err := Open(Options{
		Dir: "data", FS: vfs.NewMem(), Server: "hub", Accounts: account.Options{Cost: account.Cost{KiB: 64, Passes: 1}},
		AppServices: appservice.Options{
			Ask: l.ask, First: time.Millisecond, Most: 2 * time.Millisecond,
			Load: func(server mxid.Server) (*appservice.Set, error) { return bridges(server, cryptBridge) },
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(e.Close(), l.bad); err != nil {
			t.Error(err)
		}
	})
	for _, name := range []string{"amy", "ben", "_b_ghost", "_b_other"} {
		if _, err := e.Accounts.Create(account.NewUser{Localpart: name}); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

func bridges(server mxid.Server, texts ...string) (*appservice.Set, error) {
	var list []*appservice.Service
	for _, text := range texts {
		s, err := appservice.Parse([]byte(text), server)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return appservice.NewSet(list)
}

func (l *listener) goes(away bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away = away
}

func say(t *testing.T, e *Engine, id mxid.RoomID, sender mxid.UserID, body string) {
	t.Helper()
	num, err := e.Rooms.Find(id)
	if err == nil {
		_, err = e.Send(num, &room.Draft{Type: "m.room.message", Sender: sender, Content: fmt.Appendf(nil, `{"body":%q}`, body)})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func newRoom(t *testing.T, e *Engine, n NewRoom) (mxid.RoomID, room.Num) {
	t.Helper()
	id, err := e.CreateRoom(&n)
	if err != nil {
		t.Fatal(err)
	}
	num, err := e.Rooms.Find(id)
	if err != nil {
		t.Fatal(err)
	}
	return id, num
}

// What has come together while a bridge was away is told in order, in
// transactions of a bounded size, also to one that knows the old paths only; and
// a room that was purged since does not hold it up.
func TestServiceComesBack(t *testing.T) {
	l := &listener{away: true, old: true}
	e := openListened(t, l)
	id, _ := newRoom(t, e, NewRoom{Creator: "@_b_ghost:hub", Preset: "public_chat"})
	gone, goneNum := newRoom(t, e, NewRoom{Creator: "@_b_ghost:hub", Preset: "public_chat"})
	const n = 1000
	for i := range n {
		say(t, e, id, "@_b_ghost:hub", fmt.Sprint(i))
		if i%50 == 0 {
			say(t, e, gone, "@_b_ghost:hub", "gone")
		}
	}
	if _, _, err := e.CloseRoom(goneNum, true); err != nil {
		t.Fatal(err)
	}
	list, err := e.AppServices.Statuses()
	if err != nil || len(list) != 1 || list[0].Behind < n || !strings.Contains(list[0].Error, "away") {
		t.Errorf("%v %v", list, err)
	}
	l.goes(false)
	if err := e.AppServices.Heard(list[0].Service); err != nil {
		t.Fatal(err)
	}
	next := 0
	l.until(t, "everything", func(one *told) bool {
		for _, ev := range one.Events {
			if ev.Room == id && ev.Type == "m.room.message" {
				if ev.Content.Body != fmt.Sprint(next) {
					t.Fatalf("%s where %d was to be", ev.Content.Body, next)
				}
				next++
			}
		}
		return next == n
	})
	l.mu.Lock()
	t.Logf("the longest transaction has %d bytes", l.size)
	l.mu.Unlock()
	for deadline := time.Now().Add(30 * time.Second); ; {
		list, err = e.AppServices.Statuses()
		if err == nil && list[0].Behind == 0 && list[0].Error == "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(list, err)
		}
		select {
		case <-l.in:
		case <-time.After(time.Millisecond):
		}
	}
}

// Invitations come with what is shown of the room: of a room of this hub, and of
// one that the hub is not in.
func TestServiceIsInvited(t *testing.T) {
	l := &listener{}
	e := openListened(t, l)
	id, num := newRoom(t, e, NewRoom{Creator: "@amy:hub", Preset: "private_chat", Name: "Kitchen"})
	if err := e.Invite(num, "@amy:hub", "@_b_ghost:hub", ""); err != nil {
		t.Fatal(err)
	}
	shown := func(one *told, in mxid.RoomID, types ...string) bool {
		for _, ev := range one.Events {
			if ev.Room != in || ev.Content.Membership != "invite" {
				continue
			}
			for _, typ := range types {
				if !slices.ContainsFunc(ev.Unsigned.State, func(s struct{ Type string }) bool { return s.Type == typ }) {
					t.Errorf("the invitation to %s shows no %s: %v", in, typ, ev.Unsigned.State)
				}
			}
			return true
		}
		return false
	}
	l.until(t, "an invitation", func(one *told) bool { return shown(one, id, "m.room.create", "m.room.name", "m.room.member") })
	// What happens in a room where its user is only invited is not the bridge's
	// business; that its user declines is.
	say(t, e, id, "@amy:hub", "not for bridges")
	if err := e.Leave(num, "@_b_ghost:hub", ""); err != nil {
		t.Fatal(err)
	}
	l.until(t, "that the user has left", func(one *told) bool {
		for _, ev := range one.Events {
			if ev.Content.Body != "" {
				t.Error("told of", ev.Content.Body)
			}
			if ev.Room == id && ev.Content.Membership == "leave" {
				return true
			}
		}
		return false
	})
	const away = "!far:elsewhere"
	v := event.LookupVersion("11")
	out, err := e.Rooms.Outline(v, away)
	if err != nil {
		t.Fatal(err)
	}
	ev, _, err := event.Receive(v, []byte(`{"auth_events":[],"content":{"membership":"invite"},"depth":1,"hashes":{"sha256":"x"},"origin_server_ts":1,
		"prev_events":[],"room_id":"`+away+`","sender":"@z:elsewhere","signatures":{},"state_key":"@_b_ghost:hub","type":"m.room.member"}`))
	if err != nil {
		t.Fatal(err)
	}
	w, err := e.Rooms.Write(out)
	if err != nil {
		t.Fatal(err)
	}
	err = w.Outside(ev, &room.Invitation{Told: []byte(`{"content":{"name":"Far"},"sender":"@z:elsewhere","state_key":"","type":"m.room.name"}`)})
	if err == nil {
		var pending stream.Pending
		if pending, err = w.Commit(nil); err == nil {
			err = pending.Wait()
		}
	}
	w.End()
	if err != nil {
		t.Fatal(err)
	}
	l.until(t, "an invitation from elsewhere", func(one *told) bool { return shown(one, away, "m.room.name") })
}

// Messages to devices are told and gone; who shares a room with the bridge's
// users is told, and who does not any more; and when keys are taken.
func TestServiceIsToldOfDevices(t *testing.T) {
	l := &listener{}
	e := openListened(t, l)
	session := func(id mxid.UserID) account.Session {
		t.Helper()
		user, err := e.Accounts.Find(id)
		if err != nil {
			t.Fatal(err)
		}
		_, s, err := e.Accounts.Login(user, account.NewSession{Device: "DEV"})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	ghost, other, amy := session("@_b_ghost:hub"), session("@_b_other:hub"), session("@amy:hub")
	_, num := newRoom(t, e, NewRoom{Creator: "@_b_ghost:hub", Preset: "public_chat"})
	if err := e.Join(num, "@amy:hub", nil); err != nil {
		t.Fatal(err)
	}
	l.until(t, "that amy shares a room", func(one *told) bool { return slices.Contains(one.Lists.Changed, "@amy:hub") })
	const key = "a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5MTI"
	if err := e.UploadKeys(&other, []byte(`{"one_time_keys":{"curve25519:A":"`+key+`","curve25519:B":"`+key+`","curve25519:C":"`+key+`"}}`)); err != nil {
		t.Fatal(err)
	}
	claim := func() {
		t.Helper()
		claims := []e2ee.Claim{{User: "@_b_other:hub", Device: "DEV", Algorithm: "curve25519"}}
		if err := e.ClaimKeys(claims); err != nil || claims[0].Key == nil {
			t.Fatal(err, claims)
		}
	}
	left := func(one *told, n int) bool { return one.Count["@_b_other:hub"]["DEV"]["curve25519"] == n }
	// What goes to a device of another server is no business of the bridge's.
	far, err := e.names.Number(store.Servers, "far.test")
	if err != nil {
		t.Fatal(err)
	}
	parcel := e2ee.Pack(nil, far, "@zoe:far.test", "DEV", []byte(`{"n":1}`))
	if err := e.E2EE.Send(&e2ee.Sent{Sender: amy.UserID, Type: "m.test", Device: amy.DeviceNum, Txn: "far"}, nil, parcel...); err != nil {
		t.Fatal(err)
	}
	l.goes(true)
	claim()
	const n = 250
	for i := range n {
		if err := e.SendToDevice(&amy, "m.test", fmt.Sprint(i), []byte(`{"@_b_ghost:hub":{"*":{"n":1}}}`)); err != nil {
			t.Fatal(err)
		}
	}
	l.goes(false)
	if err := e.AppServices.Alive(e.AppServices.Services().All()[0]); err != nil {
		t.Fatal(err)
	}
	got, taken := 0, false
	l.until(t, "all messages, and that a key was taken", func(one *told) bool {
		for _, m := range one.ToDevice {
			if m.To != "@_b_ghost:hub" || m.Dev != "DEV" || m.Type != "m.test" {
				t.Error(m)
			}
		}
		got += len(one.ToDevice)
		taken = taken || left(one, 2)
		return got >= n && taken
	})
	if got != n {
		t.Errorf("%d messages of %d", got, n)
	}
	claim()
	if err := e.Leave(num, "@amy:hub", ""); err != nil {
		t.Fatal(err)
	}
	gone := false
	taken = false
	l.until(t, "that amy has left, and that another key was taken", func(one *told) bool {
		gone = gone || slices.Contains(one.Lists.Left, "@amy:hub")
		taken = taken || left(one, 1)
		return gone && taken
	})
	// What was told is gone from the device's queue.
	rest, last, err := e.AppendToDevice(nil, ghost.DeviceNum, 0)
	if err != nil || len(rest) > 0 {
		t.Errorf("%d %s %v", last, rest, err)
	}
}

// Other registrations take effect at once; users of a service that is no more stay.
func TestServicesAreReplaced(t *testing.T) {
	l := &listener{}
	e := openListened(t, l)
	set, err := bridges("hub", strings.NewReplacer("id: bridge", "id: other", "_b_", "_o_", "token-of-the-bridge", "token-of-the-other").Replace(bridge))
	if err == nil {
		err = e.SetServices(set)
	}
	if err != nil {
		t.Fatal(err)
	}
	if e.AppServices.Services().ByToken([]byte("token-of-the-bridge")) != nil {
		t.Error("the token of a service that is no more is good")
	}
	if err := e.Exclusive("@_b_x:hub", ""); err != nil {
		t.Error(err)
	}
	if err := e.Exclusive("@_o_x:hub", ""); err == nil {
		t.Error("a new service's names are free")
	}
	if user, err := e.Accounts.Find("@_b_ghost:hub"); err != nil || user == 0 {
		t.Error("the users have gone with the service", err)
	}
	if _, err := e.Accounts.Create(account.NewUser{Localpart: "_o_ghost"}); err != nil {
		t.Fatal(err)
	}
	id, _ := newRoom(t, e, NewRoom{Creator: "@_o_ghost:hub"})
	say(t, e, id, "@_o_ghost:hub", "hello")
	l.until(t, "what the new one is to know", func(one *told) bool {
		return slices.ContainsFunc(one.Events, func(ev toldEvent) bool { return ev.Content.Body == "hello" })
	})
}
