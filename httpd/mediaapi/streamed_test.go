//go:build !race

package mediaapi

import (
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"testing"

	"hearth/engine/media"
)

// A long file goes through in both directions without being held. Under the race
// detector pools forget some of what they are given, and more is allocated.
func TestStreamed(t *testing.T) {
	h := start(t, Options{}, media.Options{Dir: t.TempDir(), KeepFree: 1})
	const size = 16 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	a := h.do("POST", "/_matrix/media/v3/upload", "1", io.LimitReader(rand.NewChaCha8([32]byte{}), size))
	var out struct {
		URI string `json:"content_uri"`
	}
	if err := json.Unmarshal([]byte(a.body), &out); err != nil {
		t.Fatal(a.body)
	}
	req, err := http.NewRequest("GET", "http://hub.test/_matrix/media/v3/download/"+out.URI[len("mxc://"):], nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := h.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
		t.Fatal(n, err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 3<<20 {
		t.Errorf("%d bytes were allocated for %d twice", n, size)
	}
}
