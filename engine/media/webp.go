package media

import (
	"encoding/binary"
	"errors"
	"image"
	"io"

	"golang.org/x/image/vp8"
)

// webpFrame is where a WebP keeps its first frame.
type webpFrame struct {
	pixels, alpha section
	lossless      bool
}

// section is a part of a file.
type section struct{ at, size int64 }

func (s section) reader(f io.ReaderAt) *io.SectionReader { return io.NewSectionReader(f, s.at, s.size) }

// lookWebP walks the chunks up to the first frame's pixels.
func (p *Picture) lookWebP(f io.ReaderAt, size int64) error {
	at := int64(12)
	for range maxParts {
		var b [8]byte
		if err := readAt(f, b[:], at); err != nil {
			return err
		}
		n := int64(binary.LittleEndian.Uint32(b[4:]))
		body := section{at + 8, min(n, size-at-8)}
		switch string(b[:4]) {
		case "VP8 ":
			p.webp.pixels = body
			return p.lookVP8(f)
		case "VP8L":
			p.webp.pixels, p.webp.lossless = body, true
			return p.lookVP8L(f)
		case "ALPH":
			p.webp.alpha = body
		case "VP8X":
			var flags [1]byte
			if err := readAt(f, flags[:], body.at); err != nil {
				return err
			}
			p.Animated = flags[0]&2 != 0
		case "ANMF":
			at += 8 + 16 // the frame's own chunks follow its place and time
			continue
		}
		at += 8 + n + n&1
	}
	return errPicture
}

// lookVP8 reads the frame header. Spec: RFC 6386, section 9.1.
func (p *Picture) lookVP8(f io.ReaderAt) error {
	var b [10]byte
	if err := readAt(f, b[:], p.webp.pixels.at); err != nil || string(b[3:6]) != "\x9d\x01\x2a" {
		return errPicture
	}
	p.Width, p.Height = int(binary.LittleEndian.Uint16(b[6:])&0x3fff), int(binary.LittleEndian.Uint16(b[8:])&0x3fff)
	px := int64(p.Width+15) * int64(p.Height+15)
	p.bytes = px*3/2 + p.webp.pixels.size // the decoder wants all of the input
	if p.webp.alpha.size > 0 {
		p.bytes += 5 * px
	}
	return nil
}

// lookVP8L reads the header of a lossless frame. Spec: RFC 9649, section 3.
func (p *Picture) lookVP8L(f io.ReaderAt) error {
	var b [5]byte
	if err := readAt(f, b[:], p.webp.pixels.at); err != nil || b[0] != 0x2f {
		return errPicture
	}
	v := binary.LittleEndian.Uint32(b[1:])
	p.Width, p.Height = int(v&0x3fff)+1, int(v>>14&0x3fff)+1
	p.bytes = 8*int64(p.Width)*int64(p.Height) + vp8lTables
	return nil
}

// decodeWebP decodes the first frame.
func (p *Picture) decodeWebP(f io.ReaderAt) (*raster, error) {
	if p.webp.lossless {
		pix, err := decodeVP8L(p.webp.pixels.reader(f))
		if err != nil {
			return nil, err
		}
		return pix.rgba(), nil
	}
	d := vp8.NewDecoder()
	d.Init(p.webp.pixels.reader(f), int(p.webp.pixels.size))
	h, err := d.DecodeFrameHeader()
	if err != nil {
		return nil, err
	}
	if h.Width != p.Width || h.Height != p.Height {
		return nil, errPicture
	}
	m, err := d.DecodeFrame()
	if err != nil {
		return nil, err
	}
	if p.webp.alpha.size < 1 {
		return ycbcr(m), nil
	}
	a, err := p.decodeAlpha(f)
	if err != nil {
		return nil, err
	}
	return blended(m, a), nil
}

// decodeAlpha reads the transparency of a lossy frame. Spec: RFC 9649, section 2.7.1.2.
func (p *Picture) decodeAlpha(f io.ReaderAt) ([]byte, error) {
	r := p.webp.alpha.reader(f)
	var flags [1]byte
	if _, err := io.ReadFull(r, flags[:]); err != nil {
		return nil, errPicture
	}
	a := make([]byte, p.Width*p.Height)
	switch flags[0] & 3 {
	case 0:
		if _, err := io.ReadFull(r, a); err != nil {
			return nil, errPicture
		}
	case 1:
		pix, err := decodeVP8LStream(r, p.Width, p.Height)
		if err != nil {
			return nil, err
		}
		for i, c := range pix.argb {
			a[i] = byte(c >> 8)
		}
	default:
		return nil, errPicture
	}
	unfilter(a, p.Width, int(flags[0]>>2&3))
	return a, nil
}

// unfilter undoes the prediction of transparency.
func unfilter(a []byte, w, how int) {
	if how == 0 {
		return
	}
	for i := range a {
		x, left, up, corner := i%w, byte(0), byte(0), byte(0)
		if x > 0 {
			left = a[i-1]
		}
		if i >= w {
			up = a[i-w]
			if x > 0 {
				corner = a[i-w-1]
			}
		}
		switch {
		case i == 0:
		case i < w:
			a[i] += left
		case x == 0:
			a[i] += up
		case how == 1:
			a[i] += left
		case how == 2:
			a[i] += up
		default:
			a[i] += byte(min(max(int(left)+int(up)-int(corner), 0), 255))
		}
	}
}

// ycbcr is a decoded picture as it lies in memory.
func ycbcr(m *image.YCbCr) *raster {
	b := m.Bounds()
	w, h := b.Dx(), b.Dy()
	cx, cy := 1, 1 // pixels to one of colour
	switch m.SubsampleRatio {
	case image.YCbCrSubsampleRatio422:
		cx = 2
	case image.YCbCrSubsampleRatio420:
		cx, cy = 2, 2
	case image.YCbCrSubsampleRatio440:
		cy = 2
	case image.YCbCrSubsampleRatio411:
		cx = 4
	case image.YCbCrSubsampleRatio410:
		cx, cy = 4, 2
	}
	color := part{w: (w + cx - 1) / cx, h: (h + cy - 1) / cy, n: 1, full: [2]float64{float64(w) / float64(cx), float64(h) / float64(cy)}}
	return inMemory(still{part{w: w, h: h, n: 1}, m.Y, m.YStride}, still{color, m.Cb, m.CStride}, still{color, m.Cr, m.CStride})
}

// blended is a picture with its transparency.
func blended(m *image.YCbCr, alpha []byte) *raster {
	p := part{w: m.Rect.Dx(), h: m.Rect.Dy(), n: 4}
	return converted(p, func(y int, row []byte) error {
		for x := range p.w {
			c := m.YCbCrAt(m.Rect.Min.X+x, m.Rect.Min.Y+y)
			r, g, b, _ := c.RGBA()
			premultiply(row[4*x:], byte(r>>8), byte(g>>8), byte(b>>8), alpha[y*p.w+x])
		}
		return nil
	})
}

// premultiply writes one pixel in the form that means can be taken of.
func premultiply(to []byte, r, g, b, a byte) {
	if a != 255 {
		r, g, b = byte(uint32(r)*uint32(a)/255), byte(uint32(g)*uint32(a)/255), byte(uint32(b)*uint32(a)/255)
	}
	to[0], to[1], to[2], to[3] = r, g, b, a
}

var errVP8L = errors.New("media: the lossless WebP cannot be read")
