package engine

import (
	"context"
	"sync"

	"hearth/engine/fault"
	"hearth/engine/federation"
	"hearth/engine/media"
	"hearth/engine/mxid"
)

// maxFetches is how many files of other servers are fetched at once.
const maxFetches = 16

// fetches are the files that are being fetched, so that each is fetched once.
type fetches struct {
	mu  sync.Mutex
	now map[federation.Wanted]*fetching
}

type fetching struct {
	done chan struct{}
	err  error
}

// FetchMedia brings a copy of another server's file into the media. Who asks for one
// that is under way waits for it; the fetch goes on when those who wait give up, so
// that they find the file when they ask again. Spec: server-server, content repository.
func (e *Engine) FetchMedia(ctx context.Context, origin mxid.Server, id string, follow federation.Follow) error {
	return e.fetchOnce(ctx, &federation.Wanted{Origin: origin, ID: id}, follow)
}

// FetchThumbnail is FetchMedia for a thumbnail that the other server makes: a hub
// on a thin line need not carry a whole picture to show a small one.
//
// Errors: those of FetchMedia, and Unknown where no thumbnail comes, or none of a
// size that is kept: then the file has to be fetched.
func (e *Engine) FetchThumbnail(ctx context.Context, origin mxid.Server, id string, want media.Want, follow federation.Follow) error {
	w, h, ok := want.Kept()
	if !ok {
		return fault.E(fault.Unknown, "engine.FetchThumbnail", "no thumbnail of that size is kept")
	}
	return e.fetchOnce(ctx, &federation.Wanted{Origin: origin, ID: id, Width: w, Height: h, Crop: want.Crop}, follow)
}

func (e *Engine) fetchOnce(ctx context.Context, w *federation.Wanted, follow federation.Follow) error {
	const op = "engine.FetchMedia"
	if !e.Federation.Reaches(w.Origin) {
		return fault.E(fault.NotFound, op, "there is no way to %s", w.Origin)
	}
	if blocked, err := e.Media.Blocked(w.Origin, w.ID); err != nil || blocked {
		if err == nil {
			err = fault.E(fault.NotFound, op, "there is no such file")
		}
		return err
	}
	f := &e.fetches
	f.mu.Lock()
	one := f.now[*w]
	if one == nil {
		if len(f.now) >= maxFetches {
			f.mu.Unlock()
			return fault.E(fault.Busy, op, "too many files of other servers are being fetched")
		}
		if f.now == nil {
			f.now = map[federation.Wanted]*fetching{}
		}
		one = &fetching{done: make(chan struct{})}
		f.now[*w] = one
		e.running.Go(func() {
			ctx, cancel := e.untilStop()
			defer cancel()
			one.err = e.fetch(ctx, w, follow)
			f.mu.Lock()
			delete(f.now, *w)
			f.mu.Unlock()
			close(one.done)
		})
	}
	f.mu.Unlock()
	select {
	case <-one.done:
		return one.err
	case <-ctx.Done():
		return fault.E(fault.NotYetUploaded, op, "the file is still on its way")
	}
}

func (e *Engine) fetch(ctx context.Context, w *federation.Wanted, follow federation.Follow) error {
	file, err := e.Federation.OpenFile(ctx, w, follow)
	if err != nil {
		return err
	}
	switch {
	case file.Size > e.Media.MaxUpload():
		_ = file.Body.Close() // it is not read
		return fault.E(fault.TooLarge, "engine.FetchMedia", "the file is larger than this hub takes")
	case w.Width > 0:
		err = e.Media.KeepThumbnail(w.Origin, w.ID, media.Want{Width: w.Width, Height: w.Height, Crop: w.Crop}, file.Body)
	default:
		_, err = e.Media.Upload(&media.Upload{Origin: w.Origin, ID: w.ID, Kind: media.Remote, Type: file.Type, Name: file.Name, Length: file.Size}, file.Body)
	}
	if cerr := file.Body.Close(); err == nil && file.Size >= 0 {
		err = cerr
	}
	if fault.Is(err, fault.CannotOverwrite) {
		return nil // it came by another way
	}
	return err
}
