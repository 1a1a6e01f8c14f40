package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"
)

// farewell is how long a request under way may still take once the caller has asked to stop: an event that has been
// sent is better known to have arrived than left in doubt.
const farewell = 3 * time.Second

// away wraps an error of the road to the server: the request may or may not have arrived.
type away struct{ err error }

// Error leaves out method and URL, which net/http repeats and which may carry more than the user wants to see.
func (a *away) Error() string {
	var u *url.Error
	if errors.As(a.err, &u) {
		return u.Err.Error()
	}
	return a.err.Error()
}

// Unwrap gives the cause.
func (a *away) Unwrap() error { return a.err }

// passing reports whether the same request may well succeed later, and the pause the server asks for.
func passing(err error) (time.Duration, bool) {
	var lost *away
	if errors.As(err, &lost) {
		return 0, true
	}
	var e *Error
	if !errors.As(err, &e) {
		return 0, false
	}
	switch {
	case e.Status == http.StatusTooManyRequests, e.Status == http.StatusRequestTimeout:
		return e.After, true
	case e.Status >= 500 && e.Status != http.StatusNotImplemented && e.Status != http.StatusHTTPVersionNotSupported:
		return e.After, true
	}
	return 0, false
}

// persist makes the request until it succeeds or is refused for good. When ctx ends it returns ctx's cause.
func (c *Client) persist(ctx context.Context, r call, out any) error {
	pause, told := c.first, false
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := c.attempt(ctx, r, out)
		if err == nil {
			if told {
				c.notice("the server answers again")
			}
			return nil
		}
		asked, again := passing(err)
		if !again {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !told {
			c.notice(c.base + ": " + err.Error() + "; trying again")
			told = true
		}
		// Spread over half the pause, so that a thousand things do not come back in the same moment.
		if err := rest(ctx, max(asked, pause/2+rand.N(pause/2+1))); err != nil {
			return err
		}
		pause = min(2*pause, c.most)
	}
}

// attempt makes one try. With r.through what is under way when ctx ends is given the farewell to come to its end.
func (c *Client) attempt(ctx context.Context, r call, out any) error {
	if !r.through {
		return c.once(ctx, r, out)
	}
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(farewell, cancel) })()
	return c.once(inner, r, out)
}

// rest waits, or returns ctx's cause when it ends first.
func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
