package media

import (
	"bytes"
	"context"
	"image"
	"image/color/palette"
	"image/gif"
	"image/png"
	"io"
	"strings"
	"testing"
	"time"

	"hearth/engine/fault"
)

// Another server's thumbnail is kept where it is a picture that stands still and
// is not too long; it goes and hides with its file.
func TestAwayThumbnail(t *testing.T) {
	h := fresh(t, Options{RemoteUnused: 48 * time.Hour})
	var still, moving bytes.Buffer
	if err := png.Encode(&still, gradient(100, 80)); err != nil {
		t.Fatal(err)
	}
	frame := image.NewPaletted(image.Rect(0, 0, 40, 30), palette.Plan9)
	if err := gif.EncodeAll(&moving, &gif.GIF{Image: []*image.Paletted{frame, frame}, Delay: []int{1, 1}}); err != nil {
		t.Fatal(err)
	}
	small := Want{Width: 32, Height: 32, Crop: true}
	shown := func(id string, want Want) string {
		_, b, err := h.AwayThumbnail("far.test", id, want)
		if err != nil {
			return kind(err)
		}
		defer b.Close()
		text, err := io.ReadAll(b)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(text, still.Bytes()) {
			return "something else"
		}
		return b.Type
	}
	for _, tt := range []struct {
		id   string
		want Want
		body io.Reader
		kept string // the error
		then string
	}{
		{"pic", small, bytes.NewReader(still.Bytes()), "ok", "image/png"},
		{"pic", small, bytes.NewReader(still.Bytes()), "cannot overwrite", "image/png"},
		{"pic", Want{Width: 20, Height: 20, Crop: true}, strings.NewReader(""), "cannot overwrite", "image/png"}, // the same size
		{"pic", Want{Width: 32, Height: 32}, strings.NewReader("no picture"), "unknown", "not found"},
		{"moves", small, bytes.NewReader(moving.Bytes()), "unknown", "not found"},
		{"long", small, io.MultiReader(bytes.NewReader(still.Bytes()), io.LimitReader(zeros{}, maxAwayThumb)), "too large", "not found"},
		{"pic", Want{Width: 5000, Height: 5000}, bytes.NewReader(still.Bytes()), "not found", "not found"},
		{"pic", Want{Width: 32, Height: 32, Animated: true}, bytes.NewReader(still.Bytes()), "not found", "not found"},
		{"not/an/id", small, bytes.NewReader(still.Bytes()), "not found", "not found"},
	} {
		if got := kind(h.KeepThumbnail("far.test", tt.id, tt.want, tt.body)); got != tt.kept {
			t.Errorf("%s %+v: %s, want %s", tt.id, tt.want, got, tt.kept)
		}
		if got := shown(tt.id, tt.want); got != tt.then {
			t.Errorf("%s %+v is %s then, want %s", tt.id, tt.want, got, tt.then)
		}
	}
	files := 0
	if err := h.Each(func(*Media) bool { files++; return true }); err != nil || files != 1 {
		t.Errorf("%d files, want 1 (%v)", files, err)
	}
	for _, blocked := range []bool{true, false} {
		if err := h.Block("far.test", "pic", blocked); err != nil {
			t.Fatal(err)
		}
		if is, err := h.Blocked("far.test", "pic"); is != blocked || err != nil {
			t.Error(is, err)
		}
		if got := shown("pic", small); (got == "not found") != blocked {
			t.Error(blocked, got)
		}
	}
	if err := h.Delete("far.test", "pic"); err != nil {
		t.Fatal(err)
	}
	if err := h.Delete("far.test", "pic"); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	if bytes, files, err := h.Used(0); bytes != 0 || files != 0 || err != nil {
		t.Errorf("%d bytes in %d files are left (%v)", bytes, files, err)
	}
	// What nobody asks for any more is let go of, as copies of files are.
	if err := h.KeepThumbnail("far.test", "pic", small, bytes.NewReader(still.Bytes())); err != nil {
		t.Fatal(err)
	}
	h.at = h.at.Add(72 * time.Hour)
	if err := h.Tidy(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := shown("pic", small); got != "not found" {
		t.Error(got)
	}
}

// zeros never end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
