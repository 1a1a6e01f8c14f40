package simnet

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"hearth/engine/media"
)

// A small picture of a large file that lies on another hub comes by itself; where
// the other hub makes none, the file is fetched. What is too long is not taken.
func TestMediaElsewhere(t *testing.T) {
	const most = 1 << 20
	n := NewWith(t, 2, Options{Change: func(_ int, h *Hub) { h.Open.Media.MaxUpload = most }})
	a, b := n.Hubs[0], n.Hubs[1]
	amy, bob := a.User("amy"), b.User("bob")
	var pic bytes.Buffer
	if err := png.Encode(&pic, image.NewGray(image.Rect(0, 0, 900, 700))); err != nil {
		t.Fatal(err)
	}
	upload := func(text string) string {
		return strings.TrimPrefix(amy.Want(200, "", "POST", "/_matrix/media/v3/upload", text).Str("content_uri"), "mxc://")
	}
	const now = "/_matrix/client/v1/media"
	asked := func() (list []string) {
		for _, r := range n.Asked() {
			if strings.Contains(r.Path, "/media/") {
				what, _, _ := strings.Cut(strings.TrimPrefix(r.Path, "/_matrix/federation/v1/media/"), "/")
				list = append(list, what)
			}
		}
		return list
	}
	file := upload(pic.String())
	for _, tt := range []struct {
		query string
		size  string
		asks  string
	}{
		{"width=30&height=30&method=crop", "32x32", "[thumbnail]"},
		{"width=32&height=32&method=crop", "32x32", "[]"},
		{"width=300&height=200", "320x249", "[thumbnail]"},
		{"width=4000&height=4000", "900x700", "[download]"}, // larger than what is kept
		{"width=90&height=90&method=crop", "96x96", "[]"},   // now the file is here
	} {
		asked()
		r := bob.Want(200, "", "GET", now+"/thumbnail/"+file+"?"+tt.query, "")
		p, err := png.DecodeConfig(strings.NewReader(r.Body))
		if got := fmt.Sprintf("%dx%d", p.Width, p.Height); err != nil || got != tt.size {
			t.Errorf("%s: %s, want %s (%v)", tt.query, got, tt.size, err)
		}
		if got := fmt.Sprint(asked()); got != tt.asks {
			t.Errorf("%s: asked for %s, want %s", tt.query, got, tt.asks)
		}
	}
	// What is no picture is fetched and judged here too.
	bob.Want(400, "M_UNKNOWN", "GET", now+"/thumbnail/"+upload("plain")+"?width=32&height=32", "")
	if got := fmt.Sprint(asked()); got != "[thumbnail download]" {
		t.Error(got)
	}
	bob.Want(404, "M_NOT_FOUND", "GET", now+"/thumbnail/a.test/nothere?width=32&height=32", "")
	bob.Want(404, "M_NOT_FOUND", "GET", now+"/thumbnail/"+upload("not asked for")+"?width=32&height=32&allow_remote=false", "")
	// A hidden file is not fetched again, in any form.
	hidden := upload(pic.String())
	bob.Want(200, "", "GET", now+"/thumbnail/"+hidden+"?width=32&height=32", "")
	_, id, _ := strings.Cut(hidden, "/")
	if err := b.Media.Block(a.Name, id, true); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/thumbnail/" + hidden + "?width=32&height=32", "/thumbnail/" + hidden + "?width=300&height=200", "/download/" + hidden} {
		bob.Want(404, "M_NOT_FOUND", "GET", now+path, "")
	}
	// A file longer than this hub takes: its length is not told beforehand.
	long := media.Upload{ID: "", Kind: media.Local, Owner: amy.Num, Length: -1}
	a.Open.Media.MaxUpload = 4 * most // of its own files the other hub takes longer ones
	a.Restart()
	m, err := a.Media.Upload(&long, io.LimitReader(rand.NewChaCha8([32]byte{}), most+1))
	if err != nil {
		t.Fatal(err)
	}
	bob.Want(413, "M_TOO_LARGE", "GET", now+"/download/a.test/"+m.ID, "")
	if _, err := b.Media.Find(a.Name, m.ID); err == nil {
		t.Error("the hub has kept a file that is too long")
	}
	n.sound()
}
