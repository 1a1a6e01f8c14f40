package mediaapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hearth/engine/media"
)

// get goes anywhere: what may be dialled is somebody else's test.
func get(ctx context.Context, link, accept string) (*Page, error) {
	q, err := http.NewRequestWithContext(ctx, "GET", link, nil)
	if err != nil {
		return nil, err
	}
	q.Header.Set("Accept", accept)
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		return nil, err
	}
	return &Page{resp.Request.URL, resp.StatusCode, resp.Header.Get("Content-Type"), resp.ContentLength, resp.Body}, nil
}

// site is a web server whose pages are a map, and counts what it is asked.
func site(t *testing.T, pages map[string]string) (base string, asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		page, ok := pages[r.URL.Path]
		typ, body, _ := strings.Cut(page, "\n")
		switch {
		case !ok:
			http.NotFound(w, r)
		case strings.HasPrefix(typ, "to "):
			http.Redirect(w, r, typ[3:], http.StatusFound)
		default:
			w.Header().Set("Content-Type", typ)
			fmt.Fprint(w, body)
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL, asked
}

func (h *hub) preview(url string) answer {
	return h.do("GET", v1+"/preview_url?url="+strings.ReplaceAll(url, "#", "%23"), "1", nil)
}

func TestPreview(t *testing.T) {
	png := pngText(t, 279, 129)
	base, asked := site(t, map[string]string{
		"/test.html": "text/html\n<html><head><title>The Rock (1996)</title>" +
			`<meta property="og:title" content="The Rock" /><meta property="og:type" content="video.movie" />` +
			`<meta property="og:url" content="http://www.imdb.com/title/tt0117500/" /><meta property="og:image" content="test.png" />` +
			`<meta property="og:image:width" content="9" /></head><body></body></html>`,
		"/test.png":  "image/png\n" + png,
		"/to":        "to /hop",
		"/hop":       "to test.html",
		"/loop":      "to /loop",
		"/file":      "to file:///etc/passwd",
		"/bad.html":  "text/html\n<meta property=og:title content=x><meta property=og:image content=/none.png>",
		"/text.html": "text/html\n<meta property=og:title content=y><meta property=og:image content=/zip>",
		"/zip":       "application/zip\nPK",
	})
	h := start(t, Options{Get: get}, media.Options{})
	var got map[string]any
	if err := json.Unmarshal([]byte(h.preview(base+"/test.html").body), &got); err != nil {
		t.Fatal(err)
	}
	uri, _ := got["og:image"].(string)
	for key, want := range map[string]any{
		"og:title": "The Rock", "og:type": "video.movie", "og:url": "http://www.imdb.com/title/tt0117500/",
		"matrix:image:size": float64(len(png)), "og:image:width": 279.0, "og:image:height": 129.0, "og:image:type": "image/png",
	} {
		if got[key] != want {
			t.Errorf("%s: %v, want %v", key, got[key], want)
		}
	}
	if !strings.HasPrefix(uri, "mxc://hub.test/") {
		t.Fatal(uri)
	}
	if a := h.get(v1+"/download/"+uri[len("mxc://"):], "1"); a.body != png {
		t.Error("the picture: ", a.status)
	}
	for _, tt := range []struct{ path, want string }{
		{"/test.html", `200 .*"og:title":"The Rock"`},
		{"/test.html#part", `200 .*"og:title":"The Rock"`},
		{"/to", `200 .*"og:title":"The Rock"`},
		{"/test.png", `200 {"og:title":"test.png","og:image":"mxc://`},
		{"/zip", `200 {}`},
		{"/bad.html", `200 {"og:title":"x"}`},
		{"/text.html", `200 {"og:title":"y"}`},
		{"/none", "400 M_UNKNOWN"},
		{"/loop", "400 M_UNKNOWN"},
		{"/file", "400 M_UNKNOWN"},
	} {
		got, how, _ := strings.Cut(h.preview(base+tt.path).told(), " ")
		status, want, _ := strings.Cut(tt.want, " ")
		want, inside := strings.CutPrefix(want, ".*")
		if got != status || inside && !strings.Contains(how, want) || !inside && !strings.HasPrefix(how, want) {
			t.Errorf("%s: %s %s, want %s", tt.path, got, how, tt.want)
		}
	}
	n := asked.Load()
	h.preview(base + "/test.html")
	if got := asked.Load() - n; got != 0 {
		t.Errorf("asked %d times for what is remembered", got)
	}
	h.clock.Pass(keepPreview + time.Second)
	h.preview(base + "/test.html")
	if got := asked.Load() - n; got != 1 { // its picture is still here
		t.Errorf("asked %d times for a page that is over", got)
	}
}

func TestPreviewRefused(t *testing.T) {
	var asked []string
	h := start(t, Options{Get: func(_ context.Context, link, _ string) (*Page, error) {
		asked = append(asked, link)
		return nil, errors.New("refused")
	}}, media.Options{})
	for _, tt := range []struct{ query, want string }{
		{"", "400 M_MISSING_PARAM"},
		{"?url=", "400 M_MISSING_PARAM"},
		{"?url=x", "400 M_INVALID_PARAM"},
		{"?url=ftp://x/", "400 M_INVALID_PARAM"},
		{"?url=file:///etc/passwd", "400 M_INVALID_PARAM"},
		{"?url=http://a:b@x/", "400 M_INVALID_PARAM"},
		{"?url=http://x/&ts=now", "400 M_INVALID_PARAM"},
		{"?url=http://x/" + strings.Repeat("a", maxLink), "400 M_INVALID_PARAM"},
		{"?url=http://x/&ts=1510610716656", "400 M_UNKNOWN"},
		{"?url=https://[::1]/", "400 M_UNKNOWN"},
	} {
		if got := h.get(v1+"/preview_url"+tt.query, "1").told(); got != tt.want {
			t.Errorf("%.40s: %s, want %s", tt.query, got, tt.want)
		}
	}
	if got := strings.Join(asked, " "); got != "http://x/ https://[::1]/" {
		t.Error(got)
	}
	if got := h.get(v1+"/preview_url?url=http://x/", "").told(); got != "401 M_MISSING_TOKEN" {
		t.Error(got)
	}
	off := start(t, Options{}, media.Options{})
	if got := off.get("/_matrix/media/r0/preview_url?url=http://x/", "1").told(); got != "200 {}" {
		t.Error(got)
	}
}

// Many who ask for one page at once cost one fetch, and what is remembered is
// bounded.
func TestPreviewShared(t *testing.T) {
	hold, began := make(chan struct{}), make(chan struct{}, 5)
	var asked atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Path == "/slow" {
			began <- struct{}{}
			<-hold
		}
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<title>t</title>")
	}))
	defer srv.Close()
	h := start(t, Options{Get: get}, media.Options{})
	got := make(chan string)
	for range 5 {
		go func() { got <- h.preview(srv.URL + "/slow").told() }()
	}
	<-began
	close(hold)
	for range 5 {
		if s := <-got; s != `200 {"og:title":"t"}` {
			t.Error(s)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
	for i := range 2 * maxPreviews {
		h.preview(fmt.Sprintf("%s/%d", srv.URL, i))
	}
	if n := len(h.api.previews.kept); n > maxPreviews {
		t.Errorf("%d previews are remembered", n)
	}
}

func TestPage(t *testing.T) {
	for _, tt := range []struct{ html, charset, want string }{
		{"", "", `{}`},
		{"<title> A \n B </title>", "", `{"og:title":"A B"}`},
		{"<TITLE>x</TITLE><title>y</title>", "", `{"og:title":"x"}`},
		{"<title>a &amp; b &#8212; &#x263a; &hellip; &nope; & &#0;", "", `{"og:title":"a & b — ☺ … &nope; & &#0;"}`},
		{`<meta name=description content="d"><title>t`, "", `{"og:description":"d","og:title":"t"}`},
		{`<meta content='"x"' property='og:title'/>`, "", `{"og:title":"\"x\""}`},
		{`<meta property=og:title content=a/b>`, "", `{"og:title":"a/b"}`},
		{`<meta property="og:title" content="1"><meta property="og:title" content="2">`, "", `{"og:title":"1"}`},
		{`<meta name="twitter:title" content="tw"><meta name="og:site_name" content="s">`, "", `{"og:site_name":"s","og:title":"tw"}`},
		{`<!-- <title>no</title> --><title>yes</title>`, "", `{"og:title":"yes"}`},
		{`<!----><title>a</title>`, "", `{"og:title":"a"}`},
		{`<!-- x ---><title>a</title>`, "", `{"og:title":"a"}`},
		{`<script>"<title>no</title>"</script><title>yes</title>`, "", `{"og:title":"yes"}`},
		{`<script>if (a</b) "<title>no</title>"</SCRIPT ><title>yes</title>`, "", `{"og:title":"yes"}`},
		{`<div title="<title>no</title>"><title>yes</title>`, "", `{"og:title":"yes"}`},
		{`<meta property="og:title" content="unclosed`, "", `{"og:title":"unclosed"}`},
		{`<meta property="og:image:width" content="7"><meta property="og:image:alt" content="a">`, "", `{"og:image:alt":"a"}`},
		{"<title>caf\xe9 \x93x\x94</title>", "", `{"og:title":"café “x”"}`},
		{"<meta charset=iso-8859-1><title>caf\xe9</title>", "", `{"og:title":"café"}`},
		{"<title>caf\xe9</title>", "utf-8", `{"og:title":"caf` + "\ufffd" + `"}`},
		{"<title>\x82\xb1</title>", "shift_jis", `{}`},
		{`<meta http-equiv="Content-Type" content="text/html; charset=koi8-r"><title>` + "\xc1</title>", "", `{}`},
		{"<title>" + strings.Repeat("ä", 300) + "</title>", "", `{"og:title":"` + strings.Repeat("ä", 198) + `…"}`},
		{"< ><<<title>x</title><", "", `{"og:title":"x"}`},
		{"<a =b c= d>x<title>t</title>", "", `{"og:title":"t"}`},
	} {
		got := scanPage(strings.NewReader(tt.html), tt.charset).json(nil)
		if string(got) != tt.want {
			t.Errorf("%.60q: %s, want %s", tt.html, got, tt.want)
		}
		if !json.Valid(got) {
			t.Errorf("%.60q: not JSON", tt.html)
		}
	}
}

func FuzzPage(f *testing.F) {
	f.Add("<html><title>x</title><meta property=og:title content='y'><script></script><!-- -->", "")
	f.Add("<meta charset=latin1><base href=/x><title>\xe9&amp;&#10;</title>", "utf-8")
	f.Fuzz(func(t *testing.T, html, charset string) {
		p := scanPage(strings.NewReader(html), charset)
		if out := p.json(nil); !json.Valid(out) || len(out) > 2*(maxProps+4)*(maxValue*6+64) {
			t.Errorf("%q: %s", html, out)
		}
	})
}
