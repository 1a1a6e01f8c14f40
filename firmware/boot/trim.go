package boot

import (
	"context"
	"errors"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A card is told once a week which of its blocks hold nothing, so that it has some to spread its wear over. The time of
// the last one is kept: a box that is started every day does it once a week too.
const (
	trimEvery = 7 * 24 * time.Hour
	trimLook  = time.Hour
	trimStep  = 1 << 30 // bytes at once, so that others get to the card in between
	trimPause = 200 * time.Millisecond
)

// fitrim is FITRIM of the kernel's linux/fs.h, and its argument.
const fitrim = 0xc0185879

type trimRange struct{ start, length, least uint64 }

// Trims trims the file system mounted at dir when it is due, until ctx ends. A card that cannot is not asked again.
func Trims(ctx context.Context, dir string) {
	stamp := filepath.Join(dir, "trimmed")
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(trimLook):
		}
		if !trimDue(stamp, time.Now()) {
			continue
		}
		n, err := trim(ctx, dir)
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) {
			log.Printf("the card does not take word of empty blocks")
			return
		}
		if err != nil {
			log.Printf("telling the card of empty blocks: %v", err)
			continue
		}
		log.Printf("the card was told of %d MB of empty blocks", n/1e6)
		if err := WriteFile(stamp, []byte(time.Now().UTC().Format(time.RFC3339)+"\n"), 0o600); err != nil {
			log.Printf("keeping when: %v", err)
		}
	}
}

// trimDue says whether a week has gone by. A time in the future was kept by a clock that was wrong.
func trimDue(stamp string, now time.Time) bool {
	b, err := os.ReadFile(stamp)
	if err != nil {
		return true
	}
	last, err := time.Parse(time.RFC3339, strings.TrimSpace(string(b)))
	return err != nil || last.After(now) || now.Sub(last) >= trimEvery
}

// trim tells the card of all blocks that are free, and gives how many bytes they are.
func trim(ctx context.Context, dir string) (n uint64, err error) {
	f, err := os.Open(dir)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return 0, err
	}
	size := st.Blocks * uint64(st.Bsize)
	for at := uint64(0); at < size; at += trimStep {
		r := trimRange{start: at, length: trimStep, least: 64 << 10}
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), fitrim, uintptr(unsafe.Pointer(&r))); errno != 0 {
			return n, errno
		}
		n += r.length
		select {
		case <-ctx.Done():
			return n, ctx.Err()
		case <-time.After(trimPause):
		}
	}
	return n, nil
}
