package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

const jsRegistration = `id: js
url: http://%s
as_token: token-of-the-js-bridge
hs_token: token-for-the-js-bridge
sender_localpart: _jsbot
namespaces: {users: [{exclusive: true, regex: "@_js_.*"}], aliases: [{exclusive: true, regex: "#_js_.*"}]}
`

// jsBridge is js/bridge/bridge.cjs, one process after another on one folder.
type jsBridge struct {
	t    *testing.T
	args []string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
}

func (b *jsBridge) start() {
	b.t.Helper()
	b.cmd = exec.Command("node", b.args...)
	b.cmd.Stderr = os.Stderr
	b.in = must(b.cmd.StdinPipe())(b.t)
	b.out = bufio.NewScanner(must(b.cmd.StdoutPipe())(b.t))
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	if !b.out.Scan() || b.out.Text() != "ready" {
		b.t.Fatalf("the bridge does not start: %q %v", b.out.Text(), b.out.Err())
	}
}

func (b *jsBridge) stop() {
	b.t.Helper()
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		b.t.Error(err)
	}
	if err := b.cmd.Wait(); err != nil {
		b.t.Error("the bridge ended with", err)
	}
	b.cmd = nil
}

// say has a ghost say something, however often it takes.
func (b *jsBridge) say(in id.RoomID, n int, text string) {
	b.t.Helper()
	eventually(b.t, "a line is brought over", func() bool {
		fmt.Fprintf(b.in, "%d %s %s %s\n", n, in, []string{"ann", "ben"}[n%2], text)
		return b.out.Scan() && b.out.Text() == fmt.Sprint(n)
	})
}

// TestJSBridge relays both ways through a bridge in matrix-bot-sdk, while the hub is killed and the bridge restarted.
func TestJSBridge(t *testing.T) {
	nodeModules(t, "js/bridge", 18)
	free := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	addr := free.Addr().String()
	free.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "js.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, jsRegistration, addr), 0o600); err != nil {
		t.Fatal(err)
	}
	h := startHub(t, "--appservices", file)
	_, port, _ := net.SplitHostPort(addr)
	b := &jsBridge{t: t, args: []string{"js/bridge/bridge.cjs", h.url, port, dir}}
	b.start()
	t.Cleanup(func() {
		if b.cmd != nil {
			b.stop()
		}
	})
	alice := h.register("alice")
	ghost := must(alice.GetProfile(t.Context(), id.NewUserID("_js_asked", serverName)))(t)
	if ghost.DisplayName != "Somebody" {
		t.Errorf("the ghost is called %q", ghost.DisplayName)
	}
	lobby := must(alice.JoinRoom(t.Context(), "#_js_lobby:"+serverName, nil))(t).RoomID
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
			b.say(lobby, len(lines), text)
			lines = append(lines, text)
		}
	}
	send(10)
	bring(5)
	b.stop()
	send(130)
	h.kill()
	h.start()
	b.start()
	send(10)
	bring(5)
	h.kill()
	h.start()
	bring(5)
	b.stop()
	b.start()
	send(10)
	var heard []string
	eventually(t, "the network has heard everything", func() bool {
		text, _ := os.ReadFile(filepath.Join(dir, "heard"))
		heard = strings.Split(strings.TrimSpace(string(text)), "\n")
		return len(heard) >= len(want)
	})
	if !slices.Equal(heard, want) {
		t.Errorf("the network heard\n%q\nwant %d lines", heard, len(want))
	}
	got := said(t, alice, lobby, "_js_")
	if !slices.Equal(got, lines) {
		t.Errorf("Matrix has\n%q\nwant %d lines", got, len(lines))
	}
}
