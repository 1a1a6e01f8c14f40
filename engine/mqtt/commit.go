package mqtt

import (
	"sync"
	"time"

	"hearth/engine/store"
)

// committer brings to the disk what has to be there before it is acknowledged.
// One batch is under way at a time, and all that comes meanwhile goes into the
// next: publishers share syncs without any of them waiting for a clock.
type committer struct {
	b *Broker

	mu     sync.Mutex
	wake   *sync.Cond
	jobs   []job
	bytes  int    // of jobs, about
	drops  []drop // rows that are over; any batch takes them along
	stop   bool
	space  *sync.Cond // bytes has fallen
	lately int        // jobs of the batch before
	want   int        // jobs that are worth a little waiting
	took   time.Duration

	done chan finished
}

// job is what somebody wants committed. add puts its rows into the batch, after
// is called when that is on disk, or with the error. Jobs are added, and their
// after called, in the order in which they were submitted.
type job struct {
	size  int
	add   func(batch *store.Batch)
	after func(err error)
}

type finished struct {
	jobs []job
	err  error
}

// drop is a row of a queue that is not needed any more.
type drop struct {
	num  uint32
	seq  uint64
	body uint64
}

const (
	maxPending = 4 << 20 // bytes of jobs that wait; who brings more has to wait
	maxDrops   = 2048    // then they get a batch of their own
	// slowSync is how long a sync takes on a disk for which waiting a little for
	// company is worth it: half of eight publishers that wait for their
	// acknowledgement would otherwise always miss the batch. Who misses it waits
	// for a whole sync, so that a part of one is well spent on who comes late.
	slowSync   = 2 * time.Millisecond
	lingerPart = 3
	lingerMost = 4 * time.Millisecond
)

func newCommitter(b *Broker) *committer {
	c := &committer{b: b, done: make(chan finished, 1)}
	c.wake, c.space = sync.NewCond(&c.mu), sync.NewCond(&c.mu)
	return c
}

// submit queues a job, and waits where too much is queued already.
func (c *committer) submit(j job) {
	c.mu.Lock()
	for c.bytes > maxPending && !c.stop {
		c.space.Wait()
	}
	if c.stop {
		c.mu.Unlock()
		j.after(errStopping)
		return
	}
	c.jobs = append(c.jobs, j)
	c.bytes += j.size + 256
	if n := len(c.jobs); n == 1 || n == c.want {
		c.wake.Signal()
	}
	c.mu.Unlock()
}

// sync commits what add puts into a batch, and waits for it.
func (c *committer) sync(add func(batch *store.Batch)) error {
	done := make(chan error, 1)
	c.submit(job{add: add, after: func(err error) { done <- err }})
	return <-done
}

// later has a row deleted with one of the next batches.
func (c *committer) later(d drop) {
	c.mu.Lock()
	c.drops = append(c.drops, d)
	if len(c.drops) >= maxDrops && len(c.jobs) == 0 {
		c.wake.Signal()
	}
	c.mu.Unlock()
}

// nudge has deletions written that found no batch to go along with.
func (c *committer) nudge() {
	c.mu.Lock()
	waiting := len(c.drops) > 0 && len(c.jobs) == 0
	c.mu.Unlock()
	if waiting {
		c.flushDrops()
	}
}

// flushDrops writes the deletions now, without a sync.
func (c *committer) flushDrops() {
	c.mu.Lock()
	drops := c.drops
	c.drops = nil
	c.mu.Unlock()
	if len(drops) == 0 {
		return
	}
	batch := c.b.st.NewBatch()
	batch.Frees()
	c.b.addDrops(batch, drops)
	if err := c.b.st.Apply(batch); err != nil {
		batch.Drop()
		c.b.o.Log("mqtt: acknowledged messages stay in their queues: %v", err)
	}
}

func (c *committer) run() {
	defer close(c.done)
	go func() {
		<-c.b.stop
		c.mu.Lock()
		c.stop = true
		c.wake.Broadcast()
		c.space.Broadcast()
		c.mu.Unlock()
	}()
	for {
		jobs, drops, more := c.take()
		if !more {
			return
		}
		if len(jobs) == 0 {
			c.flush(drops)
			continue
		}
		batch := c.b.st.NewBatch()
		for i := range jobs {
			jobs[i].add(batch)
		}
		if batch.Empty() { // nobody waits for the disk, only for those before
			batch.Drop()
			c.flush(drops)
			c.done <- finished{jobs, nil}
			continue
		}
		c.b.addDrops(batch, drops)
		began := time.Now()
		err := c.b.st.Start(batch)
		c.b.keep.started(err)
		if err == nil {
			err = batch.Wait()
		} else {
			batch.Drop()
			c.flush(drops)
		}
		c.mu.Lock()
		c.took = time.Since(began)
		c.mu.Unlock()
		c.done <- finished{jobs, err}
	}
}

// flush writes deletions by themselves: they are let through on a full disk.
func (c *committer) flush(drops []drop) {
	c.mu.Lock()
	c.drops = append(c.drops, drops...)
	c.mu.Unlock()
	c.flushDrops()
}

// take waits for jobs. more is false when the broker ends and there are none.
func (c *committer) take() (jobs []job, drops []drop, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// Those of the batch before are about to come again, to those who wait already.
	c.want = c.lately + len(c.jobs)
	for len(c.jobs) == 0 && len(c.drops) < maxDrops {
		if c.stop {
			drops = c.takeDrops()
			return nil, drops, len(drops) > 0
		}
		c.wake.Wait()
	}
	if c.took > slowSync && len(c.jobs) < c.want && !c.stop {
		c.linger()
	}
	jobs = c.jobs
	c.jobs, c.lately = nil, len(jobs)
	c.bytes = 0
	c.space.Broadcast()
	return jobs, c.takeDrops(), true
}

func (c *committer) takeDrops() []drop {
	drops := c.drops
	c.drops = nil
	return drops
}

// linger waits a moment for company. It needs mu.
func (c *committer) linger() {
	late := false
	t := time.AfterFunc(min(c.took/lingerPart, lingerMost), func() {
		c.mu.Lock()
		late = true
		c.wake.Signal()
		c.mu.Unlock()
	})
	for !late && len(c.jobs) < c.want && !c.stop {
		c.wake.Wait()
	}
	t.Stop()
}

// finish tells those whose jobs are done, while the next batch is under way.
func (c *committer) finish() {
	for f := range c.done {
		for i := range f.jobs {
			f.jobs[i].after(f.err)
		}
	}
}
