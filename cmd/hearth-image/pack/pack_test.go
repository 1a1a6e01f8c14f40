package pack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/blakesmith/ar"
)

const settings = "# Where everything is kept.\n#data_dir = \"hearth-data\"\n\n#server_name = \"\"\n"

// build packs small files in place of programs.
func build(t *testing.T, only ...string) []string {
	t.Helper()
	from := t.TempDir()
	for _, k := range Kinds() {
		if err := os.WriteFile(filepath.Join(from, "hearth-linux-"+k.Program), []byte("the program for "+k.Program), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	made, err := Build(Options{Programs: from, Settings: []byte(settings), To: t.TempDir(), Version: "0.1.0-git20260102030405",
		Time: time.Unix(1767323045, 0).UTC(), Only: only})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// entry is one file of an archive.
type entry struct {
	text string
	mode int64
}

// untar reads a tar.gz.
func untar(t *testing.T, r io.Reader) map[string]entry {
	t.Helper()
	z, err := gzip.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]entry{}
	for tr := tar.NewReader(z); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		all["/"+strings.TrimPrefix(strings.TrimPrefix(h.Name, "."), "/")] = entry{string(b), h.Mode}
	}
}

// unar reads the parts of a deb.
func unar(t *testing.T, path string) (control, data map[string]entry) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for r := ar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return control, data
		}
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case strings.HasPrefix(h.Name, "control.tar"):
			control = untar(t, r)
		case strings.HasPrefix(h.Name, "data.tar"):
			data = untar(t, r)
		}
	}
}

func TestDeb(t *testing.T) {
	made := build(t, "armhf.deb")
	if len(made) != 1 {
		t.Fatalf("%q were built", made)
	}
	control, data := unar(t, made[0])
	for _, want := range []string{"Package: hearth\n", "Version: 0.1.0~git20260102030405-1\n", "Architecture: armhf\n"} {
		if !strings.Contains(control["/control"].text, want) {
			t.Errorf("no %q in\n%s", want, control["/control"].text)
		}
	}
	if control["/conffiles"].text != "/etc/hearth/hearth.toml\n" {
		t.Errorf("conffiles: %q", control["/conffiles"].text)
	}
	for name, mode := range map[string]int64{"/usr/bin/hearth": 0o755, "/etc/hearth/hearth.toml": 0o644,
		"/usr/lib/systemd/system/hearth.service": 0o644, "/usr/lib/sysusers.d/hearth.conf": 0o644} {
		if got, ok := data[name]; !ok || got.mode&0o7777 != mode {
			t.Errorf("%s: there %v, mode %o", name, ok, got.mode)
		}
	}
	if got := data["/usr/bin/hearth"].text; got != "the program for armv6" {
		t.Errorf("armhf holds %q", got)
	}
	if got := data["/etc/hearth/hearth.toml"].text; !strings.Contains(got, "\ndata_dir = \"/var/lib/hearth\"\n") {
		t.Errorf("settings:\n%s", got)
	}
}

func TestOpenWrt(t *testing.T) {
	made := build(t, "cortex-a53.ipk")
	f, err := os.Open(made[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	outer := untar(t, f)
	control := untar(t, strings.NewReader(outer["/control.tar.gz"].text))
	data := untar(t, strings.NewReader(outer["/data.tar.gz"].text))
	if !strings.Contains(control["/control"].text, "Architecture: aarch64_cortex-a53\n") {
		t.Errorf("control:\n%s", control["/control"].text)
	}
	if data["/etc/init.d/hearth"].mode&0o111 == 0 {
		t.Error("the start script cannot be run")
	}
	if !strings.Contains(data["/etc/hearth/hearth.toml"].text, "/srv/hearth") || !strings.Contains(data["/lib/upgrade/keep.d/hearth"].text, "/srv/hearth") {
		t.Error("the data is not where a new system leaves it")
	}
}

// TestScripts reads all scripts as the shells that will, and as shellcheck, where those are there.
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("files/*.sh")
	if err != nil || len(scripts) < 6 {
		t.Fatal(scripts, err)
	}
	for _, name := range append(scripts, "files/hearth.procd") {
		for _, reader := range [][]string{{"sh", "-n"}, {"dash", "-n"}, {"busybox", "sh", "-n"}, {"shellcheck", "-s", "sh", "-e", "SC1091,SC2034"}} {
			if _, err := exec.LookPath(reader[0]); err != nil {
				continue
			}
			if out, err := exec.Command(reader[0], append(reader[1:], name)...).CombinedOutput(); err != nil {
				t.Errorf("%s of %s: %v\n%s", reader[0], name, err, out)
			}
		}
	}
}

// TestEveryKind builds all of them, and again: the bytes must be the same.
func TestEveryKind(t *testing.T) {
	first, second := build(t), build(t)
	if len(first) != len(Kinds()) {
		t.Fatalf("%d packages of %d kinds", len(first), len(Kinds()))
	}
	for i := range first {
		a, err := os.ReadFile(first[i])
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(second[i])
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s is not the same when built again", filepath.Base(first[i]))
		}
	}
}

// TestSettle: settings that changed their form must not silently lose the data folder.
func TestSettle(t *testing.T) {
	if _, err := settle([]byte("#data_dir = \"elsewhere\"\n"), "/srv"); err == nil {
		t.Error("settings without the line were taken")
	}
}
