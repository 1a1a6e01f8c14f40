package media

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"io/fs"
	"strconv"
	"time"

	"hearth/engine/fault"
)

// size is one of the thumbnails that are made. Others would let anybody fill
// the disk; what is asked for between two sizes gets the larger one.
type size struct {
	w, h int
	crop bool
}

// sizes begin with those that the spec wants, the rest is what today's screens
// ask for. Spec: client-server, thumbnails.
var sizes = [...]size{
	{32, 32, true}, {96, 96, true}, {320, 240, false}, {640, 480, false}, {800, 600, false},
	{256, 256, true}, {640, 640, true}, {320, 240, true}, {640, 480, true}, {800, 600, true}, {1600, 1200, false},
}

// suffix is what the thumbnail's file has behind the name of its original.
func (s size) suffix() string {
	how := "s"
	if s.crop {
		how = "c"
	}
	return "." + strconv.Itoa(s.w) + "x" + strconv.Itoa(s.h) + how
}

// pick gives the smallest size that is no smaller than asked; ok is false where
// all are.
func pick(w, h int, crop bool) (best size, ok bool) {
	for _, s := range sizes {
		if s.crop == crop && s.w >= w && s.h >= h && (!ok || s.w*s.h < best.w*best.h) {
			best, ok = s, true
		}
	}
	return best, ok
}

func largest(crop bool) (best size) {
	for _, s := range sizes {
		if s.crop == crop && s.w*s.h > best.w*best.h {
			best = s
		}
	}
	return best
}

// maxPixels bounds the work of one thumbnail: rows of a PNG cost no memory, but
// a few megabytes of it may unpack to many gigabytes of rows.
const maxPixels = 64 << 20

// huge says whether a picture is more work than that. Its sides are multiplied in 64
// bits also where an int has 32.
func (p *Picture) huge() bool { return int64(p.Width)*int64(p.Height) > maxPixels }

// Want is a thumbnail somebody asks for.
type Want struct {
	Width, Height  int
	Crop, Animated bool
}

// quality of JPEG thumbnails.
const quality = 80

// Of those who want pictures decoded, one is at work and maxQueue wait, each for
// at most queueTime.
const (
	maxQueue  = 8
	queueTime = 20 * time.Second
)

// Thumbnail opens a thumbnail, and makes it where it is not there yet. Where
// the picture is no larger than asked it opens the picture. What is no picture
// is Unknown, what is too large to decode here TooLarge.
func (r *Records) Thumbnail(m *Media, want Want, stop <-chan struct{}) (*Blob, error) {
	s, fits := pick(want.Width, want.Height, want.Crop)
	if fits && !want.Animated {
		if b, err := r.openThumb(m, s); b != nil || err != nil {
			return b, err
		}
	}
	b, err := r.Open(m)
	if err != nil {
		return nil, err
	}
	p, err := Look(b, b.Size)
	if err != nil {
		return nil, errors.Join(fault.E(fault.Unknown, "media.Thumbnail", "there are no thumbnails of such a file"), b.Close())
	}
	b.Type = p.Format.Type()
	small := p.Width <= want.Width && p.Height <= want.Height
	if p.Animated && want.Animated || !p.Animated && (small || !fits) {
		return b, nil
	}
	defer b.Close() // read only
	if !fits {
		s = largest(want.Crop) // of the first frame of an animation
	}
	return r.makeThumb(m, b, &p, s, stop)
}

// openThumb opens a thumbnail that was made before; nil where there is none.
func (r *Records) openThumb(m *Media, s size) (*Blob, error) {
	f, err := r.files.open(m.key.name() + s.suffix())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.E(fault.Internal, "media.Thumbnail", "opening: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(fault.E(fault.Internal, "media.Thumbnail", "reading: %w", err), f.Close())
	}
	r.touch(m)
	return m.thumb(f, info.Size(), s), nil
}

// thumb is a thumbnail of m, wherever it lies.
func (m *Media) thumb(r io.ReaderAt, n int64, s size) *Blob {
	b := newBlob(r, n)
	b.Type, b.Tag = PNG.Type(), m.tag()+s.suffix()
	var head [2]byte
	if readAt(r, head[:], 0) == nil && head == [2]byte{0xff, 0xd8} {
		b.Type = JPEG.Type()
	}
	return b
}

// makeThumb makes one, when it is our turn.
func (r *Records) makeThumb(m *Media, b *Blob, p *Picture, s size, stop <-chan struct{}) (*Blob, error) {
	if have, err := r.openThumb(m, s); have != nil || err != nil {
		return have, err
	}
	tooLarge := fault.E(fault.TooLarge, "media.Thumbnail", "the picture is too large for a thumbnail: %d by %d", p.Width, p.Height)
	if p.huge() || p.bytes > int64(r.o.ImageBytes) && !p.simple {
		return nil, tooLarge
	}
	if err := r.turn(stop); err != nil {
		return nil, err
	}
	defer func() { <-r.decoding }()
	if have, err := r.openThumb(m, s); have != nil || err != nil {
		return have, err // somebody made it while we waited
	}
	text, err := p.render(b, s, int64(r.o.ImageBytes))
	if errors.Is(err, errBomb) {
		return nil, tooLarge
	}
	if err != nil {
		return nil, fault.E(fault.Unknown, "media.Thumbnail", "the picture cannot be read")
	}
	if err := r.keep(m, m.key.name()+s.suffix(), text); err != nil {
		r.o.Log("media: a thumbnail is not kept: %v", err)
	}
	return m.thumb(bytes.NewReader(text), int64(len(text)), s), nil
}

// keep writes a thumbnail down, unless its original has gone meanwhile. Where
// the disk takes nothing it is made again the next time.
func (r *Records) keep(m *Media, name string, text []byte) error {
	if free, known := r.files.free(r.o.KeepFree); r.st.ReadOnly() || known && free < int64(len(text)) {
		return nil
	}
	if _, _, err := r.files.write(name, bytes.NewReader(text), int64(len(text))); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now, err := r.get(m.key)
	if err != nil || now == nil {
		return errors.Join(err, r.files.drop(name))
	}
	return r.files.place(name, false) // lost in a power cut, it is made again
}

// turn waits for the one place where pictures are decoded.
func (r *Records) turn(stop <-chan struct{}) error {
	select {
	case r.queue <- struct{}{}:
	default:
		return fault.Wait("media.Thumbnail", 5*time.Second)
	}
	defer func() { <-r.queue }()
	t := time.NewTimer(queueTime)
	defer t.Stop()
	select {
	case r.decoding <- struct{}{}:
		return nil
	case <-t.C:
		return fault.Wait("media.Thumbnail", 5*time.Second)
	case <-stop:
		return fault.E(fault.Busy, "media.Thumbnail", "the hub is stopping")
	}
}

// render decodes, reduces and encodes, in memory of about most bytes. A decoder
// that panics has met a picture that cannot be read: they are others' work, on
// bytes from anywhere.
func (p *Picture) render(f *Blob, s size, most int64) (text []byte, err error) {
	defer func() {
		if v := recover(); v != nil {
			text, err = nil, fmt.Errorf("%w: %v", errPicture, v)
		}
	}()
	from, w, h := s.of(p.Width, p.Height)
	shrink := min(from.width*float64(p.Width)/float64(w), from.height*float64(p.Height)/float64(h))
	ra, err := p.decode(f, f.Size, shrink, most)
	if err != nil {
		return nil, err
	}
	w, h = ra.w, ra.h // of a GIF's first frame, which may be smaller
	if p.turn >= 5 {
		w, h = h, w
	}
	from, w, h = s.of(w, h)
	if p.turn >= 5 {
		from = region{from.top, from.left, from.height, from.width}
		w, h = h, w
	}
	out, err := ra.thumbnail(from, w, h, p.turn)
	if err != nil {
		return nil, err
	}
	return p.encode(out)
}

// of says which part of a picture the thumbnail shows, and its sides. Nothing is
// enlarged. Spec: client-server, thumbnails: no smaller than asked where the
// picture has it, scale keeps all of it, crop keeps the shape.
func (s size) of(w, h int) (from region, dw, dh int) {
	from = region{0, 0, 1, 1}
	if s.crop {
		dw, dh = min(s.w, w), min(s.h, h)
		if w*dh > h*dw { // too wide
			from.width = float64(h*dw) / float64(w*dh)
			from.left = (1 - from.width) / 2
		} else {
			from.height = float64(w*dh) / float64(h*dw)
			from.top = (1 - from.height) / 2
		}
		return from, dw, dh
	}
	k := max(float64(s.w)/float64(w), float64(s.h)/float64(h))
	k = min(k, longest*float64(s.w)/float64(w), longest*float64(s.h)/float64(h), 1)
	return from, max(int(k*float64(w)+0.5), 1), max(int(k*float64(h)+0.5), 1)
}

// longest is how much longer than asked a scaled picture's longer side may be.
const longest = 4

// maxPNG is how long a thumbnail may be as PNG where it could be JPEG: there are
// photographs in PNG.
const maxPNG = 256 << 10

// encode writes a photograph as JPEG, and as PNG what was one or has parts that
// are transparent.
func (p *Picture) encode(m image.Image) ([]byte, error) {
	var buf bytes.Buffer
	rgba, colored := m.(*image.RGBA)
	opaque := !colored || rgba.Opaque()
	if p.Format == PNG || p.Format == GIF || !opaque {
		if err := png.Encode(&buf, m); err != nil {
			return nil, fmt.Errorf("media: encoding a thumbnail: %w", err)
		}
		if buf.Len() <= maxPNG || !opaque {
			return buf.Bytes(), nil
		}
		buf.Reset()
	}
	if err := jpeg.Encode(&buf, m, &jpeg.Options{Quality: quality}); err != nil {
		return nil, fmt.Errorf("media: encoding a thumbnail: %w", err)
	}
	return buf.Bytes(), nil
}
