package boot

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log"
	"os"
	"os/exec"
	"time"
)

// checkTime is how long a check of the data partition may take. The largest cards are read in less; a check that hangs on
// a card that does not answer must not keep the page away that says so.
const checkTime = 30 * time.Minute

// OpenData mounts the data partition at a folder; see Open.
func (d *Disk) OpenData(at, checker string) (said []byte, err error) {
	return Open(d.Data(), at, checker)
}

// Open mounts an ext4 at a folder, by way of checker, an e2fsck, where the file system says of itself that it has errors,
// and where it cannot be mounted. What the checker said is given too; it is empty where there was no check.
//
// A journal that is not empty is no reason for a check: every power cut leaves one, and mounting replays it.
func Open(device, at, checker string) (said []byte, err error) {
	if err := joinSuper(device); err != nil {
		log.Printf("the data partition: %v", err)
	}
	if why := flagged(device); why != "" {
		log.Printf("the data partition %s: it is checked", why)
		if said, err = Check(checker, device); err != nil && !errors.Is(err, errNoChecker) {
			return said, err
		}
	}
	err = mountData(device, at)
	if err == nil || said != nil {
		return said, err
	}
	log.Printf("%v: it is checked", err)
	said, bad := Check(checker, device)
	if bad != nil {
		return said, fmt.Errorf("%w; %w", err, bad)
	}
	return said, mountData(device, at)
}

// Places in the first superblock of an ext4; see fs/ext4/ext4.h of the kernel.
const (
	superAt     = 1024
	superMagic  = 0x38
	superState  = 0x3a
	superCompat = 0x64 // features that a reader need not know
	superSum    = 0x3fc
	ext4Magic   = 0xef53
	stateErrors = 2
	sumsBlocks  = 0x400 // of superCompat: blocks have checksums
)

// readSuper reads it; nil where it is none.
func readSuper(f io.ReaderAt) ([]byte, error) {
	b := make([]byte, 1024)
	if _, err := f.ReadAt(b, superAt); err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint16(b[superMagic:]) != ext4Magic {
		return nil, nil
	}
	return b, nil
}

// joinSuper makes a first superblock whole that a power cut has torn between its two sectors. It is the one block that is
// written past the journal, at each mount and unmount, and its checksum then fits neither half: nothing would mount it,
// and on a card that has not grown yet there is no copy. Both halves are good, since what differs between the two
// writings are times and whether the journal is in use, which changes only while that is empty.
func joinSuper(device string) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := readSuper(f)
	if err != nil || b == nil || binary.LittleEndian.Uint32(b[superCompat:])&sumsBlocks == 0 {
		return err
	}
	sum := ^crc32.Checksum(b[:superSum], crc32.MakeTable(crc32.Castagnoli))
	if sum == binary.LittleEndian.Uint32(b[superSum:]) {
		return nil
	}
	log.Printf("the first block of the data partition was torn; it is made whole")
	binary.LittleEndian.PutUint32(b[superSum:], sum)
	if _, err := f.WriteAt(b, superAt); err != nil {
		return err
	}
	return f.Sync()
}

// flagged says what is wrong with a file system by its own word; empty: nothing.
func flagged(device string) string {
	f, err := os.Open(device)
	if err != nil {
		return ""
	}
	defer f.Close()
	switch b, err := readSuper(f); {
	case err != nil:
		return "cannot be read"
	case b == nil:
		return "has lost its first block"
	case binary.LittleEndian.Uint16(b[superState:])&stateErrors != 0:
		return "is marked as having errors"
	}
	return ""
}

// fsckFixed are the bits of e2fsck's exit code that say that errors were corrected; 4, 8 and so on say that it is not well.
const fsckFixed = 1 | 2

var errNoChecker = errors.New("this image has no e2fsck")

// Check has an e2fsck mend a file system that is not mounted: first what loses nothing, then the rest, where files may
// come off that nothing leads to any more. It gives what the program said. An error says that the file system is not well.
//
// The second way is gone more than once: where the first block was lost e2fsck replays the journal and then gives up,
// and a new start finds what it put there.
func Check(checker, device string) (said []byte, err error) {
	if _, err := os.Stat(checker); errors.Is(err, os.ErrNotExist) {
		return nil, errNoChecker
	}
	ctx, end := context.WithTimeout(context.Background(), checkTime)
	defer end()
	all := []string{"-f", "-y"}
	for _, how := range [][]string{{"-p"}, all, all, all} {
		var code int
		var out []byte
		out, code, err = fsck(ctx, checker, append(how[:len(how):len(how)], device))
		if said = append(said, out...); err != nil {
			return said, err
		}
		if code&^fsckFixed == 0 {
			return said, nil
		}
		if err = fmt.Errorf("e2fsck ended with %d: %s", code, bytes.TrimSpace(out[max(0, len(out)-400):])); ctx.Err() != nil {
			break
		}
	}
	return said, err
}

// fsck runs it once. Only its last words are kept: it names each block that it minds.
func fsck(ctx context.Context, checker string, args []string) (said []byte, code int, err error) {
	var last tail
	cmd := exec.CommandContext(ctx, checker, args...)
	cmd.Stdout, cmd.Stderr = &last, &last
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		code, err = exit.ExitCode(), nil
	}
	return last.bytes(), code, err
}
