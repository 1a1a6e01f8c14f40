package media

import (
	"bytes"
	"image/png"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/store"
)

// failFS refuses one of the calls that change something.
type failFS struct {
	store.FS
	left int // calls until then
	err  error
}

func (f *failFS) fails() error {
	if f.left--; f.left == 0 {
		return f.err
	}
	return nil
}

func (f *failFS) Create(name string, how vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.fails(); err != nil {
		return nil, err
	}
	file, err := f.FS.Create(name, how)
	return &failFile{file, f}, err
}

func (f *failFS) MkdirAll(dir string, perm os.FileMode) error {
	if err := f.fails(); err != nil {
		return err
	}
	return f.FS.MkdirAll(dir, perm)
}

func (f *failFS) Rename(from, to string) error {
	if err := f.fails(); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

func (f *failFS) OpenDir(name string) (vfs.File, error) {
	file, err := f.FS.OpenDir(name)
	return &failFile{file, f}, err
}

type failFile struct {
	vfs.File
	fs *failFS
}

func (f *failFile) Write(p []byte) (int, error) {
	if err := f.fs.fails(); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

func (f *failFile) Sync() error {
	if err := f.fs.fails(); err != nil {
		return err
	}
	return f.File.Sync()
}

// Whatever call the disk refuses, the upload fails, says whose fault it was, and
// leaves nothing; the next one goes well.
func TestDiskFaults(t *testing.T) {
	h := fresh(t, Options{})
	good := 0
	for n := 1; n < 20; n++ {
		bad := &failFS{FS: h.o.FS, left: n, err: syscall.ENOSPC}
		h.files.fs, h.files.made = bad, [256]bool{}
		_, err := h.Upload(&Upload{Owner: 7, Length: 5}, strings.NewReader("hello"))
		h.files.fs = h.o.FS
		if err == nil {
			good++
			if bad.left == 0 {
				t.Errorf("call %d was refused, and nobody noticed", n)
			}
			continue
		}
		if got := kind(err); got != "full" {
			t.Errorf("call %d: %s", n, got)
		}
		if left, err := h.o.FS.List("data/media/new"); err != nil || len(left) != 0 {
			t.Errorf("call %d: left behind: %v %v", n, left, err)
		}
	}
	if bytes, files, err := h.Used(7); files != int64(good) || bytes != 5*files || err != nil || good < 5 || good > 14 {
		t.Error(bytes, files, good, err)
	}
	files := 0
	for shard := range 256 {
		names, err := h.files.list(shard)
		if err != nil {
			t.Fatal(err)
		}
		files += len(names)
	}
	if files != good {
		t.Errorf("%d files for %d uploads", files, good)
	}
	if len(h.flying) != 0 {
		t.Error("still under way: ", h.flying)
	}
}

// On a disk that takes nothing files are served, and thumbnails made for the
// moment.
func TestReadOnly(t *testing.T) {
	fs := vfs.NewMem()
	h := open(t, fs, Options{})
	var buf bytes.Buffer
	if err := png.Encode(&buf, gradient(100, 100)); err != nil {
		t.Fatal(err)
	}
	m := h.put(t, 7, Local, buf.String())
	h.close(t)
	ro, err := store.Open(store.Options{Dir: "data/db", FS: fs, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(ro, Options{Dir: "data/media", FS: &failFS{FS: fs, left: 1, err: syscall.EROFS}, Server: "hub.test", Now: h.o.Now})
	if err != nil {
		t.Fatal(err)
	}
	h = &hub{Records: r, st: ro, at: h.at.Add(48 * 60 * 60 * 1e9)}
	defer h.close(t)
	if got := h.text(t, m); got != buf.String() {
		t.Error(len(got))
	}
	for range 2 {
		b, err := h.Thumbnail(m, Want{Width: 32, Height: 32, Crop: true}, nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(b)
		if c, cerr := png.DecodeConfig(bytes.NewReader(text)); err != nil || cerr != nil || c.Width != 32 || b.Close() != nil {
			t.Error(err, cerr, c)
		}
	}
	if _, err := h.Upload(&Upload{Length: 1}, strings.NewReader("x")); kind(err) != "full" {
		t.Error(err)
	}
}
