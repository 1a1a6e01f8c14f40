// Package powercut makes the disks that a power cut could have left, of a recording of all that a box wrote.
//
// A recording is the disk before and a log in the form of Linux' dm-log-writes, which QEMU's blklogwrites writes. What a
// flush has ended is on the disk; of what was written after it any part may be, in any order, and a write may be torn
// between sectors. The package owns that model and the sparse copies that a thousand disks need; whether what lies on a
// disk is well is for its caller to see, so that it knows neither file systems nor hubs.
package powercut

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The log begins with a sector of its own: magic, version, number of entries, bytes of a sector. Each entry is a sector
// of four numbers and what was written.
const (
	magic   = 0x6a736677736872
	version = 1
)

// Flags of an entry.
const (
	flagFlush = 1 << iota
	flagFUA
	flagDiscard
	flagMark
)

// Write is one entry: bytes that were written to a place, or the word that all before is on the disk.
type Write struct {
	At      int64 // bytes
	Length  int64 // bytes
	Flush   bool  // all entries before are on the disk
	Forced  bool  // this one is on the disk once it was answered, whatever else is
	Discard bool  // nobody wants to read the place any more
	from    int64 // where the bytes lie in the log
}

// Entries is how many entries a log holds, by its first sector; while it is being written, how many a flush has ended.
func Entries(log io.ReaderAt) (n uint64, sector int64, err error) {
	var b [28]byte
	if _, err := log.ReadAt(b[:], 0); err != nil {
		return 0, 0, err
	}
	if binary.LittleEndian.Uint64(b[:]) != magic || binary.LittleEndian.Uint64(b[8:]) != version {
		return 0, 0, errors.New("this is no log of writes")
	}
	sector = int64(binary.LittleEndian.Uint32(b[24:]))
	if sector < 512 || sector&(sector-1) != 0 {
		return 0, 0, fmt.Errorf("sectors of %d bytes", sector)
	}
	return binary.LittleEndian.Uint64(b[16:]), sector, nil
}

// Parse reads a log's entries. What they wrote stays in the log.
func Parse(log io.ReaderAt) ([]Write, error) {
	n, sector, err := Entries(log)
	if err != nil {
		return nil, err
	}
	var all []Write
	at := sector
	for i := range n {
		var b [32]byte
		if _, err := log.ReadAt(b[:], at); err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
		flags := binary.LittleEndian.Uint64(b[16:])
		w := Write{
			At: int64(binary.LittleEndian.Uint64(b[:])) * sector, Length: int64(binary.LittleEndian.Uint64(b[8:])) * sector,
			Flush: flags&flagFlush != 0, Forced: flags&flagFUA != 0, Discard: flags&flagDiscard != 0, from: at + sector,
		}
		if w.At < 0 || w.Length < 0 || flags&flagMark != 0 {
			return nil, fmt.Errorf("entry %d at byte %d is none: %x", i, at, b)
		}
		at += sector
		if !w.Discard {
			at += w.Length
		}
		all = append(all, w)
	}
	return all, nil
}
