package mxid

import "strings"

// UserID is a full Matrix user id, "@local:server".
type UserID string

// RoomID is a room id, "!opaque:server", or "!hash" from room version 12 on.
type RoomID string

// Alias is a room alias, "#name:server".
type Alias string

// EventID is an event id, "$local:server" in room versions 1 and 2, "$hash" later.
type EventID string

// Server is a server name: a host name, IPv4 or bracketed IPv6 address, with an
// optional port. Compared byte for byte.
type Server string

// split divides an identifier at its first colon, without the sigil.
func split(s string) (local string, server Server) {
	if s == "" {
		return "", ""
	}
	local, domain, _ := strings.Cut(s[1:], ":")
	return local, Server(domain)
}

// Localpart is the part between '@' and the first ':'.
func (u UserID) Localpart() string { local, _ := split(string(u)); return local }

// Server is the server that gave the user id.
func (u UserID) Server() Server { _, server := split(string(u)); return server }

// Compliant says whether the local part is one that may be shown outside of
// events: not empty, visible ASCII. Spec: appendices, Historical User IDs.
func (u UserID) Compliant() bool {
	local := u.Localpart()
	for i := 0; i < len(local); i++ {
		if local[i] < 0x21 || local[i] > 0x7e {
			return false
		}
	}
	return local != ""
}

// Localpart is the part between '#' and the first ':'.
func (a Alias) Localpart() string { local, _ := split(string(a)); return local }

// Server is the server that gave the alias and answers for it.
func (a Alias) Server() Server { _, server := split(string(a)); return server }

// Server is the domain of a room id, "" in rooms of version 12 on. It only keeps
// names apart: it does not say who is in the room.
func (r RoomID) Server() Server { _, server := split(string(r)); return server }

// IsHash says whether the room id has the form of version 12 on: '!' and the
// hash of the create event in URL-safe base64.
func (r RoomID) IsHash() bool { return len(r) == 44 && r[0] == '!' && isHash(string(r[1:])) }

// Server is the domain of an event id of room versions 1 and 2, "" later.
func (e EventID) Server() Server { _, server := split(string(e)); return server }

// isHash says whether s is text of the URL-safe base64 alphabet.
func isHash(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
