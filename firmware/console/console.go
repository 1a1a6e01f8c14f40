// Package console draws on text screens what a person is to act on: a QR code, and the words with which a box tells where
// its hub is and how it becomes somebody's.
//
// It owns the form. It refuses to know what it shows, and colours: a code is drawn with the half blocks that every font of
// a console has.
package console

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"

	"rsc.io/qr"
)

// QR draws a code with half blocks: two rows of squares in one line of text, light on a dark screen, with the four
// squares of margin it needs.
func QR(w io.Writer, text string) error {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return err
	}
	const margin = 4
	light := func(x, y int) bool { return !code.Black(x, y) } // outside of the code nothing is black
	var b strings.Builder
	for y := -margin; y < code.Size+margin; y += 2 {
		for x := -margin; x < code.Size+margin; x++ {
			switch up, down := light(x, y), light(x, y+1); {
			case up && down:
				b.WriteRune('█')
			case up:
				b.WriteRune('▀')
			case down:
				b.WriteRune('▄')
			default:
				b.WriteByte(' ')
			}
		}
		b.WriteByte('\n')
	}
	_, err = io.WriteString(w, b.String())
	return err
}

// Hub is what a box says of its hub.
type Hub struct {
	Addresses []string // of the box, without ports
	Port      string
	Claim     string // the claim code; empty: the hub has an owner
}

// Page is where the hub is set up: at the first address of the old kind, which phones find most surely.
func (h Hub) Page() string {
	if len(h.Addresses) == 0 {
		return ""
	}
	best := h.Addresses[0]
	if i := slices.IndexFunc(h.Addresses, func(a string) bool { return !strings.Contains(a, ":") }); i >= 0 {
		best = h.Addresses[i]
	}
	u := url.URL{Scheme: "http", Host: net.JoinHostPort(best, h.Port), Path: "/"}
	if h.Claim != "" {
		u.RawQuery = url.Values{"code": {h.Claim}}.Encode()
	}
	return u.String()
}

// Show writes it.
func (h Hub) Show(w io.Writer) error {
	var b strings.Builder
	b.WriteByte('\n')
	for _, a := range h.Addresses {
		fmt.Fprintf(&b, "  This hub is at http://%s\n", net.JoinHostPort(a, h.Port))
	}
	if h.Claim != "" && len(h.Addresses) > 0 {
		fmt.Fprintf(&b, "\n  Open that address in a browser on the same network to make it yours. The claim code is\n\n    %s\n\n  and it is in this square too, for a phone:\n\n", h.Claim)
		if err := QR(&b, h.Page()); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
