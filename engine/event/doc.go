// Package event knows one event: its form in each room version, its hashes, its
// id, its signatures and what redaction leaves of it.
//
// Everything here is a pure function of bytes and a room version; it reads no
// store, no clock and no network. Room versions are a table of flags (version.go),
// never copies of code.
package event
