package telemetry

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"time"

	"hearth/engine/fault"
	"hearth/engine/topic"
)

// Topics lists the topics with samples that a filter matches, in order.
func (l *Log) Topics(filter string) []string {
	return slices.DeleteFunc(l.names.all(), func(t string) bool { return !topic.Match(filter, t) })
}

// each calls f for the chunks of a topic that overlap a time, in order of their
// first samples; what is in memory only comes last. f gets each chunk with the
// first of its samples to look at and the first behind them.
func (l *Log) each(name string, from, until int64, f func(c *chunk) (more bool)) error {
	num := l.names.find(name)
	if num == 0 {
		return nil
	}
	// What is in memory is taken first: a flush in between is then seen twice
	// at most at its edge, never missed; the chunks end where the memory begins.
	waiting := l.inMemory(num)
	edge := int64(math.MaxInt64)
	if len(waiting) > 0 {
		edge = waiting[0].At
	}
	more := true
	for day := dayOf(from); more && day <= dayOf(until-1); day++ {
		if day = l.nextDay(day); int64(day)*dayMillis >= until {
			break
		}
		prefix := topicKey(day, num)
		err := l.st.ScanPrefix(prefix, func(key, val []byte) (bool, error) {
			if len(key) != 25 {
				return false, corrupt()
			}
			first, last := int64(binary.BigEndian.Uint64(key[9:])), int64(binary.BigEndian.Uint64(key[17:]))
			if last < from {
				return true, nil
			}
			if first >= until {
				return false, nil
			}
			if len(waiting) > 0 && first == edge {
				waiting = nil // written meanwhile
			}
			c, err := parseChunk(val)
			if err == nil {
				more = f(c)
			}
			return more, err
		})
		if err != nil {
			return err
		}
	}
	for len(waiting) > 0 && more {
		row, n := appendChunk(nil, waiting)
		c, err := parseChunk(row)
		if err != nil {
			return err
		}
		more, waiting = f(c), waiting[n:]
	}
	return nil
}

// nextDay is the first day from the given one on that has samples.
func (l *Log) nextDay(day uint32) uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	best := uint32(math.MaxUint32)
	for d := range l.days {
		if d >= day {
			best = min(best, d)
		}
	}
	return best
}

// inMemory gives the samples of a topic that are in no chunk.
func (l *Log) inMemory(num uint32) (list []Sample) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, from := range []map[uint32]*pending{l.taken, l.open} {
		if p := from[num]; p != nil {
			list = append(list, p.list...)
		}
	}
	return list
}

// Each calls f for the samples of a topic from a time until another, in
// milliseconds, until f returns false. The payload is as it came, and valid
// during the call.
func (l *Log) Each(name string, from, until int64, f func(at int64, payload []byte) (more bool)) error {
	var buf []byte
	return l.each(name, from, until, func(c *chunk) bool {
		for i, at := range c.times {
			if at < from || at >= until {
				continue
			}
			if buf = c.appendPayload(buf[:0], i); !f(at, buf) {
				return false
			}
		}
		return true
	})
}

// Point is what a field's numbers were over a while.
type Point struct {
	At       int64 // when the while begins, milliseconds
	Count    int
	Min, Max float64
	Mean     float64
	Last     float64
	sum      float64
}

func (p *Point) add(v float64) {
	if p.Count == 0 || v < p.Min {
		p.Min = v
	}
	if p.Count == 0 || v > p.Max {
		p.Max = v
	}
	p.Count++
	p.sum += v
	p.Last, p.Mean = v, p.sum/float64(p.Count)
}

// MaxPoints is how many points a range gives at most.
const MaxPoints = 100_000

// Series is the points of one field.
type Series struct {
	Field  string // member names joined by dots; empty: the payload itself is the number
	Points []Point
}

// Range gives the numbers of a topic from a time until another in points of a
// step each; points without samples are left out, and fields without points. field names one field, "*" is
// all, in order.
//
// Errors: Invalid for times and steps that cannot be.
func (l *Log) Range(name, field string, from, until, step time.Duration) ([]Series, error) {
	a, z, s := from.Milliseconds(), until.Milliseconds(), step.Milliseconds()
	if a < 0 || z <= a || s < 1 || (z-a-1)/s >= MaxPoints {
		return nil, fault.E(fault.Invalid, "telemetry.Range", "from has to lie before until, and the step to make at most %d points", MaxPoints)
	}
	g := gather{field: field, from: a, until: z, step: s, fields: map[string]*Series{}, known: map[string][]path{}}
	if err := l.each(name, a, z, g.take); err != nil {
		return nil, err
	}
	list := make([]Series, 0, len(g.fields))
	for _, one := range g.fields {
		if len(one.Points) > 0 { // its chunk has samples of other times only
			list = append(list, *one)
		}
	}
	slices.SortFunc(list, func(a, b Series) int { return strings.Compare(a.Field, b.Field) })
	return list, nil
}

// maxFields bounds the fields of one topic that are told.
const maxFields = 64

// gather adds up chunks.
type gather struct {
	field             string
	from, until, step int64
	fields            map[string]*Series
	known             map[string][]path // by shape
}

func (g *gather) take(c *chunk) bool {
	for s, shape := range c.shapes {
		where, ok := g.known[string(shape)]
		if !ok {
			where = paths(shape)
			if len(g.known) < maxShapes {
				g.known[string(shape)] = where
			}
		}
		for h := range where {
			if p := &where[h]; p.open {
				g.named(p, c, s, h)
			} else if to := g.series(p, p.name); to != nil {
				g.column(to, c, s, h)
			}
		}
	}
	return true
}

// series gives the series of a field; nil where it is none, or not asked for.
func (g *gather) series(p *path, name string) *Series {
	if !p.ok || g.field != "*" && g.field != name {
		return nil
	}
	one := g.fields[name]
	if one == nil && len(g.fields) < maxFields {
		one = &Series{Field: name}
		g.fields[name] = one
	}
	return one
}

// column adds one column of one shape to a field.
func (g *gather) column(to *Series, c *chunk, s, h int) {
	for i := range c.times {
		if c.shapeOf[i] == int64(s) {
			g.number(to, c, i, h)
		}
	}
}

// named adds a column to the fields that its samples name.
func (g *gather) named(p *path, c *chunk, s, h int) {
	var name, last []byte
	var to *Series
	for i, at := range c.times {
		if c.shapeOf[i] != int64(s) || at < g.from || at >= g.until {
			continue
		}
		name = p.appendName(name[:0], func(dst []byte, hole int) []byte {
			if hole >= len(c.cols[s]) {
				return dst
			}
			return c.cols[s][hole].append(dst, c.place[i])
		})
		if last == nil || !bytes.Equal(name, last) {
			last, to = append(last[:0], name...), g.series(p, string(name))
		}
		if to != nil {
			g.number(to, c, i, h)
		}
	}
}

// number adds the number of one sample to a field.
func (g *gather) number(to *Series, c *chunk, i, h int) {
	at := c.times[i]
	if at < g.from || at >= g.until {
		return
	}
	if v := c.cols[c.shapeOf[i]][h].float(c.place[i]); !math.IsNaN(v) {
		g.point(to, at-(at-g.from)%g.step).add(v)
	}
}

// point finds the point that begins at a time, which is nearly always the last.
func (g *gather) point(to *Series, at int64) *Point {
	n := len(to.Points)
	if n > 0 && to.Points[n-1].At == at {
		return &to.Points[n-1]
	}
	i, found := slices.BinarySearchFunc(to.Points, at, func(p Point, at int64) int { return int(min(max(p.At-at, -1), 1)) })
	if !found {
		to.Points = slices.Insert(to.Points, i, Point{At: at})
	}
	return &to.Points[i]
}
