package adminapi

import (
	"errors"
	"io"
	"strings"
	"testing"

	"hearth/httpd/wire"
)

// TestUpdates: orders and archives get to the box, from admins alone, and nowhere where the hub runs on no box.
func TestUpdates(t *testing.T) {
	const path = "/_hearth/admin/v1/update"
	h := start(t)
	if a := h.do("GET", path, h.root, ""); a.status != 404 {
		t.Errorf("a hub on no box answers %d", a.status)
	}
	var orders []string
	brought := ""
	box := New(Options{Engine: h.e, Updates: &Updates{
		Order: func(order string) ([]byte, error) {
			orders = append(orders, order)
			if order == "pull nonsense" {
				return nil, errors.New("that is no URL of an update")
			}
			return []byte(`{"version":"1.0.0"}`), nil
		},
		Bring: func(archive io.Reader) error {
			b, err := io.ReadAll(archive)
			brought = string(b)
			return err
		},
	}})
	for _, rt := range box.Routes() {
		if rt.Pattern == path {
			h.ok(h.mux.Add([]wire.Route{rt}))
		}
	}
	for _, c := range []struct {
		method, token, body string
		status              int
		order, text         string
	}{
		{"GET", h.bob, "", 403, "", ""},
		{"PUT", h.bob, "an archive", 403, "", ""},
		{"GET", h.root, "", 200, "status", "1.0.0"},
		{"PUT", h.root, "an archive", 200, "install", "1.0.0"},
		{"POST", h.root, `{"url":"https://example.org/a"}`, 200, "pull https://example.org/a", "1.0.0"},
		{"POST", h.root, `{}`, 400, "", "url"},
		{"POST", h.root, `{"url":"nonsense"}`, 400, "pull nonsense", "no URL"},
	} {
		orders = nil
		a := h.do(c.method, path, c.token, c.body)
		if a.status != c.status || strings.Join(orders, " ") != c.order || !strings.Contains(a.body, c.text) {
			t.Errorf("%s %s: %d %s, the box was told %q", c.method, c.body, a.status, a.body, orders)
		}
	}
	if brought != "an archive" {
		t.Errorf("the box got %q", brought)
	}
}
