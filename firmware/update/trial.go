package update

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Limits of a trial.
const (
	trialTime  = 10 * time.Minute // until the old version comes back
	holdTime   = time.Minute      // for which all has to be well
	crashesMax = 5                // of the hub, at which it comes back at once
)

// Signs are what a box shows of a version on trial.
type Signs struct {
	Ready      bool     // the hub serves
	Beats      int      // since it does, how often it said that a commit worked
	Crashes    int      // of the hub, since the box started
	Interfaces []string // that have link and address
	Packets    uint64   // that came in from outside
}

// Verdict is what is to be done with a version on trial.
type Verdict int

// Verdicts.
const (
	Wait Verdict = iota
	Commit
	Back
)

// Trial judges a version.
type Trial struct {
	began, well time.Time // well: since when all is, zero where it is not
	want        []string  // interfaces
}

// missing says what is not well, empty if all is.
func (t *Trial) missing(s Signs) string {
	var lost []string
	for _, name := range t.want {
		if !slices.Contains(s.Interfaces, name) {
			lost = append(lost, name)
		}
	}
	switch {
	case !s.Ready:
		return "the hub does not serve"
	case s.Beats == 0:
		return "the hub has not written to its store"
	case len(lost) > 0:
		return strings.Join(lost, ", ") + " had an address under the version before and has none now"
	case s.Packets == 0:
		return "no packet came in"
	}
	return ""
}

// Judge is asked about every second, and gives what to tell the owner where it does not wait.
func (t *Trial) Judge(now time.Time, s Signs) (Verdict, string) {
	missing := t.missing(s)
	if missing != "" {
		t.well = time.Time{}
	} else if t.well.IsZero() {
		t.well = now
	}
	switch {
	case s.Crashes >= crashesMax:
		return Back, fmt.Sprintf("the hub ended %d times by itself", s.Crashes)
	case missing == "" && now.Sub(t.well) >= holdTime:
		return Commit, ""
	case now.Sub(t.began) >= trialTime && missing != "":
		return Back, missing + fmt.Sprintf(" after %v", trialTime)
	case now.Sub(t.began) >= trialTime+holdTime:
		return Back, "the hub is well and unwell in turns"
	}
	return Wait, ""
}
