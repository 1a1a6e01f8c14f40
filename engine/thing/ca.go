package thing

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"slices"
	"sync"
	"time"

	"hearth/engine/fault"
	"hearth/engine/store"
)

// The hub's own certificate authority signs what things show in TLS, and nothing
// else. Its key lies in two copies, as the signing key does: without it every
// thing with a certificate would have to be set up anew.
var caFiles = [...]string{"things-ca.pem", "things-ca.pem.copy"}

// authority is the CA, made or read when it is first asked for.
type authority struct {
	mu   sync.Mutex
	cert *x509.Certificate
	key  crypto.Signer
}

// Certificates are valid whatever the clock says, since a hub's may stand
// anywhere; a thing's ends when it is revoked.
func validity() (from, until time.Time) {
	return time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2099, 12, 31, 0, 0, 0, 0, time.UTC)
}

// open reads the CA, or makes it where no thing has a certificate of one. The
// caller holds mu.
func (t *Things) openCA() error {
	const op = "thing.CA"
	if t.ca.cert != nil {
		return nil
	}
	var missing []string
	var text []byte
	for _, name := range caFiles {
		b, err := store.ReadFile(t.o.FS, t.o.FS.PathJoin(t.o.Dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, name)
		case err != nil:
			return fault.E(fault.Internal, op, "reading the key for certificates: %w", err)
		case text == nil:
			text = b
		}
	}
	if text == nil {
		for _, one := range t.List() {
			if len(one.Certs) > 0 {
				return fault.E(fault.Corrupt, op, "%s and %s are gone from the data folder: bring one of them back from a backup, "+
					"a new key would shut out %s", caFiles[0], caFiles[1], one.Name)
			}
		}
		var err error
		if text, err = newCA(string(t.server)); err != nil {
			return err
		}
	}
	cert, key, err := parseCA(text)
	if err != nil {
		return err
	}
	for _, name := range missing {
		if t.st.ReadOnly() {
			break
		}
		if err := store.WriteFile(t.o.FS, t.o.FS.PathJoin(t.o.Dir, name), text); err != nil {
			return fault.E(fault.Internal, op, "writing the key for certificates: %w", err)
		}
	}
	t.ca.cert, t.ca.key = cert, key
	return nil
}

// newCA makes a CA: its certificate and its key in PEM.
func newCA(server string) ([]byte, error) {
	key, serial, err := newKey()
	if err != nil {
		return nil, err
	}
	from, until := validity()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "things of " + server}, NotBefore: from, NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fault.E(fault.Internal, "thing.CA", "%w", err)
	}
	return appendPair(der, key)
}

func newKey() (*ecdsa.PrivateKey, *big.Int, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fault.E(fault.Internal, "thing.CA", "%w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, fault.E(fault.Internal, "thing.CA", "%w", err)
	}
	return key, serial, nil
}

// appendPair writes a certificate and its key in PEM.
func appendPair(der []byte, key *ecdsa.PrivateKey) ([]byte, error) {
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fault.E(fault.Internal, "thing.CA", "%w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...), nil
}

func parseCA(text []byte) (*x509.Certificate, crypto.Signer, error) {
	const op = "thing.CA"
	first, rest := pem.Decode(text)
	second, _ := pem.Decode(rest)
	if first == nil || second == nil {
		return nil, nil, fault.E(fault.Corrupt, op, "%s holds no certificate and key", caFiles[0])
	}
	cert, err := x509.ParseCertificate(first.Bytes)
	if err != nil {
		return nil, nil, fault.E(fault.Corrupt, op, "the certificate in %s: %w", caFiles[0], err)
	}
	key, err := x509.ParsePKCS8PrivateKey(second.Bytes)
	if err != nil {
		return nil, nil, fault.E(fault.Corrupt, op, "the key in %s: %w", caFiles[0], err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, nil, fault.E(fault.Corrupt, op, "the key in %s cannot sign", caFiles[0])
	}
	return cert, signer, nil
}

// CA gives the certificate by which a listener knows things; it is made where
// there is none.
func (t *Things) CA() (*x509.Certificate, error) {
	t.ca.mu.Lock()
	defer t.ca.mu.Unlock()
	if err := t.openCA(); err != nil {
		return nil, err
	}
	return t.ca.cert, nil
}

// Issue makes a client certificate for a thing, a clone that the caller saves:
// certificate and key in PEM, of which the hub keeps the serial number only.
// More than eight push out the oldest.
func (t *Things) Issue(one *Thing) (text []byte, err error) {
	t.ca.mu.Lock()
	defer t.ca.mu.Unlock()
	if err := t.openCA(); err != nil {
		return nil, err
	}
	key, serial, err := newKey()
	if err != nil {
		return nil, err
	}
	from, until := validity()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: one.Name}, NotBefore: from, NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, t.ca.cert, key.Public(), t.ca.key)
	if err != nil {
		return nil, fault.E(fault.Internal, "thing.Issue", "%w", err)
	}
	if one.Certs = append(one.Certs, Cert{Serial: serial.Text(16), Made: t.o.Now()}); len(one.Certs) > maxCerts {
		one.Certs = slices.Delete(one.Certs, 0, len(one.Certs)-maxCerts)
	}
	return appendPair(der, key)
}

// ByCertificate finds the thing that shows a certificate. The chain is verified
// here too, so that no listener can forget it.
//
// Errors: Forbidden.
func (t *Things) ByCertificate(cert *x509.Certificate) (*Thing, error) {
	const op = "thing.ByCertificate"
	ca, err := t.CA()
	if err != nil {
		return nil, err
	}
	if err := cert.CheckSignatureFrom(ca); err != nil {
		return nil, fault.E(fault.Forbidden, op, "the certificate is not of this hub: %w", err)
	}
	one, err := t.Find(cert.Subject.CommonName)
	serial := cert.SerialNumber.Text(16)
	if err != nil || one.Revoked || !slices.ContainsFunc(one.Certs, func(c Cert) bool { return c.Serial == serial }) {
		return nil, fault.E(fault.Forbidden, op, "the certificate was revoked")
	}
	return one, nil
}
