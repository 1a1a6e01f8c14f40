package mqtt

import (
	"slices"
	"strings"

	"hearth/engine/fault"
)

// EndAll ends all sessions of an identity, as End does.
func (b *Broker) EndAll(name string, r Reason, text string) {
	b.mu.Lock()
	var list []*session
	for key, s := range b.sessions {
		if strings.HasPrefix(key, name+"\x00") {
			list = append(list, s)
		}
	}
	b.mu.Unlock()
	for _, s := range list {
		b.mu.Lock()
		if b.sessions[s.key] != s {
			b.mu.Unlock()
			continue // ended meanwhile
		}
		b.end(s, r, text) // lets go of b.mu
	}
}

// alive asks whether an identity may be there.
func (b *Broker) alive(id Identity) error {
	if b.o.Alive == nil {
		return nil
	}
	return b.o.Alive(id)
}

// Review asks anew whether the clients of some identities may be there, of all where
// none is named, and sends away who may not. It returns before that is done.
func (b *Broker) Review(names ...string) {
	if b.o.Alive == nil {
		return
	}
	b.do(func() {
		var list []*session
		b.mu.Lock()
		for key, s := range b.sessions {
			name, _, _ := strings.Cut(key, "\x00")
			if len(names) == 0 || slices.Contains(names, name) {
				list = append(list, s)
			}
		}
		b.mu.Unlock()
		for _, s := range list {
			s.mu.Lock()
			id := s.id
			s.mu.Unlock()
			if err := b.alive(id); err != nil {
				b.expel(s, id, err)
			}
		}
	})
}

// expel sends a client away that must not be there any more. Its last will is not
// told: it would be told in the name of who has none here.
func (b *Broker) expel(s *session, id Identity, why error) {
	_, text := ReasonOf(why)
	b.mu.Lock()
	s.mu.Lock()
	if s.id != id || b.sessions[s.key] != s {
		s.mu.Unlock()
		b.mu.Unlock()
		return // it ended meanwhile, or is somebody's who may be there
	}
	s.will = nil
	link, waits := s.link, fault.Is(why, fault.Locked) || fault.Is(why, fault.Suspended)
	s.mu.Unlock()
	if !waits {
		b.end(s, NotAuthorised, text) // lets go of b.mu
		return
	}
	b.mu.Unlock()
	if link != nil {
		link.Close(NotAuthorised, text)
		b.detach(s, link, false)
	}
}
