package crew

import (
	"runtime"
	"sync"
	"testing"
)

// All work is done at once, however much blocks, and few hands stay.
func TestWorkNeverWaits(t *testing.T) {
	over := make(chan struct{})
	c := New(over)
	before := runtime.NumGoroutine()
	for range 3 {
		const many = 100
		var started, done sync.WaitGroup
		release := make(chan struct{})
		started.Add(many)
		done.Add(many)
		for range many {
			c.Go(func() {
				started.Done()
				<-release
				done.Done()
			})
		}
		started.Wait() // nothing waits for what blocks
		close(release)
		done.Wait()
	}
	settle(t, before+spare)
	close(over)
	settle(t, before)
}

// settle waits until no more than so many goroutines are left.
func settle(t *testing.T, most int) {
	t.Helper()
	for range 100000 {
		if runtime.NumGoroutine() <= most {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("%d goroutines are left, %d may be", runtime.NumGoroutine(), most)
}
