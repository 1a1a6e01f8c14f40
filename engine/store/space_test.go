package store

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/fault"
)

// smallDisk is a memory disk of so many bytes, some of them taken by others.
type smallDisk struct {
	*vfs.MemFS
	mu      sync.Mutex
	bytes   int64
	others  int64
	sizes   map[string]int64
	written int64
}

func newSmallDisk(bytes int64) *smallDisk {
	return &smallDisk{MemFS: vfs.NewMem(), bytes: bytes, sizes: map[string]int64{}}
}

// used needs mu.
func (d *smallDisk) used() int64 {
	n := d.others
	for _, size := range d.sizes {
		n += size
	}
	return n
}

func (d *smallDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	used := d.used()
	return vfs.DiskUsage{AvailBytes: uint64(max(d.bytes-used, 0)), TotalBytes: uint64(d.bytes), UsedBytes: uint64(used)}, nil
}

// fill has others take all but so many bytes.
func (d *smallDisk) fill(left int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.others = 0
	d.others = max(d.bytes-d.used()-left, 0)
}

func (d *smallDisk) wrote() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.written
}

func (d *smallDisk) grow(name string, end, n int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if more := end - d.sizes[name]; more > 0 {
		if d.used()+more > d.bytes {
			return syscall.ENOSPC
		}
		d.sizes[name] = end
	}
	d.written += n
	return nil
}

func (d *smallDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	d.mu.Lock()
	d.sizes[name] = 0
	d.mu.Unlock()
	f, err := d.MemFS.Create(name, c)
	return &smallFile{File: f, d: d, name: name}, err
}

func (d *smallDisk) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := d.MemFS.OpenReadWrite(name, c, opts...)
	return &smallFile{File: f, d: d, name: name}, err
}

func (d *smallDisk) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	d.moved(from, to)
	f, err := d.MemFS.ReuseForWrite(from, to, c)
	return &smallFile{File: f, d: d, name: to}, err
}

func (d *smallDisk) Rename(from, to string) error {
	d.moved(from, to)
	return d.MemFS.Rename(from, to)
}

func (d *smallDisk) moved(from, to string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sizes[to] = d.sizes[from]
	delete(d.sizes, from)
}

func (d *smallDisk) Remove(name string) error {
	d.mu.Lock()
	delete(d.sizes, name)
	d.mu.Unlock()
	return d.MemFS.Remove(name)
}

type smallFile struct {
	vfs.File
	d    *smallDisk
	name string
	end  int64
}

func (f *smallFile) Write(p []byte) (int, error) {
	if err := f.d.grow(f.name, f.end+int64(len(p)), int64(len(p))); err != nil {
		return 0, err
	}
	n, err := f.File.Write(p)
	f.end += int64(n)
	return n, err
}

func (f *smallFile) WriteAt(p []byte, at int64) (int, error) {
	if err := f.d.grow(f.name, at+int64(len(p)), int64(len(p))); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, at)
}

// filler writes rows that do not compress.
type filler struct {
	t   *testing.T
	s   *Store
	rng *rand.ChaCha8
	n   int // rows written
}

func (f *filler) row() error {
	val := make([]byte, 16000)
	f.rng.Read(val)
	b := f.s.NewBatch()
	b.Set(U64(OtherBody.Key(nil), uint64(f.n)), val)
	err := f.s.Commit(b)
	if err == nil {
		f.n++
	}
	return err
}

// fill writes until the disk is full.
func (f *filler) fill(limit int) {
	f.t.Helper()
	for range limit {
		if err := f.row(); err != nil {
			if !fault.Is(err, fault.Full) {
				f.t.Fatalf("row %d: %v", f.n, err)
			}
			return
		}
	}
	f.t.Fatalf("%d rows were taken by a disk that has no room for them", limit)
}

// refused tries rows in vain.
func (f *filler) refused(times int) {
	f.t.Helper()
	for range times {
		if err := f.row(); !fault.Is(err, fault.Full) {
			f.t.Fatalf("a full disk takes a row: %v", err)
		}
	}
}

// free deletes half of the rows.
func (f *filler) free() {
	f.t.Helper()
	b := f.s.NewBatch()
	b.DeleteRange(OtherBody.Prefix(), U64(OtherBody.Key(nil), uint64(f.n/2)))
	b.Frees()
	if err := f.s.Commit(b); err != nil {
		f.t.Fatalf("deleting on a full disk: %v", err)
	}
}

// readable counts the rows.
func (f *filler) readable(want int) {
	f.t.Helper()
	n := 0
	if err := f.s.ScanPrefix(OtherBody.Prefix(), func(_, _ []byte) (bool, error) { n++; return true, nil }); err != nil || n != want {
		f.t.Fatalf("%d rows can be read of %d, %v", n, want, err)
	}
}

func openSmall(t *testing.T, dir string, fs FS, ballast bool) *filler {
	t.Helper()
	s, err := Open(Options{Dir: dir, FS: fs, MemTable: 256 << 10, CacheBytes: 1 << 20, Ballast: ballast, Log: t.Logf,
		Fatal: func(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }})
	if err != nil {
		t.Fatal(err)
	}
	return &filler{t: t, s: s, rng: rand.NewChaCha8([32]byte{1})}
}

// fullDisk is the story of a disk that fills, and of the deletion that ends it.
// written counts the bytes that reached the disk.
func fullDisk(t *testing.T, f *filler, written func() int64, others func(left int64)) {
	f.fill(1 << 13)
	if f.n < 500 {
		t.Fatalf("full after %d rows", f.n)
	}
	before, compactions := written(), f.s.db.Metrics().Compact.Count
	f.refused(5000)
	f.readable(f.n)
	if n := written() - before; n > 512<<10 {
		t.Errorf("%d bytes were written while the disk was full", n)
	}
	// What ran when the disk filled may end; nothing begins.
	if n := f.s.db.Metrics().Compact.Count - compactions; n > 1 {
		t.Errorf("%d compactions while the disk was full", n)
	}
	// Others take the rest but for a little: deleting still works.
	others(900 << 10)
	f.refused(10)
	f.free()
	f.readable(f.n - f.n/2)
	others(-1)
	f.s.db.TestOnlyWaitForCleaning() // deleted tables go in their own time
	if err := f.row(); err != nil {
		t.Fatalf("after deleting half of it: %v", err)
	}
	f.readable(f.n - (f.n-1)/2)
}

func TestFullDiskRefusesAndRecovers(t *testing.T) {
	d := newSmallDisk(32 << 20)
	f := openSmall(t, "db", d, true)
	if info, err := d.Stat("db/" + ballastName); err != nil || info.Size() != 32<<20/ballastPart {
		t.Fatal("the ballast is not there", err)
	}
	fullDisk(t, f, d.wrote, func(left int64) {
		if left < 0 {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.others = 0
			return
		}
		d.fill(left)
	})
	if _, err := d.Stat("db/" + ballastName); err != nil {
		t.Fatal("the ballast is not back", err)
	}
	rows := f.n
	if err := f.s.Close(); err != nil {
		t.Fatal(err)
	}
	f = openSmall(t, "db", d, true)
	defer f.s.Close()
	f.readable(rows - (rows-1)/2)
}

// A disk that others fill between two looks: the ballast saves the write that
// finds it out, and the next is refused.
func TestBallastSavesTheLog(t *testing.T) {
	d := newSmallDisk(32 << 20)
	f := openSmall(t, "db", d, true)
	defer f.s.Close()
	for range 10 {
		if err := f.row(); err != nil {
			t.Fatal(err)
		}
	}
	d.fill(100)
	if err := f.row(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Stat("db/" + ballastName); err == nil {
		t.Fatal("the ballast is still there")
	}
	f.refused(3)
	f.readable(11)
	d.fill(16 << 20)
	if err := f.row(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Stat("db/" + ballastName); err != nil {
		t.Fatal("the ballast is not back", err)
	}
}

// A store on a full disk opens to be read and deleted from; where there is not
// even room for that, it says so at once.
func TestOpeningOnAFullDisk(t *testing.T) {
	d := newSmallDisk(32 << 20)
	f := openSmall(t, "db", d, false)
	f.fill(1 << 13)
	rows := f.n
	if err := f.s.Close(); err != nil {
		t.Fatal(err)
	}
	f = openSmall(t, "db", d, false)
	f.refused(1)
	f.readable(rows)
	f.n = rows
	if err := f.s.Close(); err != nil {
		t.Fatal(err)
	}
	d.fill(100 << 10)
	if _, err := Open(Options{Dir: "db", FS: d, MemTable: 256 << 10}); !fault.Is(err, fault.Full) {
		t.Fatal(err)
	}
	s, err := Open(Options{Dir: "db", FS: d, MemTable: 256 << 10, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	f.s = s
	f.readable(rows)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
