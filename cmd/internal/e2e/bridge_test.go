package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/appservice"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// network is another network, which has one channel and outlives the bridge to it.
type network struct {
	mu   sync.Mutex
	said []string // on Matrix
	ids  map[id.EventID]int
}

func (n *network) lines() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.said)
}

// bridge is a small bridge in mautrix-go: one run of it after another, each of which remembers nothing.
type bridge struct {
	t    *testing.T
	hub  *hub
	net  *network
	reg  *appservice.Registration
	addr string

	as   *appservice.AppService
	srv  *http.Server
	quit chan struct{}
	done chan struct{}
}

// newBridge writes a registration for a bridge that is not running, and gives the file.
func newBridge(t *testing.T) (*bridge, string) {
	t.Helper()
	free := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	b := &bridge{t: t, net: &network{ids: map[id.EventID]int{}}, reg: appservice.CreateRegistration(), addr: free.Addr().String()}
	free.Close()
	b.reg.ID, b.reg.URL, b.reg.SenderLocalpart = "small", "http://"+b.addr, "_small_bot"
	b.reg.EphemeralEvents = true
	b.reg.Namespaces.UserIDs.Register(regexp.MustCompile("@_small_.*"), true)
	b.reg.Namespaces.RoomAliases.Register(regexp.MustCompile("#_small_.*"), true)
	file := filepath.Join(t.TempDir(), "small.yaml")
	if err := b.reg.Save(file); err != nil {
		t.Fatal(err)
	}
	return b, file
}

// QueryUser makes whoever is asked for.
func (b *bridge) QueryUser(user id.UserID) bool {
	return strings.HasPrefix(user.Localpart(), "_small_") && b.as.Intent(user).EnsureRegistered(context.Background()) == nil
}

// QueryAlias makes the room of the one channel.
func (b *bridge) QueryAlias(alias id.RoomAlias) bool {
	if !strings.HasPrefix(string(alias), "#_small_lobby:") {
		return false
	}
	_, err := b.as.BotIntent().CreateRoom(context.Background(), &mautrix.ReqCreateRoom{Preset: "public_chat", RoomAliasName: "_small_lobby"})
	return err == nil
}

// start begins a run.
func (b *bridge) start() {
	b.t.Helper()
	b.as = must(appservice.CreateFull(appservice.CreateOpts{Registration: b.reg, HomeserverDomain: serverName, HomeserverURL: b.hub.url}))(b.t)
	b.as.QueryHandler = b
	b.as.DefaultHTTPRetries = 0
	b.quit, b.done = make(chan struct{}), make(chan struct{})
	go b.relay(b.as, b.quit, b.done)
	ln := must(net.Listen("tcp", b.addr))(b.t)
	b.srv = &http.Server{Handler: b.as.Router}
	go b.srv.Serve(ln)
	if err := b.as.BotIntent().EnsureRegistered(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.as.BotIntent().AppservicePing(b.t.Context(), b.reg.ID, "hello"); err != nil {
		b.t.Error(err)
	}
}

// relay takes over what people say, until quit, and then what is there already.
func (b *bridge) relay(as *appservice.AppService, quit, done chan struct{}) {
	defer close(done)
	for {
		select {
		case e := <-as.Events:
			b.heard(e)
			continue
		default:
		}
		select {
		case e := <-as.Events:
			b.heard(e)
		case <-quit:
			return
		}
	}
}

func (b *bridge) heard(e *event.Event) {
	if e.Type != event.EventMessage || strings.HasPrefix(e.Sender.Localpart(), "_small_") {
		return
	}
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	b.net.ids[e.ID]++
	b.net.said = append(b.net.said, e.Content.AsMessage().Body)
}

// stop ends a run: what the bridge has taken it carries over, and it takes no more.
func (b *bridge) stop() {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if err := b.srv.Shutdown(ctx); err != nil {
		b.t.Error(err)
	}
	close(b.quit)
	<-b.done
}

// say brings a line of somebody of the other network into a room, however often it takes: its number makes it one.
func (b *bridge) say(in id.RoomID, n int, nick, text string) {
	b.t.Helper()
	eventually(b.t, "a line is brought over", func() bool {
		ghost := b.as.Intent(id.NewUserID("_small_"+nick, serverName))
		if ghost.EnsureJoined(b.t.Context(), in) != nil {
			return false
		}
		_, err := ghost.SendMessageEvent(b.t.Context(), in, event.EventMessage, &event.MessageEventContent{MsgType: event.MsgText, Body: text},
			mautrix.ReqSendEvent{TransactionID: fmt.Sprintf("line%d", n)})
		return err == nil
	})
}

// said is what users whose names begin so have said in a room, in order.
func said(t *testing.T, reader *mautrix.Client, in id.RoomID, prefix string) (lines []string) {
	t.Helper()
	for from := ""; ; {
		page := must(reader.Messages(t.Context(), in, from, "", mautrix.DirectionForward, nil, 100))(t)
		for _, e := range page.Chunk {
			if e.Type == event.EventMessage && strings.HasPrefix(e.Sender.Localpart(), prefix) {
				if err := e.Content.ParseRaw(e.Type); err != nil {
					t.Error(err)
				}
				lines = append(lines, e.Content.AsMessage().Body)
			}
		}
		if from = page.End; from == "" {
			return lines
		}
	}
}

// TestBridge relays both ways through a bridge in mautrix-go, while the hub is killed and the bridge restarted.
func TestBridge(t *testing.T) {
	b, file := newBridge(t)
	b.hub = startHub(t, "--appservices", file)
	b.start()
	t.Cleanup(func() { b.stop() })
	alice := b.hub.register("alice")
	if _, err := b.hub.client().RegisterDummy(t.Context(), &mautrix.ReqRegister[any]{Username: "_small_thief", Password: password}); err == nil {
		t.Error("anybody may take a name of the bridge's")
	}
	must(alice.GetProfile(t.Context(), id.NewUserID("_small_asked", serverName)))(t)
	lobby := must(alice.JoinRoom(t.Context(), "#_small_lobby:"+serverName, nil))(t).RoomID

	var want, lines []string
	send := func(n int) {
		t.Helper()
		for range n {
			text := fmt.Sprintf("from Matrix %d", len(want))
			eventually(t, "a message is sent", func() bool {
				_, err := alice.SendMessageEvent(t.Context(), lobby, event.EventMessage, &event.MessageEventContent{MsgType: event.MsgText, Body: text},
					mautrix.ReqSendEvent{TransactionID: fmt.Sprintf("m%d", len(want))})
				return err == nil
			})
			want = append(want, text)
		}
	}
	bring := func(n int) {
		t.Helper()
		for range n {
			text := fmt.Sprintf("from the network %d", len(lines))
			b.say(lobby, len(lines), []string{"ann", "ben", "eve"}[len(lines)%3], text)
			lines = append(lines, text)
		}
	}
	send(20)
	bring(10)
	b.stop()
	send(150) // more than one transaction
	eventually(t, "the owner sees that the bridge is away", func() bool {
		out, err := exec.Command(program, "bridges", "--data-dir", b.hub.dir).Output()
		return err == nil && strings.Contains(string(out), "small: ") && strings.Contains(string(out), " entries behind: ")
	})
	b.hub.kill()
	b.hub.start()
	send(10)
	b.start()
	bring(10)
	send(10)
	b.hub.stop()
	b.hub.start()
	send(10)
	b.hub.kill()
	b.hub.start()
	bring(10)
	send(10)
	eventually(t, "the network has heard everything", func() bool { return len(b.net.lines()) >= len(want) })
	if got := b.net.lines(); !slices.Equal(got, want) {
		t.Errorf("the network heard %d lines:\n%q\nwant %d", len(got), got, len(want))
	}
	for id, n := range b.net.ids {
		if n != 1 {
			t.Errorf("%s was told %d times", id, n)
		}
	}
	got := said(t, alice, lobby, "_small_")
	if !slices.Equal(got, lines) {
		t.Errorf("Matrix has %d lines:\n%q\nwant %d", len(got), got, len(lines))
	}
}

// TestBridgesReread changes the registrations of a hub that runs.
func TestBridgesReread(t *testing.T) {
	dir := t.TempDir()
	const text = "id: %[1]s\nurl: null\nas_token: token-of-%[1]s\nhs_token: token-for-%[1]s\nsender_localpart: _%[1]s\n" +
		"namespaces: {users: [{exclusive: true, regex: '@_%[1]s_.*'}]}\n"
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one", fmt.Sprintf(text, "one"))
	h := startHub(t, "--appservices", dir)
	known := func(name string) bool {
		c := h.client()
		c.AccessToken = "token-of-" + name
		w, err := c.Whoami(t.Context())
		return err == nil && w.UserID == id.NewUserID("_"+name, serverName)
	}
	reread := func(said string) {
		t.Helper()
		count := func() int { return strings.Count(string(must(os.ReadFile(h.log))(t)), said) }
		before := count()
		if err := h.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		eventually(t, said, func() bool { return count() > before })
	}
	if !known("one") || known("two") {
		t.Error("at first there is one")
	}
	c := h.client()
	c.AccessToken = "token-of-one"
	must(c.MakeRequest(t.Context(), http.MethodPost, c.BuildClientURL("v3", "register"),
		map[string]any{"type": "m.login.application_service", "username": "_one_ghost", "inhibit_login": true}, nil))(t)
	write("two", fmt.Sprintf(text, "two"))
	reread("read again")
	if !known("one") || !known("two") {
		t.Error("a second one came")
	}
	write("three", "id: [")
	reread("stay as they were")
	if !known("one") || !known("two") {
		t.Error("a broken file changes something")
	}
	for _, name := range []string{"one", "three"} {
		if err := os.Remove(filepath.Join(dir, name+".yaml")); err != nil {
			t.Fatal(err)
		}
	}
	reread("read again")
	if known("one") || !known("two") {
		t.Error("one has gone")
	}
	alice := h.register("alice")
	must(alice.GetProfile(t.Context(), id.NewUserID("_one_ghost", serverName)))(t) // its users stay
	h.kill()
	h.start()
	if known("one") || !known("two") {
		t.Error("after a restart it is otherwise")
	}
}
