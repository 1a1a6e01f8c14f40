package mxid

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
