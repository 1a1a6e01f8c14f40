package mediaapi

import "testing"

// What a file is said to be stands in a line of the answer, and ends no line there.
func TestContentType(t *testing.T) {
	for said, want := range map[string]string{
		"image/png":                        "image/png",
		"text/plain; charset=utf-8":        "text/plain; charset=utf-8",
		"":                                 "application/octet-stream",
		"png":                              "application/octet-stream",
		"image/png;\r\n\r\nx=\"<script>\"": "application/octet-stream",
		"image/png;\tx=y":                  "application/octet-stream",
	} {
		if got := contentType(said); got != want {
			t.Errorf("%q: %q", said, got)
		}
	}
}
