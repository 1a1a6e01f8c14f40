package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hearth/cmd/internal/config"
	"hearth/httpd/peer"
	"hearth/httpd/peer/dns"
)

// certFiles writes a self-signed certificate and its key.
func certFiles(t *testing.T, name string, from, to time.Time) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: to, DNSNames: []string{name}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "crt"), filepath.Join(dir, "key")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// expect compares notes with parts that each must have, in order.
func expect(t *testing.T, what string, found []config.Problem, want ...string) {
	t.Helper()
	ok := len(found) == len(want)
	for i := range want {
		ok = ok && strings.Contains(found[i].Text, want[i]) && !found[i].Fatal
	}
	if !ok {
		t.Errorf("%s: %v, not %q", what, found, want)
	}
}

func TestOutside(t *testing.T) {
	now := time.Now()
	certFile, keyFile := certFiles(t, "hub.test", now.Add(-time.Hour), now.Add(1000*time.Hour))
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _ = c.(*tls.Conn).Handshake(); _ = c.Close() }()
		}
	}()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	hosts := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(hosts, []byte("127.0.0.1 hub.test other.test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(pair.Leaf)
	servers := peer.NewServers(peer.ServersOptions{Allow: everywhere(), Roots: roots, Resolver: dns.New(dns.Options{Hosts: hosts})})

	c := &config.Config{ServerName: "hub.test:" + port, Federation: "on", FederationListen: ":8448", TLSCert: certFile, TLSKey: keyFile, DataDir: t.TempDir()}
	lines, found := outside(c, servers)
	if len(lines) != 1 || lines[0] != "is looked for   at hub.test, port "+port+": [127.0.0.1]" {
		t.Errorf("%q", lines)
	}
	expect(t, "a hub on this machine", found, "leads to this machine itself", "signed by nobody whom this machine trusts")
	c.ServerName = "other.test:" + port
	_, found = outside(c, servers)
	expect(t, "another name", found, "leads to this machine itself", "do not believe who answers there: tried 127.0.0.1:"+port+" (its certificate is for another name)",
		"is not for other.test", "signed by nobody")
	c.FederationAddress = "hub.test:443"
	_, found = outside(c, servers)
	if len(found) == 0 || !strings.Contains(found[0].Text, "does not tell others of hub.test:443: a name with a port") {
		t.Error(found)
	}
	c.Federation = "off"
	if lines, found = outside(c, servers); lines != nil || found != nil {
		t.Error("federation is off:", lines, found)
	}
}

// What the owner of a hub on a local network is told.
func TestPrivate(t *testing.T) {
	for _, tt := range []struct {
		addr  string
		allow []string
		want  []string
	}{
		{"8.8.8.8", nil, nil},
		{"127.0.0.1", nil, []string{"this machine itself"}},
		{"192.168.1.5", nil, []string{`both need allow_networks = ["192.168.1.0/24"]`}},
		{"fd00::5", nil, []string{`both need allow_networks = ["fd00::/64"]`}},
		{"192.168.1.5", []string{"192.168.0.0/16"}, []string{"only servers on the same network"}},
	} {
		var found []config.Problem
		private(&config.Config{AllowNetworks: tt.allow}, peer.Place{Host: "hub", Port: 8448, Addrs: []netip.Addr{netip.MustParseAddr(tt.addr)}},
			func(key, format string, args ...any) {
				found = append(found, config.Problem{Text: fmt.Sprintf(format, args...)})
			})
		expect(t, tt.addr, found, tt.want...)
	}
}

func TestJudgeChain(t *testing.T) {
	now := time.Now()
	day := 24 * time.Hour
	for _, tt := range []struct {
		name     string
		from, to time.Time
		want     string
	}{
		{"hub.test", now.Add(-30 * day), now.Add(60 * day), ""},
		{"hub.test", now.Add(-80 * day), now.Add(10 * day), "has not been renewed"},
		{"hub.test", now.Add(-3 * day), now.Add(3 * day), ""}, // short ones are renewed late
		{"hub.test", now.Add(-80 * day), now.Add(-day), "ran out"},
		{"hub.test", now.Add(day), now.Add(80 * day), "this machine's clock"},
		{"bus.test", now.Add(-30 * day), now.Add(60 * day), "is not for hub.test"},
	} {
		pair, err := tls.LoadX509KeyPair(certFiles(t, tt.name, tt.from, tt.to))
		if err != nil {
			t.Fatal(err)
		}
		want := 1 // nobody has signed it
		if tt.want != "" {
			want = 2
		}
		got := judgeChain(&pair, "hub.test")
		if len(got) != want || !strings.Contains(got[0], tt.want) || !strings.Contains(got[want-1], "signed by nobody") {
			t.Errorf("%+v: %q", tt, got)
		}
	}
}
