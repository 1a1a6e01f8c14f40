package boot

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"hearth/firmware/card"
	"hearth/firmware/gpt"
)

// Disk is the card or disk that the box was started from. Partitions have the numbers that the kernel gives them.
type Disk struct {
	Name string // as vda or mmcblk0
	Slot int    // whose root is mounted at /
	Card *card.Card
}

// FindDisk asks the kernel what is mounted at / and reads the disk's table.
func FindDisk() (*Disk, error) {
	var st unix.Stat_t
	if err := unix.Stat("/", &st); err != nil {
		return nil, err
	}
	node, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)))
	if err != nil {
		return nil, fmt.Errorf("the device of the root: %w", err)
	}
	root, err := number(filepath.Join(node, "partition"))
	if err != nil {
		return nil, fmt.Errorf("the root is no partition: %w", err)
	}
	d := &Disk{Name: filepath.Base(filepath.Dir(node))}
	f, err := os.Open("/dev/" + d.Name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := d.sectors()
	if err != nil {
		return nil, err
	}
	if d.Card, err = card.Read(f, size); err != nil {
		return nil, fmt.Errorf("/dev/%s: %w", d.Name, err)
	}
	d.Slot, err = d.Card.Plan.Slot(int(root))
	return d, err
}

// Data is the name of the data partition in /dev.
func (d *Disk) Data() string { return d.Device(d.Card.Plan.Data) }

// Device is a partition's name in /dev.
func (d *Disk) Device(part int) string {
	if last := d.Name[len(d.Name)-1]; last >= '0' && last <= '9' {
		return fmt.Sprintf("/dev/%sp%d", d.Name, part)
	}
	return fmt.Sprintf("/dev/%s%d", d.Name, part)
}

// sectors is the disk's size.
func (d *Disk) sectors() (uint64, error) { return number("/sys/class/block/" + d.Name + "/size") }

func number(path string) (uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
}

// GrowPartition gives the data partition all of the disk, before it is mounted. A power cut at any moment leaves the
// old table or the new one; the file system grows after that. A table that a cut has torn is written anew.
func (d *Disk) GrowPartition() (grown bool, err error) {
	size, err := d.sectors()
	if err != nil {
		return false, err
	}
	if grown = d.Card.Grow(size); !grown && !d.Card.Torn() {
		return false, nil
	}
	f, err := os.OpenFile("/dev/"+d.Name, os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if err := d.Card.Write(f, f.Sync); err != nil {
		return false, err
	}
	if !grown {
		return false, nil
	}
	return true, resizePartition(f, d.Card.Part(d.Card.Plan.Data))
}

// The kernel's words for a partition of a disk that is in use; linux/blkpg.h.
const (
	blkpg       = 0x1269
	blkpgResize = 3
)

type blkpgPartition struct {
	start, length int64
	number        int32
	_             [128]byte // names
	_             int32
}

type blkpgArg struct {
	op, flags, size int32
	_               int32
	data            *blkpgPartition
}

// resizePartition tells the kernel what the table says now.
func resizePartition(f *os.File, p card.Part) error {
	part := blkpgPartition{start: p.Begin, length: p.Size, number: int32(p.Number)}
	arg := blkpgArg{op: blkpgResize, size: int32(unsafe.Sizeof(part)), data: &part}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), blkpg, uintptr(unsafe.Pointer(&arg))); errno != 0 {
		return fmt.Errorf("resizing partition %d: %w", p.Number, errno)
	}
	return nil
}

// ext4Resize is EXT4_IOC_RESIZE_FS of the kernel's fs/ext4/ext4.h.
const ext4Resize = 0x40086610

// GrowData makes the mounted file system as large as its partition. It is safe against power cuts, as the file system
// grows by its journal, and quick where nothing is to do.
func (d *Disk) GrowData(at string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); err != nil {
		return err
	}
	size, err := number("/sys/class/block/" + filepath.Base(d.Data()) + "/size")
	if err != nil {
		return err
	}
	blocks := size * gpt.Sector / uint64(st.Bsize)
	f, err := os.Open(at)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), ext4Resize, uintptr(unsafe.Pointer(&blocks))); errno != 0 {
		return fmt.Errorf("growing the data partition to %d blocks: %w", blocks, errno)
	}
	return nil
}
