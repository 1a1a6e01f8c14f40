// Package edkey checks Ed25519 signatures faster than one by one where many are
// by few keys, and accepts exactly what crypto/ed25519 accepts.
//
// Servers that disagree about a signature disagree about a room, so nothing may
// be gained by another equation. The usual batch equation sums up signatures with
// random factors; it cannot see errors of small order, which the single check
// refuses. Here each signature is checked alone, by the equation of the single
// check: R has to be, byte for byte, the encoding of [S]B - [k]A. What is faster
// is the way there: tables of multiples of the base point and of each key take
// most doublings out, and the inversions of many encodings become one.
//
// It refuses to sign and to know whose a key is. Its tables lie in a cache of
// bounded bytes; a key that is seldom used gets none and is checked by
// crypto/ed25519 itself.
package edkey

import (
	"container/list"
	"crypto/ed25519"
	"crypto/sha512"
	"sync"

	"filippo.io/edwards25519"
)

// The combs, by how often a key is used. Figures for 10 and for 250 signatures
// by one key decided; see the benchmarks.
var (
	smallShape = shape{width: 4, step: 4} // 15 KiB
	largeShape = shape{width: 6, step: 2} // 83 KiB
	baseShape  = shape{width: 7, step: 1} // 278 KiB, once
)

// From how many signatures on a table pays.
const (
	smallFrom = 4
	largeFrom = 64
)

// Cost in bytes of a key in the cache without its table.
const keyBytes = 256

// Signature is one to check. Verify sets OK.
type Signature struct {
	Text []byte
	Sig  []byte
	OK   bool
}

// Checker checks signatures and keeps tables. All methods may be called at the
// same time.
type Checker struct {
	limit int
	base  func() *comb

	mu   sync.Mutex // guards all below
	used int        // bytes
	keys map[[32]byte]*list.Element
	lru  *list.List // of *cached, the last used first
}

// cached is a key in the cache. Guarded by Checker.mu; tables do not change.
type cached struct {
	pub   [32]byte
	uses  int
	table *comb // nil: seldom used, or no point of the curve
}

func (c *cached) bytes() int {
	if c.table == nil {
		return keyBytes
	}
	return keyBytes + c.table.bytes()
}

// New makes a checker whose cache has at most so many bytes. The table of the
// base point, of 278 KiB, comes on top, when it is first needed.
func New(bytes int) *Checker {
	return &Checker{
		limit: bytes, keys: map[[32]byte]*list.Element{}, lru: list.New(),
		base: sync.OnceValue(func() *comb { return newComb(baseShape, edwards25519.NewGeneratorPoint()) }),
	}
}

// Verify checks signatures by one key.
func (c *Checker) Verify(pub *[32]byte, sigs []Signature) {
	table := c.tableOf(pub, len(sigs))
	if table == nil {
		for i := range sigs {
			s := &sigs[i]
			s.OK = len(s.Sig) == ed25519.SignatureSize && ed25519.Verify(pub[:], s.Text, s.Sig)
		}
		return
	}
	for len(sigs) > 0 {
		n := min(len(sigs), atOnce)
		c.verify(pub, table, sigs[:n])
		sigs = sigs[n:]
	}
}

// atOnce is how many encodings share an inversion.
const atOnce = 64

// verify checks a few signatures with a table of the negative of the key.
func (c *Checker) verify(pub *[32]byte, table *comb, sigs []Signature) {
	var buf [atOnce]point
	points := buf[:len(sigs)]
	for i := range sigs {
		points[i].identity()
		sigs[i].OK = c.expect(&points[i], pub, table, &sigs[i])
	}
	invertZ(points)
	for i := range sigs {
		p, s := &points[i], &sigs[i]
		if !s.OK {
			continue
		}
		p.x.Multiply(&p.x, &p.z)
		p.y.Multiply(&p.y, &p.z)
		r := [32]byte(p.y.Bytes())
		r[31] |= byte(p.x.IsNegative() << 7)
		s.OK = r == [32]byte(s.Sig)
	}
}

// expect works out what the signature's R has to be; ok is false where the
// signature has not the form of one.
func (c *Checker) expect(p *point, pub *[32]byte, table *comb, s *Signature) (ok bool) {
	if len(s.Sig) != ed25519.SignatureSize {
		return false
	}
	var scalar edwards25519.Scalar
	if _, err := scalar.SetCanonicalBytes(s.Sig[32:]); err != nil {
		return false
	}
	first := [32]byte(scalar.Bytes())
	h := sha512.New()
	h.Write(s.Sig[:32])
	h.Write(pub[:])
	h.Write(s.Text)
	var digest [sha512.Size]byte
	if _, err := scalar.SetUniformBytes(h.Sum(digest[:0])); err != nil {
		return false // it has 64 bytes
	}
	second := [32]byte(scalar.Bytes())
	table.addMultiple(p, &second)
	c.base().addMultiple(p, &first)
	return true
}

// tableOf finds or makes the table of a key for n more signatures; nil where it
// would not pay, and where the key is no point of the curve.
func (c *Checker) tableOf(pub *[32]byte, n int) *comb {
	if c.limit < largeShape.bytes()+keyBytes {
		return nil
	}
	c.mu.Lock()
	uses, table := c.touch(pub, n)
	c.mu.Unlock()
	want := largeShape
	switch {
	case uses < smallFrom:
		return nil
	case uses < largeFrom:
		want = smallShape
	}
	if table != nil && (table.shape == want || table.shape == largeShape) {
		return table
	}
	a, err := new(edwards25519.Point).SetBytes(pub[:])
	if err != nil {
		return nil
	}
	table = newComb(want, a.Negate(a))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put(pub, table)
	return table
}

// touch counts uses of a key. The caller holds mu.
func (c *Checker) touch(pub *[32]byte, n int) (uses int, table *comb) {
	at := c.keys[*pub]
	if at == nil {
		at = c.lru.PushFront(&cached{pub: *pub})
		c.keys[*pub] = at
		c.used += keyBytes
		c.trim()
	}
	c.lru.MoveToFront(at)
	k := at.Value.(*cached)
	k.uses = min(k.uses+n, 1<<20)
	return k.uses, k.table
}

// put keeps a table. The caller holds mu.
func (c *Checker) put(pub *[32]byte, table *comb) {
	at := c.keys[*pub]
	if at == nil {
		return // forgotten meanwhile
	}
	k := at.Value.(*cached)
	c.used -= k.bytes()
	k.table = table
	c.used += k.bytes()
	c.trim()
}

// trim forgets what was not used for longest. The caller holds mu.
func (c *Checker) trim() {
	for c.used > c.limit {
		last := c.lru.Back()
		k := last.Value.(*cached)
		c.used -= k.bytes()
		delete(c.keys, k.pub)
		c.lru.Remove(last)
	}
}
