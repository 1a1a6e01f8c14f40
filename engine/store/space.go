package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/fault"
)

// A full disk must never reach Pebble: it would retry its compactions for ever
// at full speed, and a log that cannot be written ends the process. So free
// space is watched here. Below a floor, batches are refused unless they free
// space, and compactions wait; reading goes on. Others fill disks too, between
// two looks: a ballast file is let go of when the disk turns out to be full.
const (
	ballastName = "ballast"
	ballastMax  = 64 << 20
	ballastPart = 20 // one part in so many of the disk, where that is less

	lookBytes = 256 << 10   // written between two looks at the disk
	lookEvery = time.Second // and the time between them while something is written

	backoffMin = 10 * time.Second // before a compaction that had no room is tried again
	backoffMax = 10 * time.Minute
)

// headroom watches the free space of the disk that the store is on.
type headroom struct {
	fs      FS
	dir     string
	log     func(format string, args ...any)
	gate    *gate
	table   uint64 // free bytes that a flush needs
	floor   uint64 // free bytes below which ordinary batches are refused
	ballast uint64 // bytes the ballast has when it is there; 0: none is kept
	closing chan struct{}

	full    atomic.Bool
	written atomic.Int64 // since the last look
	looked  atomic.Int64 // when that was, in nanoseconds

	mu      sync.Mutex // held while looking; guards those below
	held    bool       // the ballast is there
	until   time.Time  // it stays full so long, whatever is free
	backoff time.Duration
}

// watch begins to watch the disk; nil where the file system does not tell.
func watch(files FS, opts *Options, g *gate) *headroom {
	if _, err := files.GetDiskUsage(opts.Dir); err != nil || opts.ReadOnly {
		return nil
	}
	table := uint64(opts.MemTable)
	sp := &headroom{fs: files, dir: opts.Dir, log: opts.Log, gate: g, table: 2 * table, floor: 4*table + 4<<20, closing: make(chan struct{})}
	if sp.log == nil {
		sp.log = func(string, ...any) {}
	}
	if opts.Ballast {
		sp.makeBallast()
	}
	sp.look()
	return sp
}

func (sp *headroom) ballastPath() string { return sp.fs.PathJoin(sp.dir, ballastName) }

// makeBallast finds the ballast or, where there is room for it, makes it.
func (sp *headroom) makeBallast() {
	usage, err := sp.fs.GetDiskUsage(sp.dir)
	if err != nil {
		return
	}
	sp.ballast = min(ballastMax, usage.TotalBytes/ballastPart)
	if info, err := sp.fs.Stat(sp.ballastPath()); err == nil {
		sp.ballast, sp.held = uint64(info.Size()), true
		return
	}
	if sp.ballast > 0 && usage.AvailBytes >= 2*(sp.floor+sp.ballast) {
		sp.takeBallast()
	}
}

// takeBallast reserves the blocks without writing them. A file system that can
// not do that goes without: writing 64 MiB of nothing wears the disk. It needs mu.
func (sp *headroom) takeBallast() {
	f, err := sp.fs.OpenReadWrite(sp.ballastPath(), vfs.WriteCategoryUnspecified)
	if err != nil {
		return
	}
	if err = f.Preallocate(0, int64(sp.ballast)); err == nil {
		_, err = f.WriteAt([]byte{0}, int64(sp.ballast)-1)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		sp.fs.Remove(sp.ballastPath())
		sp.ballast = 0
		return
	}
	sp.held = true
}

// dropBallast needs mu.
func (sp *headroom) dropBallast() {
	if !sp.held {
		return
	}
	if err := sp.fs.Remove(sp.ballastPath()); err == nil || errors.Is(err, fs.ErrNotExist) {
		sp.held = false
		sp.log("store: the ballast file of %d MiB is let go of, the disk is full", sp.ballast>>20)
	}
}

// available is the free space beside the ballast, which is not there to be
// used up: while it is gone, its bytes do not count as free. It needs mu.
func (sp *headroom) available() (uint64, error) {
	usage, err := sp.fs.GetDiskUsage(sp.dir)
	if err != nil {
		return 0, err
	}
	if sp.held {
		return usage.AvailBytes, nil
	}
	return usage.AvailBytes - min(usage.AvailBytes, sp.ballast), nil
}

// look asks the disk and changes between full and not full.
func (sp *headroom) look() {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.judge(true)
}

// judge is look under mu. Where reopen is false it may run under Pebble's own
// lock, and does not let in compactions, which would ask for that.
func (sp *headroom) judge(reopen bool) {
	sp.written.Store(0)
	sp.looked.Store(time.Now().UnixNano())
	avail, err := sp.available()
	if err != nil {
		return // the disk that cannot be asked says so when it is written to
	}
	switch full := sp.full.Load(); {
	case !full && avail < sp.floor:
		sp.full.Store(true)
		sp.gate.close()
		sp.log("store: the disk is full: %d MiB are free, %d are needed; nothing new is taken", avail>>20, sp.floor>>20)
	case full && reopen && avail >= sp.floor+sp.floor/4 && (avail >= sp.floor*4 || !time.Now().Before(sp.until)):
		if sp.ballast > 0 && !sp.held {
			sp.takeBallast()
		}
		sp.full.Store(false)
		sp.gate.open()
		sp.log("store: %d MiB of the disk are free again", avail>>20)
	}
	if avail >= 4*sp.floor {
		sp.backoff = 0
	}
	if sp.held && avail < sp.floor/2 {
		sp.dropBallast()
	}
}

// admit refuses a batch where the disk is full or can only be read.
func (s *Store) admit(b *Batch) error {
	if s.readOnly {
		b.Drop()
		return fault.E(fault.Full, "store", "the hub's disk can only be read: nothing new is taken")
	}
	if s.space == nil || b.frees {
		return nil
	}
	err := s.space.admit(b.Bytes())
	if err != nil {
		b.Drop()
	}
	return err
}

// reclaim has the space of deleted ranges given back at once where the disk is
// full; where it is not, compactions come by in their own time.
func (s *Store) reclaim(spans []span) {
	if s.space == nil || !s.space.full.Load() {
		return
	}
	defer s.gate.force()()
	err := s.db.Flush()
	for _, d := range spans {
		err = errors.Join(err, s.db.Compact(context.Background(), d.lower, d.upper, false))
	}
	if err != nil {
		s.space.log("store: freeing space: %v", err)
	}
	s.space.look()
}

// Reclaim gives back the space of what was removed between two keys, where it would
// wait for compactions else: on a hub that writes little they may not come for weeks.
// It writes anew what is left between the keys.
func (s *Store) Reclaim(lower, upper []byte) error {
	if s.readOnly || bytes.Compare(lower, upper) >= 0 {
		return nil
	}
	if err := s.db.Compact(context.Background(), lower, upper, false); err != nil {
		return fmt.Errorf("store: reclaim: %w", err)
	}
	return nil
}

// roomToOpen says whether there is room to open the database: its log is
// written out as tables first.
func (sp *headroom) roomToOpen() error {
	if sp == nil {
		return nil
	}
	var logs uint64
	names, err := sp.fs.List(sp.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if info, err := sp.fs.Stat(sp.fs.PathJoin(sp.dir, name)); err == nil && strings.HasSuffix(name, ".log") {
			logs += uint64(info.Size())
		}
	}
	// Of the logs, those of three memtables at most are still needed.
	need := sp.table/2 + min(logs, sp.table/2*3)
	for {
		usage, err := sp.fs.GetDiskUsage(sp.dir)
		if err != nil || usage.AvailBytes >= need {
			return nil
		}
		if !sp.held {
			return fault.E(fault.Full, "store.Open", "the disk is full: %d KiB are free, opening the store takes %d", usage.AvailBytes>>10, need>>10)
		}
		sp.outOfSpace()
		if sp.held {
			return fault.E(fault.Full, "store.Open", "the disk is full, and the ballast file cannot be removed")
		}
	}
}

// end lets go of a flush that waits for room.
func (sp *headroom) end() {
	if sp != nil {
		close(sp.closing)
	}
}

// admit refuses a batch of so many bytes where the disk is full. Most calls
// ask the disk nothing.
func (sp *headroom) admit(bytes int) error {
	if !sp.full.Load() && sp.written.Add(int64(bytes)) < lookBytes && time.Now().UnixNano()-sp.looked.Load() < int64(lookEvery) {
		return nil
	}
	sp.look()
	if !sp.full.Load() {
		return nil
	}
	return fault.E(fault.Full, "store", "the hub's disk is full: nothing new is taken until something is deleted")
}

// outOfSpace is called when the disk refused bytes: what was refused is tried
// once more after it.
func (sp *headroom) outOfSpace() {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.dropBallast()
	sp.judge(false)
}

// roomForTable says whether a table may be begun. A flush waits until it may:
// it would be tried again at once and for ever. A compaction is refused while it
// still leaves room for flushes, unless a deletion asked for it.
func (sp *headroom) roomForTable(flush bool) error {
	need := sp.table
	if !flush && !sp.gate.isForced() {
		need = sp.floor / 2
	}
	for {
		if sp.free() >= need {
			return nil
		}
		if !flush && !sp.gate.isForced() {
			sp.refuse()
			return syscall.ENOSPC
		}
		sp.outOfSpace()
		if sp.free() >= need {
			return nil
		}
		if !flush {
			return syscall.ENOSPC
		}
		select {
		case <-sp.closing:
			return syscall.ENOSPC
		case <-time.After(lookEvery):
		}
	}
}

// free is the free space; all there is where the disk cannot be asked.
func (sp *headroom) free() uint64 {
	usage, err := sp.fs.GetDiskUsage(sp.dir)
	if err != nil {
		return math.MaxUint64
	}
	return usage.AvailBytes
}

// refuse ends a compaction that the disk has no room for. Its output goes, so
// there is room again at once, and it would begin anew and fail: the disk is
// taken to be full for a while, longer each time.
func (sp *headroom) refuse() {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.backoff = min(max(2*sp.backoff, backoffMin), backoffMax)
	sp.until = time.Now().Add(sp.backoff)
	if !sp.full.Swap(true) {
		sp.gate.close()
		sp.log("store: the disk has no room to compact in; nothing new is taken")
	}
}

// spaceFS has tables begun only where there is room for them.
type spaceFS struct {
	vfs.FS
	sp *headroom
}

const categoryFlush = "pebble-memtable-flush"

func (s *spaceFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if category == categoryFlush || category == "pebble-compaction" {
		if err := s.sp.roomForTable(category == categoryFlush); err != nil {
			return nil, err
		}
	}
	return s.FS.Create(name, category)
}

// GetDiskUsage keeps back what compactions are not to use: Pebble cuts them to
// half of what is free.
func (s *spaceFS) GetDiskUsage(path string) (vfs.DiskUsage, error) {
	usage, err := s.FS.GetDiskUsage(path)
	usage.AvailBytes -= min(usage.AvailBytes, s.sp.floor)
	return usage, err
}

func (s *spaceFS) Unwrap() vfs.FS { return s.FS }

// wrap puts the watch between Pebble and the disk.
func (sp *headroom) wrap(files FS) FS {
	if sp == nil {
		return files
	}
	return &spaceFS{FS: vfs.OnDiskFull(files, sp.outOfSpace), sp: sp}
}
