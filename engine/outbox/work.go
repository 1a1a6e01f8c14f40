package outbox

import (
	"context"
	"errors"
	"math"
	"time"

	"hearth/engine/fault"
	"hearth/engine/stream"
)

// wake puts a destination into the queue. It needs mu.
func (b *Outbox) wake(dest string, l *line) {
	b.awake[dest] = l
	b.queue = append(b.queue, dest)
	if b.workers < b.o.Workers {
		b.workers++
		b.busy.Go(b.work)
	}
}

// work delivers until nobody is left in the queue.
func (b *Outbox) work() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		if len(b.queue) == 0 {
			// Rows that were left for when there is room again. An error is met
			// again by the next who reads, and told there.
			if b.closed || b.pull() != nil || len(b.queue) == 0 {
				break
			}
		}
		if b.closed {
			break
		}
		dest := b.queue[0]
		b.queue = b.queue[1:]
		l := b.awake[dest]
		from, upto := l.From, l.news
		if l.Upto > from {
			upto = l.Upto
		}
		acked, err := from, error(nil)
		if upto > from {
			b.mu.Unlock()
			acked, err = b.deliver(dest, from, upto)
			b.mu.Lock()
		}
		if b.closed && err != nil {
			break // it was cut off by the end: no fault of the other side's
		}
		if b.settle(dest, l, upto, min(max(acked, from), upto), err) != nil {
			delete(b.awake, dest) // the disk takes nothing: what is there is tried again after a restart
		}
	}
	b.workers--
	if !b.closed {
		_ = b.arm() // as above
	}
}

// deliver is one try.
func (b *Outbox) deliver(dest string, from, upto stream.Pos) (stream.Pos, error) {
	ctx, cancel := context.WithTimeout(b.ctx, b.o.Time)
	defer cancel()
	return b.o.Deliver(ctx, dest, from, upto)
}

// settle notes what came of a try. It needs mu.
func (b *Outbox) settle(dest string, l *line, upto, acked stream.Pos, err error) error {
	batch := b.st.NewBatch()
	defer func() {
		if batch != nil {
			batch.Drop()
		}
	}()
	was := l.row
	l.From = acked
	if acked > was.From || err == nil {
		l.Failures, l.Since, l.Upto, l.Error = 0, 0, 0, ""
	}
	switch {
	case l.news <= acked: // in step
		delete(b.awake, dest)
		if !l.kept {
			return b.saveSoon()
		}
		b.o.drop(batch, dest, &was)
	case err == nil && acked > was.From:
		b.queue = append(b.queue, dest)
		if !l.kept {
			return nil
		}
		b.o.put(batch, dest, &l.row, was.Next)
	default:
		if err == nil {
			err = errors.New("nothing was delivered and nothing went wrong")
		}
		if l.idle && acked == was.From && was.Upto == upto && was.Next > b.o.Now().UnixMilli() {
			delete(b.awake, dest)
			return b.arm()
		}
		b.fails(l, upto, err)
		old := was.Next
		if !l.kept {
			old = 0
		}
		b.o.put(batch, dest, &l.row, old)
		delete(b.awake, dest)
	}
	full := batch
	batch = nil
	if err := b.st.Apply(full); err != nil {
		return err
	}
	if err := b.arm(); err != nil {
		return err
	}
	return b.saveSoon()
}

// fails notes a failure and when to try again.
func (b *Outbox) fails(l *line, upto stream.Pos, err error) {
	now := b.o.Now()
	l.Upto = upto
	var later Later
	if errors.As(err, &later) {
		l.Upto = 0 // nothing was sent
		l.Next = max(later.At.UnixMilli(), now.UnixMilli()+1)
		return
	}
	wait := float64(b.o.Most)
	if l.Failures < 40 {
		wait = min(wait, float64(b.o.First)*math.Pow(2, float64(l.Failures)))
	}
	// Half of the wait is chance, so that what failed together does not come again together.
	pause := time.Duration(wait * (0.5 + 0.5*b.o.Random()))
	var f *fault.Error
	if errors.As(err, &f) {
		pause = max(pause, min(f.Retry, b.o.Most))
	}
	if l.Failures == 0 {
		l.Since = now.UnixMilli()
	}
	l.Failures++
	l.note(err)
	l.Next = now.Add(pause).UnixMilli()
}

// pull takes up rows that are due. It needs mu.
func (b *Outbox) pull() error {
	now := b.o.Now().UnixMilli()
	var due []string
	err := b.o.due(b.st, func(at int64, dest string) bool {
		// A row that is due unreasonably late was written by a clock that was ahead.
		if at > now && at <= now+b.farthest().Milliseconds() {
			return false
		}
		if b.awake[dest] == nil {
			due = append(due, dest)
		}
		return len(due) < maxPulled
	})
	for _, dest := range due {
		if err != nil {
			break
		}
		var r row
		var ok bool
		if r, ok, err = b.o.row(b.st, dest); ok && err == nil {
			b.wake(dest, &line{row: r, kept: true, news: max(b.told, r.Upto)})
		}
	}
	return err
}

// farthest is beyond every wait that was meant.
func (b *Outbox) farthest() time.Duration { return max(2*b.o.Most, 48*time.Hour) }

// arm sets the timer to when there is something to do next. It needs mu.
func (b *Outbox) arm() error {
	if b.closed {
		return nil
	}
	next := b.saveAt
	err := b.o.due(b.st, func(at int64, dest string) bool {
		if b.awake[dest] != nil {
			return true // its row is on disk while it is tried
		}
		if t := time.UnixMilli(at); next.IsZero() || t.Before(next) {
			next = t
		}
		return false
	})
	if err != nil || next.IsZero() || !b.timerAt.IsZero() && !next.Before(b.timerAt) {
		return err
	}
	b.timerAt = next
	wait := min(max(next.Sub(b.o.Now()), 0), b.farthest())
	if b.timer == nil {
		b.timer = time.AfterFunc(wait, b.ring)
	} else {
		b.timer.Reset(wait)
	}
	return nil
}

// ring does what the timer was set for.
func (b *Outbox) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.timerAt = time.Time{}
	if b.closed {
		return
	}
	if !b.saveAt.IsZero() && !b.o.Now().Before(b.saveAt) {
		_ = b.save() // a cursor that lags delivers twice and loses nothing
	}
	if len(b.queue) == 0 {
		_ = b.pull() // who cannot be read is found by the next ring, or by Each
	}
	_ = b.arm() // as above
}

// saveSoon has the shared cursor written when it has moved far, or a little later.
// It needs mu.
func (b *Outbox) saveSoon() error {
	at := b.least()
	if at >= b.saved+saveEvery {
		return b.save()
	}
	if at <= b.saved || !b.saveAt.IsZero() {
		return nil
	}
	b.saveAt = b.o.Now().Add(saveAfter)
	return b.arm()
}

// least is up to where everybody without a row has everything. It needs mu.
func (b *Outbox) least() stream.Pos {
	at := b.told
	for _, l := range b.awake {
		if !l.kept {
			at = min(at, l.From)
		}
	}
	return at
}

// save writes the shared cursor. It needs mu.
func (b *Outbox) save() error {
	b.saveAt = time.Time{}
	at := b.least()
	if at <= b.saved {
		return nil
	}
	batch := b.st.NewBatch()
	stream.SetCursor(batch, b.o.cursor(), at)
	if err := b.st.Apply(batch); err != nil {
		return err
	}
	b.saved = at
	return nil
}
