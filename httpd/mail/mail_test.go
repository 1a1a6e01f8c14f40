package mail

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"strings"
	"testing"
	"time"
)

// server is a small mail server that keeps what it is told.
type server struct {
	t       *testing.T
	ln      net.Listener
	tls     *tls.Config
	offers  bool // STARTTLS
	refuse  string
	said    chan string // each command
	message chan string
}

func serve(t *testing.T, s *server) string {
	t.Helper()
	var err error
	if s.ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.ln.Close() })
	s.t, s.said, s.message = t, make(chan string, 64), make(chan string, 1)
	go func() {
		for {
			c, err := s.ln.Accept()
			if err != nil {
				return
			}
			go s.talk(c)
		}
	}()
	return s.ln.Addr().String()
}

func (s *server) talk(c net.Conn) {
	defer func() { c.Close() }()
	r := bufio.NewReader(c)
	say := func(line string) { io.WriteString(c, line+"\r\n") }
	say("220 test")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSpace(line)
		s.said <- line
		word, _, _ := strings.Cut(line, " ")
		switch {
		case s.refuse != "" && strings.HasPrefix(line, s.refuse):
			say("550 no")
		case word == "EHLO" && s.offers:
			say("250-test\r\n250-STARTTLS\r\n250 AUTH PLAIN")
		case word == "EHLO":
			say("250-test\r\n250 AUTH PLAIN")
		case word == "STARTTLS":
			say("220 go")
			c = tls.Server(c, s.tls)
			r = bufio.NewReader(c)
		case word == "AUTH":
			say("235 in")
		case word == "DATA":
			say("354 go")
			var b strings.Builder
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				b.WriteString(line)
			}
			s.message <- b.String()
			say("250 taken")
		case word == "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

// certificate makes a server's configuration and the roots that trust it.
func certificate(t *testing.T) (srv, cli *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: roots}
}

func TestSend(t *testing.T) {
	srv, cli := certificate(t)
	s := &server{tls: srv, offers: true}
	m, err := New(Options{Server: serve(t, s), User: "u", Password: "p", From: "Hüb <hub@x.org>", Config: cli})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Send("bob@y.org", "Grüße", "first line\n.\nthird\n"); err != nil {
		t.Fatal(err)
	}
	got, err := netmail.ReadMessage(strings.NewReader(<-s.message))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(quotedprintable.NewReader(got.Body))
	if err != nil {
		t.Fatal(err)
	}
	if want := "first line\r\n..\r\nthird\r\n"; string(body) != want { // a line with a dot is sent with two
		t.Fatalf("%q", body)
	}
	if to := got.Header.Get("To"); to != "<bob@y.org>" {
		t.Fatal(to)
	}
	if subject := got.Header.Get("Subject"); subject != "=?utf-8?q?Gr=C3=BC=C3=9Fe?=" {
		t.Fatal(subject)
	}
	var said []string
	for len(s.said) > 0 {
		line, _, _ := strings.Cut(<-s.said, " BODY")
		said = append(said, line)
	}
	if all := strings.Join(said, "|"); !strings.HasPrefix(all, "EHLO x.org|STARTTLS|EHLO x.org|AUTH PLAIN ") || !strings.Contains(all, "|MAIL FROM:<hub@x.org>|RCPT TO:<bob@y.org>|DATA") {
		t.Fatal(all)
	}
}

func TestRefusals(t *testing.T) {
	srv, cli := certificate(t)
	for name, x := range map[string]struct {
		server
		Options
	}{
		"no encryption offered":   {server{}, Options{Config: cli}},
		"a certificate of nobody": {server{tls: srv, offers: true}, Options{}},
		"the receiver is refused": {server{refuse: "RCPT"}, Options{Security: Clear}},
		"the sender is refused":   {server{refuse: "MAIL"}, Options{Security: Clear}},
	} {
		t.Run(name, func(t *testing.T) {
			x.From = "hub@x.org"
			x.Server = serve(t, &x.server)
			m, err := New(x.Options)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Send("bob@y.org", "s", "t"); err == nil || !strings.HasPrefix(err.Error(), "mail: ") {
				t.Fatal(err)
			}
		})
	}
	m, err := New(Options{Server: "127.0.0.1:1", From: "hub@x.org"})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Send("bob@y.org>\r\nRCPT TO:<eve@z.org", "s", "t"); err == nil {
		t.Fatal("a second receiver was slipped in")
	}
	for _, o := range []Options{{}, {Server: "x", From: "a@b"}, {Server: "x:1"}, {Server: "x:1", From: "nobody"}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}
