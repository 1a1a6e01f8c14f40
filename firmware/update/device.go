package update

import (
	"crypto/sha256"
	"fmt"
	"io"
)

// Sector is what a disk writes wholly or not at all, in bytes. All writes are of whole sectors.
const Sector = 512

// chunk is how much is written or read at once.
const chunk = 1 << 20

// Device is a partition, or in tests a disk that loses its power. Flush returns when the disk has what was written; what
// is read comes from the disk.
type Device struct {
	io.ReaderAt
	io.WriterAt
	Flush func() error
	Size  int64
}

// Region is the place of a part: Max bytes of a device.
type Region struct {
	Dev     *Device
	At, Max int64
}

// writeError is an error of the device, which is not the archive's fault.
type writeError struct{ err error }

func (e *writeError) Error() string { return fmt.Sprintf("writing the other slot: %v", e.err) }
func (e *writeError) Unwrap() error { return e.err }

// filler writes a part into its region, in whole sectors.
type filler struct {
	r   Region
	n   int64 // written
	buf []byte
}

func (f *filler) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		n := min(len(p), chunk-len(f.buf))
		f.buf, p = append(f.buf, p[:n]...), p[n:]
		if len(f.buf) == chunk {
			if err := f.put(); err != nil {
				return 0, err
			}
		}
	}
	return total, nil
}

// put writes what is gathered.
func (f *filler) put() error {
	for len(f.buf)%Sector != 0 {
		f.buf = append(f.buf, 0)
	}
	if f.n+int64(len(f.buf)) > f.r.Max {
		return refused("a part is larger than its place")
	}
	if _, err := f.r.Dev.WriteAt(f.buf, f.r.At+f.n); err != nil {
		return &writeError{err}
	}
	f.n += int64(len(f.buf))
	f.buf = f.buf[:0]
	return nil
}

// write unpacks a part into its region, and reads it back.
func (a *Archive) write(p Part, r Region) error {
	f := &filler{r: r, buf: make([]byte, 0, chunk)}
	if err := a.copy(p.Name, f); err != nil {
		return err
	}
	if err := f.put(); err != nil {
		return err
	}
	if err := r.Dev.Flush(); err != nil {
		return &writeError{err}
	}
	sum := sha256.New()
	if _, err := io.CopyBuffer(sum, io.NewSectionReader(r.Dev, r.At, p.Size), make([]byte, chunk)); err != nil {
		return fmt.Errorf("reading part %s back: %w", p.Name, err)
	}
	if !matches(sum, p) {
		return fmt.Errorf("part %s was written and reads back as something else: the card is worn out or broken", p.Name)
	}
	return nil
}

// overwrite writes sectors in place and sees that they are there.
func overwrite(d *Device, at int64, b []byte) error {
	if len(b)%Sector != 0 || at%Sector != 0 {
		return fmt.Errorf("%d bytes at %d are no whole sectors", len(b), at)
	}
	if _, err := d.WriteAt(b, at); err != nil {
		return &writeError{err}
	}
	if err := d.Flush(); err != nil {
		return &writeError{err}
	}
	got := make([]byte, len(b))
	if _, err := d.ReadAt(got, at); err != nil {
		return fmt.Errorf("reading back: %w", err)
	}
	if string(got) != string(b) {
		return fmt.Errorf("what was written at %d reads back as something else: the card is worn out or broken", at)
	}
	return nil
}
