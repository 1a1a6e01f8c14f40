package mediaapi

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/media"
	"hearth/engine/mxid"
	"hearth/httpd/wire"
)

// Spec: client-server, GET /_matrix/client/v1/media/preview_url. The point in
// time that a client may prefer is not looked at: a hub keeps no old pages.
func (a *API) preview(r *wire.Req) error {
	raw, ok := r.Query("url")
	if !ok || raw == "" {
		return fault.E(fault.Missing, "mediaapi.preview", "url is needed")
	}
	if _, err := r.QueryInt("ts", 0, 0, 1<<53); err != nil {
		return err
	}
	u, err := parseLink(raw)
	if err != nil {
		return err
	}
	if a.previews == nil {
		return r.Empty() // nothing is known of any page
	}
	text, err := a.previews.of(u, r.Done())
	if err != nil {
		return err
	}
	return r.OK(append(r.Out(), text...))
}

// What the previews may take.
const (
	keepPreview = time.Hour
	keepFailure = time.Minute
	maxPreviews = 64 // of at most maxProps*maxValue bytes
	atOnce      = 2
	maxWaiting  = 8
	maxPicture  = 8 << 20
)

// previews fetches what pages say of themselves, and remembers it for an hour.
type previews struct {
	get    Get
	media  *media.Records
	server mxid.Server
	now    func() time.Time
	gate   *wire.Gate
	secret [16]byte // so that nobody can tell by a media id which pages were looked at

	mu   sync.Mutex
	kept map[string]*preview // by address
}

// preview is one answer. What is below done is set before done is closed.
type preview struct {
	done  chan struct{}
	until time.Time
	text  []byte
	err   error
}

func newPreviews(o *Options) *previews {
	p := &previews{
		get: o.Get, media: o.Media, server: o.Server, now: o.Now,
		gate: wire.NewGate(atOnce, maxWaiting, fetchTime), kept: map[string]*preview{},
	}
	_, _ = rand.Read(p.secret[:]) // it never fails
	return p
}

// of gives the preview of an address as JSON: one that is remembered, one that
// somebody else is fetching, or a new one.
func (p *previews) of(u *url.URL, stop <-chan struct{}) ([]byte, error) {
	key, now := u.String(), p.now()
	p.mu.Lock()
	v := p.kept[key]
	if v == nil || v.over(now) {
		v = &preview{done: make(chan struct{})}
		p.forget(now)
		p.kept[key] = v
		p.mu.Unlock()
		p.fill(v, u, stop)
		return v.text, v.err
	}
	p.mu.Unlock()
	select {
	case <-v.done:
		return v.text, v.err
	case <-stop:
		return nil, fault.E(fault.Busy, "mediaapi.preview", "the hub is stopping")
	}
}

// over says whether a preview is too old to be told again.
func (v *preview) over(now time.Time) bool {
	select {
	case <-v.done:
		return now.After(v.until)
	default:
		return false
	}
}

// forget makes room for one more: those that are over go, or else any one that
// is done. It needs mu.
func (p *previews) forget(now time.Time) {
	if len(p.kept) < maxPreviews {
		return
	}
	for key, v := range p.kept {
		if v.over(now) {
			delete(p.kept, key)
		}
	}
	for key, v := range p.kept {
		if len(p.kept) < maxPreviews {
			return
		}
		select {
		case <-v.done:
			delete(p.kept, key)
		default:
		}
	}
}

// fill fetches a preview and closes done.
func (p *previews) fill(v *preview, u *url.URL, stop <-chan struct{}) {
	defer close(v.done)
	if v.err = p.gate.Enter(stop); v.err != nil {
		return // until is zero: the next one tries again
	}
	defer p.gate.Leave()
	ctx, cancel := context.WithTimeout(context.Background(), fetchTime)
	defer cancel()
	v.text, v.err = p.look(ctx, u)
	keep := keepPreview
	if v.err != nil {
		keep = keepFailure
	}
	v.until = p.now().Add(keep)
}

// look makes the preview of a page, or of a picture.
func (p *previews) look(ctx context.Context, u *url.URL) ([]byte, error) {
	r, err := p.open(ctx, u, "text/html, application/xhtml+xml, image/*;q=0.9, */*;q=0.1")
	if err != nil {
		return nil, err
	}
	defer r.Body.Close() // read only
	typ, params, err := mime.ParseMediaType(r.Type)
	switch {
	case err == nil && strings.HasPrefix(typ, "image/"):
		pg := &page{}
		if name := path.Base(r.URL.Path); name != "/" && name != "." {
			pg.props = append(pg.props, property{"og:title", name})
		}
		pic, err := p.picture(r)
		if err != nil {
			return nil, err
		}
		return pg.json(pic), nil
	case err == nil && typ != "text/html" && typ != "application/xhtml+xml":
		return (&page{}).json(nil), nil
	}
	pg := scanPage(r.Body, params["charset"])
	var pic *picture
	if link := pg.image(r.URL); link != nil {
		pic = p.pictureAt(ctx, link)
	}
	return pg.json(pic), nil
}

// image is where the page says its picture is.
func (p *page) image(at *url.URL) *url.URL {
	raw := p.get("og:image")
	if raw == "" {
		return nil
	}
	if base, err := at.Parse(p.base); err == nil && p.base != "" {
		at = base
	}
	link, err := at.Parse(raw)
	if err != nil {
		return nil
	}
	if link, err = parseLink(link.String()); err != nil {
		return nil
	}
	return link
}

// picture is that of a preview, kept as media.
type picture struct {
	uri, typ      string
	size          int64
	width, height int
}

// pictureAt fetches a picture, at most once a day; nil where there is none.
func (p *previews) pictureAt(ctx context.Context, link *url.URL) *picture {
	if m, err := p.media.Find(p.server, p.id(link)); err == nil {
		if pic, err := p.judge(m); err == nil {
			return pic
		}
	}
	r, err := p.open(ctx, link, "image/*")
	if err != nil {
		return nil
	}
	defer r.Body.Close() // read only
	r.URL = link         // what the page calls it
	pic, err := p.picture(r)
	if err != nil {
		return nil
	}
	return pic
}

// id is the media id of a picture by its address, for one day and one life of
// this process.
func (p *previews) id(link *url.URL) string {
	h := sha256.New()
	h.Write(p.secret[:])
	io.WriteString(h, strconv.FormatInt(p.now().Unix()/(24*60*60), 10)+link.String())
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:18])
}

// picture stores a picture on its way in.
func (p *previews) picture(r *Page) (*picture, error) {
	if r.Size > maxPicture {
		return nil, noAnswer("the picture is too large")
	}
	m, err := p.media.Upload(&media.Upload{
		ID: p.id(r.URL), Kind: media.Preview, Type: r.Type, Length: r.Size,
	}, &capped{r.Body, maxPicture})
	if fault.Is(err, fault.CannotOverwrite) { // somebody was faster
		m, err = p.media.Wait(p.server, p.id(r.URL), 0, nil)
	}
	if err != nil {
		return nil, noAnswer("the picture cannot be kept")
	}
	pic, err := p.judge(m)
	if err != nil {
		return nil, errors.Join(noAnswer("the picture cannot be read"), p.media.Delete(m.Origin, m.ID))
	}
	return pic, nil
}

// judge looks at the head of a stored picture.
func (p *previews) judge(m *media.Media) (*picture, error) {
	b, err := p.media.Open(m)
	if err != nil {
		return nil, err
	}
	defer b.Close() // read only
	head, err := media.Look(b, b.Size)
	if err != nil {
		return nil, err
	}
	return &picture{m.URI(), head.Format.Type(), m.Size, head.Width, head.Height}, nil
}

// capped fails a body that is too long, where its length was not announced.
type capped struct {
	r    io.Reader
	left int
}

func (c *capped) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	if c.left -= n; c.left < 0 {
		return 0, io.ErrShortBuffer
	}
	return n, err
}

// json writes a preview. What the page says of its picture is replaced by what
// is known of it. Spec: client-server, GET /_matrix/client/v1/media/preview_url.
func (p *page) json(pic *picture) []byte {
	out := []byte{'{'}
	key := func(name string) {
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(cjson.AppendString(out, name), ':')
	}
	for _, v := range p.props {
		if v.name == "og:image" || strings.HasPrefix(v.name, "og:image:") && v.name != "og:image:alt" {
			continue
		}
		if len(v.value) > maxValue && strings.HasPrefix(v.value, "http") {
			continue // half an address leads nowhere
		}
		key(v.name)
		out = cjson.AppendString(out, shorten(v.value))
	}
	if pic != nil {
		key("og:image")
		out = cjson.AppendString(out, pic.uri)
		key("og:image:type")
		out = cjson.AppendString(out, pic.typ)
		for name, n := range map[string]int64{"og:image:width": int64(pic.width), "og:image:height": int64(pic.height), "matrix:image:size": pic.size} {
			key(name)
			out = strconv.AppendInt(out, n, 10)
		}
	}
	return bytes.Clone(append(out, '}'))
}

// shorten cuts a text where it is too long, between characters.
func shorten(s string) string {
	if len(s) <= maxValue {
		return s
	}
	cut := 0
	for i := range s {
		if i > maxValue-len("…") {
			break
		}
		cut = i
	}
	return s[:cut] + "…"
}
