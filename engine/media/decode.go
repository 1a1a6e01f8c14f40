package media

import (
	"bufio"
	"bytes"
	"fmt"
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

// decode reads the first frame of a picture whose header was looked at. The
// decoders are others' work on bytes from anywhere: one that panics has met a
// picture that cannot be read.
func (p *Picture) decode(f io.ReaderAt, size int64) (ps planes, err error) {
	defer func() {
		if v := recover(); v != nil {
			ps, err = nil, fmt.Errorf("%w: %v", errPicture, v)
		}
	}()
	all := io.NewSectionReader(f, 0, size)
	switch p.Format {
	case JPEG:
		m, err := jpeg.Decode(&scanGuard{r: bufio.NewReader(all)})
		if err != nil {
			return nil, err
		}
		return anyPlanes(m), nil
	case PNG:
		return p.decodePNG(f, size)
	case GIF:
		m, err := gif.Decode(bufio.NewReader(all))
		if err != nil {
			return nil, err
		}
		return anyPlanes(m), nil
	case WebP:
		return p.decodeWebP(f)
	}
	return nil, errPicture
}

// anyPlanes gives the rows of a decoded picture; no second copy is made.
func anyPlanes(m image.Image) planes {
	b := m.Bounds()
	w, h := b.Dx(), b.Dy()
	row := make([]byte, 4*w)
	convert := func(f func(y int)) planes {
		return planes{{w: w, h: h, n: 4, row: func(y int) ([]byte, error) {
			f(y)
			return row, nil
		}}}
	}
	switch m := m.(type) {
	case *image.YCbCr:
		return ycbcr(m)
	case *image.Gray:
		return planes{packed(m.Pix, w, h, 1, m.Stride)}
	case *image.RGBA:
		return planes{packed(m.Pix, w, h, 4, m.Stride)}
	case *image.NRGBA:
		return convert(func(y int) {
			for x, p := 0, m.Pix[y*m.Stride:]; x < 4*w; x += 4 {
				premultiply(row[x:], p[x], p[x+1], p[x+2], p[x+3])
			}
		})
	case *image.Paletted:
		var colors [256][4]byte
		for i, c := range m.Palette {
			v := color.RGBAModel.Convert(c).(color.RGBA)
			colors[i] = [4]byte{v.R, v.G, v.B, v.A}
		}
		return convert(func(y int) {
			for x, p := range m.Pix[y*m.Stride:][:w] {
				copy(row[4*x:], colors[p][:])
			}
		})
	}
	return convert(func(y int) {
		for x := range w {
			r, g, bl, a := m.At(b.Min.X+x, b.Min.Y+y).RGBA()
			row[4*x], row[4*x+1], row[4*x+2], row[4*x+3] = byte(r>>8), byte(g>>8), byte(bl>>8), byte(a>>8)
		}
	})
}
