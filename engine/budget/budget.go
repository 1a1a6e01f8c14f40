// Package budget divides the memory that the hub may take among its parts.
//
// One number, the limit, comes from the owner or is found from the board; every
// cache, buffer and queue has a share of it, and what has no share does not
// exist. It refuses limits that the store cannot work in: below 40 MiB Pebble
// flushes so small pieces that it rewrites them for ever. The shares are fixed
// when the hub starts, because a hub that grows as it is used fails at the
// worst time.
package budget

import (
	"fmt"
	"runtime/debug"
)

// Sizes in bytes.
const (
	KiB int64 = 1 << 10
	MiB int64 = 1 << 20
)

const (
	// Least is the smallest limit that is accepted.
	Least = 40 * MiB
	// most is what the hub takes by itself: more makes it no faster at what a
	// hub does, and the box has other work.
	most = 128 * MiB
	// outside is what the limit has to hold besides Go's own memory: the
	// program's text as far as it is used, and the kernel's part.
	outside = 12 * MiB
)

// Shares are what each part of the hub may hold, in bytes.
type Shares struct {
	Limit      int64 // all of it, as the owner sees it
	Go         int64 // what the Go runtime is told to stay below
	BlockCache int64 // Pebble's cache of table blocks
	MemTable   int64 // one memtable of Pebble; up to three are alive
	Records    int64 // parsed events, room states, visibility
	Bodies     int64 // long request bodies that are held at one time
	Conns      int   // client connections at one time
	Picture    int64 // the one picture that is decoded at a time
}

// Plan divides a limit; 0 takes the default for a machine with ram bytes.
func Plan(limit, ram int64) (Shares, error) {
	if limit == 0 {
		limit = min(most, max(Least, ram/4))
	}
	if limit < Least {
		return Shares{}, fmt.Errorf("a memory limit of %s is too small: the hub needs at least %s", Text(limit), Text(Least))
	}
	s := Shares{
		Limit:      limit,
		Go:         limit - outside,
		BlockCache: limit / 16,
		MemTable:   4 * MiB,
		Records:    limit / 32,
		Bodies:     limit / 12,
		Conns:      int(limit / (32 * KiB)), // one takes about 12 KiB while it is served, 3 while it waits
		Picture:    limit / 5,               // at 128 MiB a progressive JPEG of 3 megapixels; seldom, and given back at once
	}
	if limit < 64*MiB {
		s.MemTable = 2 * MiB
	}
	return s, nil
}

// collect is how much garbage, in percent of what is alive, may gather before
// the collector runs. Go's 100 would let a hub of 20 MiB stand at 40; this
// costs one or two percent more CPU under the heaviest load.
const collect = 40

// Apply tells the Go runtime its share.
func (s Shares) Apply() {
	debug.SetMemoryLimit(s.Go)
	debug.SetGCPercent(collect)
}

// Text prints a size with the largest unit that divides it.
func Text(n int64) string {
	for _, u := range []struct {
		name string
		size int64
	}{{"GiB", 1 << 30}, {"MiB", MiB}, {"KiB", KiB}} {
		if n >= u.size && n%u.size == 0 {
			return fmt.Sprintf("%d%s", n/u.size, u.name)
		}
	}
	if n >= MiB {
		return fmt.Sprintf("%.1fMiB", float64(n)/float64(MiB))
	}
	return fmt.Sprintf("%dB", n)
}
