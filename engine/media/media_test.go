package media

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"image"
	"image/color/palette"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/fault"
	"hearth/engine/store"
)

// hub is an open record. Its clock stands still until it is moved.
type hub struct {
	*Records
	st *store.Store
	at time.Time
}

func open(t *testing.T, fs store.FS, o Options) *hub {
	t.Helper()
	h := &hub{at: time.Unix(1_700_000_000, 0)}
	var err error
	if h.st, err = store.Open(store.Options{Dir: fs.PathJoin(o.Dir, "data/db"), FS: fs}); err != nil {
		t.Fatal(err)
	}
	o.Dir, o.FS, o.Server, o.Now = fs.PathJoin(o.Dir, "data/media"), fs, "hub.test", func() time.Time { return h.at }
	if h.Records, err = Open(h.st, o); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *hub) close(t *testing.T) {
	t.Helper()
	if err := h.Records.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.st.Close(); err != nil {
		t.Fatal(err)
	}
}

func fresh(t *testing.T, o Options) *hub {
	h := open(t, vfs.NewMem(), o)
	t.Cleanup(func() { h.close(t) })
	return h
}

func (h *hub) put(t *testing.T, owner uint32, kind Kind, text string) *Media {
	t.Helper()
	m, err := h.Upload(&Upload{Owner: owner, Kind: kind, Type: "text/plain", Name: "a", Length: int64(len(text))}, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// text is what a download gives, or the kind of the error.
func (h *hub) text(t *testing.T, m *Media) string {
	t.Helper()
	found, err := h.Find(m.Origin, m.ID)
	if err == nil {
		var b *Blob
		if b, err = h.Open(found); err == nil {
			defer b.Close()
			text, err := io.ReadAll(b)
			if err != nil || int64(len(text)) != b.Size || sha256.Sum256(text) != found.Hash {
				t.Fatalf("%q, %d, %v", text, b.Size, err)
			}
			return string(text)
		}
	}
	return kind(err)
}

func kind(err error) string {
	if err == nil {
		return "ok"
	}
	for name, k := range map[string]fault.Kind{
		"not found": fault.NotFound, "not yet": fault.NotYetUploaded, "forbidden": fault.Forbidden, "too large": fault.TooLarge,
		"cannot overwrite": fault.CannotOverwrite, "limit": fault.Limit, "unknown": fault.Unknown, "full": fault.Full,
	} {
		if fault.Is(err, k) {
			return name
		}
	}
	return err.Error()
}

func TestUpload(t *testing.T) {
	h := fresh(t, Options{MaxUpload: 100})
	m := h.put(t, 7, Local, "hello")
	if got := h.text(t, m); got != "hello" {
		t.Error(got)
	}
	found, err := h.Find("hub.test", m.ID)
	if err != nil || found.Type != "text/plain" || found.Name != "a" || found.Owner != 7 || found.Size != 5 ||
		!found.Created.Equal(h.at) || found.URI() != "mxc://hub.test/"+m.ID {
		t.Errorf("%+v, %v", found, err)
	}
	for _, tt := range []struct {
		name string
		u    Upload
		text string
		want string
	}{
		{"announced too long", Upload{Length: 101}, "", "too large"},
		{"too long", Upload{Length: -1}, strings.Repeat("x", 101), "too large"},
		{"as long as may be", Upload{Length: -1}, strings.Repeat("x", 100), "ok"},
		{"longer than announced", Upload{Length: 2}, "xxx", "too large"},
		{"shorter than announced", Upload{Length: 4}, "xxx", "unknown"},
		{"empty", Upload{Length: 0}, "", "ok"},
		{"not reserved", Upload{ID: "abc"}, "", "not found"},
		{"no id", Upload{ID: "../x"}, "", "not found"},
		{"there already", Upload{ID: m.ID, Owner: 7}, "", "cannot overwrite"},
		{"from elsewhere", Upload{Origin: "far.test", ID: "x", Kind: Remote, Length: -1}, "far", "ok"},
		{"again", Upload{Origin: "far.test", ID: "x", Kind: Remote}, "far", "cannot overwrite"},
	} {
		if _, err := h.Upload(&tt.u, strings.NewReader(tt.text)); kind(err) != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
	if _, err := h.Upload(&Upload{Length: -1}, iotest.ErrReader(io.ErrUnexpectedEOF)); kind(err) != "unknown" {
		t.Error(err)
	}
	if bytes, files, err := h.Used(0); bytes != 108 || files != 4 || err != nil {
		t.Error(bytes, files, err)
	}
	if bytes, files, err := h.Used(7); bytes != 5 || files != 1 || err != nil {
		t.Error(bytes, files, err)
	}
	left, err := h.o.FS.List("data/media/new")
	if err != nil || len(left) != 0 {
		t.Error("left behind: ", left, err)
	}
}

// What a client says of its file is kept within bounds and fit for a header.
func TestNames(t *testing.T) {
	h := fresh(t, Options{})
	m, err := h.Upload(&Upload{Name: "a\r\nb\x00" + strings.Repeat("ü", 300), Type: ""}, strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	if m, err = h.Find(m.Origin, m.ID); err != nil || m.Type != "application/octet-stream" ||
		m.Name != "ab"+strings.Repeat("ü", 126) {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestReserve(t *testing.T) {
	h := fresh(t, Options{Pending: 2, Reserve: time.Hour})
	m, expires, err := h.Reserve(7)
	if err != nil || !expires.Equal(h.at.Add(time.Hour)) {
		t.Fatal(expires, err)
	}
	if got := h.text(t, m); got != "not yet" {
		t.Error(got)
	}
	up := func(m *Media, owner uint32, text string) string {
		_, err := h.Upload(&Upload{ID: m.ID, Owner: owner, Length: int64(len(text))}, strings.NewReader(text))
		return kind(err)
	}
	if got := up(m, 8, "x"); got != "forbidden" {
		t.Error(got)
	}
	if _, _, err := h.Reserve(7); err != nil {
		t.Error(err)
	}
	if _, _, err := h.Reserve(7); kind(err) != "limit" {
		t.Error(err)
	}
	if _, _, err := h.Reserve(8); err != nil {
		t.Error(err)
	}
	for i, want := range []string{"ok", "cannot overwrite"} {
		if got := up(m, 7, "x"); got != want {
			t.Errorf("%d: %s, want %s", i, got, want)
		}
	}
	late, _, err := h.Reserve(7) // the first is no longer pending
	if err != nil {
		t.Fatal(err)
	}
	h.at = h.at.Add(time.Hour)
	if got := up(late, 7, "x"); got != "not found" {
		t.Error(got)
	}
	if got := h.text(t, late); got != "not found" {
		t.Error(got)
	}
	for range 2 { // both that ran out are forgotten
		if _, _, err := h.Reserve(7); err != nil {
			t.Error(err)
		}
	}
	if err := h.Tidy(t.Context()); err != nil {
		t.Error(err)
	}
	if u, err := h.usage(0); u.reserved != 2 || err != nil {
		t.Error(u, err)
	}
}

// Who waits for a file is told when it is there.
func TestWait(t *testing.T) {
	h := fresh(t, Options{})
	m, _, err := h.Reserve(7)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Wait(m.Origin, m.ID, time.Nanosecond, nil); kind(err) != "not yet" {
		t.Error(err)
	}
	stop := make(chan struct{})
	close(stop)
	if _, err := h.Wait(m.Origin, m.ID, time.Hour, stop); kind(err) != "not yet" {
		t.Error(err)
	}
	got := make(chan error)
	for range 3 {
		go func() {
			m, err := h.Wait(m.Origin, m.ID, time.Hour, nil)
			if err == nil && m.Size != 1 {
				err = io.ErrShortWrite
			}
			got <- err
		}()
	}
	if _, err := h.Upload(&Upload{ID: m.ID, Owner: 7, Length: 1}, strings.NewReader("x")); err != nil {
		t.Error(err)
	}
	for range 3 {
		if err := <-got; err != nil {
			t.Error(err)
		}
	}
	if len(h.parked) != 0 {
		t.Error(h.parked)
	}
}

func TestQuota(t *testing.T) {
	h := fresh(t, Options{Quota: 100, UserQuota: 60})
	h.put(t, 7, Local, strings.Repeat("x", 50))
	try := func(owner uint32, n int, length int64) string {
		_, err := h.Upload(&Upload{Owner: owner, Length: length}, strings.NewReader(strings.Repeat("x", n)))
		return kind(err)
	}
	if got := try(7, 11, 11); got != "forbidden" {
		t.Error(got)
	}
	if got := try(7, 11, -1); got != "forbidden" {
		t.Error(got)
	}
	if got := try(8, 51, 51); got != "forbidden" {
		t.Error(got)
	}
	old := h.put(t, 0, Preview, strings.Repeat("x", 20))
	h.at = h.at.Add(48 * time.Hour)
	newer := h.put(t, 0, Preview, strings.Repeat("x", 20))
	if got := try(8, 25, 25); got != "ok" { // one picture makes room
		t.Error(got)
	}
	if a, b := h.text(t, old), h.text(t, newer); a != "not found" || b == "not found" {
		t.Error(a, b)
	}
	if u, err := h.usage(cached); u.bytes != 20 || u.files != 1 || err != nil {
		t.Error(u, err)
	}
	if got := try(8, 26, 26); got != "forbidden" {
		t.Error(got)
	}
}

func TestRetention(t *testing.T) {
	h := fresh(t, Options{LocalUnused: 10 * 24 * time.Hour, LocalAge: 30 * 24 * time.Hour, RemoteUnused: 5 * 24 * time.Hour})
	a, b, far := h.put(t, 7, Local, "a"), h.put(t, 7, Local, "b"), h.put(t, 0, Remote, "far")
	keep := func(want string) {
		t.Helper()
		if err := h.Tidy(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := h.Each(func(m *Media) bool {
			switch m.ID {
			case a.ID:
				got += "a"
			case b.ID:
				got += "b"
			case far.ID:
				got += "f"
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want) || strings.Trim(got, want) != "" {
			t.Errorf("%s are left, want %s", got, want)
		}
	}
	keep("abf")
	h.at = h.at.Add(4 * 24 * time.Hour)
	h.text(t, a)
	h.text(t, far)
	keep("abf")
	h.at = h.at.Add(4 * 24 * time.Hour)
	keep("abf")
	h.at = h.at.Add(3 * 24 * time.Hour)
	keep("a")
	for range 3 {
		h.text(t, a)
		h.at = h.at.Add(9 * 24 * time.Hour)
	}
	keep("") // used or not, it is 30 days old
	if bytes, files, err := h.Used(0); bytes != 0 || files != 0 || err != nil {
		t.Error(bytes, files, err)
	}
}

func TestDeleteAndBlock(t *testing.T) {
	h := fresh(t, Options{})
	m := h.put(t, 7, Local, "a")
	other := h.put(t, 7, Local, "b")
	for _, blocked := range []bool{true, false} {
		if err := h.Block(m.Origin, m.ID, blocked); err != nil {
			t.Fatal(err)
		}
		if got := h.text(t, m); (got == "not found") != blocked {
			t.Error(blocked, got)
		}
	}
	if err := h.Delete(m.Origin, m.ID); err != nil {
		t.Fatal(err)
	}
	if err := h.Delete(m.Origin, m.ID); kind(err) != "not found" {
		t.Error(err)
	}
	if got := h.text(t, m); got != "not found" {
		t.Error(got)
	}
	n := 0
	if err := h.EachOf(7, func(m *Media) bool {
		n++
		return m.ID == other.ID
	}); err != nil || n != 1 {
		t.Error(n, err)
	}
}

// An upload holds a buffer, not the file, and a download holds nothing.
func TestStreamed(t *testing.T) {
	h := open(t, vfs.Default, Options{Dir: t.TempDir(), KeepFree: 1})
	defer h.close(t)
	const size = 16 << 20
	var m *Media
	body := io.LimitReader(rand.NewChaCha8([32]byte{}), size)
	if n := allocated(func() {
		var err error
		if m, err = h.Upload(&Upload{Length: size}, body); err != nil {
			t.Fatal(err)
		}
	}); n > 256<<10 {
		t.Errorf("an upload of %d bytes allocated %d", size, n)
	}
	if n := allocated(func() {
		b, err := h.Open(m)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		if n, err := io.Copy(io.Discard, b); n != size || err != nil {
			t.Fatal(n, err)
		}
	}); n > 256<<10 {
		t.Errorf("a download of %d bytes allocated %d", size, n)
	}
}

// After a power cut at any moment each row has its file, whole, each upload that
// was acknowledged is there, and what has no row is swept up.
func TestPowerCut(t *testing.T) {
	fs := vfs.NewCrashableMem()
	acked := map[string]string{} // id → text
	rnd := rand.New(rand.NewPCG(3, 4))
	check := func(disk store.FS) {
		after := open(t, disk, Options{})
		defer after.close(t)
		rows := 0
		if err := after.Each(func(m *Media) bool {
			rows++
			if got := after.text(t, m); len(got) != int(m.Size) || got == "not found" {
				t.Errorf("row %s: %q", m.ID, got)
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
		for id, text := range acked {
			if got := after.text(t, &Media{Origin: "hub.test", ID: id}); got != text {
				t.Errorf("acknowledged %q: %q", text, got)
			}
		}
		if err := after.Tidy(t.Context()); err != nil {
			t.Fatal(err)
		}
		files := 0
		for shard := range 256 {
			names, err := after.files.list(shard)
			if err != nil {
				t.Fatal(err)
			}
			files += len(names)
		}
		left, err := disk.List("data/media/new")
		if files != rows || len(left) != 0 || err != nil {
			t.Errorf("%d files for %d rows; unfinished: %v %v", files, rows, left, err)
		}
	}
	cut := &cutFS{FS: fs, check: func() {
		for range 2 {
			check(fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rnd.IntN(101), RNG: rnd}))
		}
	}}
	h := open(t, fs, Options{})
	defer h.close(t)
	if err := store.SyncDir(fs, ""); err != nil { // the data folder itself is older than the first upload
		t.Fatal(err)
	}
	h.files.fs, h.o.FS = cut, cut
	for i := range 6 {
		text := fmt.Sprintf("file %d", i)
		acked[h.put(t, 7, Local, text).ID] = text
		cut.check()
	}
	for id := range acked {
		delete(acked, id)
		if err := h.Delete("hub.test", id); err != nil {
			t.Fatal(err)
		}
		cut.check()
	}
	if cut.cuts < 20 {
		t.Errorf("only %d moments were tried", cut.cuts)
	}
}

// cutFS lets the power fail before each change of a name.
type cutFS struct {
	store.FS
	check func()
	cuts  int
}

func (c *cutFS) Create(name string, how vfs.DiskWriteCategory) (vfs.File, error) {
	c.moment()
	return c.FS.Create(name, how)
}

func (c *cutFS) Rename(from, to string) error {
	c.moment()
	defer c.moment()
	return c.FS.Rename(from, to)
}

func (c *cutFS) Remove(name string) error {
	if !strings.Contains(name, ".") { // not the thumbnails that were never made
		c.moment()
	}
	return c.FS.Remove(name)
}

func (c *cutFS) OpenDir(name string) (vfs.File, error) {
	c.moment()
	return c.FS.OpenDir(name)
}

func (c *cutFS) moment() {
	c.cuts++
	c.check()
}

func TestThumbnail(t *testing.T) {
	h := fresh(t, Options{ImageBytes: 1 << 20})
	put := func(text []byte) *Media {
		m, err := h.Upload(&Upload{Owner: 7, Type: "image/x", Length: int64(len(text))}, bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	encoded := func(f func(w io.Writer) error) []byte {
		var buf bytes.Buffer
		if err := f(&buf); err != nil {
			t.Fatal(err)
		}
		return buf.Bytes()
	}
	big := gradient(1000, 500)
	jpg := encoded(func(w io.Writer) error { return jpeg.Encode(w, gradient(800, 400), nil) })
	pic := encoded(func(w io.Writer) error { return png.Encode(w, big) })
	frame := image.NewPaletted(image.Rect(0, 0, 400, 300), palette.Plan9)
	moving := encoded(func(w io.Writer) error {
		return gif.EncodeAll(w, &gif.GIF{Image: []*image.Paletted{frame, frame}, Delay: []int{1, 1}})
	})
	lossless, err := os.ReadFile("testdata/blue-purple-pink.lossless.webp")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		text []byte
		want Want
		out  string
	}{
		{"crop", pic, Want{Width: 32, Height: 32, Crop: true}, "png 32x32"},
		{"crop between", pic, Want{Width: 40, Height: 32, Crop: true}, "png 96x96"},
		{"scale", pic, Want{Width: 32, Height: 32}, "png 480x240"},
		{"scale jpeg", jpg, Want{Width: 300, Height: 240}, "jpeg 480x240"},
		{"as large", pic, Want{Width: 1000, Height: 500}, "original"},
		{"larger", pic, Want{Width: 2000, Height: 1}, "original"},
		{"moving", moving, Want{Width: 32, Height: 32, Crop: true, Animated: true}, "original"},
		{"not moving", moving, Want{Width: 32, Height: 32, Crop: true}, "png 32x32"},
		{"large, not moving", moving, Want{Width: 5000, Height: 5000}, "png 400x300"},
		{"animated still", pic, Want{Width: 32, Height: 32, Crop: true, Animated: true}, "png 32x32"},
		{"too large", lossless, Want{Width: 10, Height: 10}, "too large"},
		{"a bomb", pngOf(60_000, 60_000, 6, nil), Want{Width: 10, Height: 10}, "too large"},
		{"cut", pic[:len(pic)/2], Want{Width: 10, Height: 10}, "unknown"},
		{"no picture", []byte("hello"), Want{Width: 10, Height: 10}, "unknown"},
		{"nothing", nil, Want{Width: 10, Height: 10}, "unknown"},
	} {
		m := put(tt.text)
		for range 2 { // made, and kept
			got := func() string {
				b, err := h.Thumbnail(m, tt.want, nil)
				if err != nil {
					return kind(err)
				}
				defer b.Close()
				text, err := io.ReadAll(b)
				if err != nil || int64(len(text)) != b.Size {
					t.Fatal(len(text), b.Size, err)
				}
				if bytes.Equal(text, tt.text) {
					return "original"
				}
				c, format, err := image.DecodeConfig(bytes.NewReader(text))
				if err != nil || "image/"+format != b.Type {
					t.Fatal(b.Type, err)
				}
				return fmt.Sprintf("%s %dx%d", format, c.Width, c.Height)
			}()
			if got != tt.out {
				t.Errorf("%s: %s, want %s", tt.name, got, tt.out)
			}
		}
		if err := h.Delete(m.Origin, m.ID); err != nil {
			t.Fatal(err)
		}
		if left, err := h.files.list(int(m.key[0])); err != nil || len(left) != 0 {
			t.Errorf("%s: left behind: %v %v", tt.name, left, err)
		}
	}
}
