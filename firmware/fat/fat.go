// Package fat makes boot partitions, FAT32 file systems written at once from a list of files, and finds files in them.
//
// It owns the layout, which is always the same: every file lies in one piece, in the order of names, so that the same
// files give the same bytes. It refuses to create, rename, grow or delete in one that is there, which is what power cuts
// break: a running box asks where a file lies (Open, Find) and overwrites its sectors in place, and nothing else.
package fat

import (
	"encoding/binary"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf16"
)

const (
	sector   = 512
	reserved = 32    // sectors before the tables
	least    = 65525 // clusters; with fewer it would be FAT16
	last     = 0x0fffffff
)

// clusterOf is how large the clusters of a partition of size bytes are: small, so that there are as many as FAT32 must have.
func clusterOf(size int) int {
	if size < 128<<20 {
		return sector
	}
	return 2 * sector
}

// node is a file or a folder.
type node struct {
	name  string
	data  []byte
	room  int              // bytes
	kids  map[string]*node // nil: a file
	first uint32           // cluster
}

// Spec is a partition to be made.
type Spec struct {
	Size  int               // in bytes
	Label string            // at most 11 capitals
	Files map[string][]byte // names have slashes
	Room  map[string]int    // bytes that a file can grow to where it lies; others cannot
	When  time.Time         // of all files
}

// Make gives the bytes of a partition. A file with room has more clusters than it needs, which a check of the file system
// remarks on: a loader reads what the file has and no more, however large the next one may be.
func Make(s Spec) ([]byte, error) {
	root := &node{kids: map[string]*node{}}
	for name, data := range s.Files {
		if err := root.put(name, data, max(s.Room[name], len(data))); err != nil {
			return nil, err
		}
	}
	size, label, when := s.Size, s.Label, s.When
	sectors, each := size/sector, clusterOf(size)/sector
	tableSectors := (sectors/each*4 + sector - 1) / sector
	count := (sectors - reserved - 2*tableSectors) / each
	if count < least {
		return nil, fmt.Errorf("fat: %d bytes are too few for FAT32", size)
	}
	w := &writer{b: make([]byte, size), table: make([]byte, tableSectors*sector), start: (reserved + 2*tableSectors) * sector, cluster: each * sector,
		next: 2, end: uint32(count) + 2, when: when}
	le := binary.LittleEndian
	le.PutUint32(w.table[0:], 0x0ffffff8)
	le.PutUint32(w.table[4:], 0x0fffffff)
	if err := w.folder(root, nil, label); err != nil {
		return nil, err
	}
	w.heads(sectors, tableSectors, label)
	copy(w.b[reserved*sector:], w.table)
	copy(w.b[(reserved+tableSectors)*sector:], w.table)
	return w.b, nil
}

// put adds a file and the folders above it.
func (n *node) put(name string, data []byte, room int) error {
	dir, base := path.Split(strings.TrimPrefix(path.Clean("/"+name), "/"))
	for part := range strings.SplitSeq(strings.Trim(dir, "/"), "/") {
		if part == "" {
			continue
		}
		kid := n.kids[part]
		if kid == nil {
			kid = &node{name: part, kids: map[string]*node{}}
			n.kids[part] = kid
		}
		if kid.kids == nil {
			return fmt.Errorf("fat: %s lies below a file", name)
		}
		n = kid
	}
	if base == "" || n.kids[base] != nil {
		return fmt.Errorf("fat: %q cannot be a file", name)
	}
	n.kids[base] = &node{name: base, data: data, room: room}
	return nil
}

// writer fills the partition from the front.
type writer struct {
	b, table  []byte
	start     int // of the first cluster
	cluster   int // in bytes
	next, end uint32
	when      time.Time
}

// take gives n bytes room in one piece.
func (w *writer) take(n int) (uint32, error) {
	count := uint32((n + w.cluster - 1) / w.cluster)
	if count == 0 {
		return 0, nil
	}
	if w.next+count > w.end {
		return 0, fmt.Errorf("fat: the files do not fit into %d bytes", len(w.b))
	}
	first := w.next
	for c := first; c < first+count; c++ {
		link := c + 1
		if link == first+count {
			link = last
		}
		binary.LittleEndian.PutUint32(w.table[4*c:], link)
	}
	w.next += count
	return first, nil
}

func (w *writer) at(c uint32) []byte { return w.b[w.start+int(c-2)*w.cluster:] }

// folder writes one and all below it. The root comes first, which cluster 2 must be.
func (w *writer) folder(n, above *node, label string) (err error) {
	names := slices.Sorted(maps.Keys(n.kids))
	rows := 1 // the label, or . of a folder
	if above != nil {
		rows = 2
	}
	for _, name := range names {
		rows += 1 + longRows(name)
	}
	if n.first, err = w.take(rows * 32); err != nil {
		return err
	}
	for _, name := range names {
		kid := n.kids[name]
		if kid.kids != nil {
			if err := w.folder(kid, n, ""); err != nil {
				return err
			}
			continue
		}
		if kid.first, err = w.take(kid.room); err != nil {
			return err
		}
		if len(kid.data) > 0 {
			copy(w.at(kid.first), kid.data)
		}
	}
	var rowsOut []byte
	if above == nil {
		rowsOut = w.row(rowsOut, pad(label), 0x08, &node{})
	} else {
		parent := &node{kids: map[string]*node{}, first: above.first}
		if above.name == "" {
			parent.first = 0 // the root is spelt so
		}
		rowsOut = w.row(rowsOut, pad("."), 0x10, n)
		rowsOut = w.row(rowsOut, pad(".."), 0x10, parent)
	}
	for i, name := range names {
		short, long := short(name, i)
		if long {
			rowsOut = appendLong(rowsOut, name, short)
		}
		kind := byte(0x20)
		if n.kids[name].kids != nil {
			kind = 0x10
		}
		rowsOut = w.row(rowsOut, short, kind, n.kids[name])
	}
	copy(w.at(n.first), rowsOut)
	return nil
}

// row appends one entry of a folder.
func (w *writer) row(dst []byte, name [11]byte, kind byte, n *node) []byte {
	return appendRow(dst, name, kind, n.first, len(n.data), w.when)
}

func appendRow(dst []byte, name [11]byte, kind byte, first uint32, size int, when time.Time) []byte {
	e := make([]byte, 32)
	le := binary.LittleEndian
	copy(e, name[:])
	e[11] = kind
	clock := uint16(when.Hour()<<11 | when.Minute()<<5 | when.Second()/2)
	day := uint16((max(when.Year(), 1980)-1980)<<9 | int(when.Month())<<5 | when.Day())
	le.PutUint16(e[14:], clock)
	le.PutUint16(e[16:], day)
	le.PutUint16(e[18:], day)
	le.PutUint16(e[20:], uint16(first>>16))
	le.PutUint16(e[22:], clock)
	le.PutUint16(e[24:], day)
	le.PutUint16(e[26:], uint16(first))
	le.PutUint32(e[28:], uint32(size))
	return append(dst, e...)
}

func pad(s string) (name [11]byte) {
	copy(name[:], "           ")
	copy(name[:], s)
	return name
}

// short is the name of the old form; long says that the real one has to stand beside it. i makes it the only one of
// its kind in the folder.
func short(name string, i int) (_ [11]byte, long bool) {
	base, ext, _ := strings.Cut(name, ".")
	plain := func(s string, most int) bool {
		return len(s) <= most && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == ""
	}
	out := pad("")
	if plain(base, 8) && base != "" && plain(ext, 3) {
		copy(out[:8], base)
		copy(out[8:], ext)
		return out, false
	}
	copy(out[:], fmt.Sprintf("F%05d~1", i%100000))
	copy(out[8:], "LFN")
	return out, true
}

// AppendFile appends the rows of a file that lies somewhere already: its name, and where it is. i is the one of its kind
// in the folder.
func AppendFile(dst []byte, name string, i int, f File, when time.Time) []byte {
	short, long := short(name, i)
	if long {
		dst = appendLong(dst, name, short)
	}
	return appendRow(dst, short, 0x20, f.first, int(f.Size), when)
}

func longRows(name string) int { return (len(utf16.Encode([]rune(name))) + 12) / 13 }

// appendLong appends the entries that hold a name as it is, last part first.
func appendLong(dst []byte, name string, short [11]byte) []byte {
	var sum byte
	for _, c := range short {
		sum = sum>>1 | sum<<7
		sum += c
	}
	units := utf16.Encode([]rune(name))
	for i := longRows(name); i >= 1; i-- {
		e := make([]byte, 32)
		e[0] = byte(i)
		if i == longRows(name) {
			e[0] |= 0x40
		}
		e[11], e[13] = 0x0f, sum
		for j, at := range []int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30} {
			u := uint16(0xffff)
			switch k := (i-1)*13 + j; {
			case k < len(units):
				u = units[k]
			case k == len(units):
				u = 0
			}
			binary.LittleEndian.PutUint16(e[at:], u)
		}
		dst = append(dst, e...)
	}
	return dst
}

// heads writes the sectors that say what the partition is.
func (w *writer) heads(sectors, tableSectors int, label string) {
	le := binary.LittleEndian
	b := make([]byte, sector)
	copy(b, "\xeb\x58\x90HEARTH  ")
	le.PutUint16(b[11:], sector)
	b[13] = byte(w.cluster / sector)
	le.PutUint16(b[14:], reserved)
	b[16] = 2    // tables
	b[21] = 0xf8 // a fixed disk
	le.PutUint16(b[24:], 63)
	le.PutUint16(b[26:], 255)
	le.PutUint32(b[32:], uint32(sectors))
	le.PutUint32(b[36:], uint32(tableSectors))
	le.PutUint32(b[44:], 2) // where the root is
	le.PutUint16(b[48:], 1) // the sector below
	le.PutUint16(b[50:], 6) // the copy of both
	b[64], b[66] = 0x80, 0x29
	le.PutUint32(b[67:], uint32(w.when.Unix()))
	name := pad(label)
	copy(b[71:], name[:])
	copy(b[82:], "FAT32   ")
	b[510], b[511] = 0x55, 0xaa
	free := make([]byte, sector)
	copy(free, "RRaA")
	copy(free[484:], "rrAa")
	le.PutUint32(free[488:], w.end-w.next)
	le.PutUint32(free[492:], w.next)
	free[510], free[511] = 0x55, 0xaa
	for _, at := range []int{0, 6} {
		copy(w.b[at*sector:], b)
		copy(w.b[(at+1)*sector:], free)
	}
}
