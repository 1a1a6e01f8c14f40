package media

import (
	"bufio"
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"io"
)

// maxScans bounds the passes of a progressive JPEG. Encoders make about ten; a
// megabyte of empty ones would keep a small computer busy for hours.
const maxScans = 64

// scanGuard counts the scans in a JPEG on its way to the decoder. What looks
// like one inside an embedded preview counts, too, and does no harm.
type scanGuard struct {
	r     io.Reader
	marks int
	ff    bool
}

func (g *scanGuard) Read(p []byte) (int, error) {
	n, err := g.r.Read(p)
	for rest := p[:n]; len(rest) > 0; {
		if g.ff && rest[0] == 0xda {
			if g.marks++; g.marks > maxScans {
				return 0, errBomb
			}
		}
		g.ff = false
		i := bytes.IndexByte(rest, 0xff)
		if i < 0 {
			break
		}
		g.ff, rest = true, rest[i+1:]
	}
	return n, err
}

// decode reads the first frame of a picture whose header was looked at, to be
// reduced by shrink at least, in memory of at most most bytes.
func (p *Picture) decode(f io.ReaderAt, size int64, shrink float64, most int64) (*raster, error) {
	all := io.NewSectionReader(f, 0, size)
	if p.Format == JPEG && p.simple {
		ra, err := openJPEG(all, shrink)
		if !errors.Is(err, errUnusual) {
			return ra, err
		}
		if _, err := all.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
	}
	if p.bytes > most {
		return nil, errBomb
	}
	switch p.Format {
	case JPEG:
		return decoded(jpeg.Decode(&scanGuard{r: bufio.NewReader(all)}))
	case PNG:
		return p.decodePNG(f, size)
	case GIF:
		return decoded(gif.Decode(bufio.NewReader(all)))
	case WebP:
		return p.decodeWebP(f)
	}
	return nil, errPicture
}

func decoded(m image.Image, err error) (*raster, error) {
	if err != nil {
		return nil, err
	}
	return anyRaster(m), nil
}

// anyRaster gives the rows of a decoded picture; no second copy is made.
func anyRaster(m image.Image) *raster {
	b := m.Bounds()
	p := part{w: b.Dx(), h: b.Dy(), n: 4}
	switch m := m.(type) {
	case *image.YCbCr:
		return ycbcr(m)
	case *image.Gray:
		return inMemory(still{part{w: p.w, h: p.h, n: 1}, m.Pix, m.Stride})
	case *image.RGBA:
		return inMemory(still{p, m.Pix, m.Stride})
	case *image.Paletted:
		var colors [256][4]byte
		for i, c := range m.Palette {
			v := color.RGBAModel.Convert(c).(color.RGBA)
			colors[i] = [4]byte{v.R, v.G, v.B, v.A}
		}
		return converted(p, func(y int, row []byte) error {
			for x, at := range m.Pix[y*m.Stride:][:p.w] {
				copy(row[4*x:], colors[at][:])
			}
			return nil
		})
	}
	return converted(p, func(y int, row []byte) error {
		for x := range p.w {
			r, g, bl, a := m.At(b.Min.X+x, b.Min.Y+y).RGBA()
			row[4*x], row[4*x+1], row[4*x+2], row[4*x+3] = byte(r>>8), byte(g>>8), byte(bl>>8), byte(a>>8)
		}
		return nil
	})
}
