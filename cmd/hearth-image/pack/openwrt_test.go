package pack

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestOpenWrtRoot installs the packages for OpenWrt in a root of busybox alone, runs the hub as the start script says,
// renews and removes the package, as opkg (ipk) and apk do it. What of OpenWrt the scripts use is played by files
// below testdata. It needs root, busybox, and what make packages-test gives it:
//
//	HEARTH_OPKG         a static opkg that does it, and
//	HEARTH_APK          a static apk: where they are not set, what they do is played by this test
//	HEARTH_DEBARCH      the machine, as Debian calls it
//	HEARTH_PROGRAMS     folder with hearth-linux-…
//	HEARTH_SETTINGS     file with what hearth example-config prints
func TestOpenWrtRoot(t *testing.T) {
	settings := os.Getenv("HEARTH_SETTINGS")
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64_generic", "riscv64": "riscv64_generic"}[os.Getenv("HEARTH_DEBARCH")]
	if settings == "" || arch == "" {
		t.Skip("make packages-test runs this")
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal("busybox is not there, without which no OpenWrt package is tested")
	}
	text, err := os.ReadFile(settings)
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"ipk", "apk"} {
		t.Run(format, func(t *testing.T) {
			w := &openwrt{T: t, root: t.TempDir(), format: format, arch: arch, settings: text}
			if err := os.Chmod(w.root, 0o755); err != nil { // for the hub's user
				t.Fatal(err)
			}
			w.furnish(busybox)
			w.program(os.Getenv("HEARTH_" + map[string]string{"ipk": "OPKG", "apk": "APK"}[format]))
			w.story()
		})
	}
}

// story is the life of a package.
func (w *openwrt) story() {
	said := w.install("0.1.0-git20260101000000", false)
	if !strings.Contains(said, "Set server_name in /etc/hearth/hearth.toml") || strings.Contains(w.log(), "start") {
		w.Errorf("installing says\n%s\nand does\n%s", said, w.log())
	}
	user := w.line("/etc/passwd", "hearth:")
	if group := w.line("/etc/group", "hearth:"); len(user) != 7 || len(group) != 4 || user[3] != group[2] || user[5] != "/srv/hearth" {
		w.Errorf("the user %q, the group %q", user, group)
	}
	w.settle()
	w.sh("/etc/init.d/hearth enable; /etc/init.d/hearth start")
	w.has("enable", "start", "user hearth", "group hearth", "command /usr/bin/hearth serve --config /etc/hearth/hearth.toml", "no_new_privs 1",
		"respawn 3600 5 5", "limits nofile=65536 65536")
	hub := w.start(user)
	reach := " -u alice --password-file /tmp/pw --server " + w.url + " -r '#porch:wrt.example'"
	w.sh("hearth user add alice --admin --password-file /tmp/pw --config /etc/hearth/hearth.toml")
	w.sh("hearth pub --create -m 'before the upgrade'" + reach)

	owners := w.read("/etc/hearth/hearth.toml")
	if said := w.install("0.1.0-git20260102000000", true); strings.Contains(said, "server_name") {
		w.Errorf("the upgrade says\n%s", said)
	}
	w.has("restart")
	if strings.Contains(w.log(), "stop") || w.read("/etc/hearth/hearth.toml") != owners || len(w.line("/etc/passwd", "hearth:")) != 7 {
		w.Errorf("the upgrade does\n%s", w.log())
	}
	hub()
	hub = w.start(user)
	if got := w.sh("hearth sub --past 1 -n 1" + reach); !strings.HasSuffix(got, "\nbefore the upgrade\n") {
		w.Errorf("after the upgrade the room has %q", got)
	}
	hub()

	w.forget()
	w.remove()
	w.has("stop", "disable")
	for name, there := range map[string]bool{"/usr/bin/hearth": false, "/srv/hearth/signing.key": true, "/srv/hearth/store": true} {
		if _, err := os.Stat(w.at(name)); (err == nil) != there {
			w.Errorf("after the removal: %s: %v", name, err)
		}
	}
}

// openwrt is a root with busybox.
type openwrt struct {
	*testing.T
	root, format string
	arch         string // as OpenWrt calls it
	settings     []byte
	url, addr    string
	real         string   // the system's own program in the root, where there is one
	files        []string // of the package
	scripts      map[string]string
}

func (w *openwrt) at(name string) string { return filepath.Join(w.root, name) }

func (w *openwrt) write(name, text string, mode os.FileMode) {
	w.Helper()
	if err := os.MkdirAll(filepath.Dir(w.at(name)), 0o755); err != nil {
		w.Fatal(err)
	}
	if err := os.WriteFile(w.at(name), []byte(text), mode); err != nil {
		w.Fatal(err)
	}
}

func (w *openwrt) read(name string) string {
	w.Helper()
	b, err := os.ReadFile(w.at(name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.Fatal(err)
	}
	return string(b)
}

// furnish makes the root.
func (w *openwrt) furnish(busybox string) {
	b, err := os.ReadFile(busybox)
	if err != nil {
		w.Fatal(err)
	}
	w.write("/bin/busybox", string(b), 0o755)
	for _, dir := range []string{"/tmp", "/dev", "/etc", "/srv", "/usr/bin"} {
		if err := os.MkdirAll(w.at(dir), 0o755); err != nil {
			w.Fatal(err)
		}
	}
	err = os.Symlink("busybox", w.at("/bin/sh"))
	if err == nil {
		err = syscall.Mknod(w.at("/dev/null"), syscall.S_IFCHR|0o666, 1<<8|3)
	}
	if err == nil {
		err = os.Chmod(w.at("/dev/null"), 0o666) // the mask took some of it
	}
	if err != nil {
		w.Fatal(err)
	}
	w.sh("/bin/busybox --install -s /bin")
	w.write("/etc/passwd", "root:x:0:0:root:/root:/bin/ash\nnobody:*:65534:65534:nobody:/var:/bin/false\n", 0o644)
	w.write("/etc/group", "root:x:0:\nnogroup:x:65534:\n", 0o644)
	w.write("/tmp/pw", "a long enough password\n", 0o644)
	for name, from := range map[string]string{"/lib/functions.sh": "functions.sh", "/etc/rc.common": "rc.common"} {
		text, err := os.ReadFile(filepath.Join("testdata", from))
		if err != nil {
			w.Fatal(err)
		}
		w.write(name, string(text), 0o755)
	}
}

// What installs and upgrades.
const (
	opkgInstall = "opkg install"
	apkAdd      = "apk add --allow-untrusted --no-network"
)

// program brings the system's own program into the root, with what it wants to find there.
func (w *openwrt) program(path string) {
	w.Helper()
	if path == "" {
		return
	}
	b, err := os.ReadFile(path)
	if err != nil {
		w.Fatal(err)
	}
	if w.format == "ipk" {
		w.real = opkgInstall
		w.write("/bin/opkg", string(b), 0o755)
		w.write("/etc/opkg.conf", "dest root /\nlists_dir ext /var/opkg-lists\narch all 1\narch "+w.arch+" 10\n", 0o644)
		for _, dir := range []string{"/var/lock", "/usr/lib/opkg/info"} {
			if err := os.MkdirAll(w.at(dir), 0o755); err != nil {
				w.Fatal(err)
			}
		}
		return
	}
	w.real = apkAdd
	w.write("/bin/apk", string(b), 0o755)
	w.write("/etc/apk/arch", w.arch+"\n", 0o644)
	w.sh("apk add --initdb --no-network")
}

// sh runs a line of the shell in the root.
func (w *openwrt) sh(line string, env ...string) string {
	w.Helper()
	cmd := exec.Command("/bin/sh", "-c", line)
	cmd.Dir, cmd.Env = "/", append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: w.root}
	b, err := cmd.CombinedOutput()
	if err != nil {
		w.Fatalf("%s: %v\n%s", line, err, b)
	}
	return string(b)
}

// log is what the start script was told, and told procd.
func (w *openwrt) log() string { return w.read("/tmp/procd.log") }

func (w *openwrt) forget() {
	if err := os.Remove(w.at("/tmp/procd.log")); err != nil {
		w.Fatal(err)
	}
}

func (w *openwrt) has(lines ...string) {
	w.Helper()
	got := strings.Split(w.log(), "\n")
	for _, line := range lines {
		if !slices.Contains(got, line) {
			w.Errorf("no %q in\n%s", line, w.log())
		}
	}
}

// line is the fields of the one line of a file that begins so.
func (w *openwrt) line(name, prefix string) (fields []string) {
	for line := range strings.Lines(w.read(name)) {
		if strings.HasPrefix(line, prefix) {
			fields = append(fields, strings.Split(strings.TrimSpace(line), ":")...)
		}
	}
	return fields
}

// install unpacks a package and runs its scripts as the system's program does: the owner's settings stay.
func (w *openwrt) install(version string, upgrade bool) string {
	w.Helper()
	made, err := Build(Options{Programs: os.Getenv("HEARTH_PROGRAMS"), Settings: w.settings, To: w.TempDir(), Version: version,
		Time: time.Unix(1767323045, 0).UTC(), Only: []string{version + "_" + w.arch + "." + w.format}})
	if err != nil {
		w.Fatal(err)
	}
	if w.real != "" {
		b, err := os.ReadFile(made[0])
		if err != nil {
			w.Fatal(err)
		}
		w.write("/tmp/new."+w.format, string(b), 0o644)
		return w.sh(w.real + " /tmp/new." + w.format)
	}
	said := ""
	if upgrade && w.format == "ipk" {
		w.write("/tmp/prerm", w.scripts["prerm"], 0o755)
		said += w.sh("/tmp/prerm upgrade " + version)
	}
	data, scripts := w.unpack(made[0])
	w.scripts, w.files = scripts, nil
	for name, e := range data {
		if strings.HasSuffix(name, "/") {
			continue
		}
		w.files = append(w.files, name)
		if upgrade && name == "/etc/hearth/hearth.toml" {
			continue // the old default is the new one: what the owner has stays
		}
		if err := os.Remove(w.at(name)); err != nil && !errors.Is(err, os.ErrNotExist) { // it may be running
			w.Fatal(err)
		}
		w.write(name, e.text, os.FileMode(e.mode).Perm())
	}
	script := "postinst"
	if w.format == "apk" && upgrade {
		script = "post-upgrade"
	}
	if w.scripts[script] == "" {
		w.Fatalf("there is no %s among the scripts", script)
	}
	w.write("/tmp/"+script, w.scripts[script], 0o755)
	return said + w.sh("/tmp/"+script+" configure")
}

// unpack takes a package apart.
func (w *openwrt) unpack(path string) (data map[string]entry, scripts map[string]string) {
	w.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		w.Fatal(err)
	}
	scripts = map[string]string{}
	if w.format == "ipk" {
		outer := untar(w.T, bytes.NewReader(b))
		for name, e := range untar(w.T, strings.NewReader(outer["/control.tar.gz"].text)) {
			scripts[strings.TrimPrefix(name, "/")] = e.text
		}
		return untar(w.T, strings.NewReader(outer["/data.tar.gz"].text)), scripts
	}
	// An apk is archives one after the other, of which only the last has an end.
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		w.Fatal(err)
	}
	var whole bytes.Buffer
	zw := gzip.NewWriter(&whole)
	if _, err = io.Copy(zw, z); err == nil {
		err = zw.Close()
	}
	if err != nil {
		w.Fatal(err)
	}
	data = untar(w.T, &whole)
	for from, to := range map[string]string{"/post-install": "postinst", "/post-upgrade": "post-upgrade", "/pre-deinstall": "prerm", "/PKGINFO": "about"} {
		scripts[to] = data[from].text // untar takes the dot away
		delete(data, from)
	}
	return data, scripts
}

// remove runs the last script and deletes the package's files.
func (w *openwrt) remove() {
	w.Helper()
	switch w.real {
	case opkgInstall:
		w.sh("opkg remove hearth")
		return
	case apkAdd:
		w.sh("apk del --no-network hearth")
		return
	}
	w.write("/tmp/prerm", w.scripts["prerm"], 0o755)
	w.sh("/tmp/prerm remove")
	for _, name := range w.files {
		if err := os.Remove(w.at(name)); err != nil {
			w.Error(err)
		}
	}
}

// settle does what the owner does after installing.
func (w *openwrt) settle() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.Fatal(err)
	}
	w.addr = l.Addr().String()
	l.Close()
	w.url = "http://" + w.addr
	w.write("/etc/hearth/hearth.toml", w.read("/etc/hearth/hearth.toml")+"\nserver_name = \"wrt.example\"\nclient_listen = \""+w.addr+"\"\n", 0o644)
}

// start stands in for procd: it runs the hub as its user until the end of what start gives is called.
func (w *openwrt) start(user []string) (end func()) {
	w.Helper()
	uid, _ := strconv.Atoi(user[2])
	gid, _ := strconv.Atoi(user[3])
	cmd := exec.Command("/usr/bin/hearth", "serve", "--config", "/etc/hearth/hearth.toml")
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: w.root, Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = cmd.Process.Kill() }) // it has ended, where all went well
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(time.Minute); ; <-tick.C {
		resp, err := http.Get(w.url + "/_matrix/client/versions")
		if err == nil {
			resp.Body.Close()
			break
		}
		if time.Now().After(until) {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			w.Fatalf("the hub does not serve: %v\n%s", err, said.String())
		}
	}
	return func() {
		w.Helper()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			w.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			w.Errorf("the hub was told to stop: %v\n%s", err, said.String())
		}
	}
}
