package update

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The hub asks at a Unix socket. One line goes each way: status, install (what lies where archives are brought), or pull
// and a URL; the answer is a Status, with an error where the order was not taken. Nothing that the hub says is a path,
// and what it brings is judged by the signature alone.

// lineMax is how long an order may be, in bytes.
const lineMax = 2048

// answer is what goes back.
type answer struct {
	Error string `json:"error,omitempty"`
	Status
}

// Serve answers a user, and root, at a socket until ctx ends.
func (k *Keeper) Serve(ctx context.Context, socket string, user int) error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	if err := os.Chown(socket, user, user); err != nil {
		return err
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		return err
	}
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return err
		}
		if k.known(c, user) { // one at a time: an order is taken at once
			k.serve(c)
		}
		c.Close()
	}
}

// known says whether the other end is the user or root.
func (k *Keeper) known(c *net.UnixConn, user int) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	ok := false
	err = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		ok = err == nil && (cred.Uid == uint32(user) || cred.Uid == 0)
	})
	return ok && err == nil
}

func (k *Keeper) serve(c net.Conn) {
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return
	}
	line, err := bufio.NewReader(io.LimitReader(c, lineMax)).ReadString('\n')
	if err != nil {
		return
	}
	a := answer{}
	if err := k.order(strings.TrimSuffix(line, "\n")); err != nil {
		a.Error = err.Error()
	}
	a.Status = k.Status()
	if err := json.NewEncoder(c).Encode(a); err != nil {
		log.Printf("update: answering: %v", err)
	}
}

// order takes one.
func (k *Keeper) order(line string) error {
	word, rest, _ := strings.Cut(line, " ")
	switch {
	case line == "status":
		return nil
	case line == "install":
		return k.Install()
	case word == "pull":
		u, err := url.Parse(rest)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
			return errors.New("that is no URL of an update")
		}
		return k.Pull(u.String())
	}
	return errors.New("there is no such order")
}

// Ask gives an order to the box that the program runs on, and gives the answer.
func Ask(socket, order string) (s Status, err error) {
	c, err := net.DialTimeout("unix", socket, 2*time.Second)
	if err != nil {
		return s, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return s, err
	}
	if strings.Contains(order, "\n") || len(order) >= lineMax {
		return s, errors.New("that is no order")
	}
	if _, err := io.WriteString(c, order+"\n"); err != nil {
		return s, err
	}
	var a answer
	if err := json.NewDecoder(io.LimitReader(c, 64<<10)).Decode(&a); err != nil {
		return s, err
	}
	if a.Error != "" {
		err = errors.New(a.Error)
	}
	return a.Status, err
}
