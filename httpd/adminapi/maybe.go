package adminapi

import "encoding/json"

// maybe is a member of a body that may be absent, null, or have a value, all of
// which mean something else.
type maybe[T any] struct {
	said bool
	val  *T
}

// UnmarshalJSON is called where the member is there, null included.
func (m *maybe[T]) UnmarshalJSON(b []byte) error {
	m.said = true
	return json.Unmarshal(b, &m.val)
}
