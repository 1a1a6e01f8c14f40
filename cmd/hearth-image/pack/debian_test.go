package pack

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDebian installs the package in a Debian root that make packages-test has made, runs the hub as the unit says,
// renews and removes the package. It needs root.
//
//	HEARTH_DEBROOT      the root; programs of another machine run where the kernel knows qemu-user for them
//	HEARTH_DEBARCH      as Debian calls it
//	HEARTH_PROGRAMS     folder with hearth-linux-…
//	HEARTH_SETTINGS     file with what hearth example-config prints
func TestDebian(t *testing.T) {
	d := newDebian(t)
	d.Cleanup(func() { d.in("dpkg", "--purge", "hearth") })
	d.live(&system{
		suffix:  "_" + d.arch + ".deb",
		install: func(path string) string { return d.in("dpkg", "-i", path) },
		remove:  func() string { return d.in("dpkg", "-r", "hearth") },
		purge:   func() { d.in("dpkg", "--purge", "hearth") },
	})
	if _, err := os.Stat(filepath.Join(d.root, "/etc/hearth/hearth.toml")); err == nil {
		t.Error("the settings are there after the purge")
	}
}

// TestRPM does the same with the package for RPM systems: in the same root, which has what its scripts need, by an rpm
// that stands outside of it. What the root is of that rpm does not know, so that dependencies are not looked at.
func TestRPM(t *testing.T) {
	d := newDebian(t)
	arch, known := map[string]string{"amd64": "x86_64", "arm64": "aarch64", "riscv64": "riscv64"}[d.arch]
	if !known {
		t.Skip("rpm has no name for the machine")
	}
	if _, err := exec.LookPath("rpm"); err != nil {
		t.Fatal("rpm is not there, without which no rpm is tested")
	}
	rpm := func(words ...string) string {
		t.Helper()
		cmd := exec.Command("rpm", append([]string{"--root", d.root}, words...)...)
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		b, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("rpm %q: %v\n%s", words, err, b)
		}
		return string(b)
	}
	if err := os.RemoveAll(filepath.Join(d.root, "var/lib/rpm")); err != nil {
		t.Fatal(err)
	}
	rpm("--initdb")
	d.live(&system{
		suffix: "_" + arch + ".rpm",
		install: func(path string) string {
			return rpm("-U", "--force-debian", "--nodeps", "--ignorearch", filepath.Join(d.root, path))
		},
		remove: func() string { return rpm("-e", "--nodeps", "hearth") },
		purge:  func() {},
	})
	if kept := d.read("/etc/hearth/hearth.toml.rpmsave"); !strings.Contains(kept, "deb.example") {
		t.Error("the owner's settings have gone")
	}
	if err := os.RemoveAll(filepath.Join(d.root, "etc/hearth")); err != nil {
		t.Fatal(err)
	}
}

// system is how packages come and go.
type system struct {
	suffix  string // of the package's file
	install func(path string) string
	remove  func() string
	purge   func()
}

// newDebian readies the root.
func newDebian(t *testing.T) *debian {
	d := &debian{T: t, root: os.Getenv("HEARTH_DEBROOT"), arch: os.Getenv("HEARTH_DEBARCH")}
	if d.root == "" {
		t.Skip("make packages-test runs this in a Debian root")
	}
	if err := syscall.Mount("proc", filepath.Join(d.root, "proc"), "proc", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(filepath.Join(d.root, "proc"), syscall.MNT_DETACH) })
	d.in("dpkg", "--purge", "hearth") // what a test that failed left
	if err := os.RemoveAll(filepath.Join(d.root, "var/lib/hearth")); err != nil {
		t.Fatal(err)
	}
	return d
}

// live is the life of a package.
func (d *debian) live(s *system) {
	d.Helper()
	old, renewed := d.build("0.1.0-git20260101000000", s.suffix), d.build("0.1.0-git20260102000000", s.suffix)
	said := s.install(old)
	if !strings.Contains(said, "Set server_name in /etc/hearth/hearth.toml") {
		d.Errorf("installing does not say what to do next:\n%s", said)
	}
	d.in("systemd-analyze", "verify", "/usr/lib/systemd/system/hearth.service")
	d.in("systemd-analyze", "security", "--offline=yes", "--threshold=20", "/usr/lib/systemd/system/hearth.service")

	conf := d.settle()
	hub := d.start()
	d.say("user", "add", "alice", "--admin", "--password-file", "/tmp/pw", "--config", "/etc/hearth/hearth.toml")
	reach := []string{"-u", "alice", "--password-file", "/tmp/pw", "--server", d.url, "-r", "#porch:deb.example"}
	d.say(append([]string{"pub", "--create", "-m", "before the upgrade"}, reach...)...)
	hub.stop()

	s.install(renewed)
	if got := d.read("/etc/hearth/hearth.toml"); got != conf {
		d.Error("the upgrade changed the owner's settings")
	}
	hub = d.start()
	if got := d.say(append([]string{"sub", "--past", "1", "-n", "1"}, reach...)...); !strings.HasSuffix(got, "\nbefore the upgrade\n") {
		d.Errorf("after the upgrade the room has %q", got)
	}
	hub.stop()

	if said := s.remove(); !strings.Contains(said, "data stays in /var/lib/hearth") {
		d.Errorf("removing does not say where the data is:\n%s", said)
	}
	s.purge()
	for name, there := range map[string]bool{"/usr/bin/hearth": false, "/usr/lib/systemd/system/hearth.service": false, "/var/lib/hearth/signing.key": true, "/var/lib/hearth/store": true} {
		if _, err := os.Stat(filepath.Join(d.root, name)); (err == nil) != there {
			d.Errorf("after the removal: %s: %v", name, err)
		}
	}
}

type debian struct {
	*testing.T
	root, arch string
	url        string
}

// build puts a package into the root and gives its path there.
func (d *debian) build(version, suffix string) string {
	d.Helper()
	text, err := os.ReadFile(os.Getenv("HEARTH_SETTINGS"))
	if err != nil {
		d.Fatal(err)
	}
	made, err := Build(Options{Programs: os.Getenv("HEARTH_PROGRAMS"), Settings: text, To: filepath.Join(d.root, "tmp"), Version: version,
		Time: time.Unix(1767323045, 0).UTC(), Only: []string{version + suffix}})
	if err != nil {
		d.Fatal(err)
	}
	return "/tmp/" + filepath.Base(made[0])
}

// in runs a command in the root and gives what it printed.
func (d *debian) in(words ...string) string {
	d.Helper()
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: d.root}
	cmd.Path = "/usr/bin/" + words[0]
	cmd.Err = nil
	b, err := cmd.CombinedOutput()
	if err != nil {
		d.Fatalf("%s: %v\n%s", words, err, b)
	}
	return string(b)
}

// say runs hearth itself in the root.
func (d *debian) say(words ...string) string {
	d.Helper()
	return d.in(append([]string{"hearth"}, words...)...)
}

// settle does what the owner does after installing, and gives the settings.
func (d *debian) settle() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		d.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	d.url = "http://" + addr
	text := d.read("/etc/hearth/hearth.toml") + "\nserver_name = \"deb.example\"\nclient_listen = \"" + addr + "\"\n"
	for name, text := range map[string]string{"/etc/hearth/hearth.toml": text, "/tmp/pw": "a long enough password\n"} {
		if err := os.WriteFile(filepath.Join(d.root, name), []byte(text), 0o644); err != nil {
			d.Fatal(err)
		}
	}
	return text
}

func (d *debian) read(name string) string {
	b, err := os.ReadFile(filepath.Join(d.root, name))
	if err != nil {
		d.Fatal(err)
	}
	return string(b)
}

// unit gives what a key of the installed unit says.
func (d *debian) unit(key string) string {
	for line := range strings.Lines(d.read("/usr/lib/systemd/system/hearth.service")) {
		if rest, ok := strings.CutPrefix(line, key+"="); ok {
			return strings.TrimSpace(rest)
		}
	}
	d.Fatalf("the unit has no %s", key)
	return ""
}

// ids gives the numbers of the unit's user.
func (d *debian) ids() (uid, gid int) {
	for line := range strings.Lines(d.read("/etc/passwd")) {
		if f := strings.Split(line, ":"); f[0] == d.unit("User") {
			uid, _ = strconv.Atoi(f[2])
			gid, _ = strconv.Atoi(f[3])
			return uid, gid
		}
	}
	d.Fatal("the package made no user")
	return 0, 0
}

// started is a hub that runs as the unit says.
type started struct {
	*testing.T
	cmd *exec.Cmd
}

// start stands in for systemd, which does not run in a changed root: it makes the state folder, runs the command as
// the user, waits until the hub says that it is ready and that it is alive, and asks it something.
func (d *debian) start() *started {
	d.Helper()
	uid, gid := d.ids()
	dir := filepath.Join(d.root, "/var/lib", d.unit("StateDirectory"))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		d.Fatal(err)
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		d.Fatal(err)
	}
	socket := filepath.Join(d.root, "tmp/notify")
	_ = os.Remove(socket)
	heard, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		d.Fatal(err)
	}
	d.Cleanup(func() { heard.Close() })
	if err := os.Chmod(socket, 0o666); err != nil {
		d.Fatal(err)
	}
	words := strings.Fields(d.unit("ExecStart"))
	ctx, end := context.WithCancel(context.Background())
	d.Cleanup(end)
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Dir = d.unit("WorkingDirectory")
	cmd.Env = []string{"NOTIFY_SOCKET=/tmp/notify", "WATCHDOG_USEC=2000000"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: d.root, Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	log := filepath.Join(d.TempDir(), "log")
	f, err := os.Create(log)
	if err != nil {
		d.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Start(); err != nil {
		d.Fatal(err)
	}
	for _, want := range []string{"READY=1", "WATCHDOG=1"} {
		d.hear(heard, want, log)
	}
	resp, err := http.Get(d.url + "/_matrix/client/versions")
	if err != nil {
		d.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 || !strings.Contains(string(b), "v1.11") {
		d.Fatalf("%s: %s", resp.Status, b)
	}
	return &started{d.T, cmd}
}

// hear waits for a word of the hub to its supervisor.
func (d *debian) hear(c *net.UnixConn, want, log string) {
	d.Helper()
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		d.Fatal(err)
	}
	for b := make([]byte, 4096); ; {
		n, err := c.Read(b)
		if err != nil {
			text, _ := os.ReadFile(log)
			d.Fatalf("no %s: %v\n%s", want, err, text)
		}
		for s := bufio.NewScanner(strings.NewReader(string(b[:n]))); s.Scan(); {
			if s.Text() == want {
				return
			}
		}
	}
}

// stop ends the hub as systemd does.
func (s *started) stop() {
	s.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		s.Errorf("the hub was told to stop: %v", err)
	}
}
