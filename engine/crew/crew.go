// Package crew runs short pieces of work on goroutines that are used again.
//
// A new goroutine begins with a small stack and copies it several times on its
// way down a deep call; where thousands of pieces a second take the same way
// that is a fifth of their cost. A crew keeps a few goroutines that have grown.
// It refuses to be a queue: work never waits for a free hand, one is made.
package crew

// spare is how many idle goroutines a crew keeps: as many as one event in a
// busy room wakes. Their stacks shrink when they are not used.
const spare = 24

// Crew is a set of goroutines. The zero Crew is not ready; see New.
type Crew struct {
	work chan func()
	idle chan struct{} // a place for each goroutine that waits
	done <-chan struct{}
}

// New makes a crew without anybody in it. Once done is closed nobody stays idle;
// work is still done. A nil done is never closed.
func New(done <-chan struct{}) *Crew {
	return &Crew{work: make(chan func()), idle: make(chan struct{}, spare), done: done}
}

// Go runs f on a goroutine of the crew, and never blocks.
func (c *Crew) Go(f func()) {
	select {
	case c.work <- f:
	default:
		go c.hand(f)
	}
}

func (c *Crew) hand(f func()) {
	for {
		f()
		select {
		case c.idle <- struct{}{}:
		default:
			return
		}
		select {
		case f = <-c.work:
			<-c.idle
		case <-c.done:
			return
		}
	}
}
