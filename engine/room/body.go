package room

import (
	_ "embed"
	"encoding/binary"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"

	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
)

// dictionary is text that events share, most common last. It is part of the
// store's format: a changed one needs a number of its own beside this one.
//
//go:embed dictionary.txt
var dictionary []byte

const dictionaryID = 1

// codec compresses event bodies, each on its own, against the dictionary: an
// event is too short to compress by itself, and one that depends on its
// neighbours could not be redacted alone.
type codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

// bodyLimit bounds what a body may decompress to; an event is at most 64 KiB.
const bodyLimit = 1 << 17

func newCodec() (*codec, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(64<<10),
		zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderDictRaw(dictionaryID, dictionary))
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(bodyLimit),
		zstd.WithDecoderDictRaw(dictionaryID, dictionary))
	if err != nil {
		return nil, err
	}
	return &codec{enc, dec}, nil
}

func (c *codec) pack(dst, json []byte) []byte { return c.enc.EncodeAll(json, dst) }

func (c *codec) unpack(packed []byte) ([]byte, error) {
	json, err := c.dec.DecodeAll(packed, nil)
	if err != nil {
		return nil, fault.E(fault.Corrupt, "room", "an event body cannot be unpacked: %w", err)
	}
	return json, nil
}

// Event reads an event by its number.
func (r *Rooms) Event(num EventNum) (*Event, error) {
	if e := r.cache.get(num); e != nil {
		return e, nil
	}
	epoch := r.cache.epoch.Load()
	var kbuf [9]byte
	var vbuf [1024]byte
	for _, state := range [...]bool{false, true} {
		val, ok, err := r.st.Get(vbuf[:0], bodyKey(kbuf[:0], state, num))
		if err != nil {
			return nil, err
		}
		if ok {
			return r.decode(num, val, epoch)
		}
	}
	return nil, fault.E(fault.NotFound, "room.Event", "event %d is gone", num)
}

// Lookup finds an event by its id; NotFound where the hub does not have it.
func (r *Rooms) Lookup(id mxid.EventID) (*Event, error) {
	num, err := r.number(id)
	if err != nil {
		return nil, err
	}
	if num == 0 {
		return nil, fault.E(fault.NotFound, "room.Lookup", "event not found")
	}
	return r.Event(num)
}

// number finds an event's number by its id; 0 where it has none.
func (r *Rooms) number(id mxid.EventID) (EventNum, error) {
	if len(id) == 0 || len(id) > 255 {
		return 0, nil
	}
	var kbuf [264]byte
	var vbuf [10]byte
	val, ok, err := r.st.Get(vbuf[:0], eventNumberKey(kbuf[:0], id))
	if err != nil || !ok {
		return 0, err
	}
	num, _ := binary.Uvarint(val)
	return EventNum(num), nil
}

// decode parses a body row and remembers the event, if none was dropped since
// the epoch the row was read in.
func (r *Rooms) decode(num EventNum, row []byte, epoch uint64) (*Event, error) {
	e := &Event{Num: num, links: newLinks(linksUnknown)}
	d, err := e.parseHeader(row)
	if err != nil {
		return nil, err
	}
	if r.purges.of(e.In) != nil {
		return nil, fault.E(fault.NotFound, "room.Event", "event %d is gone", num)
	}
	if err := r.unpack(e, d); err != nil {
		return nil, err
	}
	if err := r.present(e); err != nil {
		return nil, err
	}
	r.cache.put(e, epoch)
	return e, nil
}

// unpack reads what comes behind an event's header.
func (r *Rooms) unpack(e *Event, d decoder) error {
	v, err := r.versionOf(e.In)
	if err != nil {
		return err
	}
	id := d.id(v)
	if err := d.err("event row"); err != nil {
		return err
	}
	json, err := r.codec.unpack(d.src)
	if err != nil {
		return err
	}
	if e.Event, err = event.ParseAs(v, json, id); err != nil {
		return fault.E(fault.Corrupt, "room", "event %d cannot be read: %w", e.Num, err)
	}
	return nil
}

// versionOf gives a room's version without loading the room.
func (r *Rooms) versionOf(num Num) (*event.Version, error) {
	r.mu.Lock()
	l := r.live[num]
	r.mu.Unlock()
	if l != nil {
		return l.v, nil
	}
	var kbuf [5]byte
	var vbuf [256]byte
	val, ok, err := r.st.Get(vbuf[:0], roomKey(kbuf[:0], num))
	if err != nil {
		return nil, err
	}
	if !ok || len(val) < 2 || len(val) < 2+int(val[1]) {
		return nil, fault.E(fault.Corrupt, "room", "room %d of an event is missing", num)
	}
	v := event.LookupVersion(string(val[2 : 2+int(val[1])]))
	if v == nil {
		return nil, fault.E(fault.Corrupt, "room", "a room of unknown version")
	}
	return v, nil
}

// eventCache keeps parsed events up to a number of bytes. It has two
// generations: what was asked for since the last turn survives the next one.
type eventCache struct {
	epoch    atomic.Uint64 // counts drops, so that a row read before one is not kept after it
	mu       sync.Mutex
	young    map[EventNum]*Event
	old      map[EventNum]*Event
	bytes    int // of the young
	capacity int
}

// eventOverhead is about what a parsed event costs beside its JSON.
const eventOverhead = 600

func newEventCache(bytes int) *eventCache {
	return &eventCache{young: map[EventNum]*Event{}, capacity: bytes / 2}
}

func (c *eventCache) get(num EventNum) *Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.young[num]; e != nil {
		return e
	}
	e := c.old[num]
	if e != nil {
		c.add(e)
	}
	return e
}

func (c *eventCache) put(e *Event, epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epoch.Load() == epoch {
		c.add(e)
	}
}

// drop forgets an event whose row changes.
func (c *eventCache) drop(num EventNum) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch.Add(1)
	delete(c.young, num)
	delete(c.old, num)
}

// clear forgets all events.
func (c *eventCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch.Add(1)
	c.young, c.old, c.bytes = map[EventNum]*Event{}, nil, 0
}

func (c *eventCache) add(e *Event) {
	size := len(e.JSON) + eventOverhead
	if c.bytes+size > c.capacity {
		c.old, c.young, c.bytes = c.young, map[EventNum]*Event{}, 0
	}
	c.young[e.Num] = e
	c.bytes += size
}
