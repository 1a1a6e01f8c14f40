package media

import (
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"sync"
	"time"

	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
)

// Options are what the record is opened with. Zero sizes and times take the
// defaults named.
type Options struct {
	Dir    string   // where the files lie
	FS     store.FS // nil: the real disk
	Server mxid.Server

	MaxUpload int64         // bytes of one file; 0: 20 MiB
	Quota     int64         // bytes of all files together; 0: no limit but the disk's
	UserQuota int64         // bytes of one user's files; 0: no limit of their own
	KeepFree  int64         // bytes of the disk that files leave alone; 0: 64 MiB
	Pending   int           // reserved ids of one user; 0: 16
	Reserve   time.Duration // how long an id stays reserved; 0: 24 h

	LocalAge     time.Duration // files of users here go when they are so old; 0: never
	LocalUnused  time.Duration // and when nobody fetched them for so long; 0: never
	RemoteUnused time.Duration // copies of other servers' files; 0: 30 days

	ImageBytes int // memory that a picture may take that is not decoded row by row; 0: 24 MiB

	Now func() time.Time // nil: time.Now
	Log func(format string, args ...any)
}

// Bounds of what is written down about one file.
const (
	maxType   = 255
	maxName   = 255 // bytes, as file systems have it
	maxID     = 255
	maxFlying = 32 // uploads at once, each with a file open
)

// previewUnused is how long the picture of a link preview is kept when nobody
// looks: clients ask for the preview again.
const previewUnused = 7 * 24 * time.Hour

// Records is the open record. All methods may be called at the same time.
type Records struct {
	o     Options
	st    *store.Store
	files folder

	mu      sync.Mutex      // rows are read and then written under it; guards all below
	flying  map[key]int64   // uploads under way, and the bytes they announced
	parked  map[key]*parked // downloads that wait for an upload
	touched map[key]int64   // day of the last access, not written yet
	swept   bool            // files without rows have been looked for

	decoding chan struct{} // held by who decodes a picture
	queue    chan struct{} // held by who waits for that too
}

// parked are the downloads that wait for one reserved id.
type parked struct {
	done    chan struct{} // closed when the file is there
	waiting int
}

// Open makes the folders that are missing and drops what uploads left
// unfinished.
func Open(st *store.Store, o Options) (*Records, error) {
	def(&o.MaxUpload, 20<<20)
	def(&o.KeepFree, 64<<20)
	def(&o.Pending, 16)
	def(&o.Reserve, 24*time.Hour)
	def(&o.RemoteUnused, 30*24*time.Hour)
	def(&o.ImageBytes, 24<<20)
	if o.FS == nil {
		o.FS = store.Disk()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	r := &Records{
		o: o, st: st, files: folder{fs: o.FS, dir: o.Dir},
		flying: map[key]int64{}, parked: map[key]*parked{}, touched: map[key]int64{},
		decoding: make(chan struct{}, 1), queue: make(chan struct{}, maxQueue),
	}
	if st.ReadOnly() {
		return r, nil
	}
	if err := r.files.prepare(); err != nil {
		return nil, fault.E(fault.Internal, "media.Open", "the media folder: %w", err)
	}
	return r, nil
}

func def[T int | int64 | time.Duration](v *T, to T) {
	if *v == 0 {
		*v = to
	}
}

// Close writes down what was only remembered. Nobody may be using the record
// any more.
func (r *Records) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.flush()
}

// MaxUpload is the longest file that is taken.
func (r *Records) MaxUpload() int64 { return r.o.MaxUpload }

// get reads a row; nil where there is none.
func (r *Records) get(k key) (*Media, error) {
	row, ok, err := r.st.Get(nil, k.row())
	if err != nil || !ok {
		return nil, err
	}
	return parseRow(k, row)
}

// Find gives what is known of a file that can be opened: NotFound where there
// is none, NotYetUploaded where its id is only reserved.
func (r *Records) Find(origin mxid.Server, id string) (*Media, error) {
	m, err := r.get(keyOf(origin, id))
	if err != nil {
		return nil, err
	}
	switch {
	case m == nil, m.Blocked, !m.stored && !m.expires.After(r.o.Now()):
		return nil, fault.E(fault.NotFound, "media.Find", "there is no such file")
	case !m.stored:
		return nil, fault.E(fault.NotYetUploaded, "media.Find", "")
	}
	return m, nil
}

// Wait is Find that gives an upload under way, or not begun, some time.
// Spec: client-server, content repository, timeout_ms.
func (r *Records) Wait(origin mxid.Server, id string, timeout time.Duration, stop <-chan struct{}) (*Media, error) {
	m, err := r.Find(origin, id)
	if !fault.Is(err, fault.NotYetUploaded) || timeout <= 0 {
		return m, err
	}
	k := keyOf(origin, id)
	p := r.park(k)
	defer r.unpark(k, p)
	if m, err = r.Find(origin, id); !fault.Is(err, fault.NotYetUploaded) {
		return m, err // it came just before we parked
	}
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case <-p.done:
	case <-t.C:
	case <-stop:
	}
	return r.Find(origin, id)
}

func (r *Records) park(k key) *parked {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.parked[k]
	if p == nil {
		p = &parked{done: make(chan struct{})}
		r.parked[k] = p
	}
	p.waiting++
	return p
}

func (r *Records) unpark(k key, p *parked) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.waiting--; p.waiting == 0 && r.parked[k] == p {
		delete(r.parked, k)
	}
}

// Blob is an open file: read from any place, closed by whoever opened it.
type Blob struct {
	*io.SectionReader
	Size int64
	Type string // content type
	Tag  string // names these bytes and no others

	file io.Closer // nil where it lies in memory
}

func newBlob(r io.ReaderAt, size int64) *Blob {
	b := &Blob{SectionReader: io.NewSectionReader(r, 0, size), Size: size}
	b.file, _ = r.(io.Closer)
	return b
}

// Close closes the file.
func (b *Blob) Close() error {
	if b.file == nil {
		return nil
	}
	return b.file.Close()
}

// Open opens a file that Find gave.
func (r *Records) Open(m *Media) (*Blob, error) {
	f, err := r.files.open(m.key.name())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.E(fault.NotFound, "media.Open", "the file is gone")
	}
	if err != nil {
		return nil, fault.E(fault.Internal, "media.Open", "opening %s: %w", m.URI(), err)
	}
	r.touch(m)
	b := newBlob(f, m.Size)
	b.Type, b.Tag = m.Type, m.tag()
	return b, nil
}

func (m *Media) tag() string { return hex.EncodeToString(m.Hash[:16]) }

// maxTouched bounds the accesses that are remembered before they are written.
const maxTouched = 1024

// touch remembers that the file was fetched today. Once a day and file at most
// this becomes a write, together with many others, and without a sync.
func (r *Records) touch(m *Media) {
	today := r.o.Now().Unix() / daySeconds
	if m.Access.Unix()/daySeconds >= today {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.touched[m.key] = today
	if len(r.touched) < maxTouched {
		return
	}
	if err := r.flush(); err != nil {
		r.o.Log("media: writing down last accesses: %v", err)
	}
}

// flush writes the remembered accesses. Where the disk takes nothing they are
// forgotten: a file looks less used than it is, which is not worth an error. It
// needs mu.
func (r *Records) flush() error {
	if len(r.touched) == 0 {
		return nil
	}
	b := r.st.NewBatch()
	for k, day := range r.touched {
		m, err := r.get(k)
		if err != nil {
			b.Drop()
			return err
		}
		if m == nil {
			continue
		}
		m.Access = time.Unix(day*daySeconds, 0)
		b.Set(k.row(), m.append(nil))
	}
	clear(r.touched)
	if err := r.st.Apply(b); !fault.Is(err, fault.Full) {
		return err
	}
	return nil
}

// EachOf calls f for the files of a user, in no order anybody should rely on.
func (r *Records) EachOf(user uint32, f func(m *Media) (more bool)) error {
	prefix := store.U32(store.MediaOwner.Prefix(), user)
	return r.st.ScanPrefix(prefix, func(row, _ []byte) (bool, error) {
		var k key
		if len(row) != len(prefix)+len(k) {
			return false, errRow
		}
		copy(k[:], row[len(prefix):])
		m, err := r.get(k)
		if err != nil || m == nil || !m.stored {
			return true, err
		}
		return f(m), nil
	})
}

// Each calls f for every file, for backups and for owners.
func (r *Records) Each(f func(m *Media) (more bool)) error {
	return r.each(func(m *Media) bool { return !m.stored || f(m) })
}

func (r *Records) each(f func(m *Media) (more bool)) error {
	return r.st.ScanPrefix(store.Media.Prefix(), func(row, val []byte) (bool, error) {
		var k key
		if len(row) != 1+len(k) {
			return false, errRow
		}
		copy(k[:], row[1:])
		m, err := parseRow(k, val)
		if err != nil {
			return false, err
		}
		return f(m), nil
	})
}

// Used is how many bytes and files a user has stored; user 0 is everybody.
func (r *Records) Used(user uint32) (bytes, files int64, err error) {
	u, err := r.usage(user)
	return u.bytes, u.files, err
}
