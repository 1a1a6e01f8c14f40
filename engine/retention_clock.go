package engine

import (
	"encoding/binary"
	"time"

	"hearth/engine/room"
	"hearth/engine/stream"
)

// What is too old is removed by the clock, and a hub's clock may be wrong by years,
// as other servers' may, who say besides what they like of their events' times. So
// it is known from day to day how far the log was, which no event can gainsay; and a
// clock that has leapt is believed when it has gone on from there for a day.
const (
	metaMarks = "retention_marks" // see marks
	metaDoubt = "retention_doubt" // since when the clock is doubted, and when that was looked at, both in milliseconds by that clock

	leapOff     = 72 * time.Hour // ahead of the last run: the hub was off for as long, or the clock has leapt
	leapDoubted = 48 * time.Hour // ahead of the last look, while the clock is doubted
	sureFrom    = 24 * time.Hour // after this a clock that is doubted is believed

	maxMarks = 1000
)

// sober is the time by which is judged what is too old: no later than the system
// says, since the events made here, which clock never falls behind, may be from when
// that was wrong.
func (e *Engine) sober() time.Time {
	now := e.clock.now()
	if t := e.clock.system(); t.Before(now) {
		return t
	}
	return now
}

// believes says whether the clock tells the time, as far as can be seen: it is where
// it may be since the last run, or it is not, and has gone on for a day since.
func (e *Engine) believes(now, last time.Time) (bool, error) {
	if d := now.Sub(last); d >= 0 && d <= leapOff {
		return true, nil
	}
	val, _, err := e.st.Meta(metaDoubt)
	if err != nil {
		return false, err
	}
	since, n := binary.Varint(val)
	seen, m := binary.Varint(val[max(n, 0):])
	if d := now.Sub(time.UnixMilli(seen)); n <= 0 || m <= 0 || d < 0 || d > leapDoubted {
		since = now.UnixMilli()
		e.say("the clock says %s, and said %s when old messages were last removed: none are removed until it has gone on for a day",
			now.UTC().Format(time.DateTime), last.UTC().Format(time.DateTime))
	}
	if now.Sub(time.UnixMilli(since)) >= sureFrom {
		return true, nil
	}
	b := e.st.NewBatch()
	b.Frees()
	b.SetMeta(metaDoubt, binary.AppendVarint(binary.AppendVarint(nil, since), now.UnixMilli()))
	return false, e.st.Commit(b)
}

// mark says that the log was at a position at a time.
type mark struct {
	time int64 // in milliseconds
	tip  stream.Pos
}

// marks are one for each day, the oldest first.
type marks []mark

// marks are those that are kept. What claims to be of the future was made by a clock
// that was wrong.
func (e *Engine) marks(now time.Time) (list marks, err error) {
	val, _, err := e.st.Meta(metaMarks)
	for len(val) > 0 {
		ms, n := binary.Uvarint(val)
		tip, m := binary.Uvarint(val[max(n, 0):])
		if n <= 0 || m <= 0 {
			break // what is cut tells nothing
		}
		val = val[n+m:]
		if one := (mark{int64(ms), stream.Pos(tip)}); one.time <= now.UnixMilli() && one.tip <= e.log.Tip() {
			list = append(list, one)
		}
	}
	return list, err
}

func (l marks) appendTo(dst []byte) []byte {
	for _, m := range l {
		dst = binary.AppendUvarint(binary.AppendUvarint(dst, uint64(m.time)), uint64(m.tip))
	}
	return dst
}

// add puts one more at the end. Where there are too many every second of the older
// half goes.
func (l marks) add(m mark) marks {
	if len(l) >= maxMarks {
		thin := l[:0:0]
		for i, one := range l {
			if i%2 == 0 || i > len(l)/2 {
				thin = append(thin, one)
			}
		}
		l = thin
	}
	return append(l, m)
}

// after is the place behind which all came later than a time; ok is false where that
// is not known.
func (l marks) after(ms int64) (k room.Key, ok bool) {
	for _, m := range l {
		if m.time >= ms {
			return room.After(m.tip), true
		}
	}
	return k, false
}
