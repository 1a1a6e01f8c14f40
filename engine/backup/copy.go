package backup

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"

	"hearth/engine/fault"
	"hearth/engine/store"
)

// copier copies files, until ctx ends.
type copier struct {
	ctx   context.Context
	fs    store.FS
	links bool // what is never written to may be shared by hard links
}

// names lists a folder; none where it is not there.
func (c *copier) names(dir string) ([]string, error) {
	names, err := c.fs.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return names, err
}

// vacant refuses a folder with something in it.
func (c *copier) vacant(dir string) (existed bool, err error) {
	names, err := c.fs.List(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return true, fault.E(fault.Invalid, "backup.Write", "%s cannot become a backup: %w", dir, err)
	case len(names) > 0:
		return true, fault.E(fault.Invalid, "backup.Write", "%s is not empty, and nothing is written over: name a new folder", dir)
	}
	return true, nil
}

// empty takes back what was written into a folder that was empty or not there.
func (c *copier) empty(dir string, existed bool) error {
	if !existed {
		return c.fs.RemoveAll(dir)
	}
	names, err := c.names(dir)
	for _, name := range names {
		err = errors.Join(err, c.fs.RemoveAll(c.fs.PathJoin(dir, name)))
	}
	return err
}

// folder makes a folder, with what leads to it, that only the hub's user reads.
func (c *copier) folder(dir string) error {
	if err := c.fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return store.SyncDir(c.fs, c.fs.PathDir(dir))
}

// tree copies a folder of files.
func (c *copier) tree(from, to string) error {
	if err := c.folder(to); err != nil {
		return err
	}
	names, err := c.fs.List(from)
	for _, name := range names {
		if err == nil {
			err = c.file(c.fs.PathJoin(from, name), c.fs.PathJoin(to, name), true)
		}
	}
	if err != nil {
		return err
	}
	return store.SyncDir(c.fs, to)
}

// beside copies what lies in a data folder or backup beside the store and the
// media: the files, and the certificates that were got for the hub.
func (c *copier) beside(from, to string) error {
	names, err := c.fs.List(from)
	if err != nil {
		return err
	}
	for _, name := range names {
		path := c.fs.PathJoin(from, name)
		if !c.taken(path, name) {
			continue
		}
		if err := c.file(path, c.fs.PathJoin(to, name), false); err != nil {
			return err
		}
	}
	if acme := c.fs.PathJoin(from, acmeFolder); c.isFolder(acme) {
		return c.tree(acme, c.fs.PathJoin(to, acmeFolder))
	}
	return store.SyncDir(c.fs, to)
}

// taken says whether what lies beside the store is taken along: files that are
// whole, and no sockets.
func (c *copier) taken(path, name string) bool {
	info, err := c.fs.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Size() <= fileLimit &&
		name != noteFile && name != mediaList && !strings.HasSuffix(name, ".new")
}

func (c *copier) isFolder(path string) bool {
	info, err := c.fs.Stat(path)
	return err == nil && info.IsDir()
}

// mayRestore refuses a data folder with a hub in it. Files that a restore which
// was cut short has brought are no hub.
func (c *copier) mayRestore(from, dir string) error {
	const op = "backup.Restore"
	names, err := c.names(dir)
	if err != nil {
		return fault.E(fault.Invalid, op, "%s cannot become a data folder: %w", dir, err)
	}
	for _, name := range names {
		if name == storeFolder || strings.HasPrefix(name, storeFolder+".") {
			return fault.E(fault.Invalid, op, "there is a hub in %s, and nothing is written over: name another folder, or move it away", dir)
		}
		here, there := c.fs.PathJoin(dir, name), c.fs.PathJoin(from, name)
		if !c.taken(here, name) || !c.taken(there, name) {
			continue
		}
		a, err := store.ReadFile(c.fs, here)
		if err != nil {
			return err
		}
		b, err := store.ReadFile(c.fs, there)
		if err != nil {
			return err
		}
		if !bytes.Equal(a, b) {
			return fault.E(fault.Invalid, op, "%s has another %s than the backup, and nothing is written over: move it away", dir, name)
		}
	}
	return nil
}

// file copies one file and brings it to the disk; linked says that both may be
// the same one, because neither is ever written to.
func (c *copier) file(from, to string, linked bool) (err error) {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if linked && c.links && c.fs.Link(from, to) == nil {
		return nil
	}
	in, err := c.fs.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := store.CreateFile(c.fs, to)
	if err != nil {
		return err
	}
	if _, err = io.CopyBuffer(onlyWriter{out}, untilDone{c.ctx, in}, make([]byte, 128<<10)); err == nil {
		err = out.Sync()
	}
	return errors.Join(err, out.Close())
}

// onlyWriter and untilDone keep io.CopyBuffer to its buffer.
type onlyWriter struct{ io.Writer }

// untilDone reads until a context ends.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}
