// Package event knows one event: its form in each room version, its hashes, its
// id, its signatures and what redaction leaves of it.
//
// Everything here is a pure function of bytes and a room version; it reads no
// store, no clock and no network. Room versions are a table of flags (version.go),
// never copies of code.
//
// There are three doors: Build for events of our own, Receive for those of others,
// which refuses all that is malformed or over its limits, and Parse for bytes that
// came through one of the two before. It says nothing of whether an event is
// allowed: that is package auth.
package event
