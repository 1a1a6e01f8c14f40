package media

import (
	"image"
	"math"
)

// part is a picture, or one component of it: n samples to each of w by h pixels,
// the last of which may stand for less than the others: the colours of 15 pixels
// may be 8. Of the picture it stands for, full is how many fit.
type part struct {
	w, h, n int
	full    [2]float64 // across and down; zero: w and h
}

// raster is a picture that is read from the top down, so that whoever decodes
// row by row holds no more than a few rows. Its parts are one of RGBA, one of
// grey, or the three of YCbCr, which are never made larger than they are.
type raster struct {
	w, h  int // of the picture; its parts may be smaller
	parts []part
	// scan gives each row of each part to put, the rows of a part in their order.
	// A row is valid during the call.
	scan func(put func(part, y int, row []byte)) error
}

// region is a section of a picture, in fractions of its sides, so that parts of
// different resolution are cut alike.
type region struct{ left, top, width, height float64 }

// reducer makes dw by dh pixels of a region, each the mean of the area it stands
// for. It is exact for reducing, which is all a thumbnail needs, and sees each
// row once.
type reducer struct {
	part
	dw, dh      int
	left, top   float64
	sx, sy      float64 // source pixels to one of ours
	out         []byte
	across, sum []float32 // one source row, reduced sideways; the sum of such
	dy          int       // our row that is being summed up
}

func newReducer(p part, from region, dw, dh int) *reducer {
	across, down := p.full[0], p.full[1]
	if across == 0 {
		across, down = float64(p.w), float64(p.h)
	}
	return &reducer{
		part: p, dw: dw, dh: dh,
		left: from.left * across, sx: from.width * across / float64(dw),
		top: from.top * down, sy: from.height * down / float64(dh),
		out: make([]byte, dw*dh*p.n), across: make([]float32, dw*p.n), sum: make([]float32, dw*p.n),
	}
}

// take is given the rows in their order.
func (r *reducer) take(y int, row []byte) {
	if r.dy >= r.dh || float64(y+1) <= r.top {
		return
	}
	r.squeeze(row)
	for r.dy < r.dh {
		y0, y1 := r.top+float64(r.dy)*r.sy, r.top+float64(r.dy+1)*r.sy
		share := float32(math.Min(y1, float64(y+1)) - math.Max(y0, float64(y)))
		if share > 0 {
			for i, v := range r.across {
				r.sum[i] += share * v
			}
		}
		if y1 > float64(y+1)+1e-6 && y+1 < r.h {
			return // the next row belongs to it, too
		}
		to := r.out[r.dy*r.dw*r.n:]
		for i, v := range r.sum {
			to[i] = byte(min(v/float32(r.sy)+0.5, 255))
		}
		clear(r.sum)
		r.dy++
		if y1 >= float64(y+1)-1e-6 {
			return // and nothing of this row to the next one
		}
	}
}

// squeeze reduces one row sideways.
func (r *reducer) squeeze(row []byte) {
	n, inv := r.n, float32(1/r.sx)
	for dx := range r.dw {
		x0 := r.left + float64(dx)*r.sx
		x1 := math.Min(x0+r.sx, float64(r.w))
		a := min(int(x0), r.w-1)
		b := max(min(int(math.Ceil(x1))-1, r.w-1), a) // the last pixel touched
		first, last := float32(float64(a+1)-x0), float32(x1-float64(b))
		for c := range n {
			if a == b {
				r.across[dx*n+c] = float32(row[a*n+c])
				continue
			}
			var whole uint32
			for i := (a+1)*n + c; i < b*n; i += n {
				whole += uint32(row[i])
			}
			r.across[dx*n+c] = inv * (float32(row[a*n+c])*first + float32(whole) + float32(row[b*n+c])*last)
		}
	}
}

// thumbnail reduces a region of all parts and puts them together again.
func (ra *raster) thumbnail(from region, w, h, turn int) (image.Image, error) {
	var all [3]*reducer
	for i, p := range ra.parts {
		all[i] = newReducer(p, from, w, h)
	}
	if err := ra.scan(func(part, y int, row []byte) { all[part].take(y, row) }); err != nil {
		return nil, err
	}
	var pix [3][]byte
	tw, th := w, h
	for i, p := range ra.parts {
		pix[i], tw, th = turned(all[i].out, w, h, p.n, turn)
	}
	r := image.Rect(0, 0, tw, th)
	switch {
	case len(ra.parts) == 3:
		return &image.YCbCr{Y: pix[0], Cb: pix[1], Cr: pix[2], YStride: tw, CStride: tw, SubsampleRatio: image.YCbCrSubsampleRatio444, Rect: r}, nil
	case ra.parts[0].n == 1:
		return &image.Gray{Pix: pix[0], Stride: tw, Rect: r}, nil
	}
	return &image.RGBA{Pix: pix[0], Stride: 4 * tw, Rect: r}, nil
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

// still is a part that lies in memory.
type still struct {
	part
	pix    []byte
	stride int
}

// inMemory is a raster of such parts.
func inMemory(parts ...still) *raster {
	ra := &raster{w: parts[0].w, h: parts[0].h}
	for _, s := range parts {
		ra.parts = append(ra.parts, s.part)
	}
	ra.scan = func(put func(part, y int, row []byte)) error {
		for i, s := range parts {
			for y := range s.h {
				put(i, y, s.pix[y*s.stride:][:s.w*s.n])
			}
		}
		return nil
	}
	return ra
}

// converted is a raster of one part whose rows f makes.
func converted(p part, f func(y int, row []byte) error) *raster {
	return &raster{w: p.w, h: p.h, parts: []part{p}, scan: func(put func(part, y int, row []byte)) error {
		row := make([]byte, p.w*p.n)
		for y := range p.h {
			if err := f(y, row); err != nil {
				return err
			}
			put(0, y, row)
		}
		return nil
	}}
}
