package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"hearth/cmd/internal/config"
)

// patience bounds what a test waits for; nothing depends on its length.
const patience = 30 * time.Second

// runningHub is a hub in this process.
type runningHub struct {
	hub   *hub
	url   string
	greet string
	stop  func() string // gives what the hub logged
}

// launch runs a hub on a folder until stop or the end of the test.
func launch(t *testing.T, env map[string]string, args ...string) *runningHub {
	t.Helper()
	c, _, err := config.Load(config.Source{Args: append([]string{"--client-listen", "127.0.0.1:0"}, args...), Env: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	s := streams{out: &out, err: &errs, env: func(name string) string { return env[name] }}
	started, err := startHub(c, newLog(c, s))
	if err != nil {
		t.Fatal(err)
	}
	started.greet(&out)
	ctx, end := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- started.run(ctx, newSupervisor(s.env)) }()
	h := &runningHub{hub: started, greet: out.String()}
	h.url = regexp.MustCompile(`http://[0-9.:]+`).FindString(h.greet)
	h.stop = func() string {
		end()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("the end: %v", err)
			}
		case <-time.After(patience):
			t.Fatal("the hub does not stop")
		}
		h.stop = func() string { return "" }
		return errs.String()
	}
	t.Cleanup(func() { h.stop() })
	return h
}

// call asks the hub's client API and gives status and body.
func call(t *testing.T, method, url, token, body string) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var v map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, v
}

func login(t *testing.T, h *runningHub, name, password string) (int, string) {
	t.Helper()
	status, v := call(t, "POST", h.url+"/_matrix/client/v3/login", "",
		fmt.Sprintf(`{"type":"m.login.password","identifier":{"type":"m.id.user","user":%q},"password":%q}`, name, password))
	token, _ := v["access_token"].(string)
	return status, token
}

// manage runs hearth user with standard input, and gives code and output.
func manage(input string, args ...string) string {
	got := ask(run, input, nil, append([]string{"user"}, args...)...)
	return fmt.Sprintf("%d %s%s", got.code, got.out, got.err)
}

// The users of a hub are managed while it runs, and on its folder while it does not.
func TestUsers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	at := "--data-dir=" + dir
	if got := manage("", "list", at); !strings.Contains(got, "there is no hub in "+dir) {
		t.Error(got)
	}
	h := launch(t, nil, at, "--server-name", "hub.test")
	if !strings.Contains(h.greet, "The hub hub.test is running") || !regexp.MustCompile(`(?m)^    [a-z0-9]{4}(-[a-z0-9]{4}){3}$`).MatchString(h.greet) ||
		!strings.Contains(h.greet, "hearth user add --data-dir "+dir+" alice --admin") {
		t.Errorf("greeted with:\n%s", h.greet)
	}
	story := func(where string) {
		t.Helper()
		for _, step := range []struct{ input, args, want string }{
			{"correct horse\n", "add alice" + where + " --admin", "0 @alice" + where + ":hub.test is a user of this hub now.\n"},
			{"correct horse\n", "add alice" + where, "1 hearth user: the user name is taken\n"},
			{"short\n", "add bob" + where, "1 hearth user: a password has at least 8 bytes\n"},
			{"", "add bob" + where, "2 hearth user: no password for bob" + where + ": type it into standard input, or give --password-file\nhearth user --help explains.\n"},
			{"battery staple\n", "passwd @alice" + where + ":hub.test", "0 @alice" + where + ":hub.test has a new password; all devices were logged out.\n"},
			{"battery staple\n", "passwd nobody", "1 hearth user: there is no user @nobody:hub.test\n"},
			{"long enough\n", "add carol" + where, "0 @carol" + where + ":hub.test is a user of this hub now.\n"},
			{"", "deactivate carol" + where, "0 @carol" + where + ":hub.test is deactivated for good.\n"},
		} {
			if got := manage(step.input, append(strings.Fields(step.args), at)...); got != step.want {
				t.Errorf("%s:\n got %q\nwant %q", step.args, got, step.want)
			}
		}
	}
	story("1")
	if status, token := login(t, h, "alice1", "battery staple"); status != 200 || token == "" {
		t.Errorf("login is %d", status)
	}
	if status, _ := login(t, h, "carol1", "long enough"); status == 200 {
		t.Error("a deactivated user logs in")
	}
	log := h.stop()
	if !strings.Contains(log, "msg=stopped") || strings.Contains(log, "horse") {
		t.Errorf("the log is:\n%s", log)
	}
	story("2")
	got := manage("", "list", at)
	if !regexp.MustCompile(`(?s)^0 @alice1:hub.test .*  admin\n@carol1:hub.test .*  deactivated\n@alice2:hub.test .*  admin\n@carol2:hub.test .*  deactivated\n$`).MatchString(got) {
		t.Errorf("the list is:\n%s", got)
	}
	again := launch(t, nil, at)
	if !strings.Contains(again.greet, "The hub hub.test") || strings.Contains(again.greet, "Nobody owns") {
		t.Errorf("the second time it greets with:\n%s", again.greet)
	}
}

func TestWrongUse(t *testing.T) {
	for args, want := range map[string]string{
		"":                       "what shall be done?",
		"ad alice":               `there is no "ad"`,
		"add":                    "which user?",
		"add a b":                `unexpected argument "b"`,
		"list --admin":           "--admin goes with add only",
		"add x --erase":          "--erase goes with deactivate only",
		"list --password-file x": "--password-file goes with",
		"list --colour":          "there is no flag --colour",
		"list --config /none":    "cannot be read",
	} {
		if got := manage("", strings.Fields(args)...); !strings.HasPrefix(got, "2 hearth user: ") || !strings.Contains(got, want) {
			t.Errorf("user %s: %q, want %s", args, got, want)
		}
	}
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 120))
	h := launch(t, nil, "--data-dir", long)
	if got := manage("long enough\n", "add", "alice", "--data-dir", long); !strings.HasPrefix(got, "0 ") {
		t.Errorf("a long path: %s", got)
	}
	h.stop()
}

// One hub on a folder, and always by the same name.
func TestOneHub(t *testing.T) {
	dir := t.TempDir()
	h := launch(t, nil, "--data-dir", dir)
	command := func(args ...string) string {
		got := ask(run, "", nil, args...)
		return fmt.Sprintf("%d %s%s", got.code, got.out, got.err)
	}
	if got := command("serve", "--data-dir", dir, "--client-listen", "127.0.0.1:0"); !strings.HasPrefix(got, "1 ") || !strings.Contains(got, "another hub runs on the data folder "+dir) {
		t.Errorf("a second hub: %s", got)
	}
	addr := strings.TrimPrefix(h.url, "http://")
	other := t.TempDir()
	if got := command("serve", "--data-dir", other, "--client-listen", addr); !strings.HasPrefix(got, "1 ") ||
		!strings.Contains(got, "--client-listen: no listening on "+addr+": address already in use; another program has it") {
		t.Errorf("a second hub on the same port: %s", got)
	}
	if got := command("check", "--data-dir", other, "--client-listen", addr); !strings.HasPrefix(got, "1 ") || !strings.Contains(got, "WRONG  --client-listen: no listening") {
		t.Errorf("check: %s", got)
	}
	if got := command("check", "--data-dir", dir); !strings.HasPrefix(got, "0 ") || !strings.Contains(got, "a hub is running on this folder now") {
		t.Errorf("check of a running hub: %s", got)
	}
	h.stop()
	got := command("serve", "--data-dir", dir, "--server-name", "other.test", "--client-listen", "127.0.0.1:0")
	if !strings.HasPrefix(got, "1 hearth serve: the data folder belongs to the server localhost and cannot become other.test") {
		t.Errorf("another name: %s", got)
	}
	if got := command("serve", "--mqtt-listen", "1883", "--server-name", "Not Good"); !strings.HasPrefix(got, "2 hearth serve: --server-name: ") || !strings.Contains(got, "--mqtt-listen: \"1883\" is not an address") {
		t.Errorf("wrong settings: %s", got)
	}
	if got := command("example-config"); !strings.HasPrefix(got, "0 # Settings of a Hearth hub.") {
		t.Errorf("example-config: %s", got)
	}
}

// systemd is told when the hub is ready, that it lives, and when it stops.
func TestSupervisor(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	ln, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if err := ln.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	heard := func() string {
		var buf [256]byte
		n, err := ln.Read(buf[:])
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	h := launch(t, map[string]string{"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "20000", "WATCHDOG_PID": fmt.Sprint(os.Getpid()), "JOURNAL_STREAM": "1:2"},
		"--data-dir", t.TempDir())
	code := strings.TrimPrefix(heard(), "READY=1\nSTATUS=running\nX_HEARTH_PORT=0\nX_HEARTH_CLAIM=")
	if len(code) != 19 {
		t.Errorf("the claim code is %q", code)
	}
	for _, want := range []string{"WATCHDOG=1", "WATCHDOG=1"} {
		if got := heard(); got != want {
			t.Errorf("heard %q, want %q", got, want)
		}
	}
	log := h.stop()
	if strings.Contains(log, "time=") {
		t.Errorf("the journal has the time already: %s", log)
	}
	got := heard()
	for got == "WATCHDOG=1" {
		got = heard()
	}
	if got != "STOPPING=1\nSTATUS=stopping" {
		t.Errorf("at the end heard %q", got)
	}
	if s := newSupervisor(func(name string) string {
		return map[string]string{"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"}[name]
	}); s.every != 0 || s.socket != "\x00x" {
		t.Errorf("another's watchdog: %+v", s)
	}
}

// A hub that is told to stop while it starts has started and stops.
func TestStartAndStop(t *testing.T) {
	c, _, err := config.Load(config.Source{Args: []string{"--client-listen", "127.0.0.1:0", "--data-dir", t.TempDir()}, Env: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	end()
	var out, errs bytes.Buffer
	if err := runHub(ctx, c, streams{out: &out, err: &errs, env: func(string) string { return "" }}); err != nil {
		t.Error(err)
	}
	if !strings.HasPrefix(out.String(), "The hub localhost is running") || !strings.Contains(out.String(), "server_name is not set") ||
		!strings.Contains(errs.String(), "msg=ready server=localhost") || !strings.Contains(errs.String(), "msg=stopped") {
		t.Errorf("%s\n%s", out.String(), errs.String())
	}
}

// The end answers those who poll, at once.
func TestEndOfPolls(t *testing.T) {
	dir := t.TempDir()
	h := launch(t, nil, "--data-dir", dir)
	if got := manage("long enough\n", "add", "alice", "--data-dir", dir); !strings.HasPrefix(got, "0 ") {
		t.Fatal(got)
	}
	_, token := login(t, h, "alice", "long enough")
	_, first := call(t, "GET", h.url+"/_matrix/client/v3/sync", token, "")
	type answer struct {
		status int
		body   map[string]any
	}
	answers := make(chan answer, 3)
	for range cap(answers) {
		go func() {
			status, body := call(t, "GET", fmt.Sprint(h.url, "/_matrix/client/v3/sync?timeout=600000&since=", first["next_batch"]), token, "")
			answers <- answer{status, body}
		}()
	}
	for h.hub.engine.Sync.Waiting() < cap(answers) {
		runtime.Gosched()
	}
	h.stop()
	for range cap(answers) {
		if a := <-answers; a.status != 200 || a.body["next_batch"] == nil {
			t.Errorf("a poll ends with %d %v", a.status, a.body)
		}
	}
}

// The TLS door shows a certificate of the hub's own, and says so.
func TestTLSDoor(t *testing.T) {
	dir := t.TempDir()
	h := launch(t, nil, "--data-dir", dir, "--federation-listen", "127.0.0.1:0", "--rate-limits", "off", "--memory-limit", "64MiB")
	if !strings.Contains(h.greet, "https://127.0.0.1:") || !strings.Contains(h.greet, "self-signed") {
		t.Errorf("greeted with:\n%s", h.greet)
	}
	if _, err := os.Stat(filepath.Join(dir, "self-signed.crt")); err != nil {
		t.Error(err)
	}
	if status, v := call(t, "GET", h.url+"/_matrix/client/versions", "", ""); status != 200 || v["versions"] == nil {
		t.Errorf("%d %v", status, v)
	}
}
