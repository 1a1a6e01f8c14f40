package mxid

import (
	"errors"
	"net/netip"
	"strings"
	"unicode/utf8"
)

// MaxLength is the most bytes an identifier has, sigil and domain included.
// Spec: appendices, Common Identifier Format and following.
const MaxLength = 255

// The ways in which an identifier is wrong.
var (
	errEmpty     = errors.New("identifier is empty")
	errLong      = errors.New("identifier is longer than 255 bytes")
	errSigil     = errors.New("identifier starts with the wrong character")
	errDomain    = errors.New("identifier has no domain")
	errCharacter = errors.New("identifier holds a character it must not hold")
	errServer    = errors.New("not a server name")
	errLocalpart = errors.New("a user name is made of a-z, 0-9 and . _ = - / +")
)

// ParseUser takes a full user id by the historical grammar, which other servers'
// events still use: the local part is any text without ':' and NUL, also none.
// Spec: appendices, Historical User IDs.
func ParseUser(s string) (UserID, error) {
	if err := checkSplit(s, '@'); err != nil {
		return "", err
	}
	return UserID(s), nil
}

// ParseAlias takes a room alias. Spec: appendices, Room Aliases.
func ParseAlias(s string) (Alias, error) {
	if err := checkSplit(s, '#'); err != nil {
		return "", err
	}
	return Alias(s), nil
}

// ParseRoom takes a room id with or without a domain. Which of the two a room
// has is up to its version; IsHash tells. Spec: appendices, Room IDs.
func ParseRoom(s string) (RoomID, error) {
	if strings.IndexByte(s, ':') < 0 {
		if err := checkOpaque(s, '!'); err != nil {
			return "", err
		}
	} else if err := checkSplit(s, '!'); err != nil {
		return "", err
	}
	return RoomID(s), nil
}

// ParseEvent takes an event id of any version: opaque text behind a '$'. Clients
// and servers must not look into it. Spec: appendices, Event IDs.
func ParseEvent(s string) (EventID, error) {
	if err := checkOpaque(s, '$'); err != nil {
		return "", err
	}
	return EventID(s), nil
}

func checkOpaque(s string, sigil byte) error {
	switch {
	case s == "":
		return errEmpty
	case s[0] != sigil:
		return errSigil
	case len(s) < 2:
		return errEmpty
	case len(s) > MaxLength:
		return errLong
	case strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s):
		return errCharacter
	}
	return nil
}

// checkSplit checks sigil, local part, colon and domain. The first colon divides:
// a local part never holds one, a domain may (port, IPv6).
func checkSplit(s string, sigil byte) error {
	if err := checkOpaque(s, sigil); err != nil {
		return err
	}
	colon := strings.IndexByte(s, ':')
	if colon < 0 {
		return errDomain
	}
	return checkServer(s[colon+1:])
}

// ParseServer takes a server name: a DNS name, an IPv4 address or an IPv6 address
// in brackets, with or without a port. Names are case-sensitive and stay as they
// are. Spec: appendices, Server Name.
func ParseServer(s string) (Server, error) {
	if len(s) > MaxLength {
		return "", errLong
	}
	if err := checkServer(s); err != nil {
		return "", err
	}
	return Server(s), nil
}

func checkServer(s string) error {
	host, rest := s, ""
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return errServer
		}
		addr, err := netip.ParseAddr(s[1:end])
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return errServer
		}
		rest = s[end+1:]
	} else {
		if colon := strings.IndexByte(s, ':'); colon >= 0 {
			host, rest = s[:colon], s[colon:]
		}
		if !dnsName(host) {
			return errServer
		}
	}
	if rest == "" {
		return nil
	}
	if rest[0] != ':' || !port(rest[1:]) {
		return errServer
	}
	return nil
}

// dnsName accepts what the grammar of a DNS name or an IPv4 address does. Four
// numbers are an address and have to be a possible one; the finer rules for
// labels are recommendations, and judging them would split us from other servers.
func dnsName(s string) bool {
	if s == "" {
		return false
	}
	dots, digits := 0, true
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case '0' <= c && c <= '9':
		case c == '.':
			dots++
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '-':
			digits = false
		default:
			return false
		}
	}
	if digits && dots == 3 {
		addr, err := netip.ParseAddr(s)
		return err == nil && addr.Is4()
	}
	return true
}

func port(s string) bool {
	if len(s) == 0 || len(s) > 5 {
		return false
	}
	n := 0
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n <= 65535
}

// CheckLocalpart checks the local part of a name that is given anew: a-z, 0-9 and
// . _ = - / + only. Spec: appendices, User Identifiers.
func CheckLocalpart(s string) error {
	if s == "" {
		return errEmpty
	}
	for i := 0; i < len(s); i++ {
		if !localChar(s[i]) {
			return errLocalpart
		}
	}
	return nil
}

func localChar(c byte) bool {
	switch c {
	case '.', '_', '=', '-', '/', '+':
		return true
	}
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
}

// LowerLocalpart makes A-Z into a-z, which is all that registration does to a
// name before CheckLocalpart judges it: "Bob" and "bob" must not be two users.
func LowerLocalpart(s string) string {
	for i := 0; i < len(s); i++ {
		if 'A' <= s[i] && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if 'A' <= b[i] && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}

// MapLocalpart makes any text into a local part that CheckLocalpart accepts:
// capitals lowered, what else is not allowed as =xx for each byte. For names that
// come from another world, such as a thing's. Spec: appendices, Mapping from other
// character sets.
func MapLocalpart(s string) string {
	const hex = "0123456789abcdef"
	b := make([]byte, 0, len(s))
	for _, c := range []byte(LowerLocalpart(s)) {
		if c != '=' && localChar(c) {
			b = append(b, c)
		} else {
			b = append(b, '=', hex[c>>4], hex[c&15])
		}
	}
	return string(b)
}

// NewUser makes a user id from a checked local part and server name.
func NewUser(localpart string, server Server) (UserID, error) {
	if err := CheckLocalpart(localpart); err != nil {
		return "", err
	}
	return ParseUser("@" + localpart + ":" + string(server))
}

// NewAlias makes a room alias.
func NewAlias(localpart string, server Server) (Alias, error) {
	if localpart == "" {
		return "", errEmpty
	}
	if strings.IndexByte(localpart, ':') >= 0 {
		return "", errCharacter
	}
	return ParseAlias("#" + localpart + ":" + string(server))
}
