package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"hearth/cmd/internal/client"
	"hearth/engine/fault"
	"hearth/firmware/update"
	"hearth/httpd/adminapi"
)

const updateHelp = `hearth update [flags]
hearth update [flags] FILE|URL

Brings a new version onto a box, a small computer that runs a Hearth image: kernel, hub and all. The box takes what is
signed by a key of its image, writes it beside the version that runs, starts it, and stays with it once it is well; else
it goes back by itself. Without a file or a URL the command says which version runs and what became of the last update.

      --server URL       HEARTH_SERVER         default http://127.0.0.1:8008
      --token TOKEN      HEARTH_TOKEN          access token of an admin; seen by others on this machine, a file is not
      --token-file F     HEARTH_TOKEN_FILE     file that holds it
  -u, --user USER        HEARTH_USER           log in with a password instead; logs out again at the end
      --password-file F  HEARTH_PASSWORD_FILE
      --ca FILE          trust the certificates in this PEM file, for a hub that signed its own
      --no-wait          do not wait until the box has tried the new version

A URL is fetched by the box itself. Boxes look once a day at the one that box_update_url in hearth.txt names.

` + exitHelp + `
Example:
  hearth update --server http://hearth.local:8008 --token-file admin.token hearth-rpi-0.2.0.update
`

// keepFormat is set while the version of a box is on trial: the store stays as the version before reads it.
func keepFormat(env func(string) string) bool { return env("HEARTH_KEEP_FORMAT") == "1" }

// updates is the box that the hub runs on, which listens at a socket; nil where there is none.
func (h *hub) updates(socket string) *adminapi.Updates {
	if socket == "" {
		return nil
	}
	var one sync.Mutex // held while an archive is brought
	incoming := filepath.Join(h.config.DataDir, "update.incoming")
	return &adminapi.Updates{
		Order: func(order string) ([]byte, error) {
			s, err := update.Ask(socket, order)
			if err != nil {
				return nil, err
			}
			return json.Marshal(s)
		},
		Bring: func(archive io.Reader) error {
			if !one.TryLock() {
				return fault.E(fault.Unknown, "hearth.update", "another archive is on its way")
			}
			defer one.Unlock()
			switch s, err := update.Ask(socket, "status"); {
			case err != nil:
				return fault.E(fault.Unknown, "hearth.update", "the box does not answer: %v", err)
			case s.Doing != "":
				return fault.E(fault.Unknown, "hearth.update", "an update is under way: %s", s.Doing)
			case s.Trial:
				return fault.E(fault.Unknown, "hearth.update", "version %s is on trial; that takes some minutes", s.Version)
			}
			return bring(archive, incoming)
		},
	}
}

// spare is what has to stay free beside an archive, in bytes: the hub's store needs room to go on.
const spare = 128 << 20

// bring copies an archive into a file, in bounds. What is cut off is refused by the box.
func bring(archive io.Reader, path string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fault.E(fault.Internal, "hearth.update", "%w", err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			os.Remove(path)
		}
	}()
	var st syscall.Statfs_t
	if err := syscall.Fstatfs(int(f.Fd()), &st); err != nil {
		return fault.E(fault.Internal, "hearth.update", "%w", err)
	}
	room := int64(st.Bavail)*int64(st.Bsize) - spare
	n, err := io.Copy(f, io.LimitReader(archive, max(min(room, update.MaxArchive), 0)+1))
	switch {
	case err != nil:
		return fault.E(fault.Unknown, "hearth.update", "the archive did not arrive: %v", err)
	case n > update.MaxArchive:
		return fault.E(fault.TooLarge, "hearth.update", "an update has at most %d bytes", update.MaxArchive)
	case n > room:
		return fault.E(fault.Full, "hearth.update", "there is no room for the archive on the data partition")
	}
	if err := f.Sync(); err != nil {
		return fault.E(fault.Internal, "hearth.update", "%w", err)
	}
	return nil
}

// updater is hearth update.
type updater struct {
	*reach
	what   string // file or URL
	noWait bool
	fetch  string // on a box: where what is fetched goes
	than   int64
}

func updateCmd(args []string, s streams) int {
	r, fs := newReach("update", s)
	u := &updater{reach: r}
	fs.BoolVar(&u.noWait, "no-wait", false, "")
	fs.StringVar(&u.fetch, "fetch", "", "")
	fs.Int64Var(&u.than, "than", 0, "")
	return r.run(updateHelp, func() error {
		words, err := wordsOf(fs, args)
		switch {
		case err != nil:
			return err
		case len(words) > 1 || r.room != "" || r.mqtt != "" || r.create:
			return usage("one file or one URL")
		case len(words) == 1:
			u.what = words[0]
		}
		if u.fetch != "" {
			return nil
		}
		r.server = first(r.server, s.env("HEARTH_SERVER"), "http://127.0.0.1:8008")
		return r.credentials()
	}, u.run)
}

func isURL(s string) bool {
	return strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://")
}

func (u *updater) run(ctx context.Context) error {
	if u.fetch != "" {
		return u.pull(ctx, keysFile)
	}
	c, end, err := u.connect(ctx)
	if err != nil {
		return err
	}
	defer end()
	before, err := u.ask(ctx, c, "GET", nil, 0)
	if err != nil || u.what == "" {
		u.print(before)
		return err
	}
	if isURL(u.what) {
		body, err := json.Marshal(map[string]string{"url": u.what})
		if err != nil {
			return err
		}
		if _, err = u.ask(ctx, c, "POST", bytes.NewReader(body), int64(len(body))); err != nil {
			return err
		}
	} else if err := u.push(ctx, c); err != nil {
		return err
	}
	if u.noWait {
		return nil
	}
	return u.follow(ctx, c, before)
}

// ask makes one request and reads the status.
func (u *updater) ask(ctx context.Context, c *client.Client, method string, body io.Reader, size int64) (*update.Status, error) {
	b, err := c.Update(ctx, method, body, size)
	if client.Refused(err, "M_UNRECOGNIZED") {
		err = &failure{exitRefused, errors.New("this hub does not run on a box that can be updated so")}
	}
	if err != nil {
		return nil, u.explain(err, exitRefused)
	}
	s := &update.Status{}
	return s, json.Unmarshal(b, s)
}

// push brings the file.
func (u *updater) push(ctx context.Context, c *client.Client) error {
	f, err := os.Open(u.what)
	if err != nil {
		return &failure{exitLocal, err}
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return &failure{exitLocal, err}
	}
	_, err = u.ask(ctx, c, "PUT", f, st.Size())
	return err
}

// follow waits for what becomes of the update, which takes the box two restarts at most. Where nobody answers, the box is
// restarting.
func (u *updater) follow(ctx context.Context, c *client.Client, before *update.Status) error {
	said := ""
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		s, err := u.ask(ctx, c, "GET", nil, 0)
		if err != nil {
			continue
		}
		now := s.Doing
		if s.Trial {
			now = "version " + s.Version + " is on trial"
		}
		if now != "" && now != said {
			u.remark(now)
			said = now
		}
		if s.Doing != "" || s.Trial {
			continue
		}
		if s.Last == nil || before.Last != nil && s.Last.Time.Equal(before.Last.Time) {
			if said == "" { // what was asked for at a URL is no newer
				fmt.Fprintln(u.s.out, "there is no newer version")
				return nil
			}
			continue
		}
		u.print(s)
		if s.Last.Outcome != update.Committed {
			return &failure{exitRefused, errors.New(s.Last.Outcome + ": " + s.Last.Why)}
		}
		return nil
	}
}

// print says how a box stands.
func (u *updater) print(s *update.Status) {
	if s == nil {
		return
	}
	fmt.Fprintf(u.s.out, "version %s of %s, in slot %s\n", s.Version, s.Board, s.Slot)
	if s.Trial {
		fmt.Fprintln(u.s.out, "it is on trial")
	}
	if l := s.Last; l != nil {
		fmt.Fprintf(u.s.out, "the last update, to version %s on %s: %s %s\n", l.Version, l.Time.UTC().Format(time.RFC3339), l.Outcome, l.Why)
	}
}

// exitNone is the exit code of a fetch where there is no newer version.
const exitNone = 3

// keysFile is where the root of a box has the keys of updates.
const keysFile = "/etc/hearth-update.pub"

// pull is what a box starts with the hub's rights to look for a newer version. It reads no more than the beginning of what
// is not newer; all is judged again by the box.
func (u *updater) pull(ctx context.Context, keysFile string) error {
	text, err := os.ReadFile(keysFile)
	if err != nil {
		return err
	}
	keys, err := update.Keys(text)
	if err != nil {
		return err
	}
	body, err := client.Download(ctx, u.what)
	if err != nil {
		return err
	}
	defer body.Close()
	var seen bytes.Buffer
	m, _, size, err := update.ReadHeader(io.TeeReader(io.LimitReader(body, update.MaxHeader), &seen), keys)
	if err != nil {
		return err
	}
	if m.Sequence <= u.than {
		return &failure{exitNone, fmt.Errorf("version %s is not newer", m.Version)}
	}
	return bring(io.LimitReader(io.MultiReader(&seen, body), size), u.fetch)
}
