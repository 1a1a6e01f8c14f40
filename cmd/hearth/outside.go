package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"hearth/cmd/internal/config"
	"hearth/engine/mxid"
	"hearth/httpd/peer"
)

const (
	lookTime = 8 * time.Second     // for all that hearth check asks the network
	soon     = 14 * 24 * time.Hour // a certificate that ends within that should have been renewed
)

// outside looks at the hub as other servers do. It gives lines for what they
// see, and what is wrong with it. Nothing of it keeps a hub from running.
func outside(c *config.Config, servers *peer.Servers) (lines []string, found []config.Problem) {
	on, _, err := c.Federates()
	if err != nil || !on || c.ServerName == "" || c.FederationListen == "" && c.FederationAddress == "" {
		return nil, nil
	}
	note := func(key, format string, args ...any) {
		found = append(found, config.Problem{Origin: c.Origin(key), Text: fmt.Sprintf(format, args...)})
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookTime)
	defer cancel()
	server := mxid.Server(c.ServerName)
	look := servers.Look(ctx, server)
	if look.Name != server {
		lines = append(lines, "sends others to "+string(look.Name)+" (by .well-known)")
	}
	if c.FederationAddress != "" && string(look.Name) != c.FederationAddress {
		why := "it names " + string(look.Name)
		if look.Well != nil {
			why = look.Well.Error()
		} else if look.Name == server {
			why = "a name with a port, or an address, is not asked for it"
		}
		note("federation_address", "https://%s/.well-known/matrix/server does not tell others of %s: %s", config.HostOf(c.ServerName), c.FederationAddress, why)
	}
	for _, p := range look.Places {
		if p.Err != nil {
			note("server_name", "other servers do not find %s: %v", p.Host, p.Err)
			continue
		}
		lines = append(lines, fmt.Sprintf("is looked for   at %s, port %d: %v", p.Host, p.Port, p.Addrs))
		private(c, p, note)
	}
	if peer.Mismatch(look.Failed) {
		note("server_name", "other servers do not believe who answers there: %v", look.Failed)
	} else if look.Failed != nil && running(c.DataDir) {
		note("server_name", "nobody answers there, as seen from this machine: %v (many routers do not lead their own address back inside)", look.Failed)
	}
	certificates(c, config.HostOf(string(look.Name)), note)
	return lines, found
}

// noted takes a finding about a setting.
type noted = func(key, format string, args ...any)

// private says what it takes to speak at an address that is not public.
func private(c *config.Config, p peer.Place, note noted) {
	allow, err := peer.ParseNetworks(c.AllowNetworks)
	if err != nil {
		return // Check has said so
	}
	public, allowed := peer.Guard{AnyPort: true}, peer.Guard{AnyPort: true, Allow: allow}
	for _, a := range p.Addrs {
		at := netip.AddrPortFrom(a, p.Port)
		bits := 24
		if a.Is6() {
			bits = 64
		}
		network := netip.PrefixFrom(a, bits).Masked()
		switch {
		case public.Permits(at):
		case a.IsLoopback():
			note("server_name", "%s leads to this machine itself (%s): no other one finds the hub there", p.Host, a)
		case allowed.Permits(at):
			note("server_name", "%s leads to %s, which is not public: only servers on the same network find the hub, "+
				"and those that are hubs need allow_networks too", p.Host, a)
		default:
			note("allow_networks", "%s leads to %s, which is not public: for two hubs on one network to speak, both need allow_networks = [\"%s\"]",
				p.Host, a, network)
		}
	}
}

// certificates judges what federation_listen shows to those who look for name.
func certificates(c *config.Config, name string, note noted) {
	key, certFile, keyFile := "tls_cert", c.TLSCert, c.TLSKey
	if c.ACME != "" {
		key, certFile = "acme", filepath.Join(c.DataDir, "acme", name)
		keyFile = certFile // autocert keeps both in one
	}
	if certFile == "" || c.FederationListen == "" {
		return
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		if c.ACME == "" {
			note(key, "the certificate cannot be used: %v", err)
		} else {
			note(key, "there is no certificate for %s yet", name)
		}
		return
	}
	for _, text := range judgeChain(&pair, name) {
		note(key, "%s", text)
	}
}

// judgeChain says what keeps others from believing a certificate.
func judgeChain(pair *tls.Certificate, name string) (all []string) {
	now := time.Now()
	leaf := pair.Leaf
	switch {
	case now.Before(leaf.NotBefore):
		all = append(all, fmt.Sprintf("the certificate is valid from %s on, and this machine's clock says %s",
			leaf.NotBefore.Format(time.DateOnly), now.Format(time.DateOnly)))
	case now.After(leaf.NotAfter):
		all = append(all, "the certificate ran out on "+leaf.NotAfter.Format(time.DateOnly))
	case leaf.NotAfter.Sub(now) < soon && leaf.NotAfter.Sub(leaf.NotBefore) > 2*soon:
		all = append(all, "the certificate runs out on "+leaf.NotAfter.Format(time.DateOnly)+" and has not been renewed")
	}
	if err := leaf.VerifyHostname(name); err != nil {
		all = append(all, fmt.Sprintf("the certificate is not for %s, which other servers look for: %v", name, err))
	}
	o := x509.VerifyOptions{Intermediates: x509.NewCertPool(), CurrentTime: leaf.NotAfter.Add(-time.Second)}
	for _, der := range pair.Certificate[1:] {
		if one, err := x509.ParseCertificate(der); err == nil {
			o.Intermediates.AddCert(one)
		}
	}
	var unknown x509.UnknownAuthorityError
	if _, err := leaf.Verify(o); errors.As(err, &unknown) {
		all = append(all, "the certificate is signed by nobody whom this machine trusts; does the file hold the whole chain?")
	}
	return all
}
