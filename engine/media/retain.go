package media

import (
	"context"
	"errors"
	"time"
)

// Run keeps house until stop is closed: first it looks for files without rows,
// then every hour it writes down last accesses and lets go of what is past its
// time. It belongs to one goroutine of the engine.
func (r *Records) Run(stop <-chan struct{}) {
	if r.st.ReadOnly() {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // so that a long sweep ends with the hub
		select {
		case <-stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
		}
		if err := r.Tidy(ctx); err != nil && ctx.Err() == nil {
			r.o.Log("media: %v", err)
		}
		t.Reset(time.Hour)
	}
}

// Tidy is one round of Run.
func (r *Records) Tidy(ctx context.Context) error {
	r.mu.Lock()
	swept := r.swept
	err := r.flush()
	r.mu.Unlock()
	if err != nil {
		return err
	}
	if !swept {
		if err := r.sweep(ctx); err != nil {
			return err
		}
	}
	return r.retire(ctx)
}

// sweep deletes the files that have no row: those of uploads and deletions that
// a power cut interrupted. Once after each start is enough.
func (r *Records) sweep(ctx context.Context) error {
	for shard := range 256 {
		names, err := r.files.list(shard)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := r.sweepFile(name); err != nil {
				return err
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.swept = true
	return nil
}

func (r *Records) sweepFile(name string) error {
	k, ok := keyOfName(name)
	if !ok {
		return nil // not ours
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, busy := r.flying[k]; busy {
		return nil
	}
	m, err := r.get(k)
	if err != nil || m != nil && m.stored {
		return err
	}
	return gone(r.o.FS.Remove(r.files.path(name)))
}

// retireAtOnce bounds what one step of retire holds, and for how long others
// wait for it.
const retireAtOnce = 64

// retire deletes what is past its time.
func (r *Records) retire(ctx context.Context) error {
	for {
		n, err := r.retireSome()
		if err != nil || n == 0 {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

func (r *Records) retireSome() (n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []*Media
	if err := r.each(func(m *Media) bool {
		if _, busy := r.flying[m.key]; !busy && r.past(m) {
			list = append(list, m)
		}
		return len(list) < retireAtOnce
	}); err != nil {
		return 0, err
	}
	return len(list), r.forget(list...)
}

// past says whether a file is past its time, or a reserved id is.
func (r *Records) past(m *Media) bool {
	now := r.o.Now()
	unused := func(d time.Duration) bool { return d > 0 && now.Sub(m.Access) > d }
	switch {
	case !m.stored:
		return !m.expires.After(now)
	case m.Kind == Remote, m.Kind == Thumb:
		return unused(r.o.RemoteUnused)
	case m.Kind == Preview:
		return unused(previewUnused)
	}
	return unused(r.o.LocalUnused) || r.o.LocalAge > 0 && now.Sub(m.Created) > r.o.LocalAge
}

// forget deletes the rows, then the files: a power cut between them leaves
// files to sweep. It needs mu.
func (r *Records) forget(list ...*Media) error {
	if len(list) == 0 {
		return nil
	}
	b, t := r.st.NewBatch(), tally{}
	b.Frees()
	for _, m := range list {
		d := usage{reserved: -1}
		if m.stored {
			d = usage{bytes: -m.Size, files: -1}
		}
		b.Delete(m.key.row())
		if m.Owner != 0 {
			b.Delete(m.key.owned(m.Owner))
		}
		t.add(m, d)
	}
	if err := r.settle(b, t); err != nil {
		b.Drop()
		return err
	}
	if err := r.st.Commit(b); err != nil {
		return err
	}
	var err error
	for _, m := range list {
		delete(r.touched, m.key)
		if m.stored {
			err = errors.Join(err, r.files.remove(m.key.name()))
		}
	}
	return err
}
