package oauth

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// maxURI bounds each address that a client gives, in bytes.
const maxURI = 2048

// printable says whether a text is visible ASCII without what could end an
// attribute or a header: an address that needs more is to be percent-encoded.
func printable(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= 0x20 || c >= 0x7f || c == '"' || c == '<' || c == '>' || c == '\\' || c == '`' {
			return false
		}
	}
	return true
}

// hostname is the host of an address in small letters without its port; empty
// where that is no name or IP address.
func hostname(u *url.URL) string {
	h := strings.ToLower(u.Hostname())
	if _, err := netip.ParseAddr(h); err == nil {
		return h
	}
	if h == "" || len(h) > 253 || strings.Trim(h, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" ||
		slices.Contains(strings.Split(h, "."), "") {
		return ""
	}
	return h
}

// httpsURI parses an https address without user or password.
func httpsURI(s string) (u *url.URL, host string, ok bool) {
	if len(s) > maxURI || !printable(s) {
		return nil, "", false
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.User != nil || u.Opaque != "" {
		return nil, "", false
	}
	host = hostname(u)
	return u, host, host != ""
}

// within says whether a host is the base or a subdomain of it. An IP address has
// no subdomains.
func within(host, base string) bool {
	if host == base {
		return true
	}
	if _, err := netip.ParseAddr(base); err == nil {
		return false
	}
	return strings.HasSuffix(host, "."+base)
}

// loopback says whether an http address points at the machine of the browser.
// Spec: client-server, redirect URI validation, native clients.
func loopback(u *url.URL) bool {
	switch u.Hostname() {
	case "localhost", "127.0.0.1", "::1":
		return u.Scheme == "http" && u.User == nil
	}
	return false
}

// reversed turns a host name into the beginning of a private-use scheme. Only a
// name of two parts and more has one: else a client of the host javascript could
// claim that scheme.
func reversed(host string) string {
	if _, err := netip.ParseAddr(host); err == nil {
		return ""
	}
	parts := strings.Split(host, ".")
	if len(parts) < 2 {
		return ""
	}
	slices.Reverse(parts)
	return strings.Join(parts, ".")
}

// checkRedirect judges one redirect URI of a client whose client_uri has the host
// base. Spec: client-server, redirect URI validation.
func checkRedirect(s, base string, native bool) bool {
	if len(s) > maxURI || !printable(s) || strings.Contains(s, "#") {
		return false
	}
	u, err := url.Parse(s)
	if err != nil || u.User != nil {
		return false
	}
	switch {
	case u.Scheme == "https":
		_, host, ok := httpsURI(s)
		return ok && within(host, base)
	case !native:
		return false
	case u.Scheme == "http":
		return loopback(u) && !strings.Contains(strings.TrimPrefix(u.Host, "[::1]"), ":")
	}
	prefix := reversed(base)
	rest := s[len(u.Scheme)+1:]
	return prefix != "" && (u.Scheme == prefix || strings.HasPrefix(u.Scheme, prefix+".")) &&
		u.Host == "" && !strings.HasPrefix(rest, "//")
}

// sameRedirect says whether an authorisation request may use the address where
// the client registered another: they are the same, but for the port of a native
// client's loopback address, which it cannot know beforehand.
func sameRedirect(registered, asked string) bool {
	if registered == asked {
		return true
	}
	if len(asked) > maxURI || !printable(asked) || strings.Contains(asked, "#") {
		return false
	}
	r, err := url.Parse(registered)
	if err != nil || !loopback(r) {
		return false
	}
	u, err := url.Parse(asked)
	if err != nil || !loopback(u) || u.Hostname() != r.Hostname() {
		return false
	}
	// What is left without the port must be the very same text.
	return u.Port() != "" && strings.HasPrefix(asked, "http://"+u.Host) && "http://"+r.Host+asked[len("http://"+u.Host):] == registered
}

// Pair is one parameter of a callback.
type Pair struct{ Name, Value string }

// Callback is where the browser goes with an answer: the redirect URI with the
// parameters in its query, or in its fragment. The pairs without a value are left
// out. Spec: client-server, authorisation code flow, callback.
func Callback(redirect string, fragment bool, pairs ...Pair) string {
	var b strings.Builder
	b.WriteString(redirect)
	sep := byte('?')
	switch {
	case fragment:
		sep = '#'
	case strings.HasSuffix(redirect, "?"), strings.HasSuffix(redirect, "&"):
		sep = 0
	case strings.Contains(redirect, "?"):
		sep = '&'
	}
	for _, p := range pairs {
		if p.Value == "" {
			continue
		}
		if sep != 0 {
			b.WriteByte(sep)
		}
		b.WriteString(p.Name + "=" + url.QueryEscape(p.Value))
		sep = '&'
	}
	return b.String()
}

// Place names where a redirect URI leads, for people, and the source expression
// that lets a form of the hub's end there. An app's address has no host: it is
// named by its scheme.
func Place(redirect string) (name, source string) {
	u, err := url.Parse(redirect)
	if err != nil {
		return "", ""
	}
	if u.Scheme == "https" || u.Scheme == "http" {
		return u.Host, u.Scheme + ":"
	}
	return u.Scheme, u.Scheme + ":"
}
