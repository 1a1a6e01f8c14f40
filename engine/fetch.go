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
	now map[string]*fetching // by mxc address
}

type fetching struct {
	done chan struct{}
	err  error
}

// FetchMedia brings a copy of another server's file into the media. Who asks for one
// that is under way waits for it; the fetch goes on when those who wait give up, so
// that they find the file when they ask again. Spec: server-server, content repository.
func (e *Engine) FetchMedia(ctx context.Context, origin mxid.Server, id string, follow federation.Follow) error {
	const op = "engine.FetchMedia"
	if !e.Federation.Reaches(origin) {
		return fault.E(fault.NotFound, op, "there is no way to %s", origin)
	}
	name := string(origin) + "/" + id
	f := &e.fetches
	f.mu.Lock()
	one := f.now[name]
	if one == nil {
		if len(f.now) >= maxFetches {
			f.mu.Unlock()
			return fault.E(fault.Busy, op, "too many files of other servers are being fetched")
		}
		if f.now == nil {
			f.now = map[string]*fetching{}
		}
		one = &fetching{done: make(chan struct{})}
		f.now[name] = one
		e.running.Go(func() {
			ctx, cancel := e.untilStop()
			defer cancel()
			one.err = e.fetch(ctx, origin, id, follow)
			f.mu.Lock()
			delete(f.now, name)
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

func (e *Engine) fetch(ctx context.Context, origin mxid.Server, id string, follow federation.Follow) error {
	file, err := e.Federation.OpenFile(ctx, origin, id, follow)
	if err != nil {
		return err
	}
	if file.Size > e.Media.MaxUpload() {
		_ = file.Body.Close() // it is not read
		return fault.E(fault.TooLarge, "engine.FetchMedia", "the file is larger than this hub takes")
	}
	_, err = e.Media.Upload(&media.Upload{Origin: origin, ID: id, Kind: media.Remote, Type: file.Type, Name: file.Name, Length: file.Size}, file.Body)
	if cerr := file.Body.Close(); err == nil && file.Size >= 0 {
		err = cerr
	}
	if fault.Is(err, fault.CannotOverwrite) {
		return nil // it came by another way
	}
	return err
}
