// Package mail hands messages of the hub to the owner's mail server: proofs of
// addresses, new passwords, notices to people who are not there.
//
// It owns the conversation with that one server, and the form of a message. It
// refuses to be a mail server itself: it looks up nobody's exchanger and keeps
// no queue, so a message is taken by the owner's server now or not at all, and
// whoever asked for it is told. It sends no password over a connection that is
// not encrypted, except to this machine.
package mail

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"net/smtp"
	"strings"
	"time"
)

// Security is how the connection to the mail server is encrypted.
type Security uint8

// The ways.
const (
	StartTLS Security = iota // begins in the clear; the server has to offer TLS
	TLS                      // from the first byte
	Clear                    // never, for a server on this machine
)

// Options are what a Sender is made with.
type Options struct {
	Server   string // host:port
	Security Security
	User     string // empty: no login
	Password string
	From     string           // "The hub <hub@example.org>"
	Config   *tls.Config      // nil: the system's roots
	Now      func() time.Time // nil: time.Now
}

const (
	dialTime = 10 * time.Second
	sendTime = 30 * time.Second
	// senders is how many messages are under way at one time; others wait as
	// long as it takes to send one.
	senders = 2
)

// Sender sends messages.
type Sender struct {
	o    Options
	host string
	from *netmail.Address
	turn chan struct{}
}

// New checks the options. It does not ask the server.
func New(o Options) (*Sender, error) {
	host, _, err := net.SplitHostPort(o.Server)
	if err != nil || host == "" {
		return nil, fmt.Errorf("mail: the server %q is not of the form host:port", o.Server)
	}
	from, err := netmail.ParseAddress(o.From)
	if err != nil {
		return nil, fmt.Errorf("mail: the sender %q is no address", o.From)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Sender{o: o, host: host, from: from, turn: make(chan struct{}, senders)}, nil
}

// errBusy is Send's error where too many messages are under way.
var errBusy = errors.New("mail: too many messages are being sent")

// Send gives a message of plain text to the mail server, and returns when that
// has taken it.
func (s *Sender) Send(to, subject, text string) error {
	wait := time.NewTimer(sendTime)
	defer wait.Stop()
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-wait.C:
		return errBusy
	}
	if strings.ContainsAny(to, "\r\n<>") {
		return fmt.Errorf("mail: %q is no address", to)
	}
	message, err := s.compose(to, subject, text)
	if err != nil {
		return err
	}
	c, err := s.dial()
	if err != nil {
		return fmt.Errorf("mail: %s: %w", s.o.Server, err)
	}
	defer c.Close()
	if err := s.deliver(c, to, message); err != nil {
		return fmt.Errorf("mail: %s: %w", s.o.Server, err)
	}
	return c.Quit()
}

// dial opens the conversation, encrypted and logged in.
func (s *Sender) dial() (c *smtp.Client, err error) {
	d := net.Dialer{Timeout: dialTime}
	conf := &tls.Config{}
	if s.o.Config != nil {
		conf = s.o.Config.Clone()
	}
	conf.ServerName = s.host
	var conn net.Conn
	if s.o.Security == TLS {
		conn, err = tls.DialWithDialer(&d, "tcp", s.o.Server, conf)
	} else {
		conn, err = d.Dial("tcp", s.o.Server)
	}
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(sendTime)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if c, err = smtp.NewClient(conn, s.host); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := s.greet(c, conf); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (s *Sender) greet(c *smtp.Client, conf *tls.Config) error {
	_, host, _ := strings.Cut(s.from.Address, "@")
	if err := c.Hello(host); err != nil {
		return err
	}
	if s.o.Security == StartTLS {
		if ok, _ := c.Extension("STARTTLS"); !ok {
			return errors.New("the server offers no encryption (STARTTLS)")
		}
		if err := c.StartTLS(conf); err != nil {
			return err
		}
	}
	if s.o.User == "" {
		return nil
	}
	return c.Auth(smtp.PlainAuth("", s.o.User, s.o.Password, s.host)) // refuses by itself what is not encrypted
}

func (s *Sender) deliver(c *smtp.Client, to string, message []byte) error {
	if err := c.Mail(s.from.Address); err != nil {
		return err
	}
	if err := c.Rcpt(to); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(message); err != nil {
		return err
	}
	return w.Close()
}

// compose writes the whole message.
func (s *Sender) compose(to, subject, text string) ([]byte, error) {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, fmt.Errorf("mail: %w", err)
	}
	_, host, _ := strings.Cut(s.from.Address, "@")
	var b bytes.Buffer
	for _, h := range [...][2]string{
		{"From", s.from.String()},
		{"To", "<" + to + ">"},
		{"Subject", mime.QEncoding.Encode("utf-8", subject)},
		{"Date", s.o.Now().Format(time.RFC1123Z)},
		{"Message-ID", "<" + hex.EncodeToString(id[:]) + "@" + host + ">"},
		{"Auto-Submitted", "auto-generated"},
		{"MIME-Version", "1.0"},
		{"Content-Type", "text/plain; charset=utf-8"},
		{"Content-Transfer-Encoding", "quoted-printable"},
	} {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	b.WriteString("\r\n")
	q := quotedprintable.NewWriter(&b)
	if _, err := q.Write([]byte(strings.ReplaceAll(text, "\n", "\r\n"))); err != nil {
		return nil, err
	}
	return b.Bytes(), q.Close()
}
