package peer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// ACMEOptions are what certificates are got with.
type ACMEOptions struct {
	Contact   string   // e-mail address that the authority may write to; may be empty
	Directory string   // URL of the authority; empty: Let's Encrypt
	Names     []string // each gets a certificate of its own; the first is shown to who names none
	Dir       string   // folder for certificates and keys; made when it is not there
	Roots     *x509.CertPool
	Agent     string // the User-Agent
	// Fallback is shown for what there is no certificate for yet.
	Fallback func() (*tls.Certificate, error)
	Log      func(format string, args ...any) // nil: dropped
}

// ACME gets certificates from an authority and renews them in time.
//
// golang.org/x/crypto's autocert does the protocol. It asks the authority when
// somebody first shakes hands, again each minute where that fails, and an
// authority shuts out who fails five times in an hour; so here it is Run alone
// that makes it ask, with growing waits, and handshakes see what there is.
//
// Spec: RFC 8555; RFC 8737 for tls-alpn-01.
type ACME struct {
	o       ACMEOptions
	manager autocert.Manager
	plain   http.Handler // answers http-01

	mu    sync.RWMutex
	certs map[string]*tls.Certificate
}

const (
	acmeTime  = 2 * time.Minute // for one request
	acmeAgain = 12 * time.Hour  // a renewed certificate is seen after that at most
	acmeFirst = 5 * time.Minute // after a failure; doubled each time
)

// NewACME makes one that shows the certificates it got before. Run gets others.
func NewACME(o ACMEOptions) (*ACME, error) {
	if len(o.Names) == 0 {
		return nil, errors.New("peer: no name to get a certificate for")
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	a := &ACME{o: o, certs: map[string]*tls.Certificate{}}
	a.manager = autocert.Manager{
		Prompt: autocert.AcceptTOS, Cache: autocert.DirCache(o.Dir), HostPolicy: autocert.HostWhitelist(o.Names...), Email: o.Contact,
		Client: &acme.Client{DirectoryURL: o.Directory, UserAgent: o.Agent, HTTPClient: &http.Client{
			Timeout: acmeTime, Transport: &http.Transport{
				TLSClientConfig: &tls.Config{RootCAs: o.Roots, MinVersion: tls.VersionTLS12}, TLSHandshakeTimeout: dialTime,
				MaxResponseHeaderBytes: maxHeader, MaxIdleConns: 1, IdleConnTimeout: keepIdle,
			},
		}},
	}
	if o.Directory == "" {
		a.manager.Client.DirectoryURL = autocert.DefaultACMEDirectory
	}
	a.plain = a.manager.HTTPHandler(http.NotFoundHandler())
	for _, name := range o.Names {
		if cert := a.stored(name); cert != nil {
			a.certs[name] = cert
		}
	}
	return a, nil
}

// stored reads a certificate that was got before, so that the first handshake
// has it though the authority cannot be asked yet.
func (a *ACME) stored(name string) *tls.Certificate {
	both, err := a.manager.Cache.Get(context.Background(), name)
	if err != nil {
		return nil // none yet
	}
	cert, err := tls.X509KeyPair(both, both)
	if err != nil || !time.Now().Before(cert.Leaf.NotAfter) {
		return nil
	}
	return &cert
}

// Config is the TLS configuration of a door that shows the certificates, and
// answers the authority where it asks at this door.
func (a *ACME) Config() *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: a.get}
	proof := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: a.manager.GetCertificate, NextProtos: []string{acme.ALPNProto}}
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == acme.ALPNProto {
			return proof, nil
		}
		return nil, nil
	}
	return c
}

// get gives the certificate for a handshake.
func (a *ACME) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	a.mu.RLock()
	cert := a.certs[name]
	if cert == nil {
		cert = a.certs[a.o.Names[0]]
	}
	a.mu.RUnlock()
	if cert != nil {
		return cert, nil
	}
	return a.o.Fallback()
}

// Challenge gives what the authority wants to read at a path of port 80, where
// it asks there.
func (a *ACME) Challenge(path string) (answer []byte, ok bool) {
	w := &page{header: http.Header{}, status: http.StatusOK}
	a.plain.ServeHTTP(w, &http.Request{Method: http.MethodGet, URL: &url.URL{Path: path}, Host: a.o.Names[0], Header: http.Header{}})
	return w.body, w.status == http.StatusOK && len(w.body) > 0
}

// page is an answer that is kept.
type page struct {
	header http.Header
	status int
	body   []byte
}

func (p *page) Header() http.Header         { return p.header }
func (p *page) WriteHeader(status int)      { p.status = status }
func (p *page) Write(b []byte) (int, error) { p.body = append(p.body, b...); return len(b), nil }

// Run gets the certificates until ctx ends. The doors have to be open: the
// authority asks at them.
func (a *ACME) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, name := range a.o.Names {
		all.Go(func() { a.keep(ctx, name) })
	}
	all.Wait()
}

// keep gets one name's certificate, and looks from time to time whether it has
// been renewed.
func (a *ACME) keep(ctx context.Context, name string) {
	for failed := 0; ctx.Err() == nil; {
		wait := acmeAgain
		err := a.obtain(ctx, name)
		if err != nil {
			wait = min(acmeFirst<<failed, acmeAgain)
			failed = min(failed+1, 10)
			a.o.Log("no certificate for %s, next try in %v: %v", name, wait, err)
		} else {
			failed = 0
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// obtain asks autocert, which asks the authority where it has nothing good.
func (a *ACME) obtain(ctx context.Context, name string) error {
	got := make(chan error, 1)
	go func() { // autocert takes no context; it ends within five minutes
		// As one who understands the certificates of today, of which it keeps another kind.
		cert, err := a.manager.GetCertificate(&tls.ClientHelloInfo{ServerName: name, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}})
		if err == nil && !time.Now().Before(cert.Leaf.NotAfter) {
			err = fmt.Errorf("it could not be renewed, and ran out on %s", cert.Leaf.NotAfter.Format(time.DateOnly))
		}
		if err == nil {
			a.mu.Lock()
			a.certs[name] = cert
			a.mu.Unlock()
		}
		got <- err
	}()
	select {
	case err := <-got:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
