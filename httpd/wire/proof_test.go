package wire

import (
	"strings"
	"testing"
)

func TestOpaque(t *testing.T) {
	for s, want := range map[string]bool{
		"a": true, "azAZ09.=_-": true, strings.Repeat("x", 255): true, "": false, strings.Repeat("x", 256): false, "a b": false, "ä": false, "a/b": false, "a~b": false,
	} {
		if Opaque(s) != want {
			t.Errorf("%q: %v", s, !want)
		}
	}
}

func TestWebLink(t *testing.T) {
	for s, want := range map[string]bool{
		"https://a.test/x?y#z": true, "http://[::1]:80": true, "HTTPS://a.test": true, "javascript:alert(1)": false, "//a.test": false, "a.test": false, "https://": false,
		"https://a.test/" + strings.Repeat("x", 2048): false, "": false, "ftp://a.test": false,
	} {
		if WebLink(s) != want {
			t.Errorf("%q: %v", s, !want)
		}
	}
}
