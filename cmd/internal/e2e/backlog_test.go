package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"
)

// clerk is an application service that writes down what it is told: of each
// transaction the messages, the first time it comes.
type clerk struct {
	t    *testing.T
	addr string
	srv  *http.Server

	mu     sync.Mutex
	told   map[string][]id.EventID // by transaction
	events []id.EventID
	most   int // of one transaction
	again  int // transactions that came twice
	loseAt int // the answer to the transaction that brings so many is lost; 0: none
	lost   chan struct{}
}

// open lets the clerk be spoken to.
func (c *clerk) open() {
	c.t.Helper()
	ln := must(net.Listen("tcp", c.addr))(c.t)
	c.srv = &http.Server{Handler: c}
	go c.srv.Serve(ln)
}

func (c *clerk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var q struct {
		Events []struct {
			ID   id.EventID `json:"event_id"`
			Type string
		}
	}
	if err == nil {
		err = json.Unmarshal(body, &q)
	}
	if err != nil {
		c.t.Error(err)
	}
	var ids []id.EventID
	for _, e := range q.Events {
		if e.Type == "m.room.message" {
			ids = append(ids, e.ID)
		}
	}
	txn := path.Base(r.URL.Path)
	c.mu.Lock()
	defer c.mu.Unlock()
	if before, seen := c.told[txn]; seen {
		c.again++
		if !slices.Equal(before, ids) {
			c.t.Errorf("transaction %s came with %d events, and again with %d others", txn, len(before), len(ids))
		}
	} else {
		c.told[txn] = ids
		c.events = append(c.events, ids...)
		c.most = max(c.most, len(ids))
	}
	if c.loseAt > 0 && len(c.events) >= c.loseAt {
		c.loseAt = 0
		close(c.lost)
		panic(http.ErrAbortHandler) // it was taken, and the hub does not hear so
	}
	io.WriteString(w, "{}")
}

func (c *clerk) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.events)
}

// peak begins to measure the most memory that a hub takes, and gives what it
// has taken at the most since the last call.
func (h *hub) peak() (kiB int) {
	h.t.Helper()
	proc := filepath.Join("/proc", strconv.Itoa(h.cmd.Process.Pid))
	for line := range strings.Lines(string(must(os.ReadFile(proc + "/status"))(h.t))) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kiB = must(strconv.Atoi(strings.Fields(rest)[0]))(h.t)
		}
	}
	if err := os.WriteFile(proc+"/clear_refs", []byte("5"), 0); err != nil {
		h.t.Log(err) // the peak is that of the whole life then
	}
	return kiB
}

// TestBacklog is an application service that was down while people went on
// talking: it gets all of it, in order, each event once, though the hub is killed
// half way and what it had been told last was not acknowledged. HEARTH_BACKLOG
// says how many events there are; with 20,000 it may take 30 s and 128 MiB.
func TestBacklog(t *testing.T) {
	all := 600
	if s := os.Getenv("HEARTH_BACKLOG"); s != "" {
		all = must(strconv.Atoi(s))(t)
	}
	free := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	c := &clerk{t: t, addr: free.Addr().String(), told: map[string][]id.EventID{}, lost: make(chan struct{})}
	free.Close()
	file := filepath.Join(t.TempDir(), "clerk.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, "id: clerk\nurl: http://%s\nas_token: token-of-the-clerk\nhs_token: token-for-the-clerk\n"+
		"sender_localpart: clerk\nnamespaces: {aliases: [{regex: '#lights:.*'}]}\n", c.addr), 0o600); err != nil {
		t.Fatal(err)
	}
	h := startHub(t, "--appservices", file)
	amy := h.register("amy")
	lights := room(t, "lights", amy)
	const senders = 4
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for n := range all / senders {
				if _, err := amy.SendText(t.Context(), lights, fmt.Sprintf("%d of %d", n, s)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	want := history(t, amy, lights, mautrix.DirectionForward, 500)
	before := h.peak()
	used, begun := h.cpu(), time.Now()
	c.loseAt = len(want) / 2
	c.open()
	t.Cleanup(func() { c.srv.Close() })
	<-c.lost
	used, first := h.cpu()-used, h.peak()
	h.kill()
	h.start()
	eventually(t, "all is told", func() bool { return c.count() >= len(want) })
	took := time.Since(begun)
	used, second := used+h.cpu(), h.peak()
	c.mu.Lock()
	defer c.mu.Unlock()
	t.Logf("%d events in %v, a kill and a start included, %d transactions of at most %d events; %v of processor time each; peak memory %d MiB before, %d and %d while it was told",
		len(want), took.Round(10*time.Millisecond), len(c.told), c.most, used/time.Duration(len(want)), before>>10, first>>10, second>>10)
	if !slices.Equal(c.events, want) {
		t.Errorf("%d events were told, not the %d of the room in their order", len(c.events), len(want))
	}
	if c.again == 0 {
		t.Error("what was not acknowledged was not told again")
	}
	if all == 20_000 && (took > 30*time.Second || max(first, second) > 128<<10) {
		t.Error("20,000 events may take 30 s and 128 MiB")
	}
}
