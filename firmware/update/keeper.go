package update

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log"
	"os"
	"sync"
	"syscall"
	"time"
)

// Keeper is the part of a box that takes updates, and ends trials.
type Keeper struct {
	Release  Release
	Keys     []ed25519.PublicKey
	Slot     int // that runs
	Loader   Loader
	File     string                             // where State is kept
	Incoming string                             // where an archive is brought, by somebody who is not trusted
	Links    func() []string                    // interfaces that have link and address
	Restart  func(trial bool)                   // ends this start of the box
	Fetch    func(url string, than int64) error // brings an archive with a higher sequence to Incoming; ErrNone if there is none

	mu    sync.Mutex // guards what follows
	state State
	begun bool // whether it is known if the version is on trial
	trial bool
	doing string // what is under way
}

// ErrNone says that there is no newer version.
var ErrNone = errors.New("there is no newer version")

// Begin looks at what became of the last update, and says whether the running version is on trial. It is called once the
// data partition is there; where that cannot be had, OnTrial alone tells.
func (k *Keeper) Begin(now time.Time) (trial bool, err error) {
	if trial, err = k.OnTrial(); err != nil {
		return false, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state, k.begun, k.trial = loadState(k.File), true, trial
	switch p := k.state.Pending; {
	case p == nil || trial && p.Slot == k.Slot:
		return trial, nil
	case p.Slot == k.Slot: // power was cut between the commit and the note of it
		return false, k.committed(now)
	default:
		why := p.Why
		if why == "" {
			why = "it did not start, was reset, or lost its power before it was found well"
		}
		k.state.failed(p.Sequence)
		k.state.Pending = nil
		k.note(Result{Time: now, Version: p.Version, Outcome: RolledBack, Why: why})
		return trial, nil
	}
}

// Longest is the longest that a start on trial may take, from the first program on, whatever hangs in it.
const Longest = trialTime + 2*time.Minute

// OnTrial says whether another slot than the running one is the default.
func (k *Keeper) OnTrial() (bool, error) {
	def, err := k.Loader.Default()
	return err == nil && def != k.Slot, err
}

// note keeps a result and says it on the console. k.mu is held.
func (k *Keeper) note(r Result) {
	k.state.Last = &r
	log.Printf("update to version %s: %s %s", r.Version, r.Outcome, r.Why)
	if err := k.state.save(k.File); err != nil {
		log.Printf("noting the update: %v", err)
	}
}

// committed raises the floor and notes that the running version stays. k.mu is held.
func (k *Keeper) committed(now time.Time) error {
	k.state.Floor = max(k.state.Floor, k.Release.Floor)
	k.state.Pending, k.trial = nil, false
	k.note(Result{Time: now, Version: k.Release.Version, Outcome: Committed})
	return nil
}

// KeepFormat says whether the hub must leave the store in the form in which the version before can read it. Where it could
// not be seen which slot is the default, the next start may be the version before's.
func (k *Keeper) KeepFormat() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.trial || !k.begun
}

// Watch ends the trial of the running version, one way or the other.
func (k *Keeper) Watch(ctx context.Context, signs func() Signs) {
	k.mu.Lock()
	t := &Trial{began: time.Now()}
	if k.state.Pending != nil {
		t.want = k.state.Pending.Interfaces
	}
	k.mu.Unlock()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	log.Printf("version %s is on trial", k.Release.Version)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		switch verdict, why := t.Judge(time.Now(), signs()); verdict {
		case Commit:
			if err := k.Loader.Commit(k.Slot); err != nil {
				k.GoBack(fmt.Sprintf("it could not be made the default: %v", err))
				return
			}
			k.mu.Lock()
			_ = k.committed(time.Now())
			k.mu.Unlock()
			return
		case Back:
			k.GoBack(why)
			return
		}
	}
}

// GoBack ends a trial that failed.
func (k *Keeper) GoBack(why string) {
	log.Printf("version %s goes: %s", k.Release.Version, why)
	k.mu.Lock()
	if k.state.Pending != nil {
		k.state.Pending.Why = why
		if err := k.state.save(k.File); err != nil {
			log.Printf("noting the update: %v", err)
		}
	}
	k.mu.Unlock()
	k.Restart(false)
}

// begin sees that nothing else is under way.
func (k *Keeper) begin(what string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.trial:
		return errors.New("this version is on trial itself; that takes some minutes")
	case k.doing != "":
		return errors.New("an update is under way: " + k.doing)
	case len(k.Keys) == 0:
		return errors.New("this image was built without a key for updates, so it takes none")
	}
	k.doing = what
	return nil
}

func (k *Keeper) say(what string) {
	k.mu.Lock()
	k.doing = what
	k.mu.Unlock()
	if what != "" {
		log.Printf("update: %s", what)
	}
}

// Install takes what lies at Incoming, and restarts the box into it where it is good. It goes on after it returns.
func (k *Keeper) Install() error {
	if err := k.begin("looking at the archive"); err != nil {
		return err
	}
	go k.install()
	return nil
}

// Pull fetches a newer version from a URL and installs it. It goes on after it returns.
func (k *Keeper) Pull(url string) error {
	if err := k.begin("asking " + url); err != nil {
		return err
	}
	go func() {
		k.mu.Lock()
		than := max(k.Release.Sequence, k.state.Failed)
		k.mu.Unlock()
		switch err := k.Fetch(url, than); {
		case errors.Is(err, ErrNone):
			k.say("")
		case err != nil:
			k.end("", fmt.Errorf("fetching it: %w", err))
		default:
			k.install()
		}
	}()
	return nil
}

// end notes that nothing came of an update.
func (k *Keeper) end(version string, err error) {
	_ = os.Remove(k.Incoming)
	outcome := Failed
	if errors.Is(err, ErrRefused) {
		outcome = Refused
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.doing = ""
	k.note(Result{Time: time.Now(), Version: version, Outcome: outcome, Why: err.Error()})
}

func (k *Keeper) install() {
	m, err := k.write()
	if err == nil {
		err = k.try(m)
	}
	if err != nil {
		version := ""
		if m != nil {
			version = m.Version
		}
		k.end(version, err)
	}
}

// write brings the archive into the free slot. The file is not trusted to stay as it is: every part is judged by what was
// read for it.
func (k *Keeper) write() (*Manifest, error) {
	f, err := os.OpenFile(k.Incoming, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, refused("it is no file")
	}
	a, err := Open(f, st.Size(), k.Keys)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	floor := k.state.Floor
	k.mu.Unlock()
	if err := a.Suits(k.Release, floor); err != nil {
		return &a.Manifest, err
	}
	return &a.Manifest, Install(a, k.Loader, 1-k.Slot, k.say)
}

// try notes what is to be tried and starts it.
func (k *Keeper) try(m *Manifest) error {
	_ = os.Remove(k.Incoming)
	k.mu.Lock()
	k.state.Pending = &Pending{Release: m.Release, Slot: 1 - k.Slot, Interfaces: k.Links()}
	err := k.state.save(k.File)
	if err != nil {
		k.state.Pending = nil
	}
	k.mu.Unlock()
	if err != nil {
		return err
	}
	if err := k.Loader.Arm(1 - k.Slot); err != nil {
		k.mu.Lock()
		k.state.Pending = nil
		k.mu.Unlock()
		return err
	}
	k.say("restarting into version " + m.Version)
	k.Restart(true)
	return nil
}

// Status is what a box tells of its versions.
type Status struct {
	Board    string  `json:"board"`
	Version  string  `json:"version"`
	Sequence int64   `json:"sequence"`
	Floor    int64   `json:"floor"`
	Slot     string  `json:"slot"`
	Trial    bool    `json:"trial"`           // the version is not the default yet
	Doing    string  `json:"doing,omitempty"` // what is under way
	Last     *Result `json:"last,omitempty"`
}

// Status gives it.
func (k *Keeper) Status() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	return Status{
		Board: k.Release.Board, Version: k.Release.Version, Sequence: k.Release.Sequence, Floor: max(k.state.Floor, k.Release.Floor),
		Slot: string("AB"[k.Slot&1]), Trial: k.trial, Doing: k.doing, Last: k.state.Last,
	}
}
