package store

import (
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// gate decides when Pebble may compact: one compaction at a time, and none while
// the disk is full, except what a deletion asked for. Pebble's own scheduler
// cannot be stopped, and looks ten times a second whether its limit has changed.
type gate struct {
	db pebble.DBForCompaction // set before any other call

	mu       sync.Mutex
	idle     *sync.Cond // offering has become false
	running  int        // compactions under way
	shut     bool       // the disk is full
	forced   int        // deletions that wait for a compaction
	offering bool       // a call into db is under way
	closed   bool
}

func newGate() *gate {
	g := &gate{}
	g.idle = sync.NewCond(&g.mu)
	return g
}

// free says whether one more compaction may begin. It needs mu.
func (g *gate) free() bool { return !g.closed && g.running == 0 && (!g.shut || g.forced > 0) }

// Register implements pebble.CompactionScheduler.
func (g *gate) Register(_ int, db pebble.DBForCompaction) { g.db = db }

// Unregister implements pebble.CompactionScheduler.
func (g *gate) Unregister() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for g.offering {
		g.idle.Wait()
	}
}

// TrySchedule implements pebble.CompactionScheduler.
func (g *gate) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.free() {
		return false, nil
	}
	g.running++
	return true, g
}

// UpdateGetAllowedWithoutPermission implements pebble.CompactionScheduler. What
// is allowed follows from nothing that Pebble could tell.
func (g *gate) UpdateGetAllowedWithoutPermission() {}

// Started implements pebble.CompactionGrantHandle.
func (g *gate) Started() {}

// MeasureCPU implements pebble.CompactionGrantHandle.
func (g *gate) MeasureCPU(pebble.CompactionGoroutineKind) {}

// CumulativeStats implements pebble.CompactionGrantHandle.
func (g *gate) CumulativeStats(pebble.CompactionGrantHandleStats) {}

// Done implements pebble.CompactionGrantHandle.
func (g *gate) Done() { g.change(func() { g.running-- }) }

// change changes the gate's fields and lets in who may enter after it.
func (g *gate) change(f func()) {
	g.mu.Lock()
	f()
	if g.offering || g.db == nil {
		g.mu.Unlock() // whoever is offering looks again
		return
	}
	g.offering = true
	for g.free() {
		// Taken before it is offered: the compaction may end before Schedule returns.
		g.running++
		g.mu.Unlock()
		waiting, _ := g.db.GetWaitingCompaction()
		taken := waiting && g.db.Schedule(g)
		g.mu.Lock()
		if !taken {
			g.running--
			break
		}
	}
	g.offering = false
	g.idle.Broadcast()
	g.mu.Unlock()
}

// close has no compaction begin until open.
func (g *gate) close() { g.change(func() { g.shut = true }) }

func (g *gate) open() { g.change(func() { g.shut = false }) }

// force lets compactions through until release is called.
func (g *gate) force() (release func()) {
	g.change(func() { g.forced++ })
	return func() { g.change(func() { g.forced-- }) }
}

func (g *gate) isForced() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.forced > 0
}
