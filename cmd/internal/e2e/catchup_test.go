package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"
)

// cpu is the processor time that a hub has used.
func (h *hub) cpu() time.Duration {
	h.t.Helper()
	stat := string(must(os.ReadFile(filepath.Join("/proc", strconv.Itoa(h.cmd.Process.Pid), "stat")))(h.t))
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+2:])
	ticks := 0
	for _, f := range fields[11:13] { // in user and in system mode, in hundredths of a second
		ticks += must(strconv.Atoi(f))(h.t)
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// TestCatchUp is a hub that was cut off while its people went on talking: when the
// link is back the other one gets all of it, in order, each event once.
// HEARTH_CATCHUP says how many events there are; with 20,000 it may take 20 s.
func TestCatchUp(t *testing.T) {
	all := 300
	if s := os.Getenv("HEARTH_CATCHUP"); s != "" {
		all = must(strconv.Atoi(s))(t)
	}
	a, b := startPair(t)
	amy, bob := a.register("amy"), b.register("bob")
	lights := must(amy.CreateRoom(t.Context(), &mautrix.ReqCreateRoom{Preset: "public_chat"}))(t).RoomID
	must(bob.JoinRoom(t.Context(), lights.String(), &mautrix.ReqJoinRoom{Via: []string{a.name}}))(t)
	first := must(amy.SendText(t.Context(), lights, "there"))(t).EventID
	there := func(e id.EventID) func() bool {
		return func() bool {
			_, err := bob.GetEvent(t.Context(), lights, e)
			return err == nil
		}
	}
	eventually(t, "the link is there", there(first))

	b.gate.cut()
	a.gate.cut()
	want := map[id.EventID]bool{first: true}
	var mu sync.Mutex
	var wg sync.WaitGroup
	const senders = 4
	for s := range senders {
		wg.Go(func() {
			for n := range all / senders {
				r, err := amy.SendText(t.Context(), lights, fmt.Sprintf("%d of %d", n, s))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				want[r.EventID] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	last := must(amy.SendText(t.Context(), lights, "the last"))(t).EventID
	want[last] = true
	if there(last)() {
		t.Fatal("the gates are not shut")
	}
	sent, received, begun := a.cpu(), b.cpu(), time.Now()
	b.gate.heal()
	a.gate.heal()
	eventually(t, "the last event is there", there(last))
	took := time.Since(begun)
	sent, received = a.cpu()-sent, b.cpu()-received
	t.Logf("%d events in %v; processor time for each: %v sent, %v received", len(want), took.Round(10*time.Millisecond),
		sent/time.Duration(len(want)), received/time.Duration(len(want)))
	if all == 20_000 && took > 20*time.Second {
		t.Errorf("20,000 events may take 20 s")
	}
	made := history(t, amy, lights, mautrix.DirectionForward, 500)
	got := history(t, bob, lights, mautrix.DirectionForward, 500)
	once(t, "there", got, want)
	if fmt.Sprint(got) != fmt.Sprint(made) {
		t.Errorf("%d events are in another order there than here, where they are %d", len(got), len(made))
	}
}
