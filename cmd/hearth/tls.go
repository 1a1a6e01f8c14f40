package main

import (
	"crypto/tls"
	"fmt"
	"path/filepath"

	"hearth/engine/fault"
	"hearth/httpd"
	"hearth/httpd/peer"
	"hearth/httpd/wire"
)

// certificate is the owner's, an authority's, or the hub's own. note is what the
// owner should know of it.
func (h *hub) certificate() (conf *tls.Config, note string, err error) {
	c := h.config
	if c.TLSCert != "" {
		cert, err := httpd.LoadCertificate(c.TLSCert, c.TLSKey)
		if err != nil {
			return nil, "", err
		}
		return cert.Config(), "", nil
	}
	own, err := httpd.OwnCertificate(c.DataDir, string(h.engine.Server))
	if err != nil {
		return nil, "", err
	}
	conf = own.Config()
	if c.ACME == "" {
		return conf, "self-signed: clients have to be told to trust " + filepath.Join(c.DataDir, "self-signed.crt"), nil
	}
	o := peer.ACMEOptions{
		Names: c.CertificateNames(h.engine.Server), Dir: filepath.Join(c.DataDir, "acme"), Agent: "Hearth",
		Fallback: func() (*tls.Certificate, error) { return conf.GetCertificate(nil) },
		Log:      func(format string, args ...any) { h.log.Warn(fmt.Sprintf(format, args...)) },
	}
	if len(o.Names) == 0 {
		return nil, "", fmt.Errorf("%s: no authority gives a certificate for %s", c.Origin("acme"), h.engine.Server)
	}
	if o.Contact, o.Directory, err = c.Authority(); err != nil {
		return nil, "", err
	}
	if h.acme, err = peer.NewACME(o); err != nil {
		return nil, "", err
	}
	return h.acme.Config(), "certificates by ACME", nil
}

// proofs answers the authority that asks at port 80 whether a name is ours.
func (h *hub) proofs() []wire.Route {
	if h.acme == nil {
		return nil
	}
	return []wire.Route{{Method: "GET", Pattern: "/.well-known/acme-challenge/{token}", Handle: func(r *wire.Req) error {
		proof, ok := h.acme.Challenge("/.well-known/acme-challenge/" + r.Path("token"))
		if !ok {
			return fault.E(fault.NotFound, "hearth.proofs", "nobody is proving anything by this token")
		}
		return r.OK(append(r.Out(), proof...))
	}}}
}
