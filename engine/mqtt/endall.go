package mqtt

import "strings"

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
