package oauth

import "strings"

// The scopes, as they are and as clients asked for them before they were in the
// specification.
const (
	scopeAPI       = "urn:matrix:client:api:*"
	scopeDevice    = "urn:matrix:client:device:"
	scopeOldAPI    = "urn:matrix:org.matrix.msc2967.client:api:*"
	scopeOldDevice = "urn:matrix:org.matrix.msc2967.client:device:"
)

// The spellings in which a scope was asked for, as bits: it is granted in the
// same. They are on disk.
const (
	asAPI = 1 << iota
	asDevice
	asOldAPI
	asOldDevice
)

const (
	maxScope  = 2048
	minDevice = 1 // short ids are the client's risk: they name the user's own devices only
	maxDevice = 255
)

// Scope is what a client is granted: the whole client-server API, as one device.
// Spec: client-server, allocated scope tokens.
type Scope struct {
	Device string
	Forms  uint8 // how it was spelt
}

// ParseScope reads what a client asks for. Tokens that are not known are left
// out, as RFC 6749 allows; without the API and exactly one device there is
// nothing to grant. Errors are *Error.
func ParseScope(s string) (c Scope, err error) {
	if len(s) > maxScope {
		return c, E(InvalidScope, "the scope is longer than %d bytes", maxScope)
	}
	for token := range strings.SplitSeq(s, " ") {
		if !isScopeToken(token) {
			return c, E(InvalidScope, "the scope holds what it may not")
		}
		device, isDevice := strings.CutPrefix(token, scopeDevice)
		if isDevice {
			c.Forms |= asDevice
		} else if device, isDevice = strings.CutPrefix(token, scopeOldDevice); isDevice {
			c.Forms |= asOldDevice
		}
		switch {
		case token == scopeAPI:
			c.Forms |= asAPI
		case token == scopeOldAPI:
			c.Forms |= asOldAPI
		case !isDevice:
		case len(device) < minDevice || len(device) > maxDevice:
			return c, E(InvalidScope, "a device id has 1 to %d characters", maxDevice)
		case c.Device != "" && c.Device != device:
			return c, E(InvalidScope, "the scope names two devices")
		default:
			c.Device = device
		}
	}
	switch {
	case c.Device == "":
		return c, E(InvalidScope, "the scope must name a device: %sID", scopeDevice)
	case c.Forms&(asAPI|asOldAPI) == 0:
		return c, E(InvalidScope, "the scope must hold %s", scopeAPI)
	}
	return c, nil
}

// isScopeToken holds a token to its grammar. Spec: RFC 6749, 3.3.
func isScopeToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// String spells the scope as it was asked for.
func (c Scope) String() string {
	var all []string
	for _, f := range [...]struct {
		bit   uint8
		token string
	}{{asAPI, scopeAPI}, {asDevice, scopeDevice + c.Device}, {asOldAPI, scopeOldAPI}, {asOldDevice, scopeOldDevice + c.Device}} {
		if c.Forms&f.bit != 0 {
			all = append(all, f.token)
		}
	}
	return strings.Join(all, " ")
}
