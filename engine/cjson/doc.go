// Package cjson checks, canonicalises and reads JSON as bytes: bytes in, bytes
// out, no reflection and no maps.
//
// It owns canonical JSON (Spec: appendices, Canonical JSON) and is the first code
// to touch what comes from outside, so it refuses invalid UTF-8, anything that is
// not one complete value, and nesting deeper than MaxDepth. It knows nothing of
// events.
//
// Of members with the same key the last one wins, everywhere: Canonical writes
// only that one, Lookup finds that one. A reader before and a reader after
// canonicalisation therefore see the same value, and output never holds
// duplicates. Refusing duplicates was considered: other servers accept them, and
// refusing an event that others accept splits a room.
//
// Lookup, Object, Array and the value readers trust nothing: on broken JSON they
// report absence or an error and never panic, but only Check and Canonical give a
// verdict on the whole text.
package cjson

import "fmt"

// MaxDepth is how deep objects and arrays may nest.
const MaxDepth = 100

// MaxInt and MinInt bound the integers of strict canonical JSON.
// Spec: appendices, Canonical JSON.
const (
	MaxInt = 1<<53 - 1
	MinInt = -MaxInt
)

// SyntaxError says that the bytes are not JSON at all. To a client: M_NOT_JSON.
type SyntaxError struct {
	Offset int    // where in the input
	Text   string // what was wrong
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("json: %s at byte %d", e.Text, e.Offset)
}

// RangeError says that the bytes are JSON, but of a kind that is not allowed: too
// deep, a number without a canonical form, half a surrogate pair. To a client:
// M_BAD_JSON.
type RangeError struct {
	Offset int    // where in the input
	Text   string // what was wrong
}

func (e *RangeError) Error() string {
	return fmt.Sprintf("json: %s at byte %d", e.Text, e.Offset)
}
