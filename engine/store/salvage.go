package store

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/cockroachdb/pebble/v2/sstable"
)

// A salvage reads the tables and logs of a damaged database as they lie there,
// without its manifest or with no more of it than which tables are alive, and
// writes a new one. Each entry carries its place in the order of all writes, so
// the newest of each key wins, whichever file it is found in.

// row is one entry: what a key was set to, or that it was deleted.
type row struct {
	key, val []byte
	seq      uint64
	dead     bool
}

// compare orders rows by key, the newest first.
func (r *row) compare(o *row) int {
	return cmp.Or(bytes.Compare(r.key, o.key), cmp.Compare(o.seq, r.seq))
}

// grave is a deleted range.
type grave struct {
	lower, upper []byte
	seq          uint64
}

// covers says whether the row was deleted with the range.
func (g *grave) covers(r *row) bool {
	return g.seq > r.seq && bytes.Compare(g.lower, r.key) <= 0 && bytes.Compare(r.key, g.upper) < 0
}

// table reads one table file.
type table struct {
	r     *sstable.Reader
	it    sstable.Iterator
	begun bool
}

func openTable(files FS, path string, o *pebble.Options) (*table, error) {
	f, err := files.Open(path)
	if err != nil {
		return nil, err
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r, err := sstable.NewReader(context.Background(), readable, o.MakeReaderOptions())
	if err != nil {
		return nil, errors.Join(err, readable.Close())
	}
	it, err := r.NewIter(sstable.NoTransforms, nil, nil, sstable.AssertNoBlobHandles)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return &table{r: r, it: it}, nil
}

// close drops the errors that reading has told already.
func (t *table) close() {
	t.it.Close()
	t.r.Close()
}

// next reads the next row, or with back the one before, from either end; ok is
// false at the other end.
func (t *table) next(back bool) (r row, ok bool, err error) {
	move, first := t.it.Next, t.it.First
	if back {
		move, first = t.it.Prev, t.it.Last
	}
	if !t.begun {
		t.begun, move = true, first
	}
	kv := move()
	if kv == nil {
		return row{}, false, t.it.Error()
	}
	val, _, err := kv.Value(nil)
	if err != nil {
		return row{}, false, err
	}
	r = row{key: bytes.Clone(kv.K.UserKey), val: bytes.Clone(val), seq: uint64(kv.SeqNum()), dead: true}
	switch kv.Kind() {
	case pebble.InternalKeyKindSet, pebble.InternalKeyKindSetWithDelete:
		r.dead = false
	}
	return r, true, nil
}

// graves lists the ranges that a table deletes.
func (t *table) graves() (list []grave, err error) {
	it, err := t.r.NewRawRangeDelIter(context.Background(), sstable.NoFragmentTransforms, sstable.NoReadEnv)
	if it == nil || err != nil {
		return nil, err
	}
	defer it.Close()
	s, err := it.First()
	for ; s != nil && err == nil; s, err = it.Next() {
		for _, k := range s.Keys {
			list = append(list, grave{bytes.Clone(s.Start), bytes.Clone(s.End), uint64(k.SeqNum())})
		}
	}
	return list, err
}

// entries is how many rows the table says it has; 0 where that cannot be read.
func (t *table) entries() int {
	props, err := t.r.ReadPropertiesBlock(context.Background(), nil)
	if err != nil {
		return 0
	}
	return int(props.NumEntries)
}

// source gives the rows of one table, or of the logs, in order.
type source struct {
	s     *salvage
	name  string // of a table
	open  *table // nil before it is reached, and after its end
	ahead []row  // what was read ahead: of the logs, and of a damaged table
	cur   row
	read  int
}

// next moves cur on; false at the end.
func (c *source) next() bool {
	if c.open == nil && c.name != "" {
		t, err := openTable(c.s.files, c.s.files.PathJoin(c.s.dir, c.name), c.s.options)
		if err != nil {
			c.s.report.lose(c.name, 0, err)
			c.name = ""
			return false
		}
		c.open = t
	}
	if c.open != nil {
		r, ok, err := c.open.next(false)
		if ok {
			c.cur = r
			c.read++
			return true
		}
		if err != nil {
			c.backward(err)
		}
		c.open.close()
		c.open, c.name = nil, ""
	}
	if len(c.ahead) == 0 {
		return false
	}
	c.cur, c.ahead = c.ahead[0], c.ahead[1:]
	return true
}

// backward reads what a damaged table has behind its first bad block, from its
// end. What lies between its first bad block and its last is lost.
func (c *source) backward(cause error) {
	entries := c.open.entries()
	c.open.begun = false
	for {
		r, ok, err := c.open.next(true)
		if !ok || err != nil || c.read > 0 && r.compare(&c.cur) <= 0 {
			break
		}
		c.ahead = append(c.ahead, r)
	}
	slices.Reverse(c.ahead)
	c.s.report.lose(c.name, max(entries-c.read-len(c.ahead), 0), cause)
}

// sources is a heap by the sources' current rows.
type sources []*source

func (s sources) Len() int           { return len(s) }
func (s sources) Less(i, j int) bool { return s[i].cur.compare(&s[j].cur) < 0 }
func (s sources) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *sources) Push(x any)        { *s = append(*s, x.(*source)) }
func (s *sources) Pop() any {
	last := len(*s) - 1
	x := (*s)[last]
	*s = (*s)[:last]
	return x
}

// salvage is one under way.
type salvage struct {
	files   FS
	dir     string
	options *pebble.Options
	report  *Findings
	graves  []grave
	heap    sources
}

// addTable adds a table. Its first key is read now, the rest when it is reached,
// so that a large store needs few open files.
func (s *salvage) addTable(name string) {
	t, err := openTable(s.files, s.files.PathJoin(s.dir, name), s.options)
	if err != nil {
		s.report.lose(name, 0, err)
		return
	}
	defer t.close()
	graves, err := t.graves()
	if err != nil {
		s.report.lose(name, 0, err)
	}
	s.graves = append(s.graves, graves...)
	c := &source{s: s, name: name}
	// What is found in front of all rows only has the table opened when it is reached.
	if r, ok, err := t.next(false); ok || err != nil {
		c.cur = row{key: r.key, seq: 1<<63 - 1, dead: true}
		s.heap = append(s.heap, c)
	}
}

// addLogs adds what the logs have. They are at most as large as the memtables.
func (s *salvage) addLogs() error {
	logs, err := readLogs(s.files, s.dir)
	if err != nil {
		return err
	}
	c := &source{s: s}
	for _, ll := range logs {
		st, err := readLog(ll, func(rec []byte) error {
			rows, graves := batchRows(rec)
			c.ahead, s.graves = append(c.ahead, rows...), append(s.graves, graves...)
			return nil
		})
		if err != nil {
			return err
		}
		if st.damaged {
			// Later logs go on from what is lost: with them the rows would not fit together.
			s.report.lose(st.name, st.lost, nil)
			break
		}
	}
	slices.SortFunc(c.ahead, func(a, b row) int { return a.compare(&b) })
	if c.next() {
		s.heap = append(s.heap, c)
	}
	return nil
}

// batchRows takes the entries of a log record apart.
func batchRows(rec []byte) (rows []row, graves []grave) {
	h, ok := batchrepr.ReadHeader(rec)
	if !ok {
		return nil, nil
	}
	rec = bytes.Clone(rec)
	seq := uint64(h.SeqNum)
	for r := batchrepr.Read(rec); len(r) > 0; {
		kind, key, val, ok, err := r.Next()
		if !ok || err != nil {
			break
		}
		switch kind {
		case pebble.InternalKeyKindLogData:
			continue // has no place in the order
		case pebble.InternalKeyKindSet, pebble.InternalKeyKindSetWithDelete:
			rows = append(rows, row{key: key, val: val, seq: seq})
		case pebble.InternalKeyKindRangeDelete:
			graves = append(graves, grave{key, val, seq})
		default:
			rows = append(rows, row{key: key, seq: seq, dead: true})
		}
		seq++
	}
	return rows, graves
}

// each calls f for the newest row of each key that is not deleted, in order.
func (s *salvage) each(f func(r *row) error) error {
	heap.Init(&s.heap)
	var last []byte
	for len(s.heap) > 0 {
		c := s.heap[0]
		r := c.cur
		// The row that only marks a table's beginning hides nothing.
		if r.seq != 1<<63-1 && (last == nil || !bytes.Equal(r.key, last)) {
			last = r.key
			if !r.dead && !slices.ContainsFunc(s.graves, func(g grave) bool { return g.covers(&r) }) {
				if err := f(&r); err != nil {
					return err
				}
			}
		}
		if c.next() {
			heap.Fix(&s.heap, 0)
		} else {
			heap.Pop(&s.heap)
		}
	}
	return nil
}
