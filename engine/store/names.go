package store

import (
	"encoding/binary"
	"sync"

	"hearth/engine/fault"
)

// Space is a set of names that share one numbering.
type Space byte

// The spaces of interned names.
const (
	Users     Space = 'u' // user ids
	Rooms     Space = 'r' // room ids
	StateKeys Space = 'k' // event type, NUL, state key
	Servers   Space = 's' // server names
	numSpaces       = 4
)

// namesCached bounds the names kept in memory for each space and direction.
const namesCached = 4096

// Names interns long names as small numbers, once and for ever. Numbers begin
// at 1; 0 is no name. A number is on disk before anything that uses it, since
// both go through the same log and the log keeps its order.
type Names struct {
	s  *Store
	mu sync.Mutex
	sp [numSpaces]space
}

type space struct {
	id   Space
	last uint32
	num  map[string]uint32
	name map[uint32]string
}

// OpenNames reads where the numberings stand.
func OpenNames(s *Store) (*Names, error) {
	n := &Names{s: s}
	for i, id := range [...]Space{Users, Rooms, StateKeys, Servers} {
		sp := &n.sp[i]
		*sp = space{id: id, num: map[string]uint32{}, name: map[uint32]string{}}
		prefix := append(NumberName.Prefix(), byte(id))
		key, err := s.Last(prefix, After(prefix))
		if err != nil {
			return nil, err
		}
		if len(key) == 6 {
			sp.last = binary.BigEndian.Uint32(key[2:])
		}
		floor, err := s.Floor(floorName + string(id))
		if err != nil {
			return nil, err
		}
		sp.last = max(sp.last, uint32(floor))
	}
	return n, nil
}

func (n *Names) space(id Space) *space {
	for i := range n.sp {
		if n.sp[i].id == id {
			return &n.sp[i]
		}
	}
	panic("store: unknown name space")
}

// Find gives the number of a name, 0 where it has none.
func (n *Names) Find(id Space, name string) (uint32, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.find(n.space(id), name)
}

func (n *Names) find(sp *space, name string) (uint32, error) {
	if num, ok := sp.num[name]; ok {
		return num, nil
	}
	var buf [272]byte
	key := append(append(NameNumber.Key(buf[:0]), byte(sp.id)), name...)
	var vbuf [8]byte
	val, ok, err := n.s.Get(vbuf[:0], key)
	if err != nil || !ok {
		return 0, err
	}
	num, _ := binary.Uvarint(val)
	sp.remember(name, uint32(num))
	return uint32(num), nil
}

// Number gives the number of a name, and gives it one if it has none.
func (n *Names) Number(id Space, name string) (uint32, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	sp := n.space(id)
	num, err := n.find(sp, name)
	if num != 0 || err != nil {
		return num, err
	}
	num = sp.last + 1
	b := n.s.NewBatch()
	b.Set(append(append(NameNumber.Prefix(), byte(id)), name...), binary.AppendUvarint(nil, uint64(num)))
	b.Set(U32(append(NumberName.Prefix(), byte(id)), num), []byte(name))
	if err := n.s.Apply(b); err != nil {
		return 0, err
	}
	sp.last = num
	sp.remember(name, num)
	return num, nil
}

// Name gives the name of a number.
func (n *Names) Name(id Space, num uint32) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	sp := n.space(id)
	if name, ok := sp.name[num]; ok {
		return name, nil
	}
	var buf [8]byte
	val, ok, err := n.s.Get(nil, U32(append(NumberName.Key(buf[:0]), byte(id)), num))
	if err != nil {
		return "", err
	}
	if !ok {
		return "", fault.E(fault.Corrupt, "store.Name", "name %c %d is missing", id, num)
	}
	sp.remember(string(val), num)
	return string(val), nil
}

// Count is how many names a space has.
func (n *Names) Count(id Space) uint32 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.space(id).last
}

// remember keeps a pair; a full cache is emptied by half at random, which
// needs no bookkeeping on the way of each event.
func (sp *space) remember(name string, num uint32) {
	if len(sp.num) >= namesCached {
		drop := namesCached / 2
		for k, v := range sp.num {
			if drop--; drop < 0 {
				break
			}
			delete(sp.num, k)
			delete(sp.name, v)
		}
	}
	sp.num[name], sp.name[num] = num, name
}
