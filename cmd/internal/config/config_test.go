package config

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hearth/engine/mxid"
)

// load reads settings from a file's text, variables and flags.
func load(file string, env map[string]string, args ...string) (*Config, []string, error) {
	if file != "" {
		args = append([]string{"--config", "hub.toml"}, args...)
	}
	return Load(Source{
		Args: args,
		Env:  func(name string) string { return env[name] },
		Read: func(name string) ([]byte, error) {
			if name != "hub.toml" {
				return nil, os.ErrNotExist
			}
			return []byte(file), nil
		},
	})
}

func TestStrength(t *testing.T) {
	const file = "server_name = 'file'\nlog_level = \"warn\"\nmemory_limit = '96 MiB'\npassword_min_length = 12\nrate_limits = 'off'\n"
	env := map[string]string{"HEARTH_LOG_LEVEL": "error", "HEARTH_DATA_DIR": "/env", "HEARTH_SERVER_NAME": ""}
	c, rest, err := load(file, env, "--data-dir=/flag", "-client-listen", "", "--", "more")
	if err != nil {
		t.Fatal(err)
	}
	if c.ServerName != "file" || c.LogLevel != "error" || c.DataDir != "/flag" || c.ClientListen != "" ||
		c.MemoryLimit != 96<<20 || c.PasswordMinLength != 12 || c.RateLimits || c.Registration != "token" {
		t.Errorf("%+v", c)
	}
	if len(rest) != 1 || rest[0] != "more" {
		t.Errorf("rest %q", rest)
	}
	for key, want := range map[string]string{"server_name": "hub.toml:1", "log_level": "HEARTH_LOG_LEVEL", "data_dir": "--data-dir", "registration": "registration"} {
		if got := c.Origin(key); got != want {
			t.Errorf("%s comes from %s, want %s", key, got, want)
		}
	}
	if _, _, err := load("", nil, "--help"); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("help: %v", err)
	}
	if c, _, err := load("", map[string]string{"HEARTH_CONFIG": "hub.toml", "HEARTH_RATE_LIMITS": "off"}); err != nil || c.RateLimits {
		t.Errorf("an empty file named by a variable: %v", err)
	}
}

// Each mistake is told with its place and what to do.
func TestMistakes(t *testing.T) {
	for _, tt := range []struct {
		file string
		args string
		want string
	}{
		{"\n\nserver_nam = 'x'", "", `hub.toml:3: there is no setting "server_nam"; did you mean server_name?`},
		{"colour = 'red'", "", `hub.toml:1: there is no setting "colour"; hearth example-config shows all that there are`},
		{"# x\nmemory_limit = 96", "", `hub.toml:2: memory_limit: "96" has no unit: write 96MiB`},
		{"memory_limit = '96'", "", `hub.toml:1: memory_limit: "96" has no unit`},
		{"memory_limit = '96 MiBs'", "", `hub.toml:1: memory_limit: "96 MiBs" is not a size`},
		{"memory_limit = '-1MiB'", "", `"-1MiB" is not a size`},
		{"memory_limit = '9999999999999GiB'", "", "is not a size"},
		{"memory_limit = true", "", "hub.toml:1: memory_limit: this must be text in quotes"},
		{"server_name = 7", "", "hub.toml:1: server_name: this must be text in quotes"},
		{"rate_limits = true", "", `hub.toml:1: rate_limits: this must be one of the words ["on" "off"] in quotes`},
		{"rate_limits = 'yes'", "", `hub.toml:1: rate_limits: "yes" is none of on and off`},
		{"registration = 'all'", "", `"all" is none of closed, token and open`},
		{"password_min_length = '8'", "", "password_min_length: this must be a whole number without quotes"},
		{"password_min_length = 0", "", `"0" is not a whole number from 1 to 128`},
		{"appservices = ['a', 3]", "", "each part of the list must be text in quotes"},
		{"log_level = 'info'\nlog_level = 'warn'", "", "hub.toml:2: log_level was set already in hub.toml:1"},
		{"log_level = 'info'\n[client]\nlisten = 'x'", "", "hub.toml:2: the only tables in this file are [[mapping]], [client] is none of its parts"},
		{"[[mapping]]\nhide = [1]", "", "hub.toml:2: hide: this must be text in quotes, a list of such, a whole number, true or false"},
		{"[[mapping]]\ntopic = 'a'\nmode = 'event'\nroom = '#h:x'\nhide = ['b', 'c']", "", "hub.toml:1: hide goes with the mode shadow only"},
		{"[[x]]", "", "hub.toml:1: the only tables in this file are [[mapping]]"},
		{"server.name = 'x'", "", "hub.toml:1: there is no setting server.name"},
		{"log_level = 'info\nserver_name = 'x'", "", "hub.toml:1: not TOML"},
		{"log_level", "", "hub.toml:1: not TOML"},
		{"log_level = 'info'\n\x00", "", "hub.toml:2: not TOML"},
		{"", "--memory-limit 64", `--memory-limit: "64" has no unit`},
		{"", "--colour red", "there is no flag --colour"},
		{"", "--client-lisen x", "there is no flag --client-lisen; did you mean --client-listen?"},
		{"", "--log-level", "--log-level needs a value behind it"},
		{"server_name = hub.example", "", "hub.toml:1: not TOML: unexpected character U+0068 'h' at start of value; text stands between two quotes"},
		{"[mapping]", "", "hub.toml:1: a mapping begins with [[mapping]]"},
		{"", "--config none.toml", "the settings cannot be read"},
	} {
		_, _, err := load(tt.file, nil, strings.Fields(tt.args)...)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q %s:\n got %v\nwant %s", tt.file, tt.args, err, tt.want)
		}
	}
	if _, _, err := load("", map[string]string{"HEARTH_LOG_LEVEL": "loud"}); err == nil || !strings.HasPrefix(err.Error(), "HEARTH_LOG_LEVEL: ") {
		t.Errorf("a bad variable: %v", err)
	}
}

// The sample changes nothing, and neither does taking its comment marks away.
func TestSample(t *testing.T) {
	var sample bytes.Buffer
	Sample(&sample)
	var all strings.Builder
	for line := range strings.Lines(sample.String()) {
		if strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "# ") {
			line = line[1:]
		}
		all.WriteString(line)
	}
	for _, text := range []string{sample.String(), all.String()} {
		c, _, err := load(text, nil)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		c.Each(func(key, value, origin string) {
			for _, s := range c.settings() {
				if s.key == key && s.def != value {
					t.Errorf("%s is %q, its default %q", key, value, s.def)
				}
			}
		})
	}
	if n := len(new(Config).settings()); n > 47 || strings.Count(all.String(), " = ") < n {
		t.Errorf("%d settings; at most 47 may be, and the sample has to have all", n)
	}
	var help bytes.Buffer
	Help(&help)
	for _, text := range []string{help.String(), sample.String()} {
		for line := range strings.Lines(text) {
			if len(line) > 100 {
				t.Errorf("too long to read: %s", line)
			}
		}
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("0123456789abcdef\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	short := filepath.Join(dir, "short")
	if err := os.WriteFile(short, []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		file string
		want string // part of the only problem; empty: there is none
	}{
		{"", ""},
		{"client_listen = ':8008'\nserver_name = '[::1]:8448'", ""},
		{"server_name = 'Not A Name'", "hub.toml:1: "},
		{"client_listen = '8008'", `hub.toml:1: "8008" is not an address`},
		{"client_listen = 'hub.example:8008'", "must be an IP address"},
		{"client_listen = ':99999'", "the port"},
		{"client_listen = ''", "every listener is switched off"},
		{"mqtt_listen = '1883'", "not an address"},
		{"federation_listen = ':8448'", "a certificate that it made itself"},
		{"tls_cert = '" + secret + "'\nfederation_listen = ':8448'", "belong together"},
		{"tls_cert = '/none'\ntls_key = '" + secret + "'\nfederation_listen = ':8448'", "/none: no such file"},
		{"tls_cert = '" + secret + "'\ntls_key = '" + secret + "'", "no listener uses the certificate"},
		{"federation = 'off'", ""},
		{"federation = 'a.example, b.example:8448'", ""},
		{"federation = 'a.example, b c'", "neither on nor off nor a list"},
		{"key_servers = []", ""},
		{"key_servers = ['room', 'keys.example:8448']", ""},
		{"key_servers = ['room of keys']", "is no server name"},
		{"federation_address = 'hub.example:443'", ""},
		{"federation_address = 'https://hub.example'", "is not an address such as"},
		{"federation_address = 'hub.example:443'\nfederation = 'off'", "nobody is told"},
		{"acme = 'me@example.org'\nfederation_listen = ':443'\nserver_name = 'hub.example'", ""},
		{"acme = 'https://ca.example/directory'\nfederation_listen = ':443'", ""},
		{"acme = 'http://ca.example/directory'\nfederation_listen = ':443'", "neither an e-mail address"},
		{"acme = 'on'\nfederation_listen = ':443'", "neither an e-mail address"},
		{"acme = 'me@example.org'", "no listener uses"},
		{"acme = 'me@example.org'\nfederation_listen = ':443'\nserver_name = '192.0.2.1:443'", "no authority"},
		{"acme = 'me@example.org'\nfederation_listen = ':443'\ntls_cert = '" + secret + "'\ntls_key = '" + secret + "'", "one of them only"},
		{"public_url = 'hub.example'", "is not a URL"},
		{"memory_limit = '16MiB'", "too small"},
		{"appservices = ['x.yaml']", "x.yaml: no such file"},
		{"data_dir = ''", "a folder is needed"},
		{"registration = 'open'", "anyone"},
		{"registration_shared_secret_file = '" + secret + "'", "chmod 600"},
		{"registration_shared_secret_file = '" + short + "'", "shorter than 8"},
		{"registration_shared_secret_file = '/none'", "/none: no such file"},
		{"mail_server = 'smtp://u@mail.example'\nmail_from = 'Hub <hub@x.org>'\npublic_url = 'https://x.org'", ""},
		{"mail_server = 'smtp://u@mail.example'\nmail_from = 'hub@x.org'", "need public_url"},
		{"mail_server = 'smtp://u@mail.example'\npublic_url = 'https://x.org'", "is no address"},
		{"mail_server = 'mail.example:25'\npublic_url = 'https://x.org'", "is not of the form"},
		{"mail_server = 'http://mail.example'\npublic_url = 'https://x.org'", "begins with none of"},
		{"mail_server = 'smtps://u:p@mail.example'\npublic_url = 'https://x.org'", "mail_password_file"},
		{"registration_needs_email = 'on'", "nobody could prove"},
		{"turn_uris = ['turn:x']", ""},
		{"turn_uris = ['http://x']", "is not of the form turn:"},
		{"turn_secret_file = '" + secret + "'", "turn_uris is empty"},
		{"terms_url = 'nonsense'", "is not a URL"},
		{"oidc_issuer = 'https://id.example'\noidc_client_id = 'hub'\npublic_url = 'https://x.org'", ""},
		{"oidc_issuer = 'https://id.example'\npublic_url = 'https://x.org'", "what is the hub called"},
		{"oidc_issuer = 'http://id.example'\noidc_client_id = 'hub'\npublic_url = 'https://x.org'", "by https"},
		{"oidc_issuer = 'https://id.example'\noidc_client_id = 'hub'", "come back from the identity provider"},
		{"cas_server = 'nonsense'\npublic_url = 'https://x.org'", "is not a URL"},
	} {
		c, _, err := load(tt.file+"\n", nil)
		if err != nil {
			t.Fatalf("%s: %v", tt.file, err)
		}
		got := c.Check()
		if tt.want == "" && len(got) == 0 {
			continue
		}
		if len(got) != 1 || tt.want == "" || !strings.Contains(got[0].String(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.file, got, tt.want)
		}
	}
	c, _, _ := load("registration_shared_secret_file = '"+secret+"'\n", nil)
	if b, err := c.ReadSecret(); string(b) != "0123456789abcdef" || err != nil {
		t.Errorf("the secret is %q, %v", b, err)
	}
}

func FuzzFile(f *testing.F) {
	f.Add("server_name = 'x'\n[a]\nb = [1, {c = 2}]")
	f.Fuzz(func(t *testing.T, text string) {
		_, _, _ = load(text+"\n", nil) // no text may crash it
	})
}

func TestCertificateNames(t *testing.T) {
	for _, tt := range []struct{ server, address, url, want string }{
		{"hub.example", "", "", "[hub.example]"},
		{"Hub.example:8448", "", "https://hub.example:443/x", "[hub.example]"},
		{"example.org", "hub.example.org:443", "https://chat.example.org", "[hub.example.org example.org chat.example.org]"},
		{"192.0.2.1:8448", "", "http://chat.example.org", "[]"},
		{"[2001:db8::1]", "", "", "[]"},
		{"localhost", "", "", "[]"},
	} {
		c := &Config{FederationAddress: tt.address, PublicURL: tt.url}
		if got := fmt.Sprint(c.CertificateNames(mxid.Server(tt.server))); got != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
	}
}

func TestParseAge(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "90d": "90d", "12w": "84d", "2y": "730d", "100y": "36500d",
		"90": "-", "d": "-", "-1d": "-", "0d": "-", "1.5d": "-", "90h": "-", "101y": "-", "9999999999999999999d": "-",
	} {
		a, err := ParseAge(text)
		if got := a.String(); err != nil && want != "-" || err == nil && got != want {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
}
