package peer

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// authority is an ACME server with one account. It believes who signs, and asks
// for the proof that its test wants.
type authority struct {
	w    *world
	srv  *httptest.Server
	kind string                         // of the proof
	ask  func(name, token string) error // whether the proof is there
	mu   sync.Mutex
	at   map[string]string // order to name
	done map[string]bool   // orders that were proven
	cert map[string][]byte // in PEM, by order
	n    int
}

func newAuthority(w *world, kind string) *authority {
	a := &authority{w: w, kind: kind, at: map[string]string{}, done: map[string]bool{}, cert: map[string][]byte{}}
	a.srv = httptest.NewTLSServer(http.HandlerFunc(a.handle))
	w.t.Cleanup(a.srv.Close)
	return a
}

// payload is the signed part of a request.
func payload(r *http.Request, into any) {
	var jws struct{ Payload string }
	if json.NewDecoder(r.Body).Decode(&jws) == nil {
		if b, err := base64.RawURLEncoding.DecodeString(jws.Payload); err == nil {
			_ = json.Unmarshal(b, into) // empty for those that only read
		}
	}
}

func (a *authority) handle(rw http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.n++
	rw.Header().Set("Replay-Nonce", fmt.Sprint("nonce", a.n))
	what, id, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	url := func(what, id string) string { return a.srv.URL + "/" + what + "/" + id }
	status := "pending"
	if a.done[id] {
		status = "valid"
	}
	switch what {
	case "":
		fmt.Fprintf(rw, `{"newNonce":%q,"newAccount":%q,"newOrder":%q,"revokeCert":%q,"keyChange":%q}`,
			url("nonce", ""), url("account", ""), url("new", ""), url("x", ""), url("x", ""))
	case "nonce":
	case "account":
		rw.Header().Set("Location", url("account", "1"))
		rw.WriteHeader(201)
		fmt.Fprint(rw, `{"status":"valid"}`)
	case "new":
		var order struct{ Identifiers []struct{ Value string } }
		payload(r, &order)
		id = fmt.Sprint(a.n)
		a.at[id] = order.Identifiers[0].Value
		rw.Header().Set("Location", url("order", id))
		rw.WriteHeader(201)
		a.order(rw, id, url)
	case "order":
		a.order(rw, id, url)
	case "authz", "challenge":
		if what == "challenge" && !a.done[id] && a.ask(a.at[id], "token"+id) == nil {
			a.done[id], status = true, "valid"
		}
		one := fmt.Sprintf(`{"type":%q,"status":%q,"token":"token%s","url":%q}`, a.kind, status, id, url("challenge", id))
		if what == "authz" {
			one = fmt.Sprintf(`{"status":%q,"identifier":{"type":"dns","value":%q},"challenges":[%s]}`, status, a.at[id], one)
		}
		fmt.Fprint(rw, one)
	case "finalize":
		var order struct{ CSR string }
		payload(r, &order)
		a.sign(id, order.CSR)
		a.order(rw, id, url)
	case "cert":
		_, _ = rw.Write(a.cert[id])
	}
}

func (a *authority) order(rw http.ResponseWriter, id string, url func(what, id string) string) {
	status, cert := "pending", ""
	switch {
	case a.cert[id] != nil:
		status, cert = "valid", fmt.Sprintf(`,"certificate":%q`, url("cert", id))
	case a.done[id]:
		status = "ready"
	}
	fmt.Fprintf(rw, `{"status":%q,"identifiers":[{"type":"dns","value":%q}],"authorizations":[%q],"finalize":%q%s}`,
		status, a.at[id], url("authz", id), url("finalize", id), cert)
}

// sign gives the certificate that was asked for.
func (a *authority) sign(id, text string) {
	der, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		a.w.t.Error(err)
		return
	}
	req, err := x509.ParseCertificateRequest(der)
	if err != nil || !a.done[id] || len(req.DNSNames) != 1 || req.DNSNames[0] != a.at[id] {
		a.w.t.Error("a certificate for what was not proven:", err)
		return
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(int64(a.n)), NotBefore: a.w.ca.NotBefore, NotAfter: a.w.ca.NotAfter, DNSNames: req.DNSNames}
	if der, err = x509.CreateCertificate(rand.Reader, template, a.w.ca, req.PublicKey, a.w.key); err != nil {
		a.w.t.Error(err)
	}
	a.cert[id] = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// client is the hub's side, with a listener that shows its certificates.
func (a *authority) client(names ...string) (*ACME, string) {
	w := a.w
	w.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(a.srv.Certificate())
	own := w.certificate("self-signed.example")
	c, err := NewACME(ACMEOptions{
		Contact: "me@example.org", Directory: a.srv.URL + "/", Names: names, Dir: filepath.Join(w.t.TempDir(), "acme"), Roots: roots,
		Fallback: func() (*tls.Certificate, error) { return &own, nil },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return c, w.door(c)
}

// door listens with the certificates of c.
func (w *world) door(c *ACME) string {
	ln, err := tls.Listen("tcp", "127.0.0.1:0", c.Config())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				_ = c.(*tls.Conn).Handshake()
				_ = c.Close()
			}()
		}
	}()
	return ln.Addr().String()
}

// shown gives the name of the certificate that a door shows to who asks for one.
func (w *world) shown(door, name string) string {
	w.t.Helper()
	c, err := tls.Dial("tcp", door, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].DNSNames[0]
}

// askDoor asks for the proof at the door itself, as tls-alpn-01 does.
func askDoor(door string) func(name, token string) error {
	return func(name, _ string) error {
		c, err := tls.Dial("tcp", door, &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{"acme-tls/1"}})
		if err != nil {
			return err
		}
		defer c.Close()
		cert := c.ConnectionState().PeerCertificates[0]
		if c.ConnectionState().NegotiatedProtocol != "acme-tls/1" || len(cert.DNSNames) != 1 || cert.DNSNames[0] != name || len(cert.Extensions) < 2 {
			return errors.New("not the proof")
		}
		return nil
	}
}

func TestACME(t *testing.T) {
	for _, kind := range []string{"tls-alpn-01", "http-01"} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			a := newAuthority(w, kind)
			c, door := a.client("hub.example.org", "chat.example.org")
			a.ask = askDoor(door)
			if kind == "http-01" {
				a.ask = func(_, token string) error {
					if answer, ok := c.Challenge("/.well-known/acme-challenge/" + token); !ok || !strings.HasPrefix(string(answer), token+".") {
						return errors.New("no proof")
					}
					return nil
				}
			}
			if got := w.shown(door, "hub.example.org"); got != "self-signed.example" {
				t.Error("before there is one:", got)
			}
			if _, ok := c.Challenge("/.well-known/acme-challenge/x"); ok {
				t.Error("a proof that nobody asked for")
			}
			for _, name := range c.o.Names {
				if err := c.obtain(t.Context(), name); err != nil {
					t.Fatal(err)
				}
			}
			for asked, want := range map[string]string{
				"hub.example.org": "hub.example.org", "Chat.example.org": "chat.example.org", "": "hub.example.org", "other.example.org": "hub.example.org",
			} {
				if got := w.shown(door, asked); got != want {
					t.Errorf("%q is shown %q", asked, got)
				}
			}
			// The next start has them at once, without the authority.
			a.srv.Close()
			again, err := NewACME(c.o)
			if err != nil {
				t.Fatal(err)
			}
			if got := w.shown(w.door(again), "chat.example.org"); got != "chat.example.org" {
				t.Error("after a start:", got)
			}
			files, err := os.ReadDir(c.o.Dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				if st, err := f.Info(); err != nil || st.Mode().Perm()&0o077 != 0 {
					t.Errorf("%s can be read by others: %v", f.Name(), err)
				}
			}
		})
	}
}

// An authority that is out of order is not asked by handshakes, and Run ends
// when it is told.
func TestACMEDown(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(w, "tls-alpn-01")
	told := make(chan string, 10)
	c, door := a.client("hub.example.org")
	a.srv.Close()
	c.o.Log = func(format string, args ...any) { told <- fmt.Sprintf(format, args...) }
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() { c.Run(ctx); close(over) }()
	if text := <-told; !strings.Contains(text, "hub.example.org") || !strings.Contains(text, "5m") {
		t.Error(text)
	}
	before := a.n
	if got := w.shown(door, "hub.example.org"); got != "self-signed.example" || a.n != before {
		t.Error(got, a.n, before)
	}
	cancel()
	<-over
	if _, err := NewACME(ACMEOptions{}); err == nil {
		t.Error("no name is enough")
	}
}
