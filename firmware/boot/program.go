package boot

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Program is one that the box keeps running.
type Program struct {
	Path string
	Args []string
	Env  []string
	More func() []string // asked for at each start; nil: nothing beside Env
	Dir  string
	User uint32    // 0: root
	Caps []uintptr // what is left of root's power for another user
	Out  io.Writer // what it prints; nil: nowhere
	Over func(err error, printed []byte)

	Patience time.Duration // how long it may take to end; 0: endTime
}

// Between two starts of a program; it doubles up to the longer one while the program ends at once.
const (
	soon = time.Second
	late = 30 * time.Second
)

// endTime is how long a program may take to end.
const endTime = 6 * time.Second

// Run starts a program again and again until ctx ends, which tells it to end. Over hears of each end that nobody
// wanted. A value on kick makes the program say where it stands, as Go programs do, and end.
func (p Program) Run(ctx context.Context, kick <-chan struct{}) {
	for wait := soon; ctx.Err() == nil; {
		began := time.Now()
		last := &tail{}
		err := p.once(ctx, kick, last)
		if ctx.Err() != nil {
			return
		}
		if p.Over != nil {
			p.Over(err, last.bytes())
		}
		if time.Since(began) > 10*late {
			wait = soon
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, late)
	}
}

func (p Program) once(ctx context.Context, kick <-chan struct{}, last *tail) error {
	cmd := exec.CommandContext(ctx, p.Path, p.Args...)
	cmd.Env, cmd.Dir = p.Env, p.Dir
	if p.More != nil {
		cmd.Env = append(p.Env[:len(p.Env):len(p.Env)], p.More()...)
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	patience := p.Patience
	if patience == 0 {
		patience = endTime
	}
	cmd.WaitDelay = patience
	out := io.Writer(last)
	if p.Out != nil {
		out = io.MultiWriter(p.Out, last)
	}
	cmd.Stdout, cmd.Stderr = out, out
	if p.User != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: p.User, Gid: p.User}, AmbientCaps: p.Caps}
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-ended:
		case <-kick:
			_ = cmd.Process.Signal(syscall.SIGQUIT)
			select {
			case <-ended:
			case <-time.After(patience):
				_ = cmd.Process.Kill()
			}
		}
	})
	err := cmd.Wait()
	close(ended)
	watch.Wait()
	return err
}

// tail holds the end of what a program printed.
type tail struct {
	mu sync.Mutex // guards b
	b  []byte
}

// tailSize is how much is kept, in bytes: the stacks of a hub that was kicked fit in.
const tailSize = 64 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if len(t.b) > 2*tailSize {
		t.b = append(t.b[:0], t.b[len(t.b)-tailSize:]...)
	}
	return len(p), nil
}

func (t *tail) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]byte(nil), t.b[max(0, len(t.b)-tailSize):]...)
}

// crashes is how many reports of crashes are kept; half of that in crashGap.
const (
	crashes  = 8
	crashGap = time.Hour
)

// KeepCrash writes what a program last printed into one of few files below dir, the oldest of which it replaces. Of a
// program that falls over again and again only the first times are kept: what came before says more than the tenth of the
// kind, and the card is not written full of them.
func KeepCrash(dir string, when time.Time, why error, printed []byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	name, oldest, recent := "", time.Time{}, 0
	for i := range crashes {
		path := fmt.Sprintf("%s/%d.log", dir, i)
		at := time.Time{}
		if st, err := os.Stat(path); err == nil {
			at = st.ModTime()
		}
		if when.Sub(at).Abs() < crashGap {
			recent++
		}
		if name == "" || at.Before(oldest) {
			name, oldest = path, at
		}
	}
	if recent >= crashes/2 {
		return nil
	}
	if err := WriteFile(name, fmt.Appendf(nil, "%s: %v\n\n%s", when.UTC().Format(time.RFC3339), why, printed), 0o600); err != nil {
		return err
	}
	return os.Chtimes(name, when, when)
}
