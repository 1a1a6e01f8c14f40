package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// setting reads a number from the environment.
func setting(t *testing.T, name string, otherwise uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// cutter cuts the power after syncs, and looks at what is left.
type cutter struct {
	d    *disk
	l    *ledger
	mu   sync.Mutex
	rng  *rand.Rand
	one  int // every so many-th sync is looked at, drawn at random
	cuts int
	err  error
	bad  atomic.Bool
}

// cut is called after each sync.
func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bad.Load() || c.rng.IntN(c.one) != 0 {
		return
	}
	// What was acknowledged before the cut binds; so it is taken before the disk is.
	l := c.l.now()
	cfg := vfs.CrashCloneCfg{RNG: c.rng, UnsyncedDataPercent: []int{0, 0, 50, 100}[c.rng.IntN(4)]}
	left := c.d.CrashClone(cfg)
	c.l.mu.Lock()
	l.asked = c.l.asked[:len(c.l.asked):len(c.l.asked)] // asked for before the disk was taken
	c.l.mu.Unlock()
	c.cuts++
	if err := c.look(left, l); err != nil {
		c.err = fmt.Errorf("cut %d, %d%% of what was not synced kept, %d facts: %w", c.cuts, cfg.UnsyncedDataPercent, len(l.acked), err)
		c.bad.Store(true)
	}
}

// look opens what is left of the disk. Now and then the power fails again.
func (c *cutter) look(left *vfs.MemFS, l *ledger) error {
	h, err := open(left)
	if err != nil {
		return fmt.Errorf("it does not open: %w", err)
	}
	if c.rng.IntN(4) == 0 {
		second := left.CrashClone(vfs.CrashCloneCfg{})
		if err := h.Close(); err != nil {
			return err
		}
		if h, err = open(second); err != nil {
			return fmt.Errorf("it does not open after a second cut: %w", err)
		}
	}
	return errors.Join(check(h, l), h.Close())
}

// story runs a drawn script of several clients, cutting the power.
func story(t *testing.T, seed uint64, actors, steps, one int) (cuts int) {
	rng := rand.New(rand.NewPCG(seed, 1))
	d := newDisk()
	h, err := open(d)
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{d: d, l: &ledger{}, rng: rand.New(rand.NewPCG(seed, 2)), one: one}
	public := &square{}
	var wg sync.WaitGroup
	errs := make([]error, actors)
	for i := range actors {
		a, err := newActor(h, c.l, public, rand.New(rand.NewPCG(seed, rng.Uint64())), string(rune('a'+i)))
		if err != nil {
			t.Fatal(err)
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range steps {
				if errs[i] = a.step(); errs[i] != nil || c.bad.Load() {
					return
				}
			}
		}()
		if i == 0 {
			d.after(c.cut)
		}
	}
	wg.Wait()
	c.mu.Lock()
	err = errors.Join(append(errs, c.err)...)
	c.mu.Unlock()
	if err == nil {
		err = errors.Join(check(h, c.l.now()), h.Close())
	}
	if err != nil {
		t.Fatalf("HEARTH_SEED=%d, %d clients: %v", seed, actors, err)
	}
	return c.cuts
}

// One client: the power is cut after every single sync.
func TestPowerCutAfterEverySync(t *testing.T) {
	seed, longer := setting(t, "HEARTH_SEED", rand.Uint64()), setting(t, "HEARTH_SIM", 1)
	cuts := 0
	for i := range longer {
		cuts += story(t, seed+i, 1, 120, 1)
	}
	t.Logf("%d power cuts", cuts)
}

// Several clients at once: positions are given in one order and reach the disk
// in groups. A sample of the syncs is cut.
func TestPowerCutUnderLoad(t *testing.T) {
	seed, longer := setting(t, "HEARTH_SEED", rand.Uint64()), setting(t, "HEARTH_SIM", 1)
	cuts := 0
	for i := range longer {
		cuts += story(t, seed+i, 5, 60, 4)
	}
	t.Logf("%d power cuts", cuts)
}
