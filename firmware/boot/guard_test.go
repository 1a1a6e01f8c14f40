package boot

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestFilePages: code and constants of the program are found, and no memory that it has taken.
func TestFilePages(t *testing.T) {
	const maps = "00010000-00200000 r-xp 00000000 103:02 12 /init\n00200000-00300000 r--p 001f0000 103:02 12 /init\n4000000000-4004000000 rw-p 00000000 00:00 0\n" +
		"ffff0000-ffff1000 ---p 00000000 103:02 12 /init\n7ffff000-80000000 rw-p 00000000 00:00 0 [stack]\nnonsense\n"
	if got := filePages(maps); !slices.Equal(got, []addresses{{0x10000, 0x200000}, {0x200000, 0x300000}}) {
		t.Errorf("%x", got)
	}
}

// TestGuard is a hub that serves and then hangs: it is ended after a minute without a commit, again when that did not
// help, and after a quarter of an hour the watchdog is fed no more, so that the hardware resets the box. Time is not real.
func TestGuard(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "watchdog"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fed := func() int64 {
		st, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		return st.Size()
	}
	synctest.Test(t, func(t *testing.T) {
		h, dog := NewHealth(time.Now()), &Watchdog{[]*os.File{f}}
		kick := make(chan struct{}, 1)
		over := make(chan struct{})
		go func() {
			defer close(over)
			h.Guard(t.Context(), dog, kick)
		}()
		kicks := 0
		pass := func(d time.Duration) (before int64) {
			before = fed()
			for range d / time.Second {
				time.Sleep(time.Second)
				synctest.Wait()
				select {
				case <-kick:
					kicks++
				default:
				}
			}
			return before
		}
		for range 60 { // a quarter of an hour in which all is well
			h.hear("READY=1\nWATCHDOG=1", time.Now())
			if before := pass(15 * time.Second); fed() < before+3 {
				t.Fatalf("fed %d times in 15 s, while the hardware waits no longer", fed()-before)
			}
		}
		if kicks > 0 {
			t.Errorf("a hub that was well was ended %d times", kicks)
		}
		if before := pass(40 * time.Second); kicks != 0 || fed() == before {
			t.Errorf("after a silence of a minute less a bit: ended %d times, fed %d times", kicks, fed()-before)
		}
		pass(20 * time.Second)
		if kicks != 1 {
			t.Errorf("after a minute of silence: ended %d times", kicks)
		}
		if before := pass(12 * time.Minute); kicks != 2 || fed() == before { // a start is given ten minutes
			t.Errorf("a hub that never comes back: ended %d times", kicks)
		}
		pass(3 * time.Minute)
		select {
		case <-over:
		default:
			t.Error("the watchdog is still guarded after a quarter of an hour without a commit")
		}
		if before := pass(time.Minute); fed() != before {
			t.Error("the watchdog is fed for a hub that is dead")
		}
	})
}

// TestGuardEnds: a box that is told to stop feeds once more, so that it can do so in order.
func TestGuardEnds(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "watchdog"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, end := context.WithCancel(t.Context())
	end()
	NewHealth(time.Now()).Guard(ctx, &Watchdog{[]*os.File{f}}, make(chan struct{}, 1))
	if st, err := f.Stat(); err != nil || st.Size() != 1 {
		t.Errorf("fed %d times, %v", st.Size(), err)
	}
}

// TestKick ends a program that hangs: one that hears is told to say where it stands, one that does not is killed.
func TestKick(t *testing.T) {
	for name, script := range map[string]string{"hears": "echo up; sleep 60 & wait", "deaf": "trap '' QUIT TERM; echo up; while :; do sleep 60 & wait; done"} {
		t.Run(name, func(t *testing.T) {
			ctx, end := context.WithCancel(t.Context())
			defer end()
			kick := make(chan struct{}, 1)
			out := &heard{kick: kick}
			ends := 0
			Program{Path: "/bin/sh", Args: []string{"-c", script}, Out: out, Patience: 200 * time.Millisecond, Over: func(err error, printed []byte) {
				if ends++; err == nil || string(printed) != "up\n" {
					t.Errorf("it ended with %v, having said %q", err, printed)
				}
				end()
			}}.Run(ctx, kick)
			if ends != 1 {
				t.Errorf("it ended %d times", ends)
			}
		})
	}
}

// heard kicks a program that has said something.
type heard struct{ kick chan<- struct{} }

func (h *heard) Write(p []byte) (int, error) {
	select {
	case h.kick <- struct{}{}:
	default:
	}
	return len(p), nil
}
