package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// section gives the indented lines of a part of the README.
func section(t *testing.T, heading string) (lines []string) {
	t.Helper()
	_, rest, found := strings.Cut(string(must(os.ReadFile("../../../README.md"))(t)), "\n## "+heading+"\n")
	text, _, _ := strings.Cut(rest, "\n## ")
	for line := range strings.Lines(text) {
		if code, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "    "); ok {
			lines = append(lines, code)
		}
	}
	if !found || len(lines) == 0 {
		t.Fatalf("the README has no part %q", heading)
	}
	return lines
}

// TestReadmeThing runs the README's path of a thing on MQTT as it stands there: its
// settings file, and its commands in their order. Only the ports, the folder and the
// password that a person would type are the test's.
func TestReadmeThing(t *testing.T) {
	var settings, commands []string
	for _, line := range section(t, "Ten minutes: a thing on MQTT") {
		switch {
		case strings.HasPrefix(line, "bin/hearth "):
			commands = append(commands, line)
		case !strings.HasPrefix(line, "make run "):
			settings = append(settings, line)
		}
	}
	h, door := newHub(t, serverName), vacant(t)
	file := filepath.Join(t.TempDir(), "hearth.toml")
	text := strings.ReplaceAll(strings.Join(settings, "\n"), `"127.0.0.1:1883"`, `"`+door+`"`)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// A hub without a name is localhost, as the README has it.
	drop := func(flag string) {
		i := slices.Index(h.args, flag)
		h.args = slices.Delete(h.args, i, i+2)
	}
	drop("--server-name")
	drop("--mqtt-listen")
	drop("--registration")
	h.args = append(h.args, "--config", file)
	h.run()
	url := "U"
	prepare := func(line string) *exec.Cmd {
		line = strings.ReplaceAll(strings.Replace(line, "bin/hearth", program, 1), "--mqtt U ", "--mqtt "+url+" ")
		c := exec.Command("sh", "-c", line)
		c.Env = append(os.Environ(), "HEARTH_DATA_DIR="+h.dir, "HEARTH_SERVER="+h.url, "HEARTH_PASSWORD_FILE="+h.secret)
		if strings.Contains(line, "--mqtt") {
			c.Env = append(os.Environ(), "HEARTH_DATA_DIR="+h.dir) // the rest is in the address
		}
		c.Stdin = strings.NewReader(password + "\n")
		return c
	}
	heard := map[string]*lines{}
	for _, line := range commands {
		c := prepare(line)
		if strings.HasPrefix(line, "bin/hearth sub ") {
			out := &lines{}
			c.Args[2] = "exec " + c.Args[2]
			c.Stdout, c.Stderr = out, out
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Process.Kill(); c.Wait() })
			eventually(t, line+" follows", func() bool { return strings.Contains(out.text(), "following") })
			heard[line] = out
			continue
		}
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v %s", line, err, out)
		}
		if found := regexp.MustCompile(`in one +(\S+)`).FindSubmatch(out); found != nil {
			url = string(found[1])
		}
	}
	if len(heard) != 2 || len(commands) != 6 {
		t.Errorf("the README has other commands than this test knows: %q", commands)
	}
	for line, out := range heard {
		for _, want := range []string{"on", "21.5"} {
			if want == "21.5" && strings.Contains(line, "--mqtt") {
				continue // the thing does not listen to its reading
			}
			eventually(t, line+" prints "+want, func() bool { return strings.Contains("\n"+out.text(), "\n"+want+"\n") })
		}
	}
}

// lines is what a program has printed so far.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
