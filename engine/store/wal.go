package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/wal"
)

// Pebble's log files are blocks of 32 KiB, filled with chunks: checksum u32,
// length u16, kind u8, log number u32, for kinds from 9 on the offset u64 up to
// which the log was known to be on disk, and the payload, little-endian all.
// Pebble takes a bad chunk for the log's end unless a later block says that what
// is before it was synced; it does not look on in the bad chunk's own block.
const (
	logBlock     = 32 << 10
	chunkHead    = 19
	chunkFull    = 9
	chunkFirst   = 10
	chunkLast    = 12
	chunkSynced  = 11 // where the offset stands
	manifestHead = 7
	checksumAdds = 0xa282ead8
)

// chunk is one that was found behind a bad one.
type chunk struct {
	kind   byte
	synced uint64 // what comes before this offset was on disk when the chunk was written
}

// chunks finds the sound chunks of a log in a block, wherever they begin.
func chunks(block []byte, logNum uint32, f func(c chunk)) {
	for i := 0; i+chunkHead <= len(block); i++ {
		kind := block[i+6]
		if kind < chunkFull || kind > chunkLast || binary.LittleEndian.Uint32(block[i+7:]) != logNum {
			continue
		}
		end := i + chunkHead + int(binary.LittleEndian.Uint16(block[i+4:]))
		if end > len(block) {
			continue
		}
		if !sound(block[i:], end-i) {
			continue
		}
		f(chunk{kind, binary.LittleEndian.Uint64(block[i+chunkSynced:])})
		i = end - 1
	}
}

// logState is what reading a log file to its end says.
type logState struct {
	name    string
	num     wal.NumWAL
	good    int64 // bytes up to the end of the last sound record
	records int   // sound records up to there
	damaged bool  // something that had been on disk is missing after them
	lost    int   // sound records after them, which cannot be used
}

// readLogs finds the log files of a folder, in order.
func readLogs(files FS, dir string) (wal.Logs, error) {
	return wal.Scan(wal.Dir{FS: files, Dirname: dir})
}

// readLog reads a log to its end and hands each record to f, where not nil.
func readLog(ll wal.LogicalLog, f func(rec []byte) error) (st logState, err error) {
	files, path := ll.SegmentLocation(0)
	st.name, st.num = files.PathBase(path), ll.Num
	r := ll.OpenForRead()
	defer func() { err = errors.Join(err, r.Close()) }()
	for {
		rec, at, err := r.NextRecord()
		st.good = at.Physical
		if errors.Is(err, io.EOF) {
			return st, nil
		}
		if err != nil {
			st.damaged = !errors.Is(err, record.ErrUnexpectedEOF)
			if st.damaged && !record.IsInvalidRecord(err) && !errors.Is(err, record.ErrInvalidChunk) {
				return st, err // the disk cannot be read
			}
			return st, st.look(files, path)
		}
		st.records++
		if f == nil {
			continue
		}
		text, err := io.ReadAll(rec)
		if err == nil {
			err = f(text)
		}
		if err != nil {
			return st, err
		}
	}
}

// look looks on from where reading stopped: for chunks that say that what
// stopped it had been on disk, and for records that are lost with it.
func (st *logState) look(files FS, path string) error {
	f, err := files.Open(path)
	if err != nil {
		return err
	}
	buf := make([]byte, logBlock)
	at := st.good
	for err == nil {
		end := at - at%logBlock + logBlock
		var n int
		n, err = f.ReadAt(buf[:end-at], at)
		chunks(buf[:n], uint32(st.num), func(c chunk) {
			// The bad chunk itself begins at good, so a promise beyond it was broken.
			st.damaged = st.damaged || c.synced > uint64(st.good)
			if c.kind == chunkFull || c.kind == chunkFirst {
				st.lost++
			}
		})
		at = end
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// checkLastLog refuses a store whose last log has lost what had been on disk.
// Pebble would take the damage for the log's end and go on without a word.
func checkLastLog(files FS, dir string) error {
	logs, err := readLogs(files, dir)
	if err != nil || len(logs) == 0 {
		return nil // Pebble says it better
	}
	st, err := readLog(logs[len(logs)-1], nil)
	if err == nil && st.damaged {
		return corrupt("the log %s is damaged at byte %d", st.name, st.good)
	}
	return nil
}

// checkManifest refuses a store whose manifest has a damaged record before
// sound ones. Pebble would take it for the end, and delete the tables that later
// records tell of. A bad last record may be the mark of a power cut: what it
// would have told is still in the logs.
func checkManifest(files FS, dir string) error {
	desc, err := pebble.Peek(dir, files)
	if err != nil || !desc.Exists {
		return nil // Pebble says it better
	}
	f, err := files.Open(desc.ManifestFilename)
	if err != nil {
		return nil
	}
	text, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	bad := -1
	for at := 0; at+manifestHead <= len(text); {
		left := logBlock - at%logBlock
		if left < manifestHead {
			at += left
			continue
		}
		n := manifestChunk(text[at:min(at+left, len(text))])
		switch {
		case n > 0 && bad >= 0:
			return corrupt("the manifest %s is damaged at byte %d", files.PathBase(desc.ManifestFilename), bad)
		case n > 0:
			at += n
		default:
			if bad < 0 {
				bad = at
			}
			at++
		}
	}
	return nil
}

// manifestChunk is the size of the sound chunk that a block's rest begins with;
// 0 where there is none. A manifest's chunks have the short head alone: checksum,
// length and kind.
func manifestChunk(rest []byte) int {
	end := manifestHead + int(binary.LittleEndian.Uint16(rest[4:]))
	if kind := rest[6]; kind == 0 || kind > 4 || end > len(rest) || !sound(rest, end) {
		return 0
	}
	return end
}

// sound checks the chunk's sum, which is over its kind and all that follows.
func sound(text []byte, end int) bool {
	sum := crc32.Checksum(text[6:end], crc32.MakeTable(crc32.Castagnoli))
	return (sum>>15|sum<<17)+checksumAdds == binary.LittleEndian.Uint32(text)
}

// cutLog shortens a log to its sound beginning. The whole one is kept in aside.
func cutLog(files FS, dir, aside string, st logState) error {
	path := files.PathJoin(dir, st.name)
	if err := keepAside(files, path, aside); err != nil {
		return err
	}
	from, err := files.Open(path)
	if err != nil {
		return err
	}
	tmp := path + ".new"
	to, err := files.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return errors.Join(err, from.Close())
	}
	if _, err = io.CopyN(to, from, st.good); err == nil {
		err = to.Sync()
	}
	if err := errors.Join(err, to.Close(), from.Close()); err != nil {
		return err
	}
	if err := files.Rename(tmp, path); err != nil {
		return err
	}
	return SyncDir(files, dir)
}

// keepAside copies a file into the folder aside, or links it there.
func keepAside(files FS, path, aside string) error {
	if err := makeDir(files, aside); err != nil {
		return err
	}
	to := files.PathJoin(aside, files.PathBase(path))
	if _, err := files.Stat(to); err == nil {
		return nil // an earlier try, which the power cut ended
	}
	if err := vfs.Copy(files, path, to); err != nil {
		return err
	}
	return SyncDir(files, aside)
}

// isLog says whether a name is that of a log file.
func isLog(name string) bool {
	_, _, ok := wal.ParseLogFilename(name)
	return ok && strings.HasSuffix(name, ".log")
}
