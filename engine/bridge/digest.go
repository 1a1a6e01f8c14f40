package bridge

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
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
//
// That mark moves when the events are on disk. Before they are sent it is written
// what is about to be told: after a power cut in between the same is sent again,
// in the same transactions, and the rooms know those.

// toll says how far a mapping's samples were told; times in milliseconds.
type toll struct {
	told  int64     // until when
	next  int64     // until when they are about to be told; told where nothing is under way
	retry time.Time // when it is tried again that failed
}

// A hub that was away, or whose rooms would not have a digest, tells what it has
// missed in one, no further back than this.
const digestBack = 6 * time.Hour

// digestRetry is how long a digest that failed waits.
const digestRetry = time.Minute

func tollKey(filter string) []byte { return append(store.Digest.Prefix(), filter...) }

func (b *Bridge) loadTolls() error {
	return b.p.Store.ScanPrefix(store.Digest.Prefix(), func(key, val []byte) (bool, error) {
		if len(val) != 8 && len(val) != 16 {
			return true, nil
		}
		t := toll{told: int64(binary.BigEndian.Uint64(val))}
		if t.next = t.told; len(val) == 16 {
			t.next = int64(binary.BigEndian.Uint64(val[8:]))
		}
		b.tolls[string(key[1:])] = t
		return true, nil
	})
}

// setToll writes how far a mapping is. It is synced with the event that follows, or
// the one that goes before is sent again.
func (b *Bridge) setToll(filter string, t toll) error {
	b.tolls[filter] = t
	batch := b.p.Store.NewBatch()
	batch.Set(tollKey(filter), store.U64(store.U64(nil, uint64(t.told)), uint64(t.next)))
	return b.p.Store.Apply(batch)
}

// digestDue tells the intervals that are over.
func (b *Bridge) digestDue(now time.Time) error {
	for _, m := range b.table.Load().inbound {
		if m.Mode != Telemetry || m.Room == "" {
			continue
		}
		step := m.interval.Milliseconds()
		t, known := b.tolls[m.filter]
		if t.next == t.told {
			t.next = now.UnixMilli() / step * step
		}
		if known && (t.next <= t.told || now.Before(t.retry)) {
			continue
		}
		if known {
			if err := b.setToll(m.filter, t); err != nil {
				return err
			}
			sent, err := b.digest(m, max(t.told, t.next-max(step, digestBack.Milliseconds())), t.next)
			if err != nil {
				b.tellOnce("the digest of " + m.Topic + " is not told: " + plain(err))
			}
			if err != nil && (sent == 0 || !lasting(err)) {
				t.retry = now.Add(digestRetry)
				if lasting(err) { // the next one tells what this would have
					t.next = t.told
				}
				b.tolls[m.filter] = t
				continue
			}
		}
		if err := b.setToll(m.filter, toll{told: t.next, next: t.next}); err != nil {
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
// would be too long. A room that will have none does not keep others from theirs:
// sent says how many there were.
func (b *Bridge) digest(m *Mapping, from, until int64) (sent int, refused error) {
	parts := map[room.Num]*part{}
	send := func(num room.Num, p *part) error {
		err := b.sendDigest(m, num, p, from, until)
		if err == nil {
			sent++
		}
		if lasting(err) {
			refused, err = err, nil
		}
		return err
	}
	t := b.table.Load()
	for _, name := range b.p.Telemetry.Topics(m.filter) {
		if t.find(name) != m {
			continue
		}
		list, err := b.p.Telemetry.Range(name, "*", millis(from), millis(until), millis(until-from))
		if err != nil {
			return sent, err
		}
		if len(list) == 0 {
			continue
		}
		num, err := b.roomOf(m, name, true)
		if lasting(err) {
			refused = err
			continue
		}
		if err != nil {
			return sent, err
		}
		p := parts[num]
		if p == nil {
			p = &part{}
			parts[num] = p
		}
		p.add(name, list)
		if len(p.topics)+p.body.Len() > maxContent*3/4 {
			if err := send(num, p); err != nil {
				return sent, err
			}
		}
	}
	for num, p := range parts {
		if len(p.topics) == 0 {
			continue
		}
		if err := send(num, p); err != nil {
			return sent, err
		}
	}
	return sent, refused
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

// digestDevice stands for the hub in transactions: no device has its number.
const digestDevice = 1 << 63

// digestTxn names one event of a digest. Which topics go into it is the same at
// another try, for samples of the past do not change.
func digestTxn(m *Mapping, until int64, part int) room.Txn {
	sum := sha256.Sum256([]byte(m.filter))
	return room.Txn{Device: digestDevice, ID: "digest/" + hex.EncodeToString(sum[:8]) + "/" + strconv.FormatInt(until, 10) + "/" + strconv.Itoa(part)}
}

// sendDigest sends what a part holds, and empties it.
func (b *Bridge) sendDigest(m *Mapping, num room.Num, p *part, from, until int64) error {
	part := p.n
	p.n++
	defer func() {
		p.topics = p.topics[:0]
		p.body.Reset()
	}()
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
	_, err = b.p.Deeds.Send(num, &room.Draft{Type: m.Type, Sender: user, Content: dst, Txn: digestTxn(m, until, part)})
	return err
}
