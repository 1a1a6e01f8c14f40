package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hearth/firmware/boot"
	"hearth/firmware/update"
)

// Where updates are kept and asked for.
const (
	updateSocket = "/run/update"
	updateState  = data + "/update"
	incoming     = data + "/hearth/update.incoming" // the hub puts archives there
	pullEvery    = 24 * time.Hour
	pullFirst    = 10 * time.Minute // after the start
	pullSpread   = 2 * time.Hour    // and no box of many, whose power came back at once, with all others
	pullTime     = 2 * time.Hour    // that one may take to arrive
	exitNone     = 3                // of the program that fetches: there is no newer version
)

// updates is the keeper with what it needs of the rest; nil where the box takes no updates.
type updates struct {
	*update.Keeper
	crashes atomic.Int64
	again   chan bool // restart: true into the trial of the other slot
	words   bool      // whether the trial takes words to the firmware
}

// newUpdates opens the card, and reads what the root says of itself. A root that does not say it is not kept.
func newUpdates(disk *boot.Disk) (u *updates, err error) {
	u = &updates{Keeper: &update.Keeper{Slot: disk.Slot, File: updateState, Incoming: incoming, Links: boot.Links}, again: make(chan bool, 1)}
	u.words = disk.Card.Plan.Boot[0] != 0
	u.Restart, u.Fetch = func(trial bool) { u.again <- trial }, fetch
	if u.Loader, err = update.OpenCard(disk.Card, disk.Device); err != nil {
		return nil, err
	}
	u.bound()
	if err := u.read(); err != nil {
		u.hopeless(err)
		return nil, err
	}
	return u, nil
}

// read reads the root's release and keys.
func (u *updates) read() error {
	b, err := os.ReadFile("/etc/hearth-release")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, &u.Release); err != nil {
		return err
	}
	if b, err = os.ReadFile("/etc/hearth-update.pub"); err != nil {
		return err
	}
	u.Keys, err = update.Keys(b)
	return err
}

// bound ends a trial in which something hangs, wherever that is.
func (u *updates) bound() {
	if trial, err := u.OnTrial(); err != nil || !trial {
		return
	}
	time.AfterFunc(update.Longest, func() {
		if trial, err := u.OnTrial(); err != nil || trial {
			log.Printf("version %s goes: the trial takes too long", u.Release.Version)
			restart()
		}
	})
}

// hopeless restarts a box that is on trial and cannot even start its hub, and returns where it is not on trial.
func (u *updates) hopeless(err error) {
	if u == nil {
		return
	}
	if trial, more := u.OnTrial(); !trial || more != nil {
		return
	}
	log.Printf("version %s goes: %v", u.Release.Version, err)
	restart()
}

// run begins to take updates, and ends a trial.
func (u *updates) run(ctx context.Context, url string, health *boot.Health) {
	if u == nil {
		return
	}
	trial, err := u.Begin(time.Now())
	if err != nil {
		log.Printf("no updates: %v", err)
		return
	}
	if err := os.Remove(incoming); err != nil && !errors.Is(err, os.ErrNotExist) {
		log.Printf("an archive that was left: %v", err)
	}
	go func() {
		if err := u.Serve(ctx, updateSocket, hubUser); err != nil && ctx.Err() == nil {
			log.Printf("nobody can ask for updates: %v", err)
		}
	}()
	if trial {
		go u.Watch(ctx, func() update.Signs {
			ready, beats := health.Serving()
			return update.Signs{Ready: ready, Beats: beats, Crashes: int(u.crashes.Load()), Interfaces: boot.Links(), Packets: boot.Packets()}
		})
	}
	if url != "" {
		go u.pulls(ctx, url)
	}
}

// pulls looks for newer versions.
func (u *updates) pulls(ctx context.Context, url string) {
	next := time.NewTimer(pullFirst + rand.N(pullSpread))
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
			next.Reset(pullEvery)
			if err := u.Pull(url); err != nil {
				log.Printf("looking for a newer version: %v", err)
			}
		}
	}
}

// ended counts the ends of the hub that nobody wanted.
func (u *updates) ended() {
	if u != nil {
		u.crashes.Add(1)
	}
}

// env is what the hub is told: where to ask for updates, and whether the version before must be able to read what it
// writes, which it must where the card cannot tell.
func (u *updates) env() []string {
	const keepFormat = "HEARTH_KEEP_FORMAT=1"
	if u == nil {
		return []string{keepFormat}
	}
	more := []string{"HEARTH_UPDATE_SOCKET=" + updateSocket}
	if u.KeepFormat() {
		more = append(more, keepFormat)
	}
	return more
}

// restarts gives the channel on which a restart is asked for.
func (u *updates) restarts() <-chan bool {
	if u == nil {
		return nil
	}
	return u.again
}

// reboot ends the kernel.
func (u *updates) reboot(how int, trial bool) error {
	if trial && u.words {
		return boot.RestartWith("0 tryboot")
	}
	return unix.Reboot(how)
}

// fetch brings a newer archive with the hub's program and the hub's rights: what comes from a network is nothing that
// root reads.
func fetch(url string, than int64) error {
	ctx, end := context.WithTimeout(context.Background(), pullTime)
	defer end()
	cmd := exec.CommandContext(ctx, "/bin/hearth", "update", "--fetch", incoming, "--than", strconv.FormatInt(than, 10), url)
	cmd.Dir, cmd.Env = filepath.Dir(incoming), []string{"HOME=" + filepath.Dir(incoming), "TMPDIR=/tmp"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: hubUser, Gid: hubUser}}
	said, err := cmd.CombinedOutput()
	var ended *exec.ExitError
	if errors.As(err, &ended) && ended.ExitCode() == exitNone {
		return update.ErrNone
	}
	if err != nil {
		return fmt.Errorf("%s (%w)", strings.TrimSpace(string(said[:min(len(said), 500)])), err)
	}
	return nil
}
