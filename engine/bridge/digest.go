package bridge

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/room"
	"hearth/engine/store"
	"hearth/engine/telemetry"
)

// A digest tells people in one event what a mapping's sensors did in an interval.
// It is worked out from the samples when the interval is over, so that nothing
// has to be kept but until when it was told.

func tollKey(filter string) []byte { return append(store.Digest.Prefix(), filter...) }

func (b *Bridge) loadTolls() error {
	return b.p.Store.ScanPrefix(store.Digest.Prefix(), func(key, val []byte) (bool, error) {
		if len(val) == 8 {
			b.tolls[string(key[1:])] = int64(binary.BigEndian.Uint64(val))
		}
		return true, nil
	})
}

// digestDue tells the intervals that are over.
func (b *Bridge) digestDue(now time.Time) error {
	for _, m := range b.table.Load().inbound {
		if m.Mode != Telemetry || m.Room == "" {
			continue
		}
		step := m.interval.Milliseconds()
		until := now.UnixMilli() / step * step
		b.mu.Lock()
		from, known := b.tolls[m.filter]
		b.mu.Unlock()
		if known && until <= from {
			continue
		}
		if known { // a hub that was away tells the last interval only
			if err := b.digest(m, max(from, until-step), until); err != nil {
				b.tellOnce("the digest of " + m.Topic + " is not told: " + plain(err))
			}
		}
		b.mu.Lock()
		b.tolls[m.filter] = until
		b.mu.Unlock()
		batch := b.p.Store.NewBatch()
		batch.Set(tollKey(m.filter), store.U64(nil, uint64(until)))
		if err := b.p.Store.Apply(batch); err != nil {
			return err
		}
	}
	return nil
}

// part is one digest under way: that of one room.
type part struct {
	topics []byte // members of the object
	body   strings.Builder
	n      int // which it is of its room
}

// digest sends the events of one interval: one for each room, or more where one
// would be too long.
func (b *Bridge) digest(m *Mapping, from, until int64) error {
	parts := map[room.Num]*part{}
	t := b.table.Load()
	for _, name := range b.p.Telemetry.Topics(m.filter) {
		if t.find(name) != m {
			continue
		}
		list, err := b.p.Telemetry.Range(name, "*", millis(from), millis(until), millis(until-from))
		if err != nil {
			return err
		}
		if len(list) == 0 {
			continue
		}
		num, err := b.roomOf(m, name, true)
		if err != nil {
			return err
		}
		p := parts[num]
		if p == nil {
			p = &part{}
			parts[num] = p
		}
		p.add(name, list)
		if len(p.topics)+p.body.Len() > maxContent*3/4 {
			if err := b.sendDigest(m, num, p, from, until); err != nil {
				return err
			}
		}
	}
	for num, p := range parts {
		if len(p.topics) == 0 {
			continue
		}
		if err := b.sendDigest(m, num, p, from, until); err != nil {
			return err
		}
	}
	return nil
}

func millis(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }

// add tells what the fields of one topic were.
func (p *part) add(name string, list []telemetry.Series) {
	if len(p.topics) > 0 {
		p.topics = append(p.topics, ',')
	}
	p.topics = append(cjson.AppendString(p.topics, name), ':', '{')
	for i, s := range list {
		if i > 0 {
			p.topics = append(p.topics, ',')
		}
		field := s.Field
		if field == "" {
			field = "value"
		}
		v := s.Points[0]
		dst := append(cjson.AppendString(p.topics, field), `:{"min":`...)
		dst = appendNum(append(appendNum(dst, v.Min), `,"max":`...), v.Max)
		dst = appendNum(append(dst, `,"mean":`...), v.Mean)
		p.topics = append(strconv.AppendInt(append(dst, `,"count":`...), int64(v.Count), 10), '}')
		fmt.Fprintf(&p.body, "%s %s: %.6g to %.6g, mean %.6g\n", name, field, v.Min, v.Max, v.Mean)
	}
	p.topics = append(p.topics, '}')
}

// sendDigest sends what a part holds, and empties it.
func (b *Bridge) sendDigest(m *Mapping, num room.Num, p *part, from, until int64) error {
	user, err := b.asHub(m, num, m.Type, false)
	if err != nil {
		return err
	}
	dst := strconv.AppendInt([]byte(`{"from":`), from, 10)
	dst = strconv.AppendInt(append(dst, `,"until":`...), until, 10)
	if m.Type == typeMessage {
		dst = cjson.AppendString(append(dst, `,"msgtype":"m.notice","body":`...), strings.TrimSpace(p.body.String()))
	}
	dst = append(append(append(dst, `,"topics":{`...), p.topics...), '}', '}')
	p.topics, p.n = p.topics[:0], p.n+1
	p.body.Reset()
	_, err = b.p.Deeds.Send(num, &room.Draft{Type: m.Type, Sender: user, Content: dst})
	return err
}
