package federation

import (
	"encoding/json"
	"errors"
	"io"
)

// elements reads a long answer piece by piece: one object whose lists may be of
// any length, of which one element at a time is in memory. The whole is bounded by
// most, one element by maxElement.
type elements struct {
	dec  *json.Decoder
	left *allowance
}

// maxElement is the longest single value that is read: an event of full size
// with an unsigned part.
const maxElement = 256 << 10

// allowance is a reader that gives no more than it was allowed since the last
// element.
type allowance struct {
	r     io.Reader
	total int64
	now   int64
}

var errTooLong = errors.New("the answer is too long")

func (a *allowance) Read(p []byte) (int, error) {
	n := min(int64(len(p)), a.total, a.now)
	if n <= 0 && len(p) > 0 {
		return 0, errTooLong
	}
	got, err := a.r.Read(p[:n])
	a.total -= int64(got)
	a.now -= int64(got)
	return got, err
}

func newElements(r io.Reader, most int64) *elements {
	left := &allowance{r: r, total: most, now: maxElement}
	return &elements{dec: json.NewDecoder(left), left: left}
}

// value reads one whole value.
func (e *elements) value() (json.RawMessage, error) {
	e.left.now = maxElement
	var raw json.RawMessage
	return raw, e.dec.Decode(&raw)
}

func (e *elements) token() (json.Token, error) {
	e.left.now = maxElement
	return e.dec.Token()
}

// object calls f for each member of the object that comes next; f has to take
// its value, by one of the methods.
func (e *elements) object(f func(key string) error) error {
	t, err := e.token()
	if err != nil {
		return err
	}
	if t != json.Delim('{') {
		return errors.New("not an object")
	}
	for e.more() {
		t, err := e.token()
		if err != nil {
			return err
		}
		key, _ := t.(string) // a key is nothing else
		if err := f(key); err != nil {
			return err
		}
	}
	_, err = e.token()
	return err
}

// list calls f for each element of the list that comes next; another value is a
// list of none.
func (e *elements) list(f func(raw []byte) error) error {
	t, err := e.token()
	if err != nil {
		return err
	}
	if t != json.Delim('[') {
		return e.rest(t)
	}
	for e.more() {
		raw, err := e.value()
		if err != nil {
			return err
		}
		if err := f(raw); err != nil {
			return err
		}
	}
	_, err = e.token()
	return err
}

// more says whether another element follows.
func (e *elements) more() bool {
	e.left.now = maxElement
	return e.dec.More()
}

// skip passes over the value that comes next.
func (e *elements) skip() error {
	t, err := e.token()
	if err != nil {
		return err
	}
	return e.rest(t)
}

// rest passes over what is left of a value that began with a token.
func (e *elements) rest(t json.Token) error {
	depth := 0
	for {
		if d, ok := t.(json.Delim); ok {
			if d == '{' || d == '[' {
				depth++
			} else {
				depth--
			}
		}
		if depth <= 0 {
			return nil
		}
		var err error
		if t, err = e.token(); err != nil {
			return err
		}
	}
}
