package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Files go through the whole hub with the limits of its settings, and link
// previews reach nothing of the hub's own network unless they are allowed to.
func TestMedia(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<title>a page inside</title>")
	}))
	defer page.Close()
	for _, tt := range []struct{ allow, status, title string }{
		{"--url-previews=on", "400", "<nil>"},
		{"--url-previews=off", "200", "<nil>"},
		{"--url-previews-allow=127.0.0.0/8", "200", "a page inside"},
	} {
		h := launch(t, nil, "--data-dir="+t.TempDir(), "--registration", "open", "--media-max-upload", "200KiB", tt.allow)
		_, v := call(t, "POST", h.url+"/_matrix/client/v3/register", "", `{"username":"a","password":"correct horse","auth":{"type":"m.login.dummy"}}`)
		token, _ := v["access_token"].(string)
		status, v := call(t, "GET", h.url+"/_matrix/client/v1/media/preview_url?url="+page.URL, token, "")
		if fmt.Sprint(status) != tt.status || fmt.Sprint(v["og:title"]) != tt.title {
			t.Errorf("%s: %d %v", tt.allow, status, v)
		}
		text := `"` + strings.Repeat("x", 150<<10) + `"` // JSON, since call expects that
		_, v = call(t, "POST", h.url+"/_matrix/media/v3/upload", token, text)
		uri, _ := v["content_uri"].(string)
		resp, err := http.Get(h.url + "/_matrix/media/v3/download/" + strings.TrimPrefix(uri, "mxc://"))
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil || resp.StatusCode != 200 || resp.ContentLength != int64(len(text)) {
			t.Error(resp.Status, resp.ContentLength, err)
		}
		if status, v := call(t, "POST", h.url+"/_matrix/media/v3/upload", token, text+text); status != 413 {
			t.Error(status, v)
		}
		h.stop()
	}
}
