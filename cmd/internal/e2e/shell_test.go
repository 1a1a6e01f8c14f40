package e2e

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"maunium.net/go/mautrix"
)

// buffer is a bytes.Buffer that a process writes while the test reads.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// shell is a hearth pub or sub that runs beside the test.
type shell struct {
	t        *testing.T
	cmd      *exec.Cmd
	in       io.WriteCloser
	out, err buffer
}

func (h *hub) shell(args ...string) *shell {
	h.t.Helper()
	s := &shell{t: h.t, cmd: exec.Command(program, args...)}
	s.cmd.Env = append(os.Environ(), "HEARTH_SERVER="+h.url, "HEARTH_PASSWORD_FILE="+h.secret)
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.err
	s.in = must(s.cmd.StdinPipe())(h.t)
	if err := s.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		if s.cmd.ProcessState == nil {
			s.cmd.Process.Kill()
			s.cmd.Wait()
		}
	})
	return s
}

// says waits until the process has written this to standard error.
func (s *shell) says(text string) {
	s.t.Helper()
	eventually(s.t, text, func() bool { return strings.Contains(s.err.String(), text) })
}

func (s *shell) signal(sig os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// ends waits for the end and checks the exit code.
func (s *shell) ends(code int) {
	s.t.Helper()
	if code != 130 { // the end of the input would be the end of pub
		s.in.Close()
	}
	s.cmd.Wait()
	if got := s.cmd.ProcessState.ExitCode(); got != code {
		s.t.Errorf("%v: exit code %d, want %d\n%s", s.cmd.Args, got, code, s.err.String())
	}
}

// TestNewcomer is the README's first ten minutes: accounts made at the hub, one shell that follows a room, another
// one that publishes into it, and a Matrix client that looks on.
func TestNewcomer(t *testing.T) {
	h := startHub(t)
	for _, name := range []string{"sensor", "lamp"} {
		h.shell("user", "add", name, "--password-file", h.secret, "--data-dir", h.dir).ends(0)
	}
	list := h.shell("user", "list", "--data-dir", h.dir)
	list.ends(0)
	if out := list.out.String(); !strings.Contains(out, "@sensor:"+serverName) || !strings.Contains(out, "@lamp:"+serverName) {
		t.Errorf("hearth user list: %q", out)
	}
	lights := "#lights:" + serverName
	sub := h.shell("sub", "-u", "lamp", "-r", lights, "--create", "--count", "2", "--timeout", deadline.String())
	sub.says("following")
	h.shell("pub", "-u", "sensor", "-r", lights, "-m", "on").ends(0)
	h.shell("pub", "-u", "sensor", "-r", lights, "-t", "org.example.reading", "--json", "-m", `{"celsius":21}`).ends(0)
	sub.ends(0)
	if want := "on\n{\"celsius\":21}\n"; sub.out.String() != want {
		t.Errorf("got %q, want %q", sub.out.String(), want)
	}
	owner := h.register("owner")
	in := must(owner.JoinRoom(t.Context(), lights, nil))(t).RoomID
	if got := history(t, owner, in, mautrix.DirectionForward, 10); len(got) != 1 {
		t.Errorf("a Matrix client sees the messages %v", got)
	}
}

// TestShell is what scripts build on: lines from a pipe, exit codes, and the way both end.
func TestShell(t *testing.T) {
	h := startHub(t)
	alice := h.register("alice")
	h.register("bob")
	room(t, "lights", alice)

	sub := h.shell("sub", "-u", "bob", "-r", "#lights:"+serverName, "--count", "3", "--timeout", deadline.String())
	sub.says("following")
	h.shell("pub", "-u", "alice", "-r", "#lights:"+serverName, "-m", "on").ends(0)
	pub := h.shell("pub", "-u", "alice", "-r", "#lights:"+serverName, "--json")
	fmt.Fprintln(pub.in, `{"msgtype":"m.text","body":"off"}`)
	fmt.Fprintln(pub.in, `{"msgtype":"m.text","body":"on again"}`)
	pub.ends(0)
	sub.ends(0)
	if want := "on\noff\non again\n"; sub.out.String() != want {
		t.Errorf("got %q, want %q", sub.out.String(), want)
	}

	h.shell("pub", "-u", "alice", "-r", "#nowhere:"+serverName, "-m", "on").ends(4)
	h.shell("sub", "-u", "carol", "-r", "#lights:"+serverName).ends(3)
	h.shell("sub", "-u", "bob", "-r", "#lights:"+serverName, "--count", "1", "--timeout", "1ms").ends(6)
	h.shell("sub", "-u", "bob").ends(2)

	// An interrupt ends both politely: nothing is left to do for the one, and something for the other.
	sub = h.shell("sub", "-u", "bob", "-r", "#lights:"+serverName)
	sub.says("following")
	sub.signal(os.Interrupt)
	sub.ends(0)
	pub = h.shell("pub", "-u", "alice", "-r", "#lights:"+serverName, "--ids")
	fmt.Fprintln(pub.in, "dim")
	eventually(t, "the line is sent", func() bool { return strings.HasPrefix(pub.out.String(), "$") })
	pub.signal(os.Interrupt)
	pub.ends(130)
	if d := must(alice.GetDevicesInfo(t.Context()))(t); len(d.Devices) != 1 {
		t.Errorf("pub left devices behind: %+v", d.Devices)
	}
}

// TestShellSurvivesKill pulls the hub away under both ends of a pipe.
func TestShellSurvivesKill(t *testing.T) {
	const lines = 600
	h := startHub(t)
	alice := h.register("alice")
	h.register("bob")
	room(t, "lights", alice)
	sub := h.shell("sub", "-u", "bob", "-r", "#lights:"+serverName, "--count", fmt.Sprint(lines), "--timeout", "2m")
	sub.says("following")
	pub := h.shell("pub", "-u", "alice", "-r", "#lights:"+serverName)
	var want strings.Builder
	for n := range lines {
		fmt.Fprintf(&want, "line %d\n", n)
	}
	go io.WriteString(pub.in, want.String())
	for _, n := range []int{50, 200, 350} {
		eventually(t, fmt.Sprint(n, " lines"), func() bool { return strings.Count(sub.out.String(), "\n") >= n })
		h.kill()
		h.start()
	}
	eventually(t, "all lines", func() bool { return strings.Count(sub.out.String(), "\n") >= lines })
	pub.ends(0)
	sub.ends(0)
	if sub.out.String() != want.String() {
		t.Errorf("what came is not what was sent:\n%s", sub.out.String())
	}
}
