package wire

import "net/url"

// What requests for the proof of an address have, at a homeserver and at an
// identity server.

// Opaque holds an id or secret of a client to its grammar.
// Spec: client-server, POST /register/email/requestToken; identity service, POST
// /validate/email/requestToken.
func Opaque(s string) bool {
	if s == "" || len(s) > 255 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '=', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// maxLink bounds a link that somebody is sent to.
const maxLink = 2048

// WebLink says whether somebody may be sent to a link: to a page, and to nothing
// that runs.
func WebLink(s string) bool {
	u, err := url.Parse(s)
	return err == nil && len(s) <= maxLink && (u.Scheme == "https" || u.Scheme == "http") && u.Host != ""
}
