package console

import (
	"strings"
	"testing"

	"rsc.io/qr"
)

// TestQR reads the squares back out of the text.
func TestQR(t *testing.T) {
	const text = "http://10.0.2.15:8008/?code=abcd-efgh-ijkl-mnop"
	var b strings.Builder
	if err := QR(&b, text); err != nil {
		t.Fatal(err)
	}
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	for y := range code.Size {
		row := []rune(lines[(y+4)/2])
		for x := range code.Size {
			c := row[x+4]
			if (y+4)%2 == 0 && (c == ' ' || c == '▄') != code.Black(x, y) || (y+4)%2 == 1 && (c == ' ' || c == '▀') != code.Black(x, y) {
				t.Fatalf("square %d, %d is not what it should be", x, y)
			}
		}
	}
}

func TestHub(t *testing.T) {
	h := Hub{Addresses: []string{"fd00::2", "10.0.2.15"}, Port: "8008", Claim: "abcd-efgh-ijkl-mnop"}
	if h.Page() != "http://10.0.2.15:8008/?code=abcd-efgh-ijkl-mnop" {
		t.Error(h.Page())
	}
	var b strings.Builder
	if err := h.Show(&b); err != nil || !strings.Contains(b.String(), "http://[fd00::2]:8008") || !strings.Contains(b.String(), "\n    abcd-efgh-ijkl-mnop\n") || !strings.Contains(b.String(), "█") {
		t.Errorf("%v %s", err, &b)
	}
	h.Claim = ""
	b.Reset()
	if err := h.Show(&b); err != nil || strings.Contains(b.String(), "█") || h.Page() != "http://10.0.2.15:8008/" {
		t.Errorf("a hub with an owner: %v %s", err, &b)
	}
}
