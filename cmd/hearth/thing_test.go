package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"hearth/cmd/internal/config"
	"hearth/firmware/console"
)

func runThing(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(append([]string{"thing"}, args...), streams{in: strings.NewReader(""), out: &o, err: &e, env: func(string) string { return "" }})
	return o.String() + e.String(), code
}

// The commands say the same whether a hub runs on the folder or not.
func TestThingCommands(t *testing.T) {
	dir := t.TempDir()
	h := launch(t, nil, "--data-dir", dir)
	for i, name := range []string{"porch", "attic"} {
		out, code := runThing(t, "add", name, "--data-dir", dir, "--json", "--allow", "read:home/#", "--allow", "log/"+name)
		var got thingReport
		if err := json.Unmarshal([]byte(out), &got); code != 0 || err != nil {
			t.Fatal(out, err)
		}
		if got.Username != name || len(got.Password) < 30 || got.ID != "@"+got.ID[1:] || strings.Join(got.Topics, " ") != name+"/# read:home/# log/"+name {
			t.Errorf("%+v", got)
		}
		if out, code := runThing(t, "add", name, "--data-dir", dir); code != 1 || !strings.Contains(out, "already") {
			t.Error(out)
		}
		out, code = runThing(t, "cert", name, "--data-dir", dir)
		if first, rest := pem.Decode([]byte(out)); code != 0 || first == nil || first.Type != "CERTIFICATE" || !strings.Contains(string(rest), "PRIVATE KEY") {
			t.Error(out)
		}
		if out, code := runThing(t, "show", name, "--data-dir", dir); code != 0 || !strings.Contains(out, "certificate ") {
			t.Error(out)
		}
		if i == 0 {
			h.stop()
		}
	}
	out, code := runThing(t, "list", "--json", "--data-dir", dir)
	var list struct {
		Things []thingReport
	}
	if err := json.Unmarshal([]byte(out), &list); code != 0 || err != nil || len(list.Things) != 2 || strings.Contains(out, "password") {
		t.Fatal(out, err)
	}
	if out, code := runThing(t, "revoke", "porch", "--data-dir", dir); code != 0 {
		t.Error(out)
	}
	if out, _ := runThing(t, "list", "--data-dir", dir); !strings.Contains(out, "revoked") {
		t.Error(out)
	}
	if out, code := runThing(t, "add", "lamp", "--qr", "--data-dir", dir); code != 1 || !strings.Contains(out, "mqtt_listen") || !strings.Contains(out, "no address") {
		t.Error(code, out)
	}
	for _, args := range [][]string{{}, {"add"}, {"fly", "x"}, {"add", "a", "b"}, {"add", "x", "--allow", "a/#/b"}, {"list", "--qr"}} {
		if out, code := runThing(t, args...); code != 2 {
			t.Errorf("%q: code %d, %s", args, code, out)
		}
	}
}

// A thing is told where it finds the hub, in words, in JSON and by a QR code.
func TestThingAddresses(t *testing.T) {
	dir := t.TempDir()
	h := launch(t, nil, "--data-dir", dir, "--mqtt-listen", "127.0.0.1:0, tls://0.0.0.0:0", "--mdns", "off")
	plain := regexp.MustCompile(`mqtt://127\.0\.0\.1:\d+`).FindString(h.greet)
	secure := regexp.MustCompile(`mqtts://[0-9.]+(:\d+)`).FindStringSubmatch(h.greet)[1]
	add := func(more ...string) (got thingReport) {
		t.Helper()
		out, code := runThing(t, append([]string{"--json", "--data-dir", dir}, more...)...)
		if err := json.Unmarshal([]byte(out), &got); code != 0 || err != nil {
			t.Fatal(out, err)
		}
		return got
	}
	got := add("add", "porch", "--allow", "porch/#", "--allow", "porch/x", "--allow", "read:home/#", "--allow", "write:home/#")
	if strings.Join(got.Topics, " ") != "porch/# home/#" || got.URL != "mqtt://porch:"+got.Password+"@"+strings.TrimPrefix(plain, "mqtt://") {
		t.Errorf("%+v", got)
	}
	if len(got.Brokers) != 2 || got.Brokers[0] != plain || !strings.HasSuffix(got.Brokers[1], secure) || strings.Contains(got.Brokers[1], "0.0.0.0") {
		t.Errorf("%q", got.Brokers)
	}
	if show := add("show", "porch"); show.URL != "" || show.Password != "" || len(show.Brokers) != 2 {
		t.Errorf("%+v", show)
	}
	if r := pubMQTT(t, plain, got.Username, got.Password, "home/x"); r.code != 0 {
		t.Errorf("what is allowed: %+v", r)
	}
	if r := pubMQTT(t, plain, got.Username, got.Password, "other/x"); r.code == 0 {
		t.Errorf("what is not: %+v", r)
	}
	// The one address is enough, and says nothing against what else is given.
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"--mqtt", got.URL}, 0}, {[]string{"--mqtt", got.URL, "-u", "porch"}, 0}, {[]string{"--mqtt", got.URL, "-u", "attic"}, exitUsage},
		{[]string{"--mqtt", got.URL, "--password-file", file}, exitUsage}, {[]string{"--mqtt", "mqtt://a:b@"}, exitUsage}, {[]string{"--mqtt", plain}, exitUsage},
		{[]string{"--mqtt", strings.Replace(got.URL, got.Password, "wrong", 1)}, exitLogin},
	} {
		var o, e bytes.Buffer
		if code := run(append([]string{"pub", "--topic", "porch/x", "-m", "x", "--timeout", "20s"}, c.args...),
			streams{in: strings.NewReader(""), out: &o, err: &e, env: func(string) string { return "" }}); code != c.code || strings.Contains(e.String(), got.Password) {
			t.Errorf("%q: code %d, %s", c.args, code, e.String())
		}
	}
	out, code := runThing(t, "add", "lamp", "--qr", "--data-dir", dir)
	secret := regexp.MustCompile(`password  (\S+)`).FindStringSubmatch(out)
	var want bytes.Buffer
	if secret == nil || console.QR(&want, "mqtt://lamp:"+secret[1]+"@"+strings.TrimPrefix(plain, "mqtt://")) != nil || code != 0 || !strings.HasSuffix(out, want.String()) || !strings.Contains(out, plain) {
		t.Errorf("%d %s", code, out)
	}
	for _, c := range []struct {
		listen string
		named  bool
		want   string
	}{{"127.0.0.1:1883", true, "mqtt://127.0.0.1:1883"}, {"tls://[::1]:8883", false, "mqtts://[::1]:8883"}, {"192.168.1.2:1", true, "mqtt://192.168.1.2:1"}} {
		if got := thingAddresses([]string{c.listen, "nonsense"}, c.named); len(got) != 1 || got[0] != c.want {
			t.Errorf("%s: %q", c.listen, got)
		}
	}
}

// pubMQTT publishes by hearth pub.
func pubMQTT(t *testing.T, at, user, password, topic string) result {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	var o, e bytes.Buffer
	code := run([]string{"pub", "--mqtt", at, "-u", user, "--password-file", file, "--topic", topic, "-m", "x"},
		streams{in: strings.NewReader(""), out: &o, err: &e, env: func(string) string { return "" }})
	return result{code, o.String(), e.String()}
}

// Every ready mapping can be appended to a settings file as it is shown.
func TestReadyMappings(t *testing.T) {
	names, err := readyNames()
	if err != nil || len(names) < 4 {
		t.Fatal(names, err)
	}
	for _, n := range names {
		var o, e bytes.Buffer
		if code := run([]string{"mapping", "show", n[0], "--room", "#house:hub"}, streams{out: &o, err: &e}); code != 0 {
			t.Fatal(e.String())
		}
		c, _, err := config.Load(config.Source{
			Args: []string{"--config", n[0]}, Env: func(string) string { return "" }, Read: func(string) ([]byte, error) { return o.Bytes(), nil },
		})
		if err != nil || len(c.Mappings) == 0 {
			t.Errorf("%s: %v", n[0], err)
		}
	}
}

func TestMappingAndExportCommands(t *testing.T) {
	dir := t.TempDir()
	command := func(args ...string) (string, int) {
		var o, e bytes.Buffer
		code := run(append(args, "--data-dir", dir), streams{in: strings.NewReader(""), out: &o, err: &e, env: func(string) string { return "" }})
		return o.String() + e.String(), code
	}
	h := launch(t, nil, "--data-dir", dir)
	if err := h.hub.engine.Telemetry.Add("porch/t", []byte("21.5"), nil); err != nil {
		t.Fatal(err)
	}
	if out, code := command("mapping", "list"); code != 0 || !strings.Contains(out, "tasmota") {
		t.Error(out)
	}
	for range 2 { // a running hub, and one that does not run
		if out, code := command("export", "--format", "csv", "--topic", "porch/#"); code != 0 || !strings.HasPrefix(out, "topic,time,payload\nporch/t,") {
			t.Error(code, out)
		}
		if out, code := command("export", "--format", "prometheus", "--topic", "none"); code != 0 || out != "" {
			t.Error(code, out)
		}
		if out, code := command("export", "--format", "xml"); code != 1 || !strings.Contains(out, "xml") {
			t.Error(code, out)
		}
		if h != nil {
			h.stop()
			h = nil
		}
	}
	if out, code := command("export", "--since", "yesterday"); code != 2 {
		t.Error(code, out)
	}
}
