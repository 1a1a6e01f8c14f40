package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"

	"hearth/engine/appservice"
	"hearth/engine/budget"
	"hearth/engine/event"
	"hearth/engine/mxid"
	"hearth/httpd/peer"
)

// Problem is something about the settings that keeps the hub from running, or
// that its owner should know.
type Problem struct {
	Origin string // where it was set
	Text   string
	Fatal  bool
}

func (p Problem) String() string { return p.Origin + ": " + p.Text }

// Secrets shorter than leastSecret bytes are refused, those shorter than
// goodSecret are remarked upon.
const (
	leastSecret = 8
	goodSecret  = 16
)

// Check judges the settings together, and the files that they name.
func (c *Config) Check() []Problem {
	var all []Problem
	bad := func(key, format string, args ...any) {
		all = append(all, Problem{c.Origin(key), fmt.Sprintf(format, args...), true})
	}
	warn := func(key, format string, args ...any) {
		all = append(all, Problem{c.Origin(key), fmt.Sprintf(format, args...), false})
	}
	if c.ServerName != "" {
		if _, err := mxid.ParseServer(c.ServerName); err != nil {
			bad("server_name", "%q is no server name: write a host such as hub.example, without https:// and blanks", c.ServerName)
		}
	}
	c.checkDoors(bad, warn)
	c.checkFederation(bad, warn)
	if c.PublicURL != "" {
		u, err := url.Parse(c.PublicURL)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.Fragment != "" {
			bad("public_url", "%q is not a URL such as https://hub.example", c.PublicURL)
		}
	}
	if event.LookupVersion(c.RoomVersion) == nil {
		bad("default_room_version", "%q is no room version; there are %s", c.RoomVersion, strings.Join(event.Versions(), ", "))
	}
	if _, err := budget.Plan(int64(c.MemoryLimit), budget.RAM()); err != nil {
		bad("memory_limit", "%v", err)
	}
	if _, err := peer.ParseNetworks(c.URLPreviewsAllow); err != nil {
		bad("url_previews_allow", "%v", err)
	}
	if _, err := peer.ParseNetworks(c.AllowNetworks); err != nil {
		bad("allow_networks", "%v", err)
	}
	if _, err := c.PushAppList(); err != nil {
		bad("push_apps", "%v", err)
	}
	if c.Identity && c.PublicURL == "" {
		bad("identity", "the links in e-mails need public_url")
	}
	if c.Identity && c.MailServer == "" && c.SMSWebhook == "" {
		warn("identity", "without mail_server and sms_webhook nobody can prove an address")
	}
	if c.PushGateway && c.PublicURL == "" {
		bad("push_gateway", "push services have to be told where the hub is: it needs public_url")
	}
	if _, err := c.Services(); err != nil {
		bad("appservices", "%v", err)
	}
	if c.DataDir == "" {
		bad("data_dir", "a folder is needed")
	}
	if c.RegistrationSecret != "" {
		if b, err := c.ReadSecret(); err != nil {
			bad("registration_shared_secret_file", "%v", err)
		} else if len(b) < goodSecret {
			warn("registration_shared_secret_file", "a secret of %d bytes can be guessed; head -c 24 /dev/urandom | base64 makes a good one", len(b))
		} else if st, err := os.Stat(c.RegistrationSecret); err == nil && st.Mode().Perm()&0o077 != 0 {
			warn("registration_shared_secret_file", "others on this machine can read %s: chmod 600 keeps them out", c.RegistrationSecret)
		}
	}
	c.checkMail(bad)
	if c.Registration == "open" {
		warn("registration", "anyone who reaches the hub can make accounts on it")
	}
	return all
}

// Services reads the registrations of application services, as they are now.
func (c *Config) Services() (*appservice.Set, error) {
	server := c.ServerName
	if server == "" {
		server = "localhost" // what the names end with is no matter to a check
	}
	return appservice.Load(c.AppServices, mxid.Server(server))
}

// say reports one finding about a key.
type say = func(key, format string, args ...any)

// TLSPrefix begins an address of mqtt_listen that is for TLS.
const TLSPrefix = "tls://"

// checkDoors judges the listeners.
func (c *Config) checkDoors(bad, warn say) {
	for _, l := range []struct{ key, addr string }{
		{"client_listen", c.ClientListen}, {"federation_listen", c.FederationListen},
	} {
		if err := checkAddress(l.addr); err != nil {
			bad(l.key, "%v", err)
		}
	}
	for _, addr := range c.MQTTListen {
		if err := checkAddress(strings.TrimPrefix(addr, TLSPrefix)); err != nil {
			bad("mqtt_listen", "%v", err)
		}
	}
	if c.ClientListen == "" && c.FederationListen == "" {
		bad("client_listen", "every listener is switched off: nobody could reach the hub")
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		bad("tls_cert", "tls_cert and tls_key belong together, only one of them is set")
	}
	for _, f := range []struct{ key, file string }{{"tls_cert", c.TLSCert}, {"tls_key", c.TLSKey}} {
		if f.file == "" {
			continue
		}
		if _, err := os.Stat(f.file); err != nil {
			bad(f.key, "%v", plainly(err))
		}
	}
	switch {
	case c.TLSCert != "" && c.FederationListen == "":
		warn("tls_cert", "no listener uses the certificate: federation_listen is empty")
	case c.TLSCert == "" && c.ACME == "" && c.FederationListen != "":
		warn("federation_listen", "the hub shows a certificate that it made itself: it encrypts but proves nothing, "+
			"so clients and servers refuse it unless they are told to trust it; tls_cert and tls_key name a real one, acme gets one")
	}
}

// checkAddress accepts host:port; the host may be empty, for all of them.
func checkAddress(addr string) error {
	if addr == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not an address such as 127.0.0.1:8008", addr)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q: the port must be a number up to 65535", addr)
	}
	if host != "" && host != "localhost" && net.ParseIP(host) == nil {
		return fmt.Errorf("%q: %s must be an IP address or localhost", addr, host)
	}
	return nil
}

// ReadSecret reads the shared secret for registration; nil where there is none.
func (c *Config) ReadSecret() ([]byte, error) {
	b, err := readSecret(c.RegistrationSecret)
	if err == nil && b != nil && len(b) < leastSecret {
		err = fmt.Errorf("the secret in %s is shorter than %d bytes", c.RegistrationSecret, leastSecret)
	}
	return b, err
}

// readSecret reads a file without its last line's end; nil where none is named.
func readSecret(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, plainly(err)
	}
	return bytes.TrimRight(b, "\r\n"), nil
}

// plainly says what is wrong with a file without the name of a system call.
func plainly(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return fmt.Errorf("%s: %w", p.Path, p.Err)
	}
	return err
}
