package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/account"
	"hearth/engine/appservice"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

const bridge = `
id: bridge
url: http://bridge.test
as_token: token-of-the-bridge
hs_token: token-of-the-hub
sender_localpart: bridge
receive_ephemeral: true
namespaces: {users: [{exclusive: true, regex: "@_b_.*"}], aliases: [{exclusive: true, regex: "#_b_.*"}]}
`

// fakeBridge is an application service that keeps what it was told, once for
// each transaction, and can be made to fail before or after it took one.
type fakeBridge struct {
	mu     sync.Mutex
	news   *sync.Cond
	bodies map[string]string // by transaction
	events []string          // ids, in order
	again  int               // transactions that came twice
	fail   func(n int) error
	asked  int
	bad    error
}

func newBridge() *fakeBridge {
	b := &fakeBridge{bodies: map[string]string{}}
	b.news = sync.NewCond(&b.mu)
	return b
}

func (b *fakeBridge) ask(_ context.Context, r *appservice.Request) (int, []byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.Method != "PUT" || r.Token != "token-of-the-hub" {
		return 404, []byte(`{"errcode":"M_NOT_FOUND"}`), nil
	}
	b.asked++
	var err error
	if b.fail != nil {
		err = b.fail(b.asked)
	}
	if err != nil && b.asked%2 == 0 {
		return 0, nil, err // lost on the way
	}
	txn := path.Base(r.URL)
	if old, ok := b.bodies[txn]; ok {
		b.again++
		if ids(old) != ids(string(r.Body)) {
			b.bad = fmt.Errorf("transaction %s came again with other events:\n%s\n%s", txn, old, r.Body)
		}
	} else {
		b.bodies[txn] = string(r.Body)
		var t struct {
			Events []struct {
				ID string `json:"event_id"`
			}
		}
		if jerr := json.Unmarshal(r.Body, &t); jerr != nil {
			b.bad = jerr
		}
		for _, e := range t.Events {
			b.events = append(b.events, e.ID)
		}
	}
	b.news.Broadcast()
	return 200, []byte(`{}`), err // the answer is lost where there is an error
}

func ids(body string) string {
	var t struct {
		Events []struct {
			ID string `json:"event_id"`
		}
	}
	_ = json.Unmarshal([]byte(body), &t)
	return fmt.Sprint(t.Events)
}

// wait waits until the bridge was told of so many events.
func (b *fakeBridge) wait(n int) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.events) < n {
		b.news.Wait()
	}
	return slices.Clone(b.events)
}

func openBridged(t *testing.T, fs *vfs.MemFS, b *fakeBridge) *Engine {
	t.Helper()
	e, err := Open(Options{
		Dir: "data", FS: fs, Server: "hub", Accounts: account.Options{Cost: account.Cost{KiB: 64, Passes: 1}},
		AppServices: appservice.Options{
			Ask: b.ask, First: time.Millisecond, Most: 2 * time.Millisecond,
			Load: func(server mxid.Server) (*appservice.Set, error) {
				s, err := appservice.Parse([]byte(bridge), server)
				if err != nil {
					return nil, err
				}
				return appservice.NewSet([]*appservice.Service{s})
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// A bridge is told of every event of its rooms once and in order, though half of
// what is said gets lost on the way or on the way back, and the hub restarts.
func TestServiceIsToldOnce(t *testing.T) {
	fs, b := vfs.NewMem(), newBridge()
	e := openBridged(t, fs, b)
	for _, name := range []string{"amy", "_b_ghost"} {
		if _, err := e.Accounts.Create(account.NewUser{Localpart: name}); err != nil {
			t.Fatal(err)
		}
	}
	other, err := e.CreateRoom(&NewRoom{Creator: "@amy:hub", Preset: "private_chat"})
	if err != nil {
		t.Fatal(err)
	}
	id, err := e.CreateRoom(&NewRoom{Creator: "@_b_ghost:hub", Preset: "public_chat"})
	if err != nil {
		t.Fatal(err)
	}
	send := func(id mxid.RoomID, sender mxid.UserID, n int) {
		t.Helper()
		num, err := e.Rooms.Find(id)
		if err == nil {
			_, err = e.Send(num, &room.Draft{Type: "m.room.message", Sender: sender, Content: fmt.Appendf(nil, `{"body":"%d"}`, n)})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	lost := errors.New("lost")
	b.mu.Lock()
	b.fail = func(n int) error {
		if n%3 == 0 {
			return nil
		}
		return lost
	}
	b.mu.Unlock()
	for i := range 40 {
		send(id, "@_b_ghost:hub", i)
		send(other, "@amy:hub", i)
		if i%10 == 9 {
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			e = openBridged(t, fs, b)
		}
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	num, err := e.Rooms.Find(id)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	if err := e.Rooms.Timeline(num, room.Key{}, room.After(1<<40), false, func(_ room.Key, n room.EventNum) (bool, error) {
		ev, err := e.Rooms.Event(n)
		if err == nil {
			want = append(want, string(ev.ID))
		}
		return true, err
	}); err != nil {
		t.Fatal(err)
	}
	want = want[1:] // when the room was made nobody was in it
	if got := b.wait(len(want)); !slices.Equal(got, want) {
		t.Errorf("told:\n%q\nwant:\n%q", got, want)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bad != nil {
		t.Error(b.bad)
	}
	if b.again == 0 {
		t.Error("nothing came twice: the test did not try")
	}
}

func TestNamesOfServices(t *testing.T) {
	e := openBridged(t, vfs.NewMem(), newBridge())
	defer e.Close()
	if err := e.Exclusive("@_b_x:hub", ""); err == nil {
		t.Error("anybody may take a reserved name")
	}
	if err := e.Exclusive("@_b_x:hub", "bridge"); err != nil {
		t.Error(err)
	}
	if user, err := e.Accounts.Find("@bridge:hub"); err != nil || user == 0 {
		t.Error("the service itself is no user", err)
	}
}
