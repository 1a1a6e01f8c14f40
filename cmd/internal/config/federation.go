package config

import (
	"fmt"
	"net"
	netmail "net/mail"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"hearth/engine/mxid"
)

// Federates says whether the hub speaks with other servers, and with which: only
// is empty where it is all of them.
func (c *Config) Federates() (on bool, only []mxid.Server, err error) {
	switch c.Federation {
	case "on":
		return true, nil, nil
	case "off":
		return false, nil, nil
	}
	for name := range strings.SplitSeq(c.Federation, ",") {
		server, err := mxid.ParseServer(strings.TrimSpace(name))
		if err != nil {
			return false, nil, fmt.Errorf("%q is neither on nor off nor a list of server names", c.Federation)
		}
		only = append(only, server)
	}
	return true, only, nil
}

// Notaries are the servers that are trusted to tell the keys of others; room says
// that several of a room's own servers are, of those that are gone.
func (c *Config) Notaries() (list []mxid.Server, room bool, err error) {
	for _, name := range c.KeyServers {
		if name == "room" {
			room = true
			continue
		}
		server, err := mxid.ParseServer(name)
		if err != nil {
			return nil, false, fmt.Errorf("%q is no server name", name)
		}
		list = append(list, server)
	}
	return list, room, nil
}

// Authority gives the parts of acme: an address to write to, or the directory of
// an authority other than the usual one.
func (c *Config) Authority() (contact, directory string, err error) {
	if strings.HasPrefix(c.ACME, "https://") {
		if u, err := url.Parse(c.ACME); err != nil || u.Hostname() == "" {
			return "", "", fmt.Errorf("%q is not a URL such as https://ca.example/directory", c.ACME)
		}
		return "", c.ACME, nil
	}
	if a, err := netmail.ParseAddress(c.ACME); err != nil || a.Address != c.ACME {
		return "", "", fmt.Errorf("%q is neither an e-mail address nor the https:// URL of an ACME directory", c.ACME)
	}
	return c.ACME, "", nil
}

// CertificateNames are those that the hub's certificates have to be for: where
// other servers look for it, first the name that they verify, and where clients
// do. Addresses and names without a dot are left out: no authority proves them.
// server is the hub's name.
func (c *Config) CertificateNames(server mxid.Server) (names []string) {
	for _, name := range []string{c.FederationAddress, string(server), c.publicHost()} {
		name = strings.ToLower(HostOf(name))
		_, err := netip.ParseAddr(name)
		if err != nil && strings.Contains(name, ".") && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func (c *Config) publicHost() string {
	if u, err := url.Parse(c.PublicURL); err == nil && u.Scheme == "https" {
		return u.Hostname()
	}
	return ""
}

// HostOf is a server name without its port and without brackets.
func HostOf(server string) string {
	if host, _, err := net.SplitHostPort(server); err == nil {
		return host
	}
	return strings.Trim(server, "[]")
}

// checkFederation judges what concerns other servers.
func (c *Config) checkFederation(bad, warn say) {
	on, _, err := c.Federates()
	if err != nil {
		bad("federation", "%v", err)
	}
	if _, _, err := c.Notaries(); err != nil {
		bad("key_servers", "%v", err)
	}
	if c.FederationAddress != "" {
		if _, err := mxid.ParseServer(c.FederationAddress); err != nil {
			bad("federation_address", "%q is not an address such as hub.example:443", c.FederationAddress)
		} else if !on {
			warn("federation_address", "nobody is told: federation is off")
		}
	}
	if c.ACME == "" {
		return
	}
	if _, _, err := c.Authority(); err != nil {
		bad("acme", "%v", err)
	}
	switch {
	case c.TLSCert != "":
		bad("acme", "tls_cert is set too: the certificate can come from one of them only")
	case c.FederationListen == "":
		warn("acme", "no listener uses the certificate: federation_listen is empty")
	case c.ServerName != "" && len(c.CertificateNames(mxid.Server(c.ServerName))) == 0:
		warn("acme", "no authority gives a certificate for %s", c.ServerName)
	}
}
