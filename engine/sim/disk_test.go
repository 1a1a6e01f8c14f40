package sim

import (
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// disk is a memory disk that can tell of each sync of a file or folder, before
// whoever asked for the sync knows that it is done.
type disk struct {
	*vfs.MemFS
	tell atomic.Pointer[func()]
}

func newDisk() *disk { return &disk{MemFS: vfs.NewCrashableMem()} }

// after has f called after each sync from now on.
func (d *disk) after(f func()) { d.tell.Store(&f) }

func (d *disk) synced() {
	if f := d.tell.Load(); f != nil {
		(*f)()
	}
}

func (d *disk) wrap(f vfs.File, err error, fd uintptr) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &file{File: f, d: d, fd: fd}, nil
}

func (d *disk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.MemFS.Create(name, c)
	fd := vfs.InvalidFd
	if strings.HasSuffix(name, ".log") {
		fd = 1 << 20 // never used as one: it has the store treat its log as it does on a real disk
	}
	return d.wrap(f, err, fd)
}

func (d *disk) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := d.MemFS.OpenReadWrite(name, c, opts...)
	return d.wrap(f, err, vfs.InvalidFd)
}

func (d *disk) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.MemFS.ReuseForWrite(from, to, c)
	return d.wrap(f, err, vfs.InvalidFd)
}

func (d *disk) OpenDir(name string) (vfs.File, error) {
	f, err := d.MemFS.OpenDir(name)
	return d.wrap(f, err, vfs.InvalidFd)
}

type file struct {
	vfs.File
	d  *disk
	fd uintptr
}

func (f *file) Fd() uintptr { return f.fd }

func (f *file) Sync() error {
	err := f.File.Sync()
	f.d.synced()
	return err
}

func (f *file) SyncData() error {
	err := f.File.SyncData()
	f.d.synced()
	return err
}

func (f *file) SyncTo(n int64) (bool, error) {
	full, err := f.File.SyncTo(n)
	f.d.synced()
	return full, err
}
