package media

import (
	"image"
	"math"
)

// plane is a picture, or one component of it, that is read row by row from the
// top, so that whoever decodes row by row holds no more than that.
type plane struct {
	w, h, n int // n samples to a pixel
	row     func(y int) ([]byte, error)
}

// region is a part of a picture, in parts of its sides, so that planes of
// different resolution are cut alike.
type region struct{ left, top, width, height float64 }

// shrink gives dw by dh pixels of the region, each the mean of the area it
// stands for. It is exact for reducing, which is all a thumbnail needs, and one
// pass over the rows.
func (p *plane) shrink(from region, dw, dh int) ([]byte, error) {
	left, sx := from.left*float64(p.w), from.width*float64(p.w)/float64(dw)
	top, sy := from.top*float64(p.h), from.height*float64(p.h)/float64(dh)
	out := make([]byte, dw*dh*p.n)
	across := make([]float32, dw*p.n) // one source row, reduced sideways
	sum := make([]float32, dw*p.n)
	have := -1
	for dy := range dh {
		y0, y1 := top+float64(dy)*sy, top+float64(dy+1)*sy
		clear(sum)
		for y := int(y0); y < p.h && float64(y) < y1; y++ {
			part := float32(math.Min(y1, float64(y+1)) - math.Max(y0, float64(y)))
			if part < 1e-4 {
				continue // what rounding left of the next row
			}
			if y != have {
				row, err := p.row(y)
				if err != nil {
					return nil, err
				}
				p.squeeze(across, row, left, sx)
				have = y
			}
			for i, v := range across {
				sum[i] += part * v
			}
		}
		to := out[dy*dw*p.n:]
		for i, v := range sum {
			to[i] = byte(min(v/float32(sy)+0.5, 255))
		}
	}
	return out, nil
}

// squeeze reduces one row.
func (p *plane) squeeze(to []float32, row []byte, left, sx float64) {
	n, inv := p.n, float32(1/sx)
	for dx := range len(to) / n {
		x0 := left + float64(dx)*sx
		x1 := math.Min(x0+sx, float64(p.w))
		a := min(int(x0), p.w-1)
		b := max(min(int(math.Ceil(x1))-1, p.w-1), a) // the last pixel touched
		first, last := float32(float64(a+1)-x0), float32(x1-float64(b))
		for c := range n {
			if a == b {
				to[dx*n+c] = float32(row[a*n+c])
				continue
			}
			var whole uint32
			for i := (a+1)*n + c; i < b*n; i += n {
				whole += uint32(row[i])
			}
			to[dx*n+c] = inv * (float32(row[a*n+c])*first + float32(whole) + float32(row[b*n+c])*last)
		}
	}
}

// turned turns and mirrors pixels of n samples as an EXIF orientation says, and
// gives the new sides.
func turned(pix []byte, w, h, n, turn int) ([]byte, int, int) {
	if turn <= 1 {
		return pix, w, h
	}
	tw, th := w, h
	if turn >= 5 {
		tw, th = h, w
	}
	out := make([]byte, len(pix))
	for y := range th {
		for x := range tw {
			sx, sy := x, y
			switch turn {
			case 2:
				sx = w - 1 - x
			case 3:
				sx, sy = w-1-x, h-1-y
			case 4:
				sy = h - 1 - y
			case 5:
				sx, sy = y, x
			case 6:
				sx, sy = y, h-1-x
			case 7:
				sx, sy = w-1-y, h-1-x
			case 8:
				sx, sy = w-1-y, x
			}
			copy(out[(y*tw+x)*n:][:n], pix[(sy*w+sx)*n:])
		}
	}
	return out, tw, th
}

// planes are the parts of a decoded picture: one of RGBA, one of grey, or the
// three of YCbCr, which are never made larger than they are.
type planes []plane

// thumbnail reduces all planes and puts them together again.
func (ps planes) thumbnail(from region, w, h, turn int) (image.Image, error) {
	var parts [3][]byte
	tw, th := w, h
	for i := range ps {
		pix, err := ps[i].shrink(from, w, h)
		if err != nil {
			return nil, err
		}
		parts[i], tw, th = turned(pix, w, h, ps[i].n, turn)
	}
	r := image.Rect(0, 0, tw, th)
	switch {
	case len(ps) == 3:
		return &image.YCbCr{Y: parts[0], Cb: parts[1], Cr: parts[2], YStride: tw, CStride: tw, SubsampleRatio: image.YCbCrSubsampleRatio444, Rect: r}, nil
	case ps[0].n == 1:
		return &image.Gray{Pix: parts[0], Stride: tw, Rect: r}, nil
	}
	return &image.RGBA{Pix: parts[0], Stride: 4 * tw, Rect: r}, nil
}
