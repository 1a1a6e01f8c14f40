package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"hearth/engine"
	"hearth/engine/account"
	"hearth/engine/backup"
	"hearth/engine/bridge"
	"hearth/engine/fault"
	"hearth/engine/federation"
	"hearth/engine/mqtt"
	"hearth/engine/mxid"
	"hearth/engine/thing"
)

// Management commands reach a running hub through a Unix socket in its data
// folder, which only the hub's own user can open: who may read the folder may
// manage the hub. One line of JSON goes each way.

// order is what a management command asks for.
type order struct {
	Do       string // add, list, passwd, deactivate, claim
	Name     string `json:",omitempty"` // localpart or whole id
	Password string `json:",omitempty"`
	Admin    bool   `json:",omitempty"`
	Erase    bool   `json:",omitempty"`
	After    uint32 `json:",omitempty"` // list: users with a higher number

	Allow []thing.Grant `json:",omitempty"` // thing-add, thing-approve

	Media bool `json:",omitempty"` // backup: the files too; Name is the folder

	Format      string `json:",omitempty"` // export; Name is the topic filter
	From, Until int64  `json:",omitempty"` // export: milliseconds

	History *engine.History `json:",omitempty"` // history-purge; Name is the room
}

// report is the answer.
type report struct {
	Error string         `json:",omitempty"`
	User  mxid.UserID    `json:",omitempty"`
	Code  string         `json:",omitempty"` // claim
	Users []account.User `json:",omitempty"`

	Things []thingReport  `json:",omitempty"`
	Knocks []*thing.Knock `json:",omitempty"`
	Loads  []mqtt.Load    `json:",omitempty"`

	Services []string                 `json:",omitempty"` // where they stand, a line each
	Servers  []federation.Destination `json:",omitempty"`

	Mappings []bridge.Mapping `json:",omitempty"`
	Faults   []string         `json:",omitempty"`

	History *engine.HistoryPurge `json:",omitempty"` // history-purge, history-status; Code is its id

	Backup *backup.Note `json:",omitempty"`
	Bundle []byte       `json:",omitempty"` // support
}

// admin carries out orders on an open engine.
type admin struct {
	engine *engine.Engine
	things func() []string // the addresses that things find the hub at
}

// listPage is how many users one answer holds.
const listPage = 500

// do carries out one order.
func (a admin) do(o order) (report, error) {
	accounts := a.engine.Accounts
	if strings.HasPrefix(o.Do, "thing-") {
		return a.doThing(o)
	}
	if strings.HasPrefix(o.Do, "history-") {
		return a.doHistory(o)
	}
	switch o.Do {
	case "services":
		return a.services()
	case "servers":
		list, err := a.engine.Federation.Destinations()
		return report{Servers: list}, err
	case "server-retry":
		server, err := mxid.ParseServer(o.Name)
		if err == nil {
			_, err = a.engine.Federation.Destination(server)
		}
		if err == nil {
			err = a.engine.Federation.Retry(server)
		}
		return report{}, err
	case "claim":
		code, err := accounts.Reclaim()
		return report{Code: code}, err
	case "list":
		list, err := accounts.Users(o.After, listPage)
		return report{Users: list}, err
	case "add":
		num, err := accounts.Create(account.NewUser{Localpart: a.localpart(o.Name), Password: o.Password, Admin: o.Admin})
		if err != nil {
			return report{}, err
		}
		u, err := accounts.User(num)
		return report{User: u.ID}, err
	}
	id := a.id(o.Name)
	num, err := accounts.Find(id)
	if err == nil && num == 0 {
		err = fault.E(fault.NotFound, "hearth.user", "there is no user %s", id)
	}
	if err != nil {
		return report{}, err
	}
	switch o.Do {
	case "passwd":
		err = a.engine.SetPassword(num, o.Password, true, "")
	case "deactivate":
		_, err = a.engine.Retire(num, id, o.Erase)
	default:
		err = fault.E(fault.Unrecognised, "hearth.user", "the hub does not know the order %q: it is of another version", o.Do)
	}
	return report{User: id}, err
}

// id is the whole id of a user who may be named in short.
func (a admin) id(name string) mxid.UserID {
	if name != "" && name[0] == '@' {
		return mxid.UserID(name)
	}
	return a.engine.Accounts.ID(name)
}

// localpart is the name of a user of this hub who may be named in full.
func (a admin) localpart(name string) string {
	if id := mxid.UserID(name); name != "" && name[0] == '@' && id.Server() == a.engine.Server {
		return id.Localpart()
	}
	return name
}

// plainText is what a person is told of an error: not in which function it was.
func plainText(err error) string {
	var f *fault.Error
	if errors.As(err, &f) && f.Text != "" {
		return f.Text
	}
	return err.Error()
}

const (
	socketName  = "control.sock"
	maxOrder    = 16 << 10
	orderTime   = 10 * time.Second // to send an order
	answerTime  = 5 * time.Minute  // a deactivation leaves every room
	dialTime    = 2 * time.Second
	longestPath = 100 // a Unix socket's address holds 108 bytes
)

// socketPath is the address of a folder's socket. A long path is reached
// through a descriptor of the folder; done gives that back.
func socketPath(dir string) (path string, done func(), err error) {
	path = filepath.Join(dir, socketName)
	if len(path) <= longestPath {
		return path, func() {}, nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", f.Fd(), socketName), func() { _ = f.Close() }, nil
}

// control is the hub's end of the socket.
type control struct {
	ln    net.Listener
	file  string
	admin admin
	log   *slog.Logger
	help  func(io.Writer) error // writes the file of hearth support
	one   sync.Mutex            // orders are carried out one at a time
	over  chan struct{}

	backing sync.Mutex // held while a backup is made, which takes longer than others want to wait
	life    context.Context
	end     context.CancelFunc
}

// listenControl opens the socket. The caller has the data folder to itself, so
// that a socket that is there was left by a hub that was killed.
func listenControl(dir string, a admin, help func(io.Writer) error, log *slog.Logger) (*control, error) {
	file := filepath.Join(dir, socketName)
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	path, done, err := socketPath(dir)
	if err != nil {
		return nil, err
	}
	defer done()
	old := syscall.Umask(0o177)
	ln, err := net.Listen("unix", path)
	syscall.Umask(old)
	if err != nil {
		return nil, err
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false) // close removes it by its own name
	c := &control{ln: ln, file: file, admin: a, help: help, log: log, over: make(chan struct{})}
	c.life, c.end = context.WithCancel(context.Background())
	go c.accept()
	return c, nil
}

func (c *control) accept() {
	defer close(c.over)
	for {
		conn, err := c.ln.Accept()
		if err != nil {
			return
		}
		go c.serve(conn)
	}
}

// serve answers one order.
func (c *control) serve(conn net.Conn) {
	defer conn.Close()
	if conn.SetReadDeadline(time.Now().Add(orderTime)) != nil {
		return
	}
	line, err := bufio.NewReader(io.LimitReader(conn, maxOrder)).ReadBytes('\n')
	if err != nil {
		return
	}
	var o order
	var r report
	if err = json.Unmarshal(line, &o); err == nil && o.Do == "export" {
		c.streamExport(conn, o)
		return
	}
	switch {
	case err == nil && o.Do == "backup":
		r = c.backup(conn, o)
	case err == nil && o.Do == "support" && c.help != nil:
		var b bytes.Buffer
		err = c.help(&b)
		r.Bundle = b.Bytes()
	case err == nil:
		c.one.Lock()
		r, err = c.admin.do(o)
		c.one.Unlock()
		if o.Do != "list" && o.Do != "services" && o.Do != "thing-list" && o.Do != "thing-sessions" && o.Do != "thing-mappings" {
			c.log.Info("management", "order", o.Do, "user", o.Name, "err", err)
		}
	}
	if err != nil {
		r = report{Error: plainText(err)}
	}
	_ = json.NewEncoder(conn).Encode(r) // whoever asked has gone where this fails
}

// close ends the socket; an order under way is finished first, a backup cut short.
func (c *control) close() {
	c.end()
	_ = os.Remove(c.file)
	_ = c.ln.Close()
	<-c.over
	c.one.Lock()
	defer c.one.Unlock()
	c.backing.Lock()
	defer c.backing.Unlock()
}

// errNotRunning is what ask gives where no hub runs on the folder.
var errNotRunning = errors.New("no hub is running on the data folder")

// running says whether a hub runs on the folder.
func running(dir string) bool {
	c, err := dialControl(dir)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

func dialControl(dir string) (net.Conn, error) {
	path, done, err := socketPath(dir)
	if err != nil {
		return nil, err
	}
	defer done()
	return net.DialTimeout("unix", path, dialTime)
}

// askHub has a running hub carry out an order.
func askHub(dir string, o order) (report, error) {
	c, err := dialControl(dir)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return report{}, errNotRunning
	case err != nil:
		return report{}, fmt.Errorf("the hub that runs on %s cannot be reached: %w", dir, err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return report{}, err
	}
	if err := json.NewEncoder(c).Encode(o); err != nil {
		return report{}, fmt.Errorf("the hub does not listen: %w", err)
	}
	var r report
	if err := json.NewDecoder(c).Decode(&r); err != nil {
		return report{}, fmt.Errorf("the hub does not answer: %w", err)
	}
	if r.Error != "" {
		return report{}, errors.New(r.Error)
	}
	return r, nil
}
