package pushapi

import (
	"net/netip"
	"sync"
	"time"

	"hearth/engine/fault"
)

// Anybody may ask the gateway to tell a device, and says where that is. Who names
// many that are none would have the gateway send requests to web servers that want
// none, so that devices that were not told are counted by who asked. The hub's own
// pushers do not come this way.
type misses struct {
	mu   sync.Mutex
	all  map[netip.Prefix]int
	hour int64 // which one the counts are of
}

const (
	maxMisses = 500 // in an hour
	maxAskers = 4096
)

// network is who counts as one: of long addresses a network of them.
func network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // of no address the zero one
	return p
}

// admit refuses who has missed too often. Error: Limit.
func (m *misses) admit(who netip.Prefix, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if hour := now.Unix() / 3600; hour == m.hour && m.all[who] >= maxMisses {
		return fault.Wait("pushapi.notify", time.Unix((hour+1)*3600, 0).Sub(now))
	}
	return nil
}

func (m *misses) add(who netip.Prefix, n int, now time.Time) {
	if n == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if hour := now.Unix() / 3600; hour != m.hour || m.all == nil || len(m.all) >= maxAskers {
		m.all, m.hour = map[netip.Prefix]int{}, hour
	}
	m.all[who] += n
}
