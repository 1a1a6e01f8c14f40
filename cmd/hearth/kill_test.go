package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"hearth/cmd/internal/mqttclient"
)

// asProgram is the variable by which the tests' own program is hearth itself.
const asProgram = "HEARTH_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main() // does not return
	}
	os.Exit(m.Run())
}

// process is a hub in a process of its own.
type process struct {
	t    *testing.T
	dir  string
	args []string
	cmd  *exec.Cmd
}

func (p *process) start() {
	p.t.Helper()
	p.cmd = exec.Command(os.Args[0], p.args...)
	p.cmd.Env = append(os.Environ(), asProgram+"=1")
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	eventually(p.t, "the hub runs", func() bool { return running(p.dir) })
}

// kill ends the process as the kernel does: nothing is written any more.
func (p *process) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	_ = p.cmd.Wait() // it says that it was killed
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for late := time.Now().Add(60 * time.Second); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("not in time: " + what)
		}
	}
}

// tally is what a subscriber was given.
type tally struct {
	mu  sync.Mutex
	got map[string]int
}

func (r *tally) add(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got[text]++
}

func (r *tally) lacks(texts []string) (lacking []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, text := range texts {
		if r.got[text] == 0 {
			lacking = append(lacking, text)
		}
	}
	return lacking
}

// TestThingsKill kills the hub again and again while things publish to one with
// a session of its own. What the hub acknowledged comes out, with QoS 2 once.
func TestThingsKill(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	plain, dir := free.Addr().String(), t.TempDir()
	_ = free.Close()
	h := &process{t: t, dir: dir, args: []string{"serve", "--data-dir", dir, "--client-listen", "127.0.0.1:0", "--mqtt-listen", plain}}
	h.start()
	defer func() { h.kill() }()
	var lamp thingReport
	text, _ := runThing(t, "add", "lamp", "--json", "--data-dir", dir)
	if err := json.Unmarshal([]byte(text), &lamp); err != nil {
		t.Fatal(text, err)
	}
	session := func(id string) *mqttclient.Client {
		return mqttclient.New(mqttclient.Options{Addr: plain, ClientID: id, User: lamp.Username, Password: lamp.Password, Expiry: 3600})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var readers, writers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	stop := make(chan struct{})
	var mu sync.Mutex
	acked := map[byte][]string{}
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(acked[1]) + len(acked[2]) }
	tallies := map[byte]*tally{}
	for qos := byte(1); qos < 3; qos++ {
		r := &tally{got: map[string]int{}}
		tallies[qos] = r
		follows := make(chan struct{}, 100)
		readers.Go(func() {
			err := session(fmt.Sprint("reader", qos)).Follow(ctx, []string{fmt.Sprint("lamp/", qos)}, qos, func() { follows <- struct{}{} },
				func(m mqttclient.Message) error { r.add(string(m.Payload)); return nil })
			if !errors.Is(err, context.Canceled) {
				t.Errorf("reader: %v", err)
			}
		})
		select {
		case <-follows:
		case <-ctx.Done():
			t.Fatal("no subscription")
		}
		for w := range 3 {
			writers.Go(func() {
				c := session(fmt.Sprint("writer", qos, w))
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					text := fmt.Sprintf("%d-%d", w, n)
					if err := c.Publish(ctx, mqttclient.Message{Topic: fmt.Sprint("lamp/", qos), Payload: []byte(text), QoS: qos}); err != nil {
						t.Errorf("writer: %v", err)
						return
					}
					mu.Lock()
					acked[qos] = append(acked[qos], text)
					mu.Unlock()
				}
			})
		}
	}
	for range 4 {
		before := count()
		eventually(t, "messages are acknowledged", func() bool { return count() > before+200 })
		h.kill()
		h.start()
	}
	before := count()
	eventually(t, "messages are acknowledged at the end", func() bool { return count() > before+100 })
	close(stop)
	writers.Wait()
	for qos, r := range tallies {
		eventually(t, fmt.Sprintf("all of QoS %d has come", qos), func() bool { return len(r.lacks(acked[qos])) == 0 })
	}
	r := tallies[2]
	r.mu.Lock()
	defer r.mu.Unlock()
	for text, n := range r.got {
		if n > 1 {
			t.Errorf("QoS 2: %s came %d times", text, n)
		}
	}
}
