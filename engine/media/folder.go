package media

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"hearth/engine/store"
)

// folder is where the files lie: under two hex digits of their names, and under
// new/ while they are being written.
type folder struct {
	fs  store.FS
	dir string

	mu   sync.Mutex
	made [256]bool // shards that are known to be there
}

const unfinished = "new"

// prepare makes the folder and empties new/.
func (f *folder) prepare() error {
	fresh := f.fs.PathJoin(f.dir, unfinished)
	left, err := f.fs.List(fresh)
	if errors.Is(err, fs.ErrNotExist) {
		return f.make(fresh)
	}
	if err != nil {
		return err
	}
	for _, name := range left {
		if err := f.fs.Remove(f.fs.PathJoin(fresh, name)); err != nil {
			return err
		}
	}
	return nil
}

func (f *folder) make(fresh string) error {
	if err := f.fs.MkdirAll(fresh, 0o700); err != nil {
		return err
	}
	if err := store.SyncDir(f.fs, f.fs.PathDir(f.dir)); err != nil {
		return err
	}
	return store.SyncDir(f.fs, f.dir)
}

func (f *folder) path(name string) string { return f.fs.PathJoin(f.dir, name[:2], name) }

func (f *folder) open(name string) (store.File, error) { return f.fs.Open(f.path(name)) }

// copyBuffer is what one upload holds of its file.
const copyBuffer = 32 << 10

// write writes body, at most limit bytes, under new/ and onto the disk.
func (f *folder) write(name string, body io.Reader, limit int64) (n int64, hash [sha256.Size]byte, err error) {
	file, err := store.CreateFile(f.fs, f.fs.PathJoin(f.dir, unfinished, name))
	if err != nil {
		return 0, hash, &diskError{err}
	}
	h := sha256.New()
	// The disk comes last: it may overwrite the bytes it is given.
	n, err = io.CopyBuffer(io.MultiWriter(h, &diskWriter{file}), &plainReader{io.LimitReader(body, limit+1)}, make([]byte, copyBuffer))
	if err == nil && n > limit {
		err = errTooLong
	}
	if err == nil {
		if err = file.Sync(); err != nil {
			err = &diskError{err}
		}
	}
	if cerr := file.Close(); err == nil && cerr != nil {
		err = &diskError{cerr}
	}
	if err != nil {
		return n, hash, errors.Join(err, f.drop(name))
	}
	return n, [sha256.Size]byte(h.Sum(nil)), nil
}

var errTooLong = errors.New("media: longer than allowed")

// diskError tells an error of the disk from one of whoever sends the body.
type diskError struct{ err error }

func (e *diskError) Error() string { return e.err.Error() }
func (e *diskError) Unwrap() error { return e.err }

type diskWriter struct{ w io.Writer }

func (d *diskWriter) Write(p []byte) (int, error) {
	n, err := d.w.Write(p)
	if err != nil {
		err = &diskError{err}
	}
	return n, err
}

// plainReader hides a WriterTo, which would go round the copy buffer.
type plainReader struct{ io.Reader }

// drop removes an unfinished file.
func (f *folder) drop(name string) error {
	return f.fs.Remove(f.fs.PathJoin(f.dir, unfinished, name))
}

// place moves a written file to where it belongs. With sure it is there after a
// power cut, too.
func (f *folder) place(name string, sure bool) error {
	shard := f.fs.PathJoin(f.dir, name[:2])
	if err := f.shard(name); err != nil {
		return err
	}
	if err := f.fs.Rename(f.fs.PathJoin(f.dir, unfinished, name), f.path(name)); err != nil {
		return err
	}
	if !sure {
		return nil
	}
	return store.SyncDir(f.fs, shard)
}

// shard makes the folder of a name.
func (f *folder) shard(name string) error {
	var i int
	if _, err := fmt.Sscanf(name[:2], "%02x", &i); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.made[i] {
		return nil
	}
	if err := f.fs.MkdirAll(f.fs.PathJoin(f.dir, name[:2]), 0o700); err != nil {
		return err
	}
	if err := store.SyncDir(f.fs, f.dir); err != nil {
		return err
	}
	f.made[i] = true
	return nil
}

// remove removes a file and its thumbnails; what is not there is no error.
func (f *folder) remove(name string) error {
	err := gone(f.fs.Remove(f.path(name)))
	for i := range sizes {
		err = errors.Join(err, gone(f.fs.Remove(f.path(name+sizes[i].suffix()))))
	}
	return err
}

func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// list gives the names in one shard.
func (f *folder) list(shard int) ([]string, error) {
	names, err := f.fs.List(f.fs.PathJoin(f.dir, fmt.Sprintf("%02x", shard)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return names, err
}

// free is what uploads may still take of the disk, keep bytes left alone.
func (f *folder) free(keep int64) (int64, bool) {
	n, ok := store.Free(f.fs, f.dir)
	if n > 1<<62 || !ok {
		return 0, false
	}
	return int64(n) - keep, true
}
