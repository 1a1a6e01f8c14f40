package update

import (
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"hearth/firmware/card"
)

// partition is one of a running box. It is read and written past the kernel's memory, so that what is read back comes
// from the card, and the memory of a small box stays the hub's.
type partition struct {
	*buffer
	f *os.File
}

// buffer is where the kernel's alignment holds, for all partitions of a card.
type buffer struct {
	mu  sync.Mutex // guards buf
	buf []byte
}

// OpenCard gives the loader of the card that a box runs from. device is what a partition's number is called in /dev.
func OpenCard(c *card.Card, device func(number int) string) (Loader, error) {
	buf, err := unix.Mmap(-1, 0, chunk, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("memory for an update: %w", err)
	}
	shared := &buffer{buf: buf}
	open := func(number int) *Device {
		if err != nil || number == 0 {
			return nil
		}
		var f *os.File
		if f, err = os.OpenFile(device(number), os.O_RDWR|unix.O_DIRECT, 0); err != nil {
			return nil
		}
		p := &partition{buffer: shared, f: f}
		return &Device{ReaderAt: p, WriterAt: p, Flush: f.Sync, Size: c.Part(number).Size}
	}
	s := Slots{Home: open(1), BootNumbers: c.Plan.Boot}
	for slot := range 2 {
		s.Boots[slot], s.Roots[slot] = open(c.Plan.Boot[slot]), open(c.Plan.Root[slot])
		s.UUIDs[slot] = c.Part(c.Plan.Root[slot]).UUID
	}
	if err != nil {
		return nil, err
	}
	if c.Plan.Loader == card.Raspberry {
		return Raspberry(s), nil
	}
	return UEFI(s), nil
}

// free refuses a partition that is mounted, which has to change by its file system alone.
func (p *partition) free() error {
	f, err := os.OpenFile(p.f.Name(), os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		return fmt.Errorf("it is in use: %w", err)
	}
	return f.Close()
}

func (p *partition) ReadAt(b []byte, at int64) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n < len(b) {
		skip := int((at + int64(n)) % Sector)
		want := min((skip+len(b)-n+Sector-1)/Sector*Sector, len(p.buf))
		got, err := p.f.ReadAt(p.buf[:want], at+int64(n)-int64(skip))
		if got <= skip {
			if err == nil {
				err = io.ErrUnexpectedEOF
			}
			return n, err
		}
		n += copy(b[n:], p.buf[skip:got])
	}
	return n, nil
}

func (p *partition) WriteAt(b []byte, at int64) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(b)%Sector != 0 || at%Sector != 0 {
		return 0, fmt.Errorf("%d bytes at %d are no whole sectors", len(b), at)
	}
	if err := p.free(); err != nil {
		return 0, err
	}
	for n < len(b) {
		m := copy(p.buf, b[n:])
		got, err := p.f.WriteAt(p.buf[:m], at+int64(n))
		n += got
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
