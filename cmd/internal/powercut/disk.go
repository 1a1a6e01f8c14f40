package powercut

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"syscall"
)

// sector is what a disk writes whole or not at all.
const sector = 512

// block is the grain of a sparse disk, and of the file systems on it.
const block = 4096

// Disk is what is on a disk for sure, in memory. Blocks of zeroes take none.
type Disk struct {
	size   int64
	blocks map[int64]*[block]byte // by number
}

// Load reads the disk that a recording began with. Holes of the file are not read.
func Load(f *os.File, size int64) (*Disk, error) {
	d := &Disk{size: size, blocks: map[int64]*[block]byte{}}
	buf := make([]byte, 1<<20)
	for at := int64(0); at < size; {
		next, err := f.Seek(at, 3) // SEEK_DATA
		if errors.Is(err, syscall.ENXIO) {
			break // only a hole is left
		}
		if err != nil {
			return nil, err
		}
		at = next &^ (block - 1)
		n, err := f.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
		if err != nil && err != io.EOF {
			return nil, err
		}
		if n == 0 {
			break
		}
		d.put(at, buf[:n])
		at += int64(n)
	}
	return d, nil
}

// put writes bytes.
func (d *Disk) put(at int64, b []byte) {
	for len(b) > 0 {
		no, off := at/block, int(at%block)
		n := min(block-off, len(b))
		one := d.blocks[no]
		switch {
		case one == nil && zero(b[:n]):
		case one == nil:
			one = new([block]byte)
			d.blocks[no] = one
			fallthrough
		default:
			copy(one[off:], b[:n])
			if zero(one[:]) {
				delete(d.blocks, no)
			}
		}
		at, b = at+int64(n), b[n:]
	}
}

var nothing [block]byte

func zero(b []byte) bool { return bytes.Equal(b, nothing[:len(b)]) }

// Apply takes an entry of a log as being on the disk. A discard takes nothing away: a disk may, and need not.
func (d *Disk) Apply(log io.ReaderAt, w Write) error {
	b, err := w.read(log)
	if err != nil {
		return err
	}
	d.put(w.At, b)
	return nil
}

func (w Write) read(log io.ReaderAt) ([]byte, error) {
	if w.Discard || w.Length == 0 {
		return nil, nil
	}
	b := make([]byte, w.Length)
	_, err := log.ReadAt(b, w.from)
	return b, err
}

// Drop forgets what lies between two places, which no cut shall hold.
func (d *Disk) Drop(from, to int64) {
	for no := range d.blocks {
		if at := no * block; at >= from && at < to {
			delete(d.blocks, no)
		}
	}
}

// Cut writes the disk to a sparse file as a power cut could have left it: with some of what is loose, the entries since the
// last flush, in any order, and some of those torn. What is chosen follows from r alone.
func (d *Disk) Cut(to *os.File, log io.ReaderAt, loose []Write, r *rand.Rand) error {
	if err := to.Truncate(d.size); err != nil {
		return err
	}
	for no, b := range d.blocks {
		if _, err := to.WriteAt(b[:], no*block); err != nil {
			return err
		}
	}
	keep := r.Float64() // one cut comes early, another late
	for _, i := range r.Perm(len(loose)) {
		if r.Float64() >= keep {
			continue
		}
		b, err := loose[i].read(log)
		if err != nil {
			return err
		}
		if err := tear(to, loose[i].At, b, r); err != nil {
			return err
		}
	}
	return nil
}

// tear writes bytes whole, or their beginning, or some of their sectors.
func tear(to *os.File, at int64, b []byte, r *rand.Rand) error {
	how := r.IntN(4)
	if how == 1 && len(b) > sector {
		b = b[:(1+r.IntN(len(b)/sector-1))*sector]
	}
	for off := 0; off < len(b); off += sector {
		if how == 2 && r.IntN(2) == 0 {
			continue
		}
		if _, err := to.WriteAt(b[off:off+sector], at+int64(off)); err != nil {
			return err
		}
	}
	return nil
}
