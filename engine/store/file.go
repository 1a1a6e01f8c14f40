package store

import (
	"bytes"
	"errors"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// Disk is the real file system.
func Disk() FS { return vfs.Default }

// File is one open file of an FS.
type File = vfs.File

// CreateFile makes a file, or makes an old one anew. Nobody but the hub's own
// user may read it: keys lie among them.
func CreateFile(fs FS, name string) (File, error) {
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	if fd := f.Fd(); fd != vfs.InvalidFd {
		if err := unix.Fchmod(int(fd), 0o600); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return f, nil
}

// SyncDir brings the names in a directory to the disk.
func SyncDir(fs FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Free is how many bytes there are left for files under dir; ok is false where
// the file system does not tell.
func Free(fs FS, dir string) (n uint64, ok bool) {
	u, err := fs.GetDiskUsage(dir)
	return u.AvailBytes, err == nil
}

// fileLimit bounds the small files that lie beside the database.
const fileLimit = 1 << 20

// ReadFile reads a small file. The error is fs.ErrNotExist where there is none.
func ReadFile(fs FS, name string) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, fileLimit))
	return text, errors.Join(err, f.Close())
}

// WriteFile writes a small file so that a power cut leaves the old one, the
// new one, or none, never a part.
func WriteFile(fs FS, name string, text []byte) error {
	tmp := name + ".new"
	f, err := CreateFile(fs, tmp)
	if err != nil {
		return err
	}
	_, err = f.Write(bytes.Clone(text)) // Pebble's disk in memory spoils what it is given, in builds with -race
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(tmp, name); err != nil {
		return err
	}
	return SyncDir(fs, fs.PathDir(name))
}

// makeDir makes a folder and what leads to it, so that a power cut cannot take
// away the way to what is synced inside: each folder that got a new entry is
// synced too.
func makeDir(fs FS, dir string) error {
	var parents []string
	for at := dir; ; {
		if _, err := fs.Stat(at); err == nil {
			break
		}
		up := fs.PathDir(at)
		parents = append(parents, up)
		if up == at {
			break
		}
		at = up
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, p := range parents {
		f, err := fs.OpenDir(p)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}
