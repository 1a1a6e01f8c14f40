// Package oauth holds the rules of the OAuth 2.0 API that need neither a store
// nor a clock: what a client may say of itself, which addresses a browser may be
// sent back to, what a scope asks for, and how a code is tied to who began.
//
// It owns the forms of these things: the canonical metadata of a client and the
// id that follows from it, the scope's two spellings, the codes people type. It
// refuses what is not bounded, and every address that could run something in a
// page: a client registers itself, so all that it says is a stranger's word.
//
// Spec: client-server, OAuth 2.0 API; RFC 6749, 7591, 7636, 8252, 8628.
package oauth

import "fmt"

// The error codes that other packages compare or choose.
const (
	InvalidRequest     = "invalid_request"
	InvalidGrant       = "invalid_grant"
	InvalidClient      = "invalid_client"
	InvalidScope       = "invalid_scope"
	InvalidRedirect    = "invalid_redirect_uri"
	InvalidMetadata    = "invalid_client_metadata"
	UnauthorisedClient = "unauthorized_client"
	UnsupportedGrant   = "unsupported_grant_type"
	UnsupportedType    = "unsupported_response_type"
	AccessDenied       = "access_denied"
	Pending            = "authorization_pending"
	SlowDown           = "slow_down"
	Expired            = "expired_token"
	Unavailable        = "temporarily_unavailable"
)

// Error is what a client did wrong, in OAuth's words. Its text goes to the
// client: it holds printable ASCII without quotes and backslashes only, as RFC
// 6749 wants error_description to be.
type Error struct {
	Code string
	Text string
}

func (e *Error) Error() string { return "oauth: " + e.Code + ": " + e.Text }

// E makes an Error. Parts of text that came from outside are to be quoted with
// Show.
func E(code, format string, args ...any) *Error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...)}
}

// Show makes a text from outside fit for an Error's: cut short, and without what
// may not stand there.
func Show(s string) string {
	b := make([]byte, 0, min(len(s), 64))
	for i := 0; i < len(s) && len(b) < 64; i++ {
		c := s[i]
		if c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			c = '?'
		}
		b = append(b, c)
	}
	return string(b)
}
