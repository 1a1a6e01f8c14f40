package httpd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Certificate is a key pair in two files, read again when they change, so that
// a renewed certificate needs no restart.
type Certificate struct {
	certFile, keyFile string
	SelfSigned        bool // made by the hub: other servers will not believe it

	mu      sync.Mutex
	now     *tls.Certificate
	changed time.Time // of certFile, when it was read
	looked  time.Time
}

// lookAgain is how often the files are looked at.
const lookAgain = time.Minute

// LoadCertificate reads a certificate and its key.
func LoadCertificate(certFile, keyFile string) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile}
	_, err := c.get()
	return c, err
}

// OwnCertificate gives the self-signed certificate that is kept in dir, made
// there the first time. It proves nothing; it makes the listener usable behind
// a gateway, on a private network or in a trial.
func OwnCertificate(dir, server string) (*Certificate, error) {
	certFile, keyFile := filepath.Join(dir, "self-signed.crt"), filepath.Join(dir, "self-signed.key")
	_, err := os.Stat(certFile)
	if errors.Is(err, fs.ErrNotExist) {
		err = makeCertificate(certFile, keyFile, server)
	}
	if err != nil {
		return nil, err
	}
	c, err := LoadCertificate(certFile, keyFile)
	if c != nil {
		c.SelfSigned = true
	}
	return c, err
}

// Config is the TLS configuration of a door that shows the certificate.
func (c *Certificate) Config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.get() },
	}
}

// get gives the certificate. One that cannot be read again goes on as it was.
func (c *Certificate) get() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now != nil && time.Since(c.looked) < lookAgain {
		return c.now, nil
	}
	c.looked = time.Now()
	st, err := os.Stat(c.certFile)
	if err == nil && c.now != nil && st.ModTime().Equal(c.changed) {
		return c.now, nil
	}
	var pair tls.Certificate
	if err == nil {
		pair, err = tls.LoadX509KeyPair(c.certFile, c.keyFile)
	}
	switch {
	case err == nil:
		c.now, c.changed = &pair, st.ModTime()
	case c.now == nil:
		return nil, fmt.Errorf("reading the certificate %s: %w", c.certFile, err)
	}
	return c.now, nil
}

// makeCertificate writes a certificate that is valid whatever the clock says: a
// hub's may stand anywhere when it first starts.
func makeCertificate(certFile, keyFile, server string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	host := server
	if h, _, err := net.SplitHostPort(server); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "hearth, self-signed"},
		NotBefore:    time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(2099, 12, 31, 0, 0, 0, 0, time.UTC),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if addr := net.ParseIP(host); addr != nil {
		template.IPAddresses = []net.IP{addr}
	} else {
		template.DNSNames = []string{host}
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	// The key first: a certificate without one would look finished.
	if err := writePEM(keyFile, "PRIVATE KEY", secret, 0o600); err != nil {
		return err
	}
	return writePEM(certFile, "CERTIFICATE", cert, 0o644)
}

func writePEM(path, kind string, der []byte, mode os.FileMode) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
