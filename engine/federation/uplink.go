package federation

import (
	"errors"
	"math/rand/v2"
	"time"

	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/outbox"
)

// A hub that is cut off for a day waits for each server as long as for one that is
// gone, and its own link comes back without a word. So it keeps when it last had to
// do with anybody at all. Who has only failed since then may have failed for the
// hub's sake: one of those is tried every few seconds, and when anybody is heard
// of again, all of them. Such a try that fails leaves no trace on the disk: a hub
// may be without its link for weeks. A server that is gone while others are there
// is tried once more than its times tell, and waits like any other.

// probeEvery is how often somebody is tried while nobody is reached: what waits
// for the hub's own link goes on that soon after it is back.
const probeEvery = 4 * time.Second

// uplink is what is known of the hub's own link; guarded by sender.mu.
type uplink struct {
	contact time.Time   // when anybody was last reached, or reached us; zero: not since the start
	suspect bool        // somebody has only failed since
	probe   *time.Timer // nil where nobody is suspect
	closed  bool
}

// reached says whether an error came from the other server rather than from the way
// to it.
func reached(err error) bool {
	var r *Refusal
	return err == nil || errors.As(err, &r) || !fault.Is(err, fault.Remote)
}

// heard notes that somebody was reached, or has reached us. Those who failed only
// since the time before are tried again.
func (s *sender) heard() {
	now := s.o.Now()
	s.mu.Lock()
	before, suspect := s.uplink.contact, s.uplink.suspect
	s.uplink.contact, s.uplink.suspect = now, false
	s.mu.Unlock()
	if !suspect {
		return
	}
	s.suspects(before, func(list []mxid.Server) {
		for _, server := range list {
			s.try(server)
		}
	})
}

// missed notes that a server was not reached.
func (s *sender) missed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uplink.suspect = true
	s.arm()
}

// arm needs mu.
func (s *sender) arm() {
	if u := &s.uplink; u.probe == nil && !u.closed {
		s.ended.Add(1)
		u.probe = time.AfterFunc(probeEvery, func() {
			defer s.ended.Done()
			s.probe()
		})
	}
}

// probe tries one of those who failed only since somebody was last reached.
func (s *sender) probe() {
	s.mu.Lock()
	s.uplink.probe = nil
	since, suspect := s.uplink.contact, s.uplink.suspect && !s.uplink.closed
	s.mu.Unlock()
	if !suspect {
		return
	}
	s.suspects(since, func(list []mxid.Server) {
		if len(list) == 0 {
			return
		}
		s.try(list[rand.IntN(len(list))])
		s.mu.Lock()
		s.arm()
		s.mu.Unlock()
	})
}

// suspects gives f those who were not reached, all the times since a time.
func (s *sender) suspects(after time.Time, f func(list []mxid.Server)) {
	var list []mxid.Server
	err := s.box.Each(func(st *outbox.State) bool {
		server := mxid.Server(st.Dest)
		s.mu.Lock()
		silent := s.failing[server].silent
		s.mu.Unlock()
		if silent && st.Failures > 0 && !st.Since.Before(after.Truncate(time.Millisecond)) {
			list = append(list, server)
		}
		return true
	})
	if err != nil {
		s.o.Log("federation: who waits is tried at its time: %v", err)
	}
	f(list)
}

func (s *sender) try(server mxid.Server) {
	if err := s.box.Try(string(server)); err != nil {
		s.o.Log("federation: %s is tried at its time: %v", server, err)
	}
}

// closeUplink ends the probes.
func (s *sender) closeUplink() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uplink.closed = true
	if s.uplink.probe != nil && s.uplink.probe.Stop() {
		s.ended.Done()
	}
}
