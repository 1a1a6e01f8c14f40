package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

const (
	serverName = "hub.test"
	password   = "correct horse battery"
	// deadline is when a condition is given up. It decides no test that passes.
	deadline = 60 * time.Second
)

// program is the hearth that is tested: HEARTH names it, or it is built for the run.
var program string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if program = os.Getenv("HEARTH"); program != "" {
			return m.Run()
		}
		dir, err := os.MkdirTemp("", "hearth-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		program = filepath.Join(dir, "hearth")
		build := exec.Command("go", "build", "-o", program, "./cmd/hearth")
		build.Dir = "../../.."
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%s%v\n", out, err)
			return 1
		}
		return m.Run()
	}())
}

// hub is one hub process after another on the same folder and port.
type hub struct {
	t      *testing.T
	url    string
	args   []string
	env    []string // beside the test's own
	dir    string   // the data folder
	secret string   // a file that holds password
	log    string
	cmd    *exec.Cmd
	end    chan error
}

// startHub starts a hub on a fresh folder that anybody may register at, with more settings. It ends with the test.
func startHub(t *testing.T, more ...string) *hub {
	t.Helper()
	h := newHub(t, serverName)
	h.args = append(append(h.args, "--federation-listen", ""), more...)
	h.run()
	return h
}

// newHub is a hub that has not been started.
func newHub(t *testing.T, name string) *hub {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	free.Close()
	dir := t.TempDir()
	h := &hub{
		t: t, url: "http://" + addr,
		dir: filepath.Join(dir, "data"), secret: filepath.Join(dir, "secret"), log: filepath.Join(dir, "log"),
	}
	if err := os.WriteFile(h.secret, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.args = []string{
		"serve",
		"--server-name", name,
		"--data-dir", h.dir,
		"--client-listen", addr,
		"--mqtt-listen", "",
		"--registration", "open",
		"--rate-limits", "off",
	}
	return h
}

// run starts the hub, and ends it with the test.
func (h *hub) run() {
	t := h.t
	t.Helper()
	h.start()
	t.Cleanup(func() {
		if h.cmd != nil {
			h.stop()
		}
		log, err := os.ReadFile(h.log)
		if err != nil {
			t.Error(err)
		}
		if t.Failed() || strings.Contains(string(log), "panic:") || strings.Contains(string(log), "DATA RACE") {
			t.Errorf("the hub's log:\n%s", log)
		}
	})
}

// start starts the process and waits until it answers.
func (h *hub) start() {
	h.t.Helper()
	log, err := os.OpenFile(h.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		h.t.Fatal(err)
	}
	defer log.Close()
	cmd, end := exec.Command(program, h.args...), make(chan error, 1)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), h.env...)
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	go func() { end <- cmd.Wait() }()
	h.cmd, h.end = cmd, end
	eventually(h.t, "the hub answers", func() bool {
		select {
		case err := <-end:
			h.cmd = nil
			h.t.Fatalf("the hub ended at its start: %v", err)
		default:
		}
		resp, err := http.Get(h.url + "/_matrix/client/versions")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// kill ends the process as a power cut would, and waits until it is gone.
func (h *hub) kill() {
	h.t.Helper()
	if err := h.cmd.Process.Kill(); err != nil {
		h.t.Fatal(err)
	}
	<-h.end
	h.cmd = nil
}

// stop ends the process as systemd would.
func (h *hub) stop() {
	h.t.Helper()
	if err := h.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		h.t.Error(err)
	}
	select {
	case err := <-h.end:
		if err != nil {
			h.t.Errorf("the hub ended with %v", err)
		}
	case <-time.After(deadline):
		h.t.Error("the hub did not end")
		h.cmd.Process.Kill()
		<-h.end
	}
	h.cmd = nil
}

// eventually polls a condition until it holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(deadline); time.Now().Before(end); <-tick.C {
		if holds() {
			return
		}
	}
	t.Fatalf("not within %v: %s", deadline, what)
}

// must gives the value where err is nil and ends the test otherwise.
func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// client is a client without a session.
func (h *hub) client() *mautrix.Client {
	h.t.Helper()
	c := must(mautrix.NewClient(h.url, "", ""))(h.t)
	c.DefaultHTTPRetries = 0
	return c
}

// register makes a user and gives a client in its first session.
func (h *hub) register(name string) *mautrix.Client {
	h.t.Helper()
	c := h.client()
	r := must(c.RegisterDummy(h.t.Context(), &mautrix.ReqRegister[any]{Username: name, Password: password}))(h.t)
	c.UserID, c.DeviceID, c.AccessToken = r.UserID, r.DeviceID, r.AccessToken
	return c
}

// room makes a public room with an alias, and lets the others join it by that.
func room(t *testing.T, alias string, owner *mautrix.Client, others ...*mautrix.Client) id.RoomID {
	t.Helper()
	r := must(owner.CreateRoom(t.Context(), &mautrix.ReqCreateRoom{
		Preset: "public_chat", RoomAliasName: alias, Name: "Lights",
	}))(t)
	for _, o := range others {
		j := must(o.JoinRoom(t.Context(), "#"+alias+":"+serverName, nil))(t)
		if j.RoomID != r.RoomID {
			t.Fatalf("joined %s by the alias of %s", j.RoomID, r.RoomID)
		}
	}
	return r.RoomID
}

// quick is the library's own way of handling answers, but it does not pause for ten seconds after a failure.
type quick struct{ *mautrix.DefaultSyncer }

func (q quick) OnFailedSync(_ *mautrix.RespSync, err error) (time.Duration, error) {
	if errors.Is(err, mautrix.MUnknownToken) {
		return 0, err
	}
	return 10 * time.Millisecond, nil
}

// follow runs the library's sync loop until the test ends and gives what it delivers.
func follow(t *testing.T, c *mautrix.Client) <-chan *event.Event {
	t.Helper()
	syncer, all := mautrix.NewDefaultSyncer(), make(chan *event.Event, 10_000)
	syncer.OnEvent(func(_ context.Context, e *event.Event) { all <- e })
	c.Syncer = quick{syncer}
	ctx, cancel := context.WithCancel(t.Context())
	end := make(chan error, 1)
	go func() { end <- c.SyncWithContext(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-end; !errors.Is(err, context.Canceled) {
			t.Errorf("sync of %s: %v", c.UserID, err)
		}
	})
	return all
}

// await reads events until one fits, and gives it.
func await(t *testing.T, from <-chan *event.Event, what string, fits func(*event.Event) bool) *event.Event {
	t.Helper()
	limit := time.After(deadline)
	for {
		select {
		case e := <-from:
			if fits(e) {
				return e
			}
		case <-limit:
			t.Fatalf("not within %v: %s", deadline, what)
		}
	}
}
