package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
)

// Volume is a partition that Make wrote, opened to find what lies where.
type Volume struct {
	r       io.ReaderAt
	table   int64 // where the first table begins
	start   int64 // where cluster 2 begins
	cluster int64 // in bytes
	count   uint32
	root    uint32
}

// File is a file or folder of a volume, in one piece.
type File struct {
	Name   string
	At     int64 // from the beginning of the partition, in bytes
	Size   int64 // of a folder: of its clusters
	Room   int64 // bytes of its clusters
	RowAt  int64 // where its row begins
	Folder bool
	first  uint32
}

// ErrShape is wrapped by errors of partitions that are not, or no longer, what Make writes.
var ErrShape = errors.New("this is not the boot partition that the image came with")

// maxFolder is how many clusters of a folder are looked at.
const maxFolder = 256

// Open reads the first sector.
func Open(r io.ReaderAt) (*Volume, error) {
	b := make([]byte, sector)
	if _, err := r.ReadAt(b, 0); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	each, tables, tableSectors, sectors := int64(b[13]), int64(b[16]), int64(le.Uint32(b[36:])), int64(le.Uint32(b[32:]))
	if le.Uint16(b[11:]) != sector || each == 0 || each > 128 || tables == 0 || tables > 2 || string(b[82:87]) != "FAT32" || b[510] != 0x55 {
		return nil, fmt.Errorf("%w: its first sector is another's", ErrShape)
	}
	table := int64(le.Uint16(b[14:]))
	start := table + tables*tableSectors
	if start >= sectors || tableSectors > sectors {
		return nil, fmt.Errorf("%w: its tables do not fit", ErrShape)
	}
	count := min((sectors-start)/each, tableSectors*sector/4-2)
	return &Volume{r: r, table: table * sector, start: start * sector, cluster: each * sector, count: uint32(count), root: le.Uint32(b[44:])}, nil
}

// run gives the number of clusters of what begins at first, which have to follow each other, but no more than most.
func (v *Volume) run(first uint32, most int64) (int64, error) {
	links := make([]byte, 32*sector)
	for n, c := int64(0), first; ; {
		if c < 2 || c >= v.count+2 {
			return 0, fmt.Errorf("%w: cluster %d is none", ErrShape, c)
		}
		chunk := links[:min(len(links), int(v.count+2-c)*4)]
		if _, err := v.r.ReadAt(chunk, v.table+4*int64(c)); err != nil {
			return 0, err
		}
		for ; len(chunk) > 0; chunk = chunk[4:] {
			next := binary.LittleEndian.Uint32(chunk) & 0x0fffffff
			n++
			switch {
			case next >= 0x0ffffff8 || n == most:
				return n, nil
			case next != c+1:
				return 0, fmt.Errorf("%w: what begins at cluster %d lies in pieces", ErrShape, first)
			}
			c++
		}
	}
}

func (v *Volume) at(c uint32) int64 { return v.start + int64(c-2)*v.cluster }

// folder lists what begins at a cluster. A folder may lie in pieces: the one that the owner's file is in grows by what
// other computers put beside it.
func (v *Volume) folder(first uint32) ([]File, error) {
	var b []byte
	var pieces []uint32
	for c, link := first, make([]byte, 4); c < 0x0ffffff8 && len(pieces) < maxFolder; {
		if c < 2 || c >= v.count+2 {
			return nil, fmt.Errorf("%w: cluster %d is none", ErrShape, c)
		}
		pieces, b = append(pieces, c), append(b, make([]byte, v.cluster)...)
		if _, err := v.r.ReadAt(b[len(b)-int(v.cluster):], v.at(c)); err != nil {
			return nil, err
		}
		if _, err := v.r.ReadAt(link, v.table+4*int64(c)); err != nil {
			return nil, err
		}
		c = binary.LittleEndian.Uint32(link) & 0x0fffffff
	}
	files, err := rows(b, 0)
	for i, f := range files {
		files[i].RowAt = v.at(pieces[f.RowAt/v.cluster]) + f.RowAt%v.cluster
	}
	return files, err
}

// rows reads the rows of a folder, which begins at a place.
func rows(b []byte, at int64) (files []File, err error) {
	le := binary.LittleEndian
	var long []uint16
	for ; len(b) >= 32 && b[0] != 0; b, at = b[32:], at+32 {
		switch {
		case b[0] == 0xe5: // deleted
			long = nil
		case b[11] == 0x0f:
			if b[0]&0x40 != 0 {
				long = nil
			}
			var part []uint16
			for _, at := range []int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30} {
				part = append(part, le.Uint16(b[at:]))
			}
			if long = append(part, long...); len(long) > 20*13 {
				return nil, fmt.Errorf("%w: a name without end", ErrShape)
			}
		case b[11]&0x08 != 0: // the label
			long = nil
		default:
			f := File{Name: shortName(b[:11]), RowAt: at, Folder: b[11]&0x10 != 0, Size: int64(le.Uint32(b[28:])), first: uint32(le.Uint16(b[20:]))<<16 | uint32(le.Uint16(b[26:]))}
			if long != nil {
				name, _, _ := strings.Cut(string(utf16.Decode(long)), "\x00")
				f.Name = strings.TrimRight(name, "\uffff")
			}
			long = nil
			if f.Name != "." && f.Name != ".." {
				files = append(files, f)
			}
		}
	}
	return files, nil
}

// Rows reads a part of a folder that was read or made by itself.
func Rows(b []byte) ([]File, error) { return rows(b, 0) }

func shortName(b []byte) string {
	base, ext := strings.TrimRight(string(b[:8]), " "), strings.TrimRight(string(b[8:11]), " ")
	if ext == "" {
		return base
	}
	return base + "." + ext
}

// Find gives a file or folder by its path, in which letters' case does not count.
func (v *Volume) Find(path string) (File, error) {
	f := File{Folder: true, first: v.root}
	for part := range strings.SplitSeq(path, "/") {
		if !f.Folder {
			return File{}, fmt.Errorf("%s: not a folder", f.Name)
		}
		list, err := v.folder(f.first)
		if err != nil {
			return File{}, err
		}
		found := false
		for _, g := range list {
			if strings.EqualFold(g.Name, part) {
				f, found = g, true
				break
			}
		}
		if !found {
			return File{}, fmt.Errorf("%w: there is no %s", ErrShape, path)
		}
	}
	return v.place(f)
}

// place fills in where it lies, and sees that it is whole.
func (v *Volume) place(f File) (File, error) {
	n, err := v.run(f.first, int64(v.count))
	if err != nil {
		return File{}, fmt.Errorf("%s: %w", f.Name, err)
	}
	f.At, f.Room = v.at(f.first), n*v.cluster
	if f.Folder {
		f.Size = f.Room
	} else if f.Size > f.Room {
		return File{}, fmt.Errorf("%w: %s has %d bytes in %d clusters", ErrShape, f.Name, f.Size, n)
	}
	return f, nil
}

// SizeAt is where in a sector of rows the size of a file stands, four bytes, lowest first.
func (f File) SizeAt() int64 { return f.RowAt%sector + 28 }

// Single gives the file of one cluster that lies i clusters behind another of the kind. A row that firmware lost while
// it renamed can be written anew from that.
func (v *Volume) Single(f File, i int) (File, error) {
	other := File{Name: f.Name, Size: f.Size, first: uint32(int64(f.first) + int64(i))}
	return v.place(other)
}
