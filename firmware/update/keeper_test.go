package update

import (
	"crypto/ed25519"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// life is a box that updates itself, from start to start.
type life struct {
	*testing.T
	box      *box
	dir      string
	public   ed25519.PublicKey
	restarts chan bool
}

// start starts the box as firmware does and gives its keeper.
func (l *life) start(trial bool) *Keeper {
	l.Helper()
	slot := l.box.start(l.T, trial)
	version := l.box.whole(l.T, slot)
	k := &Keeper{
		Release: release(version, map[string]int64{"1": 10, "2": 20, "3": 30}[version]), Keys: []ed25519.PublicKey{l.public}, Slot: slot, Loader: l.box.loader(),
		File: filepath.Join(l.dir, "state"), Incoming: filepath.Join(l.dir, "incoming"),
		Links: func() []string { return []string{"eth0"} }, Restart: func(trial bool) { l.restarts <- trial },
	}
	return k
}

func (l *life) bring(b []byte) {
	l.Helper()
	if err := os.WriteFile(filepath.Join(l.dir, "incoming"), b, 0o600); err != nil {
		l.Fatal(err)
	}
}

// well is what a version shows that has nothing the matter with it.
func well() Signs { return Signs{Ready: true, Beats: 3, Interfaces: []string{"eth0"}, Packets: 1} }

// TestLife takes a box through a refusal, an update that stays, and one that does not.
func TestLife(t *testing.T) {
	for _, pi := range []bool{false, true} {
		b := newBox(t, pi)
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			public, secret := keys(t)
			l := &life{T: t, box: b, dir: dir, public: public, restarts: make(chan bool, 1)}
			make := func(version string, sequence int64) []byte {
				return archive(t, Manifest{Release: release(version, sequence), RootAt: 3 * Sector}, secret, b.parts(version))
			}
			k := l.start(false)
			if trial, err := k.Begin(time.Now()); trial || err != nil || k.Status().Last != nil {
				t.Fatalf("a new box: %v, %v", trial, err)
			}
			l.bring(make("2", 4+5)[:2000])
			if err := k.order("install"); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if s := k.Status(); s.Last == nil || s.Last.Outcome != Refused || s.Doing != "" {
				t.Fatalf("an archive that is cut off: %+v", s)
			}

			l.bring(make("2", 20))
			if err := k.Install(); err != nil {
				t.Fatal(err)
			}
			if k.Install() == nil || k.order("dance") == nil || k.order("pull file:///etc/passwd") == nil {
				t.Error("orders that are none were taken")
			}
			k = l.start(<-l.restarts)
			if trial, err := k.Begin(time.Now()); !trial || err != nil || !k.KeepFormat() || k.Release.Version != "2" {
				t.Fatalf("the new version: %+v, %v", k.Status(), err)
			}
			began := time.Now()
			k.Watch(t.Context(), well)
			if s := k.Status(); s.Trial || s.Last.Outcome != Committed || s.Floor != 5 || k.KeepFormat() || time.Since(began) < holdTime {
				t.Fatalf("after the trial: %+v", s)
			}

			k = l.start(false)
			if trial, err := k.Begin(time.Now()); trial || err != nil || k.Release.Version != "2" {
				t.Fatalf("after the commit: %+v, %v", k.Status(), err)
			}
			l.bring(make("3", 30))
			if err := k.Install(); err != nil {
				t.Fatal(err)
			}
			k = l.start(<-l.restarts)
			if trial, err := k.Begin(time.Now()); !trial || err != nil || k.Release.Version != "3" {
				t.Fatalf("the third version: %+v, %v", k.Status(), err)
			}
			began = time.Now()
			k.Watch(t.Context(), func() Signs {
				s := well()
				s.Interfaces = nil
				return s
			})
			if time.Since(began) > 12*time.Minute {
				t.Error("the old version is late")
			}
			k = l.start(<-l.restarts)
			trial, err := k.Begin(time.Now())
			if s := k.Status(); trial || err != nil || s.Version != "2" || s.Last.Outcome != RolledBack || !strings.Contains(s.Last.Why, "eth0") || s.Last.Version != "3" || k.state.Failed != 0 || *k.state.Tried != (Tried{30, 1}) {
				t.Fatalf("after a bad version: %+v, %v", s, err)
			}
		})
	}
}

// TestTries: a version that was rolled back is given up after some trials, and another one is not for that.
func TestTries(t *testing.T) {
	s := State{}
	for _, sequence := range []int64{30, 30, 40, 40, 30, 50, 50} {
		if s.failed(sequence); s.Failed != 0 {
			t.Fatalf("%d was given up early", s.Failed)
		}
	}
	if s.failed(50); s.Failed != 50 || s.Tried != nil {
		t.Errorf("after three trials: %+v", s)
	}
}

// TestBlind: a box that cannot see which slot is the default does not change the form of the store.
func TestBlind(t *testing.T) {
	k := (&life{T: t, box: newBox(t, false), dir: t.TempDir()}).start(false)
	if !k.KeepFormat() {
		t.Error("before it began")
	}
	if trial, err := k.Begin(time.Now()); trial || err != nil || k.KeepFormat() {
		t.Errorf("on trial %v, %v", trial, err)
	}
}

// TestJudge is each way in which a trial ends.
func TestJudge(t *testing.T) {
	at := time.Unix(1000, 0)
	trial := func() *Trial { return &Trial{began: at, want: []string{"eth0"}} }
	change := func(f func(s *Signs)) Signs {
		s := well()
		f(&s)
		return s
	}
	for want, s := range map[string]Signs{
		"does not serve": change(func(s *Signs) { s.Ready = false }),
		"not written":    change(func(s *Signs) { s.Beats = 0 }),
		"eth0":           change(func(s *Signs) { s.Interfaces = []string{"eth1"} }),
		"no packet":      change(func(s *Signs) { s.Packets = 0 }),
	} {
		j := trial()
		if v, _ := j.Judge(at.Add(trialTime-time.Second), s); v != Wait {
			t.Errorf("%s: judged early", want)
		}
		if v, why := j.Judge(at.Add(trialTime), s); v != Back || !strings.Contains(why, want) {
			t.Errorf("%s: %v, %s", want, v, why)
		}
	}
	j := trial()
	if v, _ := j.Judge(at, well()); v != Wait {
		t.Error("committed at once")
	}
	if v, _ := j.Judge(at.Add(30*time.Second), change(func(s *Signs) { s.Ready = false })); v != Wait {
		t.Error("a hub that starts anew is not waited for")
	}
	if v, _ := j.Judge(at.Add(70*time.Second), well()); v != Wait {
		t.Error("it was not well for a minute")
	}
	if v, _ := j.Judge(at.Add(130*time.Second), well()); v != Commit {
		t.Error("it was well for a minute")
	}
	if v, why := trial().Judge(at, change(func(s *Signs) { s.Crashes = crashesMax })); v != Back || why == "" {
		t.Error("a hub that ends again and again was kept")
	}
}

// TestSocket: the user is answered, in one line.
func TestSocket(t *testing.T) {
	dir := t.TempDir()
	k := &Keeper{Release: release("1", 10), File: filepath.Join(dir, "state")}
	socket := filepath.Join(dir, "s")
	done := make(chan error, 1)
	go func() { done <- k.Serve(t.Context(), socket, os.Getuid()) }()
	var s Status
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if s, err = Ask(socket, "status"); err == nil {
			break
		}
		var op *net.OpError
		if !errors.As(err, &op) {
			t.Fatal(err)
		}
	}
	if err != nil || s.Version != "1" {
		t.Fatalf("%+v, %v", s, err)
	}
	if _, err := Ask(socket, "install"); err == nil || !strings.Contains(err.Error(), "without a key") {
		t.Errorf("a box without a key: %v", err)
	}
}
