package media

import "testing"

func TestShrink(t *testing.T) {
	pix := []byte{0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120, 130, 140, 150}
	ra := inMemory(still{part{w: 4, h: 4, n: 1}, pix, 4})
	for _, tt := range []struct {
		from   region
		dw, dh int
		want   []byte
	}{
		{region{0, 0, 1, 1}, 4, 4, pix},
		{region{0, 0, 1, 1}, 2, 2, []byte{25, 45, 105, 125}},
		{region{0, 0, 1, 1}, 1, 1, []byte{75}},
		{region{0.5, 0.5, 0.5, 0.5}, 1, 1, []byte{125}},
		{region{0.25, 0, 0.5, 1}, 1, 4, []byte{15, 55, 95, 135}},
		{region{0, 0, 1, 1}, 3, 1, []byte{63, 75, 88}},
	} {
		r := newReducer(ra.parts[0], tt.from, tt.dw, tt.dh)
		err := ra.scan(func(_, y int, row []byte) { r.take(y, row) })
		got := r.out
		if err != nil || string(got) != string(tt.want) {
			t.Errorf("%v to %dx%d: %v %v, want %v", tt.from, tt.dw, tt.dh, got, err, tt.want)
		}
	}
}

func TestSizes(t *testing.T) {
	for _, tt := range []struct {
		w, h int
		crop bool
		want string
	}{
		{1, 1, true, ".32x32c"}, {33, 20, true, ".96x96c"}, {97, 97, true, ".256x256c"}, {300, 200, true, ".320x240c"},
		{32, 32, false, ".320x240s"}, {321, 1, false, ".640x480s"}, {700, 700, true, ""}, {1600, 1200, false, ".1600x1200s"}, {1601, 1, false, ""},
	} {
		s, ok := pick(tt.w, tt.h, tt.crop)
		if ok != (tt.want != "") || ok && s.suffix() != tt.want {
			t.Errorf("%dx%d %v: %s %v", tt.w, tt.h, tt.crop, s.suffix(), ok)
		}
	}
	for _, tt := range []struct {
		s            size
		w, h, dw, dh int
	}{
		{size{320, 240, false}, 3200, 2400, 320, 240},
		{size{320, 240, false}, 4000, 1000, 960, 240},
		{size{320, 240, false}, 100, 50, 100, 50},
		{size{320, 240, false}, 20000, 300, 1280, 19},
		{size{96, 96, true}, 400, 200, 96, 96},
		{size{96, 96, true}, 400, 50, 96, 50},
		{size{320, 240, true}, 10, 10, 10, 10},
	} {
		from, dw, dh := tt.s.of(tt.w, tt.h)
		if dw != tt.dw || dh != tt.dh {
			t.Errorf("%v of %dx%d: %dx%d, want %dx%d", tt.s, tt.w, tt.h, dw, dh, tt.dw, tt.dh)
		}
		if tt.s.crop {
			got, want := from.width*float64(tt.w)/(from.height*float64(tt.h)), float64(dw)/float64(dh)
			if got/want > 1.001 || want/got > 1.001 || from.left < 0 || from.left+from.width > 1.0001 {
				t.Errorf("%v of %dx%d cuts %v", tt.s, tt.w, tt.h, from)
			}
		}
	}
}
