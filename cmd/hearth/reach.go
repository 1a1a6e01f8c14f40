package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"hearth/cmd/internal/client"
	"hearth/cmd/internal/config"
	"hearth/cmd/internal/mqttclient"
	"hearth/engine/mxid"
)

// Exit codes of pub and sub. They are part of the interface: scripts branch on them.
const (
	exitDone    = 0
	exitLocal   = 1
	exitUsage   = 2
	exitLogin   = 3
	exitRoom    = 4
	exitRefused = 5
	exitTimeout = 6
	exitSignal  = 130
)

const exitHelp = `Exit codes:
  0    done
  1    something on this machine: a file, standard output
  2    wrong usage
  3    the server does not accept the token, the user or the password
  4    the room is unknown, or closed to this user; the topics may not be subscribed to
  5    the server, or a check before it, refused an event, a message or a request
  6    --timeout passed before all was done
  130  interrupted before all was done
`

const reachHelp = `Where and who (a flag beats its variable):
  -r, --room ROOM        room id (!...), alias (#...) or link to it; joined when that is allowed
      --create           make the room where nobody has its alias yet; everybody on the hub may join it
      --server URL       HEARTH_SERVER         default http://127.0.0.1:8008
      --token TOKEN      HEARTH_TOKEN          access token; seen by others on this machine, a file is not
      --token-file F     HEARTH_TOKEN_FILE     file that holds it
  -u, --user USER        HEARTH_USER           log in with a password instead; logs out again at the end
      --password P       HEARTH_PASSWORD       asked for at a terminal when it is nowhere
      --password-file F  HEARTH_PASSWORD_FILE
      --device ID        log in as this device and stay logged in
      --ca FILE          trust the certificates in this PEM file, for a hub that signed its own
      --timeout TIME     give up after this long (10s, 5m); without it, never
  -q, --quiet            no remarks on standard error, only errors

By MQTT 5, with topics in place of a room:
      --mqtt ADDRESS     the broker, this hub's or any other: HOST:PORT, or mqtts://HOST:PORT for TLS
      --topic TOPIC      what to publish to, or a filter to subscribe to (+ and # as ever; may be repeated); -t does too
      --qos N            0, 1 or 2; default 1
      --cert FILE        client certificate and key in PEM, as hearth thing cert prints, in place of a password
  A thing gives its name and secret as --user and --password-file, or in the address as hearth thing add prints it
  (mqtt://NAME:SECRET@HOST:PORT; others on this machine can see it there); a person gives its whole id and an access
  token. With --device ID the session has this client id and is kept: what comes meanwhile waits for the next time.
`

var (
	errInterrupted = errors.New("interrupted")
	errTimeout     = errors.New("the time given by --timeout is over")
)

// failure is an error that knows its exit code.
type failure struct {
	code int
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func usage(format string, args ...any) error {
	return &failure{exitUsage, fmt.Errorf(format, args...)}
}

// reach is how a command gets to its room.
type reach struct {
	name                         string
	room, server                 string
	token, tokenFile             string
	user, password, passwordFile string
	device, ca                   string
	mqtt, cert                   string
	topics                       []string
	qos                          int
	timeout                      time.Duration
	quiet, create                bool
	s                            streams
}

func newReach(name string, s streams) (*reach, *flag.FlagSet) {
	r := &reach{name: name, s: s}
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&r.room, "r", "", "")
	fs.StringVar(&r.room, "room", "", "")
	fs.StringVar(&r.server, "server", "", "")
	fs.StringVar(&r.token, "token", "", "")
	fs.StringVar(&r.tokenFile, "token-file", "", "")
	fs.StringVar(&r.user, "u", "", "")
	fs.StringVar(&r.user, "user", "", "")
	fs.StringVar(&r.password, "password", "", "")
	fs.StringVar(&r.passwordFile, "password-file", "", "")
	fs.StringVar(&r.device, "device", "", "")
	fs.StringVar(&r.ca, "ca", "", "")
	fs.DurationVar(&r.timeout, "timeout", 0, "")
	fs.BoolVar(&r.create, "create", false, "")
	fs.BoolVar(&r.quiet, "q", false, "")
	fs.BoolVar(&r.quiet, "quiet", false, "")
	r.topicFlags(fs)
	return r, fs
}

// parse reads the arguments; it returns flag.ErrHelp where the manual page is asked for.
func (r *reach) parse(fs *flag.FlagSet, args []string) error {
	err := config.ParseFlags(fs, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil:
		return usage("%w", err)
	case fs.NArg() > 0:
		return usage("unexpected argument %q", fs.Arg(0))
	case r.timeout < 0:
		return usage("--timeout must not be negative")
	case r.mqtt != "":
		return r.checkTopics()
	case len(r.topics) > 0 || r.cert != "" || r.qos != usualQoS:
		return usage("--topic, --qos and --cert go with --mqtt")
	case r.room == "":
		return usage("which room? give -r with a room id, an alias or a link")
	}
	if l, err := mxid.ParseLink(r.room); err == nil {
		if r.room = string(l.Room) + string(l.Alias); r.room == "" {
			return usage("the link leads to a user, not to a room")
		}
	}
	switch {
	case r.room[0] != '!' && r.room[0] != '#':
		return usage("room %q: an id begins with !, an alias with # (quote it, the shell knows both)", r.room)
	case r.create && r.room[0] != '#':
		return usage("--create makes a room for an alias (#...); an id is given by the server")
	}
	r.server = first(r.server, r.s.env("HEARTH_SERVER"), "http://127.0.0.1:8008")
	return r.credentials()
}

// credentials settles token or user and password. What is given as a flag keeps the environment's other kind out.
func (r *reach) credentials() error {
	if r.token == "" && r.tokenFile == "" && r.user == "" {
		r.token = r.s.env("HEARTH_TOKEN")
		r.tokenFile = r.s.env("HEARTH_TOKEN_FILE")
	}
	if r.token == "" && r.tokenFile != "" {
		var err error
		if r.token, err = secretFile(r.tokenFile); err != nil {
			return err
		}
	}
	if r.token != "" {
		if r.user != "" {
			return usage("give a token or a user, not both")
		}
		return nil
	}
	return r.login()
}

// login settles user and password.
func (r *reach) login() error {
	if r.user = first(r.user, r.s.env("HEARTH_USER")); r.user == "" {
		return usage("who? give --token-file, or --user and a password")
	}
	if r.password == "" && r.passwordFile == "" {
		r.password = r.s.env("HEARTH_PASSWORD")
		r.passwordFile = r.s.env("HEARTH_PASSWORD_FILE")
	}
	if r.password == "" && r.passwordFile != "" {
		var err error
		if r.password, err = secretFile(r.passwordFile); err != nil {
			return err
		}
	}
	if r.password == "" {
		return r.ask()
	}
	return nil
}

// ask asks for the password at the terminal itself, because standard input may be what is to be sent.
func (r *reach) ask() error {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return usage("no password for %s: give --password-file", r.user)
	}
	defer tty.Close()
	fmt.Fprintf(tty, "Password of %s: ", r.user)
	typed, err := term.ReadPassword(int(tty.Fd()))
	fmt.Fprintln(tty)
	if err != nil {
		return &failure{exitLocal, err}
	}
	r.password = string(typed)
	return nil
}

// connect opens a session. The function it gives closes it again.
func (r *reach) connect(ctx context.Context) (*client.Client, func(), error) {
	o := client.Options{Server: r.server, Token: r.token, Notice: r.remark}
	if r.ca != "" {
		var err error
		if o.Roots, err = rootsOf(r.ca); err != nil {
			return nil, nil, &failure{exitLocal, err}
		}
	}
	c, err := client.New(o)
	if err != nil {
		return nil, nil, usage("%w", err)
	}
	if r.token != "" {
		return c, func() {}, nil
	}
	err = c.Login(ctx, client.Login{User: r.user, Password: r.password, Device: r.device, Name: "hearth " + r.name})
	if err != nil {
		return nil, nil, r.explain(err, exitLogin)
	}
	if r.device != "" {
		return c, func() {}, nil
	}
	return c, func() {
		// Best effort: the run has succeeded or not without it.
		end, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		_ = c.Logout(end)
	}, nil
}

// find gives the id of the room, making it where that is asked for and its alias is free.
func (r *reach) find(ctx context.Context, c *client.Client) (string, error) {
	if r.room[0] == '!' {
		return r.room, nil
	}
	id, err := c.Resolve(ctx, r.room)
	if r.create && client.Refused(err, "M_NOT_FOUND") {
		name, _, _ := strings.Cut(r.room[1:], ":")
		id, err = c.CreateRoom(ctx, name)
		if client.Refused(err, "M_ROOM_IN_USE") { // somebody else was faster
			id, err = c.Resolve(ctx, r.room)
		}
	}
	return id, r.explain(err, exitRoom)
}

// explain gives an error its exit code; otherwise is the code of a refusal that says nothing more special.
func (r *reach) explain(err error, otherwise int) error {
	var known *failure
	var refused *client.Error
	var broker *mqttclient.RefusedError
	switch {
	case err == nil, errors.As(err, &known):
		return err
	case errors.Is(err, errTimeout):
		return &failure{exitTimeout, err}
	case errors.Is(err, errInterrupted):
		return &failure{exitSignal, err}
	case client.Refused(err, "M_UNKNOWN_TOKEN"), client.Refused(err, "M_MISSING_TOKEN"),
		client.Refused(err, "M_USER_DEACTIVATED"):
		return &failure{exitLogin, err}
	case errors.As(err, &refused):
		return &failure{otherwise, err}
	case errors.As(err, &broker) && broker.What == "connect":
		return &failure{exitLogin, err}
	case errors.As(err, &broker) && broker.What == "subscribe":
		return &failure{exitRoom, err}
	}
	return &failure{exitRefused, err}
}

// remark tells the person something that is no error.
func (r *reach) remark(text string) {
	if !r.quiet {
		fmt.Fprintf(r.s.err, "hearth %s: %s\n", r.name, text)
	}
}

// run gives work a context that ends with the time-out or the first signal (the second one ends the process), and
// turns its error into words and an exit code.
func (r *reach) run(help string, parse func() error, work func(context.Context) error) int {
	err := parse()
	if errors.Is(err, flag.ErrHelp) {
		io.WriteString(r.s.out, help)
		return exitDone
	}
	if err == nil {
		ctx, end := context.WithCancelCause(context.Background())
		defer end(nil)
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
		defer signal.Stop(signals)
		over := ctx.Done()
		go func() {
			select {
			case <-signals:
				signal.Stop(signals)
				end(errInterrupted)
			case <-over:
			}
		}()
		if r.timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeoutCause(ctx, r.timeout, errTimeout)
			defer cancel()
		}
		err = work(ctx)
	}
	if err == nil {
		return exitDone
	}
	code := exitLocal
	var f *failure
	if errors.As(err, &f) {
		code = f.code
	}
	fmt.Fprintf(r.s.err, "hearth %s: %v\n", r.name, err)
	if code == exitUsage {
		fmt.Fprintf(r.s.err, "hearth %s --help explains.\n", r.name)
	}
	return code
}

// secretFile reads a secret: the file's content without the newline at its end.
func secretFile(name string) (string, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return "", &failure{exitLocal, err}
	}
	s := strings.TrimRight(string(b), "\r\n")
	if s == "" {
		return "", &failure{exitLocal, fmt.Errorf("%s is empty", name)}
	}
	return s, nil
}

// first gives the first string that is not empty.
func first(of ...string) string {
	for _, s := range of {
		if s != "" {
			return s
		}
	}
	return ""
}
