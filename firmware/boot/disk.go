package boot

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"hearth/firmware/gpt"
)

// Disk is the card or disk that the box was started from. Partitions are counted from 1; a slot is a boot partition and
// behind it its root, so that a kernel never meets another's root.
type Disk struct {
	Name string // as vda or mmcblk0
	Root int    // the partition that is mounted at /
	Data int    // the last one
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
	d := &Disk{Name: filepath.Base(filepath.Dir(node)), Root: int(root)}
	f, err := os.Open("/dev/" + d.Name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := d.sectors()
	if err != nil {
		return nil, err
	}
	t, err := gpt.Read(f, size)
	if err != nil {
		return nil, fmt.Errorf("/dev/%s: %w", d.Name, err)
	}
	d.Data = len(t.Partitions)
	return d, nil
}

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

// grain is what the end of the data partition is rounded to, in sectors: 4 MiB, which cards erase at once.
const grain = 4 << 20 / gpt.Sector

// grow gives the data partition the rest of a larger disk in t, and says whether there was any.
func grow(t *gpt.Table, sectors uint64) bool {
	if sectors <= t.Sectors {
		return false
	}
	larger := gpt.Table{Sectors: sectors}
	data := &t.Partitions[len(t.Partitions)-1]
	last := (larger.Usable()+1)/grain*grain - 1
	if last < data.Last+grain {
		return false
	}
	t.Sectors, data.Last = sectors, last
	return true
}

// GrowPartition gives the data partition all of the disk, before it is mounted. A power cut at any moment leaves the
// old table or the new one; the file system grows after that.
func (d *Disk) GrowPartition() (grown bool, err error) {
	f, err := os.OpenFile("/dev/"+d.Name, os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	size, err := d.sectors()
	if err != nil {
		return false, err
	}
	t, err := gpt.Read(f, size)
	if err != nil || !grow(t, size) {
		return false, err
	}
	if err := t.Write(f, 0, f.Sync); err != nil {
		return false, err
	}
	p := t.Partitions[d.Data-1]
	return true, resizePartition(f, d.Data, p)
}

// The kernel's words for a partition of a disk that is in use; linux/blkpg.h.
const (
	blkpg       = 0x1269
	blkpgResize = 3
)

type blkpgPartition struct {
	start, length   int64
	number          int32
	device, volname [64]byte
	_               int32
}

type blkpgArg struct {
	op, flags, size int32
	_               int32
	data            *blkpgPartition
}

// resizePartition tells the kernel what the table says now.
func resizePartition(f *os.File, number int, p gpt.Partition) error {
	part := blkpgPartition{start: int64(p.First * gpt.Sector), length: int64((p.Last - p.First + 1) * gpt.Sector), number: int32(number)}
	arg := blkpgArg{op: blkpgResize, size: int32(unsafe.Sizeof(part)), data: &part}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), blkpg, uintptr(unsafe.Pointer(&arg))); errno != 0 {
		return fmt.Errorf("resizing partition %d: %w", number, errno)
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
	size, err := number("/sys/class/block/" + filepath.Base(d.Device(d.Data)) + "/size")
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
