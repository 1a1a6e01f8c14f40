package store

import "encoding/binary"

// A numbering that must never go back begins after its last row, and after its
// floor: after a loss the rows of the last numbers may be gone.

// Floors of the numberings that the store's tables count.
const (
	FloorPos   = "floor/pos"   // log positions
	FloorEvent = "floor/event" // event numbers
	floorName  = "floor/name/" // interned names; the space follows
)

// Floor reads the floor of a numbering; 0 where nothing was ever lost.
func (s *Store) Floor(name string) (uint64, error) {
	val, ok, err := s.Meta(name)
	if err != nil || !ok {
		return 0, err
	}
	n, _ := binary.Uvarint(val)
	return n, nil
}

// Lost says whether the store was ever recovered with a loss.
func (s *Store) Lost() (bool, error) {
	n, err := s.Floor(FloorPos)
	return n > 0, err
}

// raise puts floors into a batch that lie far above every number that the
// tables name, wherever they name it.
func (s *Store) raise(b *Batch) error {
	pos, err := s.Floor(FloorPos)
	if err != nil {
		return err
	}
	event, err := s.Floor(FloorEvent)
	if err != nil {
		return err
	}
	for _, t := range [...]struct {
		table Table
		n     *uint64
	}{{Log, &pos}, {StateBody, &event}, {OtherBody, &event}} {
		key, err := s.Last(t.table.Prefix(), After(t.table.Prefix()))
		if err != nil {
			return err
		}
		if len(key) == 9 {
			*t.n = max(*t.n, binary.BigEndian.Uint64(key[1:]))
		}
	}
	if err := s.ScanPrefix(Timeline.Prefix(), func(key, val []byte) (bool, error) {
		if len(key) == 15 {
			pos = max(pos, binary.BigEndian.Uint64(key[5:]))
		}
		num, _ := binary.Uvarint(val)
		event = max(event, num)
		return true, nil
	}); err != nil {
		return err
	}
	b.SetMeta(FloorPos, binary.AppendUvarint(nil, pos+jump))
	b.SetMeta(FloorEvent, binary.AppendUvarint(nil, event+jump))
	return s.raiseNames(b)
}

func (s *Store) raiseNames(b *Batch) error {
	for _, id := range [...]Space{Users, Rooms, StateKeys, Servers} {
		name := floorName + string(id)
		last, err := s.Floor(name)
		if err != nil {
			return err
		}
		prefix := append(NumberName.Prefix(), byte(id))
		key, err := s.Last(prefix, After(prefix))
		if err != nil {
			return err
		}
		if len(key) == 6 {
			last = max(last, uint64(binary.BigEndian.Uint32(key[2:])))
		}
		if err := s.ScanPrefix(append(NameNumber.Prefix(), byte(id)), func(_, val []byte) (bool, error) {
			num, _ := binary.Uvarint(val)
			last = max(last, num)
			return true, nil
		}); err != nil {
			return err
		}
		b.SetMeta(name, binary.AppendUvarint(nil, min(last+jump, 1<<32-1-jump)))
	}
	return nil
}
