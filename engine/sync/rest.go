package sync

// piece is how much of an answer is in memory at one time, but for its last room:
// the first answer of a user in thousands of rooms has tens of megabytes.
const piece = 128 << 10

// Rest is what is left of a long answer. It is told as of the moment at which the
// answer began, however long the client takes.
type Rest struct{ a *answer }

// Start is Now for who can take the answer in pieces: where rest is not nil, body is
// the beginning of an answer and not to be given to Done; Next gives the others.
func (s *Sync) Start(req *Request) (body []byte, rest *Rest, ready bool, err error) {
	return s.now(req, piece)
}

// Next gives the next piece, and takes the one before back. more is false with the
// last. After an error there is no way to end the answer well. A Rest that is not
// read to its end needs no other end.
func (r *Rest) Next() (body []byte, more bool, err error) {
	a := r.a
	// The last byte says whether a comma is due; it was given out with its piece.
	a.dst[0] = a.dst[len(a.dst)-1]
	a.dst = a.dst[:1]
	if err := a.goOn(); err != nil {
		return nil, false, err
	}
	return a.dst[1:], !a.over, nil
}
