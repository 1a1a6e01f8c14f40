package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// authority is one that the hubs of a test believe, and nobody else.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// file is the certificate of the authority.
func (a *authority) file() string { return filepath.Join(a.dir, "ca.pem") }

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "of this test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.sign("ca", a.cert)
	return a
}

// sign makes a certificate, and writes it and its key.
func (a *authority) sign(name string, c *x509.Certificate) (cert, key string) {
	a.t.Helper()
	k := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(a.t)
	by := a.key
	if by == nil {
		by, a.key = k, k
	}
	der := must(x509.CreateCertificate(rand.Reader, c, a.cert, k.Public(), by))(a.t)
	cert, key = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")
	for path, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: der},
		key:  {Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(k))(a.t)},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return cert, key
}

// gate is the one way in that other servers have to a hub. It can be shut.
type gate struct {
	t    *testing.T
	addr string // where others come to
	to   string // the hub's own address

	mu   sync.Mutex
	door net.Listener // nil while it is shut
	open map[net.Conn]bool
}

func (g *gate) heal() {
	g.t.Helper()
	door := must(net.Listen("tcp", g.addr))(g.t)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.door = door
	go func() {
		for {
			c, err := door.Accept()
			if err != nil {
				return
			}
			go g.carry(c)
		}
	}()
}

func (g *gate) carry(c net.Conn) {
	in, err := net.Dial("tcp", g.to)
	g.mu.Lock()
	if err != nil || g.door == nil {
		g.mu.Unlock()
		c.Close()
		return
	}
	g.open[c], g.open[in] = true, true
	g.mu.Unlock()
	go func() {
		io.Copy(in, c)
		in.Close()
	}()
	io.Copy(c, in)
	c.Close()
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.open, c)
	delete(g.open, in)
}

// cut ends what goes through, and lets nobody in.
func (g *gate) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.door == nil {
		return
	}
	g.door.Close()
	g.door = nil
	for c := range g.open {
		c.Close()
	}
}

// vacant is an address that nobody listens at.
func vacant(t *testing.T) string {
	t.Helper()
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer l.Close()
	return l.Addr().String()
}

// member is a hub among servers.
type member struct {
	*hub
	name string
	gate *gate
}

// startPair starts two hubs that reach each other by TLS, each through its gate.
func startPair(t *testing.T) (a, b *member) {
	t.Helper()
	return startPairWith(t, newAuthority(t), func(*member) {})
}

// startPairWith has each hub prepared before it starts.
func startPairWith(t *testing.T, ca *authority, prepare func(m *member)) (a, b *member) {
	t.Helper()
	one := func(who string) *member {
		g := &gate{t: t, addr: vacant(t), to: vacant(t), open: map[net.Conn]bool{}}
		cert, key := ca.sign(who, &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: who},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		})
		h := newHub(t, g.addr)
		h.env = []string{"SSL_CERT_FILE=" + ca.file()}
		h.args = append(h.args, "--federation-listen", g.to, "--tls-cert", cert, "--tls-key", key, "--allow-networks", "127.0.0.0/8")
		g.heal()
		t.Cleanup(g.cut)
		m := &member{h, g.addr, g}
		prepare(m)
		h.run()
		return m
	}
	return one("a"), one("b")
}
