package media

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
)

// Format is what the first bytes of a picture say it is.
type Format uint8

// The formats that are decoded here.
const (
	NoPicture Format = iota
	JPEG
	PNG
	GIF
	WebP
)

// Type is the format's content type.
func (f Format) Type() string {
	return [...]string{"application/octet-stream", "image/jpeg", "image/png", "image/gif", "image/webp"}[f]
}

// Picture is what a picture's header says, read without decoding it.
type Picture struct {
	Format        Format
	Width, Height int  // as shown, after turning
	Animated      bool // has more than one frame

	turn   int   // EXIF orientation, 1 to 8
	bytes  int64 // what decoding takes in memory, rather too much than too little
	simple bool  // a JPEG that can be read row by row, most probably; bytes is for the case that not
	webp   webpFrame
}

var (
	errPicture = errors.New("media: not a picture that can be read")
	errBomb    = errors.New("media: the picture is too large to decode")
)

// maxSide is beyond every camera.
const maxSide = 1 << 16

// Look reads the header of a picture. An error says that it is none.
func Look(f io.ReaderAt, size int64) (Picture, error) {
	var head [12]byte
	if err := readAt(f, head[:], 0); err != nil {
		return Picture{}, errPicture
	}
	h, p := string(head[:]), Picture{turn: 1}
	var err error
	switch {
	case h[:3] == "\xff\xd8\xff":
		p.Format, err = JPEG, p.lookJPEG(f)
	case h[:8] == "\x89PNG\r\n\x1a\n":
		p.Format, err = PNG, p.lookPNG(f)
	case h[:6] == "GIF87a", h[:6] == "GIF89a":
		p.Format, err = GIF, p.lookGIF(io.NewSectionReader(f, 0, size))
	case h[:4] == "RIFF" && h[8:] == "WEBP":
		p.Format, err = WebP, p.lookWebP(f, size)
	default:
		err = errPicture
	}
	if err != nil {
		return Picture{}, err
	}
	if p.Width <= 0 || p.Height <= 0 || p.Width > maxSide || p.Height > maxSide {
		return Picture{}, errPicture
	}
	if p.turn >= 5 {
		p.Width, p.Height = p.Height, p.Width
	}
	return p, nil
}

// readAt fills b or says that the picture is cut.
func readAt(f io.ReaderAt, b []byte, at int64) error {
	if n, _ := f.ReadAt(b, at); n < len(b) {
		return errPicture
	}
	return nil
}

// maxParts bounds the markers or chunks before the pixels.
const maxParts = 256

// lookJPEG walks the markers up to the frame header.
func (p *Picture) lookJPEG(f io.ReaderAt) error {
	rgb := false
	at := int64(2)
	for range maxParts {
		var b [4]byte
		if err := readAt(f, b[:], at); err != nil || b[0] != 0xff {
			return errPicture
		}
		if b[1] == 0xff { // a fill byte
			at++
			continue
		}
		n := int64(binary.BigEndian.Uint16(b[2:]))
		switch m := b[1]; {
		case m >= 0xc0 && m <= 0xc2:
			p.simple = m != 0xc2 && !rgb
			return p.jpegFrame(f, at+4, m == 0xc2, rgb)
		case m == 0xe1 && n >= 16:
			p.turn = orientation(f, at+4, n-2)
		case m == 0xee:
			var adobe [12]byte
			rgb = readAt(f, adobe[:], at+4) != nil || adobe[11] == 0 // not YCbCr, which costs a second copy
		case m < 0xc0 || m >= 0xc3 && m <= 0xcf && m != 0xc4 && m != 0xcc || m >= 0xd0 && m <= 0xda:
			return errPicture
		}
		at += 2 + n
	}
	return errPicture
}

// jpegFrame reads the frame header.
func (p *Picture) jpegFrame(f io.ReaderAt, at int64, progressive, rgb bool) error {
	var b [6]byte
	if err := readAt(f, b[:], at); err != nil {
		return err
	}
	p.Height, p.Width = int(binary.BigEndian.Uint16(b[1:])), int(binary.BigEndian.Uint16(b[3:]))
	n := int(b[5])
	if n != 1 && n != 3 && n != 4 {
		return errPicture
	}
	comp := make([]byte, 3*n)
	if err := readAt(f, comp, at+6); err != nil {
		return err
	}
	hmax, vmax, samples := 1, 1, 0
	for i := range n {
		h, v := int(comp[3*i+1]>>4), int(comp[3*i+1]&15)
		if h < 1 || h > 4 || v < 1 || v > 4 {
			return errPicture
		}
		hmax, vmax, samples = max(hmax, h), max(vmax, v), samples+h*v
		if i > 0 && h*v != 1 || rgb || comp[0] == 'R' {
			samples += 4 * int(comp[1]>>4) * int(comp[1]&15) // brought to full size, or to RGBA
		}
	}
	p.simple = p.simple && n != 4 && comp[0] != 'R'
	blocks := int64((p.Width+8*hmax-1)/(8*hmax)) * int64((p.Height+8*vmax-1)/(8*vmax))
	p.bytes = blocks * 64 * int64(samples)
	if progressive {
		p.bytes *= 5 // coefficients of four bytes are kept, too
	}
	if n == 4 {
		p.bytes += 4 * int64(p.Width) * int64(p.Height)
	}
	return nil
}

// orientation reads the EXIF tag that says how the camera was held; 1 where
// there is none.
func orientation(f io.ReaderAt, at, size int64) int {
	b := make([]byte, min(size, 4<<10)) // the first directory comes first
	if readAt(f, b, at) != nil || string(b[:6]) != "Exif\x00\x00" {
		return 1
	}
	b = b[6:]
	var order binary.ByteOrder = binary.LittleEndian
	if string(b[:2]) == "MM" {
		order = binary.BigEndian
	}
	dir := int64(order.Uint32(b[4:]))
	if dir+2 > int64(len(b)) {
		return 1
	}
	n := int(order.Uint16(b[dir:]))
	for tag := b[dir+2:]; n > 0 && len(tag) >= 12; n, tag = n-1, tag[12:] {
		if order.Uint16(tag) != 0x0112 {
			continue
		}
		if v := int(order.Uint16(tag[8:])); v >= 1 && v <= 8 {
			return v
		}
		break
	}
	return 1
}

// lookPNG reads the header and looks for what makes it an animation.
func (p *Picture) lookPNG(f io.ReaderAt) error {
	var b [25]byte
	if err := readAt(f, b[:], 8); err != nil || string(b[4:8]) != "IHDR" {
		return errPicture
	}
	w, h := binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:])
	if w > maxSide || h > maxSide {
		return errPicture
	}
	p.Width, p.Height = int(w), int(h)
	p.bytes = 16 * int64(w) // rows come one by one
	if interlaced := b[20] != 0; interlaced {
		p.bytes = 16 * int64(w) * int64(h)
	}
	at := int64(8 + 12 + 13)
	for range maxParts {
		if err := readAt(f, b[:8], at); err != nil {
			return err
		}
		switch string(b[4:8]) {
		case "acTL":
			p.Animated = true
			return nil
		case "IDAT":
			return nil
		}
		at += 12 + int64(binary.BigEndian.Uint32(b[:]))
	}
	return errPicture
}

// lookGIF reads the header and looks for a second frame.
func (p *Picture) lookGIF(f io.Reader) error {
	g := gifWalk{r: bufio.NewReader(f)}
	b := g.take(13)
	p.Width, p.Height = int(binary.LittleEndian.Uint16(b[6:])), int(binary.LittleEndian.Uint16(b[8:]))
	p.bytes = int64(p.Width) * int64(p.Height)
	g.skipColors(b[10])
	for frames := 0; g.err == nil; {
		switch g.take(1)[0] {
		case 0x21:
			g.take(1)
			g.skipBlocks()
		case 0x2c:
			if frames++; frames == 2 {
				p.Animated = true
				return nil
			}
			g.skipColors(g.take(9)[8])
			g.take(1)
			g.skipBlocks()
		default: // the end, or what nobody should read on from
			if frames == 0 {
				return errPicture
			}
			return nil
		}
	}
	if p.Width == 0 {
		return errPicture
	}
	return nil // cut; the decoder says whether a frame is left
}

type gifWalk struct {
	r   *bufio.Reader
	buf [13]byte
	err error
}

func (g *gifWalk) take(n int) []byte {
	if g.err == nil {
		_, g.err = io.ReadFull(g.r, g.buf[:n])
	}
	if g.err != nil {
		clear(g.buf[:])
	}
	return g.buf[:]
}

func (g *gifWalk) skip(n int) {
	if g.err == nil {
		_, g.err = g.r.Discard(n)
	}
}

func (g *gifWalk) skipColors(flags byte) {
	if flags&0x80 != 0 {
		g.skip(3 << (1 + flags&7))
	}
}

func (g *gifWalk) skipBlocks() {
	for n := 1; n > 0 && g.err == nil; g.skip(n) {
		n = int(g.take(1)[0])
	}
}
