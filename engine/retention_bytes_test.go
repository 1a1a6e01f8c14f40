package engine

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/account"
	"hearth/engine/room"
)

// What 120 days of sensors and people take on the disk, what is left of it at 90 and at
// 30 days, and what removing it writes. HEARTH_PAST is the number of events.
func TestRetentionFrees(t *testing.T) {
	total := 12_000 // enough that space is given back
	if text := os.Getenv("HEARTH_PAST"); text != "" {
		total, _ = strconv.Atoi(text)
	}
	const rooms, past = 4, 120 * day
	files := &countFS{FS: vfs.NewMem(), bytes: map[vfs.DiskWriteCategory]int64{}}
	var ago atomic.Int64 // that the rooms were made
	ago.Store(int64(past + day))
	clock := func() time.Time { return time.Now().Add(-time.Duration(ago.Load())) }
	e, err := Open(Options{FS: files, Dir: "hub", Now: clock, Server: "hub", Accounts: account.Options{Cost: account.Cost{KiB: 64, Passes: 1}},
		CacheBytes: 8 << 20, MemTable: 4 << 20, RecordBytes: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	h := &hub{Engine: e, t: t}
	_, err = e.Accounts.Create(account.NewUser{Localpart: "a"})
	h.ok(err)
	var nums [rooms]room.Num
	for i := range nums {
		id, err := e.CreateRoom(&NewRoom{Creator: a})
		h.ok(err)
		nums[i], err = e.Rooms.Find(id)
		h.ok(err)
	}
	ago.Store(0)
	now := time.Now()
	var all sync.WaitGroup
	for i, num := range nums {
		all.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(i)))
			for n := range total / rooms {
				at := now.Add(past / time.Duration(total/rooms) * time.Duration(n+1-total/rooms)).UnixMilli()
				d := room.Draft{Type: "io.hearth.event", Sender: a, Time: at, Content: fmt.Appendf(nil,
					`{"topic":"zigbee2mqtt/sensor%d/state","value":{"temperature":"%d.%d","humidity":%d,"battery":%d,"linkquality":%d},"time":%d}`,
					r.IntN(20), r.IntN(30), r.IntN(10), r.IntN(100), r.IntN(100), r.IntN(255), at)}
				if i == 0 {
					d.Type = "m.room.message"
					d.Content = fmt.Appendf(nil, `{"msgtype":"m.text","body":"what people say to each other %d words here %d"}`, r.IntN(1000), r.IntN(1000))
				}
				if _, err := e.Rooms.Send(num, &d); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	h.halt() // here the jobs are done by hand, so that their end is known
	h.ok(e.Search.Refresh())
	h.ok(e.st.Settle())
	taken := files.written()
	full := files.size(h)
	t.Logf("%d events: %.1f MB, %.2f kB written for each", total, float64(full)/1e6, float64(taken)/1e3/float64(total))
	for _, days := range []int{90, 30} {
		before := files.written()
		e.keep = time.Duration(days) * day
		_, err := e.Expire()
		h.ok(err)
		var gone, freed uint64
		for _, num := range nums {
			for done := false; !done; {
				done, err = e.Rooms.TrimSome(num, e.Search.Forget)
				h.ok(err)
			}
			s, _ := e.Rooms.TrimOf(num)
			gone += s.Events
			freed += s.Bytes
		}
		h.ok(e.reclaim(freed))
		wrote := files.written() - before
		left := files.size(h)
		t.Logf("%d days: %d events gone, %.1f MB left, %.2f kB written for each", days, gone, float64(left)/1e6,
			float64(wrote)/1e3/float64(gone))
		if want := full*int64(days)/120 + full/3; left > want {
			t.Errorf("at %d days %d bytes are left of %d, not at most %d", days, left, full, want)
		}
	}
	h.ok(e.Close())
}

// written is how many bytes were written in all.
func (c *countFS) written() (n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for what, bytes := range c.bytes {
		if !strings.HasPrefix(string(what), "zeros") {
			n += bytes
		}
	}
	return n
}

// size is how many bytes a consistent copy of the store has: nothing that is only
// waiting to be deleted.
func (c *countFS) size(h *hub) (n int64) {
	h.t.Helper()
	const dir = "hub/copy"
	h.ok(h.st.Backup(dir))
	names, err := c.List(dir)
	h.ok(err)
	for _, name := range names {
		info, err := c.Stat(c.PathJoin(dir, name))
		h.ok(err)
		n += info.Size()
	}
	h.ok(c.RemoveAll(dir))
	return n
}
