package simnet

import (
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// disk is a memory disk on which the store treats its log as it does on a real
// one: it asks files for their descriptor, which it never uses as one.
type disk struct{ *vfs.MemFS }

func (d disk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.MemFS.Create(name, c)
	if err != nil || !strings.HasSuffix(name, ".log") {
		return f, err
	}
	return file{f}, nil
}

type file struct{ vfs.File }

func (file) Fd() uintptr { return 1 << 20 }
