package config

import (
	"errors"
	"fmt"

	"github.com/pelletier/go-toml/v2/unstable"

	"hearth/engine/bridge"
	"hearth/engine/cjson"
	"hearth/engine/fault"
)

// table is one [[mapping]] of the file, as the JSON object that says the same: a
// mapping is read in one place, whether it stands here or in the control room.
type table struct {
	at   string // file and line
	text []byte // members
}

// add appends one key.
func (t *table) add(at, key string, n *unstable.Node) error {
	if len(t.text) > 0 {
		t.text = append(t.text, ',')
	}
	t.text = append(cjson.AppendString(t.text, key), ':')
	if t.value(n) {
		return nil
	}
	return fmt.Errorf("%s: %s: this must be text in quotes, a list of such, a whole number, true or false", at, key)
}

// value appends a value; ok is false for one of a kind that no mapping has.
func (t *table) value(n *unstable.Node) (ok bool) {
	switch n.Kind {
	case unstable.String:
		t.text = cjson.AppendString(t.text, string(n.Data))
	case unstable.Integer, unstable.Bool:
		t.text = append(t.text, n.Data...)
	case unstable.Array:
		t.text = append(t.text, '[')
		for item := n.Children(); item.Next(); {
			if item.Node().Kind != unstable.String {
				return false
			}
			if t.text[len(t.text)-1] != '[' {
				t.text = append(t.text, ',')
			}
			t.value(item.Node())
		}
		t.text = append(t.text, ']')
	default:
		return false
	}
	return true
}

// readMappings makes mappings of the tables.
func (c *Config) readMappings(maps []table) error {
	for _, t := range maps {
		m, err := bridge.ParseMapping(append(append([]byte{'{'}, t.text...), '}'), t.at)
		if err != nil {
			var f *fault.Error
			if errors.As(err, &f) {
				err = errors.New(f.Text)
			}
			return err
		}
		c.Mappings = append(c.Mappings, m)
	}
	return nil
}
