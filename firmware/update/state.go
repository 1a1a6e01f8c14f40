package update

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"time"
)

// State is what the data partition keeps of updates.
type State struct {
	Floor   int64    `json:"floor"`             // see Release
	Failed  int64    `json:"failed,omitempty"`  // the highest sequence that was given up, which is not fetched again
	Tried   *Tried   `json:"tried,omitempty"`   // what was rolled back last, and may be fetched again
	Pending *Pending `json:"pending,omitempty"` // what is on trial, from before it is started on
	Last    *Result  `json:"last,omitempty"`
}

// Tried counts the trials of a version that were rolled back.
type Tried struct {
	Sequence int64 `json:"sequence"`
	Times    int   `json:"times"`
}

// triesMax is after how many trials a version is given up. A power cut, a cable that was out or a router that was away at
// the wrong moment end the trial of a good one, which would else never come back by itself.
const triesMax = 3

// failed notes that a version was rolled back.
func (s *State) failed(sequence int64) {
	if s.Tried == nil || s.Tried.Sequence != sequence {
		s.Tried = &Tried{Sequence: sequence}
	}
	if s.Tried.Times++; s.Tried.Times >= triesMax {
		s.Failed, s.Tried = max(s.Failed, sequence), nil
	}
}

// Pending is a version on trial.
type Pending struct {
	Release
	Slot       int      `json:"slot"`
	Interfaces []string `json:"interfaces"`    // that had link and address before it
	Why        string   `json:"why,omitempty"` // why the trial failed, where it could say so
}

// Outcomes of an update.
const (
	Committed  = "committed"
	RolledBack = "rolled back"
	Refused    = "refused"
	Failed     = "failed" // it could not be written
)

// Result is what became of the last update.
type Result struct {
	Time    time.Time `json:"time"`
	Version string    `json:"version,omitempty"`
	Outcome string    `json:"outcome"`
	Why     string    `json:"why,omitempty"`
}

// loadState reads the file; a box without one has never been updated. One that is damaged is as none: what it kept can
// only be missed, since the root has a floor too and the loader knows the slots.
func loadState(path string) State {
	var s State
	b, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(b, &s) != nil {
		return State{}
	}
	return s
}

// save replaces the file wholly or not at all.
func (s *State) save(path string) (err error) {
	b, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
