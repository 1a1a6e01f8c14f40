package mqtt

import (
	"slices"
	"strings"
)

// Connected tells which of some identities have a client that is connected. The
// names are sorted.
func (b *Broker) Connected(names []string) (here []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, s := range b.sessions {
		name, _, _ := strings.Cut(key, "\x00")
		if _, asked := slices.BinarySearch(names, name); !asked || slices.Contains(here, name) {
			continue
		}
		s.mu.Lock()
		if s.link != nil {
			here = append(here, name)
		}
		s.mu.Unlock()
	}
	return here
}
