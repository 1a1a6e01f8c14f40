package identity

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"time"

	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
)

// notice is the row of what a server is to be told.
type notice struct {
	Server mxid.Server `json:"server"`
	Body   []byte      `json:"body"` // sealed: it names the address
	Made   int64       `json:"made"`
	Due    int64       `json:"due"`
	Fails  int         `json:"fails"`
}

// maxNotices bounds what waits for servers that may be there no more: whoever has
// proved an address can say that it belongs to anybody.
const maxNotices = 10_000

const (
	firstWait  = time.Minute
	longWait   = 6 * time.Hour
	noticeLife = 14 * 24 * time.Hour
	sendTime   = 30 * time.Second
)

func noticeKey(num uint64) []byte { return store.U64(store.IdentityNotice.Prefix(), num) }

func numberOf(key []byte) uint64 { return binary.BigEndian.Uint64(key[1:]) }

// notify adds a notice to a batch, signed by the service's key; needs mu.
func (s *Records) notify(b *store.Batch, to mxid.Server, body []byte) error {
	signed, err := event.SignJSON(nil, body, &s.signer)
	if err != nil {
		return fault.E(fault.Internal, "identity.Bind", "%w", err)
	}
	s.untold.Add(1) // counted anew by step
	num := s.next
	s.next++
	now := s.millis()
	return put(b, noticeKey(num), &notice{Server: to, Body: s.seal(signed), Made: now, Due: now})
}

// nudge wakes Run.
func (s *Records) nudge() {
	select {
	case s.wake <- struct{}{}:
	default: // it is awake
	}
}

// Send tells a server of a binding, by PUT /_matrix/federation/v1/3pid/onbind.
// An error of kind Invalid or Forbidden is not tried again.
type Send func(ctx context.Context, server mxid.Server, body []byte) error

// Run brings what is to be told to the servers, until stop is closed.
func (s *Records) Run(stop <-chan struct{}, send Send) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	for swept := s.o.Now(); ; {
		if now := s.o.Now(); now.Sub(swept) >= longWait {
			swept = now
			if err := s.sweep(); err != nil {
				s.o.Log("identity: what has expired stays: %v", err)
			}
		}
		wait, err := s.step(ctx, send)
		if err != nil {
			s.o.Log("identity: servers are told of bindings later: %v", err)
		}
		t := time.NewTimer(wait)
		select {
		case <-stop:
			t.Stop()
			return
		case <-s.wake:
		case <-t.C:
		}
		t.Stop()
	}
}

// step sends all that is due, and says when there is more to do.
func (s *Records) step(ctx context.Context, send Send) (wait time.Duration, err error) {
	now := s.millis()
	wait = longWait
	var due []uint64
	n := int64(0)
	err = s.st.ScanPrefix(store.IdentityNotice.Prefix(), func(key, val []byte) (bool, error) {
		var one notice
		if err := json.Unmarshal(val, &one); err != nil {
			return false, fault.E(fault.Corrupt, "identity.Run", "a notice cannot be read: %w", err)
		}
		n++
		if one.Due <= now {
			due = append(due, numberOf(key))
		} else {
			wait = min(wait, time.Duration(one.Due-now)*time.Millisecond)
		}
		return true, nil
	})
	if err != nil {
		return firstWait, err
	}
	s.untold.Store(n)
	for _, num := range due {
		if ctx.Err() != nil {
			return 0, nil
		}
		again, err := s.tellOne(ctx, num, send)
		if err != nil {
			return firstWait, err
		}
		if again > 0 {
			wait = min(wait, again)
		}
	}
	return wait, nil
}

// tellOne sends one notice; again says when it is tried again, 0: never.
func (s *Records) tellOne(ctx context.Context, num uint64, send Send) (again time.Duration, err error) {
	var n notice
	ok, err := s.row(noticeKey(num), &n)
	if err != nil || !ok {
		return 0, err
	}
	body, err := s.unseal(n.Body)
	if err != nil {
		return 0, err
	}
	limited, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	serr := send(limited, n.Server, body)
	if ctx.Err() != nil && serr != nil {
		return 0, nil // the service stops; the row is still there
	}
	b := s.st.NewBatch()
	now := s.o.Now()
	if serr == nil || fault.Is(serr, fault.Invalid) || fault.Is(serr, fault.Forbidden) || now.UnixMilli()-n.Made > noticeLife.Milliseconds() {
		b.Frees()
		b.Delete(noticeKey(num))
		return 0, s.st.Commit(b)
	}
	again = min(firstWait<<min(n.Fails, 16), longWait)
	n.Fails++
	n.Due = now.Add(again).UnixMilli()
	if err := put(b, noticeKey(num), &n); err != nil {
		b.Drop()
		return 0, err
	}
	return again, s.st.Apply(b)
}
