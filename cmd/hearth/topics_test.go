package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// listening is hearth sub, once it follows.
func listening(t *testing.T, args ...string) func() result {
	t.Helper()
	following, w := newNotice("following")
	var out bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- sub(args, streams{in: strings.NewReader(""), out: &out, err: w, env: func(string) string { return "" }})
	}()
	select {
	case <-following:
	case c := <-code:
		t.Fatalf("%q: code %d, %s", args, c, w.text.String())
	case <-time.After(patience):
		t.Fatal("it does not follow")
	}
	return func() result {
		select {
		case c := <-code:
			return result{c, out.String(), w.text.String()}
		case <-time.After(patience):
			t.Fatal("it does not end")
		}
		return result{}
	}
}

// notice is a writer that says when a word was written.
type notice struct {
	text bytes.Buffer
	word string
	came chan struct{}
}

func newNotice(word string) (chan struct{}, *notice) {
	n := &notice{word: word, came: make(chan struct{})}
	return n.came, n
}

func (n *notice) Write(b []byte) (int, error) {
	before := strings.Contains(n.text.String(), n.word)
	n.text.Write(b)
	if !before && strings.Contains(n.text.String(), n.word) {
		close(n.came)
	}
	return len(b), nil
}

// pub and sub by MQTT: with a secret and with a certificate, in all qualities.
func TestTopics(t *testing.T) {
	dir := t.TempDir()
	h := launch(t, nil, "--data-dir", dir, "--mqtt-listen", "127.0.0.1:0, tls://127.0.0.1:0")
	plain := regexp.MustCompile(`mqtt://([0-9.:]+)`).FindStringSubmatch(h.greet)[1]
	secure := regexp.MustCompile(`mqtts://[0-9.]+(:[0-9]+)`).FindStringSubmatch(h.greet)[1]
	var porch thingReport
	text, _ := runThing(t, "add", "porch", "--json", "--data-dir", dir)
	if err := json.Unmarshal([]byte(text), &porch); err != nil {
		t.Fatal(text, err)
	}
	secret, cert := filepath.Join(dir, "secret"), filepath.Join(dir, "porch.pem")
	text, _ = runThing(t, "cert", "porch", "--data-dir", dir)
	for file, content := range map[string]string{secret: porch.Password + "\n", cert: text} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	who := []string{"--mqtt", plain, "-u", "porch", "--password-file", secret}
	sealed := []string{"--mqtt", "mqtts://localhost" + secure, "--cert", cert, "--ca", filepath.Join(dir, "self-signed.crt")}
	with := func(first []string, more ...string) []string { return append(append([]string{}, first...), more...) }
	for _, qos := range []string{"0", "1", "2"} {
		hears := listening(t, with(sealed, "--topic", "porch/#", "-n", "3", "-v", "--qos", qos)...)
		if got := ask(pub, "one\n\ntwo\n", nil, with(who, "-t", "porch/a", "--qos", qos)...); got.code != exitDone || got.err != "" {
			t.Fatalf("%+v", got)
		}
		if got := ask(pub, "", nil, with(sealed, "--topic", "porch/b", "-m", "\x1b[2J", "--qos", qos)...); got.code != exitDone || got.err != "" {
			t.Fatalf("%+v", got)
		}
		if got := hears(); got.code != exitDone || got.out != "porch/a one\nporch/a two\nporch/b \\u001b[2J\n" {
			t.Errorf("QoS %s: %+v", qos, got)
		}
	}
	for _, m := range []string{`{"on": true}`, "21.5 C", "\xff"} {
		if got := ask(pub, "", nil, with(who, "--topic", "porch/kept", "--retain", "-m", m)...); got.code != exitDone {
			t.Fatalf("%+v", got)
		}
		got := ask(sub, "", nil, with(who, "--topic", "porch/+", "--event", "-n", "1", "-q")...)
		want := map[byte]string{'{': `"payload":{"on":true}`, '2': `"payload":"21.5 C"`, 0xff: `"payload_base64":"/w=="`}[m[0]]
		if got.out != `{"topic":"porch/kept","qos":1,"retain":true,`+want+"}\n" {
			t.Errorf("%+v", got)
		}
	}
	heavy := with(who, "--topic", "porch/slow", "--device", "sleeper", "-n", "1")
	hears := listening(t, heavy...)
	say := func(text string) {
		t.Helper()
		if got := ask(pub, "", nil, with(who, "--topic", "porch/slow", "-m", text)...); got.code != exitDone {
			t.Fatalf("%+v", got)
		}
	}
	say("1")
	if got := hears(); got.out != "1\n" {
		t.Errorf("%+v", got)
	}
	say("2")
	say("3")
	if out, code := runThing(t, "sessions", "--data-dir", dir); code != 0 || !regexp.MustCompile(`^porch +sleeper +away +2 messages wait, \d+ bytes`).MatchString(out) {
		t.Errorf("%d %q", code, out)
	}
	var sessions struct{ Sessions []loadReport }
	out, _ := runThing(t, "sessions", "--json", "--data-dir", dir)
	if err := json.Unmarshal([]byte(out), &sessions); err != nil || len(sessions.Sessions) == 0 || sessions.Sessions[0].Messages != 2 {
		t.Errorf("%v %s", err, out)
	}
	for _, want := range []string{"2\n", "3\n"} {
		if got := ask(sub, "", nil, heavy...); got.out != want {
			t.Errorf("%+v", got)
		}
	}
}

func TestTopicRefusals(t *testing.T) {
	dir := t.TempDir()
	h := launch(t, nil, "--data-dir", dir, "--mqtt-listen", "127.0.0.1:0")
	at := regexp.MustCompile(`mqtt://([0-9.:]+)`).FindStringSubmatch(h.greet)[1]
	var porch thingReport
	text, _ := runThing(t, "add", "porch", "--json", "--data-dir", dir)
	if err := json.Unmarshal([]byte(text), &porch); err != nil {
		t.Fatal(text, err)
	}
	who := []string{"--mqtt", at, "-u", "porch", "--password", porch.Password}
	for _, c := range []struct {
		command func([]string, streams) int
		args    []string
		code    int
	}{
		{pub, []string{"--mqtt", at, "-u", "porch", "--password", "hush", "--topic", "porch/a", "-m", "x"}, exitLogin},
		{sub, []string{"--mqtt", at, "-u", "porch", "--password", "hush", "--topic", "porch/a"}, exitLogin},
		{pub, append(who, "--topic", "other/a", "-m", "x"), exitRefused},
		{sub, append(who, "--topic", "other/#"), exitRoom},
		{sub, append(who, "--topic", "porch/#", "--timeout", "100ms"), exitDone},
		{sub, append(who, "--topic", "porch/#", "--timeout", "100ms", "-n", "1"), exitTimeout},
		{pub, []string{"--mqtt", "127.0.0.1:1", "-u", "a", "--password", "b", "--topic", "a", "-m", "x", "--timeout", "1ms"}, exitTimeout},
		{pub, append(who, "--topic", "a/+", "-m", "x"), exitUsage},
		{pub, append(who, "-m", "x"), exitUsage},
		{pub, append(who, "--topic", "a", "--topic", "b", "-m", "x"), exitUsage},
		{pub, append(who, "--topic", "a", "--json", "-m", "{}"), exitUsage},
		{pub, append(who, "--topic", "a", "--qos", "3", "-m", "x"), exitUsage},
		{pub, append(who, "--topic", "a", "-r", "#x:y", "-m", "x"), exitUsage},
		{pub, []string{"--token", "t", "-r", "#x:y", "--retain", "-m", "x"}, exitUsage},
		{pub, []string{"--mqtt", at, "--token", "t", "--topic", "a", "-m", "x"}, exitUsage},
		{pub, []string{"--mqtt", "http://x", "-u", "a", "--password", "b", "--topic", "a", "-m", "x"}, exitUsage},
		{pub, []string{"--mqtt", at, "--topic", "a", "-m", "x"}, exitUsage},
		{pub, []string{"--mqtt", at, "--cert", "/nowhere", "--topic", "a", "-m", "x"}, exitLocal},
		{sub, append(who, "--topic", "a/#/b"), exitUsage},
		{sub, who, exitUsage},
		{sub, append(who, "--topic", "a", "--past", "1"), exitUsage},
		{sub, []string{"--token", "t", "-r", "#x:y", "--topic", "a"}, exitUsage},
	} {
		got := ask(c.command, "", nil, c.args...)
		if got.code != c.code || strings.Contains(got.err, "hush") || strings.Contains(got.err, porch.Password) {
			t.Errorf("%q: %+v, not %d", c.args[len(c.args)-3:], got, c.code)
		}
	}
}
