package peer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"hearth/httpd/peer/dns"
)

// world is a name server and a few web servers on loopback addresses, all at the
// same two ports, so that addresses tell the servers apart.
type world struct {
	t        *testing.T
	web, fed uint16
	dnsPort  uint16
	ca       *x509.Certificate
	key      *ecdsa.PrivateKey
	roots    *x509.CertPool
	hosts    string
	now      func() time.Time

	mu    sync.Mutex
	zone  map[string][]dnsmessage.ResourceBody // "A name" and "SRV name"
	asked map[string]int
	hits  map[string]int // "address path"
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, zone: map[string][]dnsmessage.ResourceBody{}, asked: map[string]int{}, hits: map[string]int{}, now: time.Now}
	var err error
	if w.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(10000 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, w.key.Public(), w.key)
	if err != nil {
		t.Fatal(err)
	}
	if w.ca, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	w.roots = x509.NewCertPool()
	w.roots.AddCert(w.ca)
	w.web, w.fed = freePort(t), freePort(t)
	w.serveNames()
	return w
}

// freePort gives a port that it keeps on 127.0.0.1, so that no two are the same;
// the servers of a test listen there on other addresses, where nothing else does.
func freePort(t *testing.T) uint16 {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return netip.MustParseAddrPort(ln.Addr().String()).Port()
}

func (w *world) serveNames() {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = pc.Close() })
	w.dnsPort = netip.MustParseAddrPort(pc.LocalAddr().String()).Port()
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil {
				continue
			}
			m.Response, m.Additionals = true, nil
			q := m.Questions[0]
			key := strings.TrimPrefix(q.Type.String(), "Type") + " " + strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
			w.mu.Lock()
			w.asked[key]++
			for _, body := range w.zone[key] {
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 300}, Body: body})
			}
			w.mu.Unlock()
			if len(m.Answers) == 0 {
				m.RCode = dnsmessage.RCodeNameError
			}
			out, _ := m.Pack()
			_, _ = pc.WriteTo(out, from)
		}
	}()
}

func (w *world) address(name string, at ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range at {
		w.zone["A "+name] = append(w.zone["A "+name], &dnsmessage.AResource{A: netip.MustParseAddr(a).As4()})
	}
}

func (w *world) service(name, host string, port uint16) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.zone["SRV "+name] = append(w.zone["SRV "+name], &dnsmessage.SRVResource{Target: dnsmessage.MustNewName(host + "."), Port: port})
}

// certificate is one for names and addresses.
func (w *world) certificate(names ...string) tls.Certificate {
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: w.ca.NotBefore, NotAfter: w.ca.NotAfter}
	for _, n := range names {
		if a := net.ParseIP(n); a != nil {
			template.IPAddresses = append(template.IPAddresses, a)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, w.ca, w.key.Public(), w.key)
	if err != nil {
		w.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: w.key}
}

// serve listens at an address with a certificate for some names.
func (w *world) serve(addr string, port uint16, h http.HandlerFunc, names ...string) {
	w.t.Helper()
	at := netip.AddrPortFrom(netip.MustParseAddr(addr), port).String()
	ln, err := net.Listen("tcp", at)
	if err != nil {
		w.t.Fatal(err)
	}
	srv := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.hits[at+r.URL.Path]++
		w.mu.Unlock()
		h(rw, r)
	})}
	go func() {
		_ = srv.Serve(tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{w.certificate(names...)}}))
	}()
	w.t.Cleanup(func() { _ = srv.Close() })
}

// echo is a server that says what it was asked.
func echo(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	at := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	fmt.Fprintf(rw, "%s %s %s %s auth=%q %s", at, r.Host, r.Method, r.RequestURI, r.Header.Get("Authorization"), body)
}

// wellKnown is one that names a server.
func wellKnown(to string) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/.well-known/matrix/server" {
			rw.WriteHeader(404)
			return
		}
		fmt.Fprintf(rw, `{"m.server":%q}`, to)
	}
}

func (w *world) servers() *Servers {
	w.t.Helper()
	dir := w.t.TempDir()
	conf, hosts := filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "hosts")
	if err := os.WriteFile(conf, []byte("nameserver 127.0.0.1\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(hosts, []byte(w.hosts), 0o600); err != nil {
		w.t.Fatal(err)
	}
	s := NewServers(ServersOptions{
		Allow: local, Agent: "hearth", Roots: w.roots, Now: w.now,
		Resolver: dns.New(dns.Options{Conf: conf, Hosts: hosts, Port: w.dnsPort, Now: w.now}),
	})
	s.web, s.fed = w.web, w.fed
	w.t.Cleanup(s.Close)
	return s
}

func (w *world) count(m map[string]int, key string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return m[key]
}
