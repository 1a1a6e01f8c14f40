package powercut

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hearth/engine"
	"hearth/engine/account"
	"hearth/engine/mxid"
	"hearth/firmware/boot"
	"hearth/firmware/card"
)

// told is what the hub acknowledged, and how many entries the log held then.
type told struct {
	Event   string `json:"event"`
	Entries uint64 `json:"entries"`
}

// replay is a recording being gone through.
type replay struct {
	*testing.T
	dir   string // of the recording: base, log, told.json
	work  string // of the disks that are made
	seed  uint64
	log   *os.File
	all   []Write
	told  []told
	done  atomic.Int64
	ended atomic.Bool // a cut was not well; no more are tried
	young atomic.Int64
}

// TestReplay cuts the power at the flushes of a recording that make image-powercut made. Each disk has to mount, by its
// journal alone, its hub has to open and agree with itself, and all that was acknowledged before has to be there.
//
//	HEARTH_RECORD   folder of the recording
//	HEARTH_POINTS   how many cuts, 1000 where it is not set
//	HEARTH_SEED     of the choice; it is printed
func TestReplay(t *testing.T) {
	x := &replay{T: t, dir: os.Getenv("HEARTH_RECORD"), seed: rand.Uint64()}
	if x.dir == "" {
		t.Skip("make image-powercut runs this")
	}
	points := 1000
	for name, to := range map[string]any{"HEARTH_POINTS": &points, "HEARTH_SEED": &x.seed} {
		if s := os.Getenv(name); s != "" {
			if _, err := fmt.Sscan(s, to); err != nil {
				t.Fatal(name, err)
			}
		}
	}
	t.Logf("HEARTH_SEED=%d", x.seed)
	x.read()
	if st, err := os.Stat("/dev/shm"); err == nil && st.IsDir() {
		work, err := os.MkdirTemp("/dev/shm", "powercut")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(work) })
		x.work = work
	} else {
		x.work = t.TempDir()
	}
	began := time.Now()
	x.run(points)
	if x.done.Load() != int64(points) && !t.Failed() {
		t.Errorf("%d of %d cuts were tried", x.done.Load(), points)
	}
	t.Logf("%d cuts in %.0f s, %d of them before there was a hub: each mounted, opened, agreed with itself, and had what was acknowledged", x.done.Load(), time.Since(began).Seconds(), x.young.Load())
}

func (x *replay) read() {
	var err error
	if x.log, err = os.Open(filepath.Join(x.dir, "log")); err != nil {
		x.Fatal(err)
	}
	x.Cleanup(func() { x.log.Close() })
	if x.all, err = Parse(x.log); err != nil {
		x.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(x.dir, "told.json"))
	if err != nil {
		x.Fatal(err)
	}
	if err := json.Unmarshal(text, &x.told); err != nil {
		x.Fatal(err)
	}
	slices.SortFunc(x.told, func(a, b told) int { return int(int64(a.Entries) - int64(b.Entries)) })
	if len(x.told) == 0 || len(x.all) == 0 {
		x.Fatal("nothing was recorded")
	}
}

// open gives the disk that the recording began with, without the partitions that are never written.
func (x *replay) open() *Disk {
	f, err := os.Open(filepath.Join(x.dir, "base"))
	if err != nil {
		x.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		x.Fatal(err)
	}
	d, err := Load(f, st.Size())
	if err != nil {
		x.Fatal(err)
	}
	table, err := card.Read(f, uint64(st.Size())/sector)
	if err != nil {
		x.Fatal(err)
	}
	for _, p := range table.Parts {
		if p.Number != table.Plan.Data {
			d.Drop(p.Begin, p.Begin+p.Size)
		}
	}
	return d
}

// cut is one disk to look at.
type cut struct {
	file    string
	flush   int // the entry
	entries uint64
	seed    uint64
}

// run makes the disks one after another, as the log goes on, while others look at them.
func (x *replay) run(points int) {
	var flushes []int
	for i, w := range x.all {
		if w.Forced {
			x.Fatal("the recording has writes that are on the disk by themselves, which these cuts do not know")
		}
		if w.Flush {
			flushes = append(flushes, i)
		}
	}
	if len(flushes) == 0 {
		x.Fatal("nothing was flushed")
	}
	r := rand.New(rand.NewPCG(x.seed, 0))
	at := map[int]int{} // how many cuts behind each flush: every one where there are enough
	for i, n := range r.Perm(max(points, len(flushes)))[:points] {
		_ = i
		at[flushes[n%len(flushes)]]++
	}
	x.Logf("%d entries, %d flushes, %d events acknowledged, %d different flushes cut behind", len(x.all), len(flushes), len(x.told), len(at))
	work := make(chan cut)
	var hands sync.WaitGroup
	for n := range 2 {
		hands.Go(func() {
			for c := range work {
				x.look(c, filepath.Join(x.work, "mount"+strconv.Itoa(n)))
			}
		})
	}
	x.walk(at, flushes, work)
	close(work)
	hands.Wait()
}

// walk applies the log, and gives out the disks of each flush that was chosen.
func (x *replay) walk(at map[int]int, flushes []int, work chan<- cut) {
	d := x.open()
	next, seed := 0, x.seed
	for k, i := range flushes {
		for ; next <= i; next++ {
			if err := d.Apply(x.log, x.all[next]); err != nil {
				x.Error(err)
				return
			}
		}
		end := len(x.all)
		if k+1 < len(flushes) {
			end = flushes[k+1]
		}
		for n := range at[i] {
			if x.ended.Load() {
				return
			}
			seed++
			c := cut{filepath.Join(x.work, fmt.Sprintf("disk%d-%d", i, n)), i, uint64(i + 1), seed}
			f, err := os.Create(c.file)
			if err == nil {
				err = d.Cut(f, x.log, x.all[i+1:end], rand.New(rand.NewPCG(seed, 1)))
				f.Close()
			}
			if err != nil {
				x.Error(err)
				return
			}
			work <- c
		}
	}
}

// look mounts one disk and opens its hub. The disk of a cut that is not well is kept beside the recording.
func (x *replay) look(c cut, at string) {
	defer os.Remove(c.file)
	if x.ended.Load() {
		return
	}
	if err := x.well(c, at); err != nil {
		x.ended.Store(true)
		kept := filepath.Join(x.dir, "bad-disk")
		out, more := exec.Command("cp", "--sparse=always", c.file, kept).CombinedOutput()
		x.Errorf("behind flush %d, seed %d: %v\nThe disk is %s (as the looking left it; %s %v)", c.flush, c.seed, err, kept, out, more)
		return
	}
	x.done.Add(1)
}

func (x *replay) well(c cut, at string) error {
	f, err := os.Open(c.file)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	table, err := card.Read(f, uint64(st.Size())/sector)
	if err != nil {
		return err
	}
	p := table.Part(table.Plan.Data)
	if err := os.MkdirAll(at, 0o700); err != nil {
		return err
	}
	out, err := exec.Command("losetup", "--find", "--show", fmt.Sprintf("--offset=%d", p.Begin), fmt.Sprintf("--sizelimit=%d", p.Size), c.file).CombinedOutput()
	device := strings.TrimSpace(string(out))
	if err != nil {
		return fmt.Errorf("no loop device: %w: %s", err, out)
	}
	defer exec.Command("losetup", "--detach", device).Run()
	// As the box does it, but without an e2fsck: the journal alone has to do.
	if _, err := boot.Open(device, at, filepath.Join(x.work, "none")); err != nil {
		return err
	}
	err = x.hub(c, at)
	if more := unmount(at); err == nil {
		err = more
	}
	if err != nil {
		return err
	}
	super := make([]byte, 64)
	if _, err := f.ReadAt(super, p.Begin+1024); err != nil {
		return err
	}
	if state := super[0x3a]; state != 1 {
		return fmt.Errorf("the file system is marked: %x", state)
	}
	return nil
}

// unmount waits for programs that another hand is starting: between fork and exec they hold all that this one has open.
func unmount(at string) (err error) {
	for began := time.Now(); time.Since(began) < 10*time.Second; time.Sleep(10 * time.Millisecond) {
		var out []byte
		if out, err = exec.Command("umount", at).CombinedOutput(); err == nil {
			return nil
		}
		err = fmt.Errorf("unmounting: %w: %s", err, out)
	}
	return err
}

// hub opens what is mounted as the box would.
func (x *replay) hub(c cut, at string) (err error) {
	kept, err := os.ReadFile(filepath.Join(at, boot.SettingsFile))
	if err == nil {
		_, err = boot.ParseSettings(kept)
	} else if os.IsNotExist(err) {
		err = nil
	}
	if err != nil {
		return err
	}
	due := x.told
	if i := slices.IndexFunc(due, func(one told) bool { return one.Entries > c.entries }); i >= 0 {
		due = due[:i]
	}
	dir := filepath.Join(at, boot.HubFolder)
	if _, err := os.Stat(filepath.Join(dir, "store")); os.IsNotExist(err) && len(due) == 0 {
		x.young.Add(1)
		return nil
	}
	e, err := engine.Open(engine.Options{Dir: dir, Server: "box.example", CacheBytes: 4 << 20, MemTable: 1 << 20, RecordBytes: 2 << 20, Ballast: true,
		Accounts: account.Options{Cost: account.Cost{KiB: 64, Passes: 1}}})
	if err != nil {
		return fmt.Errorf("the hub does not open: %w", err)
	}
	defer func() {
		if end := e.Close(); err == nil {
			err = end
		}
	}()
	var bad []string
	if err := e.Verify(func(line string) { bad = append(bad, line) }); err != nil {
		return err
	}
	if len(bad) > 0 {
		return fmt.Errorf("%d things do not agree: %s", len(bad), strings.Join(bad[:min(5, len(bad))], "; "))
	}
	for _, one := range due {
		if _, err := e.Rooms.Lookup(mxid.EventID(one.Event)); err != nil {
			return fmt.Errorf("%s was acknowledged at entry %d and is not there: %w", one.Event, one.Entries, err)
		}
	}
	return nil
}
