package media

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/image/webp"
)

// rendered are all pixels of a picture as this package decodes it.
func rendered(t *testing.T, text []byte) image.Image {
	t.Helper()
	f := bytes.NewReader(text)
	p, err := Look(f, f.Size())
	if err != nil {
		t.Fatal(err)
	}
	ra, err := p.decode(f, f.Size(), 1, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	m, err := ra.thumbnail(region{0, 0, 1, 1}, ra.w, ra.h, 1)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// same compares two pictures; within allows for rounding.
func same(t *testing.T, name string, got, want image.Image, within int) {
	t.Helper()
	if got.Bounds().Size() != want.Bounds().Size() {
		t.Fatalf("%s: %v, want %v", name, got.Bounds(), want.Bounds())
	}
	b := want.Bounds()
	for y := range b.Dy() {
		for x := range b.Dx() {
			a, c := rgba(got, x, y), rgba(want, x, y)
			for i := range a {
				if abs(a[i]-c[i]) > within {
					t.Fatalf("%s: at %d,%d %v, want %v", name, x, y, a, c)
				}
			}
		}
	}
}

func rgba(m image.Image, x, y int) [4]int {
	r, g, b, a := m.At(m.Bounds().Min.X+x, m.Bounds().Min.Y+y).RGBA()
	return [4]int{int(r >> 8), int(g >> 8), int(b >> 8), int(a >> 8)}
}

// Our decoder of lossless WebP and the one of the Go project agree.
func TestWebP(t *testing.T) {
	files, err := filepath.Glob("testdata/*.webp")
	if err != nil || len(files) < 8 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		want, err := webp.Decode(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		same(t, name, rendered(t, text), want, 2)
		for _, animated := range [][]byte{animation(text)} {
			p, err := Look(bytes.NewReader(animated), int64(len(animated)))
			if err != nil || !p.Animated {
				t.Fatalf("%s: animated %v, %v", name, p.Animated, err)
			}
			same(t, name+" animated", rendered(t, animated), want, 2)
		}
	}
}

// animation puts a still WebP into an animation as its first frame.
func animation(still []byte) []byte {
	chunks := still[12:]
	if string(chunks[:4]) == "VP8X" {
		chunks = chunks[18:]
	}
	out := []byte("RIFF....WEBPVP8X")
	out = append(binary.LittleEndian.AppendUint32(out, 10), 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	out = append(binary.LittleEndian.AppendUint32(append(out, "ANIM"...), 6), 0, 0, 0, 0, 0, 0)
	for range 2 {
		out = binary.LittleEndian.AppendUint32(append(out, "ANMF"...), uint32(16+len(chunks)))
		out = append(append(out, make([]byte, 16)...), chunks...)
	}
	return out
}

func TestPNG(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	r := image.Rect(0, 0, 37, 23)
	gray, gray16, rgb16, nrgba := image.NewGray(r), image.NewGray16(r), image.NewRGBA64(r), image.NewNRGBA(r)
	opaque := image.NewNRGBA(r)
	for i := range nrgba.Pix {
		nrgba.Pix[i] = byte(rnd.Uint32())
		opaque.Pix[i] = byte(i*3) | byte(i%4/3*255)
	}
	for i := range gray.Pix {
		gray.Pix[i] = byte(i * i)
	}
	for i := range gray16.Pix {
		gray16.Pix[i] = byte(i * 7)
	}
	for i := range rgb16.Pix {
		rgb16.Pix[i] = 0xff
		if i%8 < 6 {
			rgb16.Pix[i] = byte(i * 11)
		}
	}
	pictures := map[string]image.Image{"gray": gray, "gray16": gray16, "rgb16": rgb16, "nrgba": nrgba, "opaque": opaque}
	for _, n := range []int{2, 4, 16, 200} {
		colors := color.Palette{}
		for i := range n {
			colors = append(colors, color.NRGBA{byte(i * 9), byte(i * 31), byte(200 - i), byte(255 - i%3*100)})
		}
		m := image.NewPaletted(r, colors)
		for i := range m.Pix {
			m.Pix[i] = byte(rnd.IntN(n))
		}
		pictures[fmt.Sprint("palette ", n)] = m
	}
	for name, m := range pictures {
		for _, level := range []png.CompressionLevel{png.NoCompression, png.BestSpeed, png.BestCompression} {
			var buf bytes.Buffer
			enc := png.Encoder{CompressionLevel: level}
			if err := enc.Encode(&buf, m); err != nil {
				t.Fatal(err)
			}
			same(t, name, rendered(t, buf.Bytes()), m, 1)
		}
	}
}

// Our decoder of plain JPEG and the one of the Go project agree, and so do a
// picture that was reduced while it was decoded and one that was reduced after.
func TestJPEG(t *testing.T) {
	files, err := filepath.Glob("testdata/*.jpeg")
	if err != nil || len(files) < 11 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		want, err := jpeg.Decode(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		p, err := Look(bytes.NewReader(text), int64(len(text)))
		simple := !strings.Contains(name, "progressive") && !strings.Contains(name, "rgb") && !strings.Contains(name, "cmyk")
		if err != nil || p.simple != simple || p.Width != want.Bounds().Dx() || p.Height != want.Bounds().Dy() {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
		got := rendered(t, text)
		same(t, name, got, want, 48) // where colours are at half the resolution, both guess
		if a, ok := got.(*image.YCbCr); ok {
			same(t, name+" in grey", &image.Gray{Pix: a.Y, Stride: a.YStride, Rect: a.Rect}, grey(want), 2)
		}
		if !simple {
			continue
		}
		for _, side := range []int{1, 2, 4, 8} {
			w, h := p.Width/8*side, p.Height/8*side
			whole := region{0, 0, float64(p.Width/8*8) / float64(p.Width), float64(p.Height/8*8) / float64(p.Height)}
			fine, err := p.decode(bytes.NewReader(text), int64(len(text)), 1, 0)
			if err != nil {
				t.Fatal(err)
			}
			rough, err := p.decode(bytes.NewReader(text), int64(len(text)), 16/float64(side), 0)
			if err != nil {
				t.Fatal(err)
			}
			if n := rough.parts[0].w; n != (p.Width*side+7)/8 {
				t.Errorf("%s: %d pixels at %d/8", name, n, side)
			}
			a, err := fine.thumbnail(whole, w, h, 1)
			if err != nil {
				t.Fatal(err)
			}
			b, err := rough.thumbnail(whole, w, h, 1)
			if err != nil {
				t.Fatal(err)
			}
			if d := meanDifference(a, b); d > 7 { // colours are at half of what is left
				t.Errorf("%s at %d/8: %.1f apart", name, side, d)
			}
		}
	}
}

// grey is the brightness of a decoded JPEG.
func grey(m image.Image) *image.Gray {
	g := image.NewGray(image.Rect(0, 0, m.Bounds().Dx(), m.Bounds().Dy()))
	c, ok := m.(*image.YCbCr)
	for y := range g.Rect.Dy() {
		for x := range g.Rect.Dx() {
			if ok {
				g.Pix[y*g.Stride+x] = c.Y[c.YOffset(x, y)]
			} else {
				g.Set(x, y, m.At(x, y))
			}
		}
	}
	return g
}

func meanDifference(a, b image.Image) float64 {
	sum, n := 0, 0
	for y := range a.Bounds().Dy() {
		for x := range a.Bounds().Dx() {
			p, q := rgba(a, x, y), rgba(b, x, y)
			for i := range 3 {
				sum, n = sum+abs(p[i]-q[i]), n+1
			}
		}
	}
	return float64(sum) / float64(n)
}

func TestGIF(t *testing.T) {
	m := gradient(61, 47)
	var buf bytes.Buffer
	if err := gif.Encode(&buf, m, nil); err != nil {
		t.Fatal(err)
	}
	want, err := gif.Decode(bytes.NewReader(buf.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "gif", rendered(t, buf.Bytes()), want, 1)
	for frames, animated := range map[int]bool{1: false, 2: true} {
		g := &gif.GIF{}
		for range frames {
			g.Image, g.Delay = append(g.Image, want.(*image.Paletted)), append(g.Delay, 10)
		}
		buf.Reset()
		if err := gif.EncodeAll(&buf, g); err != nil {
			t.Fatal(err)
		}
		p, err := Look(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
		if err != nil || p.Animated != animated || p.Width != 61 || p.Height != 47 {
			t.Errorf("%d frames: %+v, %v", frames, p, err)
		}
	}
}

// gradient is a picture whose corners can be told apart.
func gradient(w, h int) *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			m.Set(x, y, color.RGBA{byte(x * 255 / w), byte(y * 255 / h), 40, 255})
		}
	}
	return m
}

// With an orientation the picture's corners end where the camera meant them.
func TestOrientation(t *testing.T) {
	var buf bytes.Buffer
	if err := jpeg.Encode(&buf, gradient(64, 32), &jpeg.Options{Quality: 95}); err != nil {
		t.Fatal(err)
	}
	// Of each orientation: which corner of the stored picture (left 0 or right 1,
	// top 0 or bottom 1) is seen in the upper left and in the upper right.
	for turn, want := range map[int][2][2]int{
		1: {{0, 0}, {1, 0}}, 2: {{1, 0}, {0, 0}}, 3: {{1, 1}, {0, 1}}, 4: {{0, 1}, {1, 1}},
		5: {{0, 0}, {0, 1}}, 6: {{0, 1}, {0, 0}}, 7: {{1, 1}, {1, 0}}, 8: {{1, 0}, {1, 1}},
	} {
		for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
			text := withOrientation(buf.Bytes(), order, turn)
			f := bytes.NewReader(text)
			p, err := Look(f, f.Size())
			if err != nil {
				t.Fatal(err)
			}
			wantW, wantH := 64, 32
			if turn >= 5 {
				wantW, wantH = 32, 64
			}
			if p.Width != wantW || p.Height != wantH || p.turn != turn {
				t.Fatalf("turn %d: %+v", turn, p)
			}
			out, err := p.render(newBlob(f, f.Size()), size{wantW / 2, wantH / 2, false}, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			m, err := jpeg.Decode(bytes.NewReader(out))
			if err != nil {
				t.Fatal(err)
			}
			if m.Bounds().Dx() != wantW/2 || m.Bounds().Dy() != wantH/2 {
				t.Fatalf("turn %d: %v", turn, m.Bounds())
			}
			for i, x := range []int{1, m.Bounds().Dx() - 2} {
				c := rgba(m, x, 1)
				if got := [2]int{c[0] / 128, c[1] / 128}; got != want[i] {
					t.Errorf("turn %d: corner %d is %v, want %v", turn, i, got, want[i])
				}
			}
		}
	}
}

func withOrientation(jpg []byte, order binary.AppendByteOrder, turn int) []byte {
	b := []byte("Exif\x00\x00II")
	if order == binary.AppendByteOrder(binary.BigEndian) {
		b = []byte("Exif\x00\x00MM")
	}
	b = order.AppendUint16(b, 42)
	b = order.AppendUint32(b, 8)
	b = order.AppendUint16(b, 1)
	b = order.AppendUint16(b, 0x0112)
	b = order.AppendUint16(b, 3)
	b = order.AppendUint32(b, 1)
	b = order.AppendUint16(b, uint16(turn))
	b = append(b, 0, 0, 0, 0, 0, 0)
	out := append([]byte{0xff, 0xd8, 0xff, 0xe1}, byte((len(b)+2)>>8), byte(len(b)+2))
	return append(append(out, b...), jpg[2:]...)
}

// A header that promises too much is judged before anything is decoded, and
// rows that come one by one are not held.
func TestMemory(t *testing.T) {
	for _, side := range []uint32{60_000, maxSide} {
		bomb := pngOf(side, side, 6, nil)
		if p, err := Look(bytes.NewReader(bomb), int64(len(bomb))); err != nil || !p.huge() {
			t.Errorf("bomb: %+v, %v", p, err)
		}
	}
	var buf bytes.Buffer
	if err := png.Encode(&buf, gradient(3000, 2000)); err != nil { // 24 MB of pixels
		t.Fatal(err)
	}
	text := bytes.Clone(buf.Bytes())
	p, err := Look(bytes.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	if n := allocated(func() {
		if _, err := p.render(newBlob(bytes.NewReader(text), int64(len(text))), size{320, 240, false}, 1<<20); err != nil {
			t.Fatal(err)
		}
	}); n > 4<<20 {
		t.Errorf("a PNG of 24 MB of pixels took %d bytes", n)
	}
	buf.Reset()
	if err := jpeg.Encode(&buf, gradient(2000, 1000), nil); err != nil {
		t.Fatal(err)
	}
	text = bytes.Clone(buf.Bytes())
	if p, err = Look(bytes.NewReader(text), int64(len(text))); err != nil {
		t.Fatal(err)
	}
	if n := allocated(func() {
		if _, err := p.render(newBlob(bytes.NewReader(text), int64(len(text))), size{320, 240, false}, 1<<20); err != nil {
			t.Fatal(err)
		}
	}); n > 2<<20 {
		t.Errorf("a JPEG of %d bytes of pixels took %d", p.bytes, n)
	}
}

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// pngOf makes a PNG header, and chunks behind it.
func pngOf(w, h uint32, colors byte, chunks []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte("IHDR"), w)
	b = append(binary.BigEndian.AppendUint32(b, h), 8, colors, 0, 0, 0)
	out := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d"), b...)
	out = binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(b))
	return append(append(out, chunks...), "\x00\x00\x00\x00IDAT\x00\x00\x00\x00"...)
}

// A small lossless WebP that asks for the most code tables is refused.
func TestManyCodes(t *testing.T) {
	var w bitWriter
	w.put(0x2f, 8)
	w.put(3, 14)
	w.put(3, 14)
	w.put(0, 4)
	w.put(0, 1) // no transforms
	w.put(0, 1) // no colour cache
	w.put(1, 1) // several groups
	w.put(0, 3)
	w.put(0, 1) // the image that picks them: no cache
	for i := range 5 {
		w.put(1, 1) // a code of one symbol
		w.put(0, 1)
		if w.put(1, 1); i < 2 {
			w.put(255, 8) // red and green are all ones: group 65,535
		} else {
			w.put(0, 8)
		}
	}
	for range 1 << 16 * 5 {
		w.put(0b0001, 4) // codes for all of them
	}
	text := w.out
	if n := allocated(func() {
		if _, err := decodeVP8L(bytes.NewReader(text)); err == nil {
			t.Error("decoded")
		}
	}); n > 1<<20 {
		t.Errorf("%d bytes for %d", n, len(text))
	}
}

type bitWriter struct {
	out []byte
	n   uint
}

func (w *bitWriter) put(v uint32, n uint) {
	for i := range n {
		if w.n%8 == 0 {
			w.out = append(w.out, 0)
		}
		w.out[w.n/8] |= byte(v>>i&1) << (w.n % 8)
		w.n++
	}
}

// Many empty scans do not keep the decoder busy.
func TestManyScans(t *testing.T) {
	text := bytes.Repeat([]byte("\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"), 1000)
	g := &scanGuard{r: bytes.NewReader(text)}
	if _, err := new(bytes.Buffer).ReadFrom(g); err != errBomb {
		t.Error(err)
	}
}

func FuzzPicture(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.*")
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		if f.Add(text); filepath.Ext(name) == ".webp" {
			f.Add(animation(text))
		}
	}
	var buf bytes.Buffer
	_ = png.Encode(&buf, gradient(9, 7))
	f.Add(bytes.Clone(buf.Bytes()))
	buf.Reset()
	_ = jpeg.Encode(&buf, gradient(9, 7), nil)
	f.Add(withOrientation(buf.Bytes(), binary.BigEndian, 6))
	buf.Reset()
	_ = gif.Encode(&buf, gradient(9, 7), nil)
	f.Add(bytes.Clone(buf.Bytes()))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Look(bytes.NewReader(text), int64(len(text)))
		if err != nil || p.Width*p.Height > 1<<20 {
			return
		}
		if out, err := p.render(newBlob(bytes.NewReader(text), int64(len(text))), sizes[0], 4<<20); err == nil {
			if _, _, err := image.Decode(bytes.NewReader(out)); err != nil {
				t.Error(err)
			}
		}
	})
}
