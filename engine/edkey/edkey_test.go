package edkey

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"filippo.io/edwards25519"
)

// all checks signatures by one key in every way there is, and holds each to
// what crypto/ed25519 says.
func all(t *testing.T, what string, pub []byte, sigs []Signature) (accepted int) {
	t.Helper()
	key := [32]byte(pub)
	a, err := new(edwards25519.Point).SetBytes(pub)
	c := New(1 << 20)
	ways := map[string]func([]Signature){
		"seldom": func(s []Signature) {
			for i := range s {
				New(1<<20).Verify(&key, s[i:i+1])
			}
		},
		"checker": func(s []Signature) { c.Verify(&key, s) },
	}
	if err == nil {
		a.Negate(a)
		for _, s := range []shape{smallShape, largeShape, {5, 1}, {8, 1}, {7, 3}, {4, 64}} {
			table := newComb(s, a)
			ways[fmt.Sprintf("comb %v", s)] = func(s []Signature) {
				for len(s) > 0 {
					n := min(len(s), atOnce)
					c.verify(&key, table, s[:n])
					s = s[n:]
				}
			}
		}
	}
	for name, check := range ways {
		for i := range sigs {
			sigs[i].OK = false
		}
		check(sigs)
		accepted = 0
		for _, s := range sigs {
			want := len(s.Sig) == 64 && ed25519.Verify(pub, s.Text, s.Sig)
			if s.OK != want {
				t.Errorf("%s, %s: %v where crypto/ed25519 says %v\nkey %x\ntext %x\nsig %x", what, name, s.OK, want, pub, s.Text, s.Sig)
			}
			if want {
				accepted++
			}
		}
	}
	return accepted
}

func seeded(t testing.TB) *rand.ChaCha8 {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var s [32]byte
	copy(s[:], fmt.Sprint(seed))
	return rand.NewChaCha8(s)
}

func newKey(r *rand.ChaCha8) ed25519.PrivateKey {
	var seed [32]byte
	r.Read(seed[:])
	return ed25519.NewKeyFromSeed(seed[:])
}

func TestOrdinary(t *testing.T) {
	r := seeded(t)
	for range 4 {
		key := newKey(r)
		var sigs []Signature
		for i := range 80 {
			text := make([]byte, i)
			r.Read(text)
			sig := ed25519.Sign(key, text)
			if i%5 == 4 {
				sig[r.Uint64()%64] ^= 1 << (r.Uint64() % 8)
			}
			sigs = append(sigs, Signature{Text: text, Sig: sig})
		}
		sigs = append(sigs, Signature{Sig: make([]byte, 63)}, Signature{})
		if n := all(t, "ordinary", key.Public().(ed25519.PublicKey), sigs); n != 64 {
			t.Errorf("%d are accepted", n)
		}
	}
}

// small are all encodings, canonical or not, of the eight points of small order.
func small(t *testing.T) (list [][]byte) {
	// A point of order eight, by which all are made.
	p8 := unhex(t, "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
	g, err := new(edwards25519.Point).SetBytes(p8)
	if err != nil {
		t.Fatal(err)
	}
	p := edwards25519.NewIdentityPoint()
	seen := map[string]bool{}
	for range 8 {
		list = append(list, p.Bytes())
		seen[string(p.Bytes())] = true
		p.Add(p, g)
	}
	if len(seen) != 8 || p.Equal(edwards25519.NewIdentityPoint()) != 1 {
		t.Fatal("the point is not of order eight")
	}
	// y is read modulo 2^255-19, so the small ones have a second form; x = 0 has
	// a sign that says nothing.
	for low := byte(0); low < 19; low++ {
		for _, sign := range []byte{0, 0x80} {
			b := bytes.Repeat([]byte{0xff}, 32)
			b[0], b[31] = 0xed+low, 0x7f|sign
			list = append(list, b)
		}
	}
	for _, h := range []string{
		"0100000000000000000000000000000000000000000000000000000000000080",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	} {
		list = append(list, unhex(t, h))
	}
	return list
}

func unhex(t *testing.T, s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSmallOrder takes keys and Rs of small order in all encodings, with S of 0
// and others: some of these are accepted, by which ways of checking differ.
func TestSmallOrder(t *testing.T) {
	points := small(t)
	accepted := 0
	one := make([]byte, 32)
	one[0] = 1
	for _, pub := range points {
		var sigs []Signature
		for _, R := range points {
			for text := range 3 {
				sigs = append(sigs, Signature{Text: []byte{byte(text)}, Sig: append(bytes.Clone(R), make([]byte, 32)...)})
			}
			sigs = append(sigs, Signature{Sig: append(bytes.Clone(R), one...)})
		}
		accepted += all(t, "small order", pub, sigs)
	}
	if accepted == 0 {
		t.Error("none is accepted: the vectors show nothing")
	}
	t.Logf("%d of those with keys of small order are accepted", accepted)
}

// TestTorsion takes keys and Rs that are ordinary points plus one of small
// order. The cofactored equation accepts them all; the single check some.
func TestTorsion(t *testing.T) {
	r := seeded(t)
	small := small(t)[:8]
	accepted, refused := 0, 0
	for range 3 {
		a, A := scalar(r)
		for _, ta := range small {
			pub := plus(t, A, ta).Bytes()
			var sigs []Signature
			for i, tr := range append(small, small...) {
				nonce, R := scalar(r)
				enc := plus(t, R, tr).Bytes()
				text := []byte{byte(i)}
				k := challenge(t, enc, pub, text)
				s := edwards25519.NewScalar().MultiplyAdd(k, a, nonce)
				sigs = append(sigs, Signature{Text: text, Sig: append(bytes.Clone(enc), s.Bytes()...)})
			}
			n := all(t, "torsion", pub, sigs)
			accepted, refused = accepted+n, refused+len(sigs)-n
		}
	}
	if accepted == 0 || refused == 0 {
		t.Errorf("%d accepted, %d refused: the vectors show nothing", accepted, refused)
	}
	t.Logf("%d accepted, %d refused", accepted, refused)
}

// TestScalars takes S at and beyond the order of the base point, and with its
// high bits set.
func TestScalars(t *testing.T) {
	r := seeded(t)
	key := newKey(r)
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	text := []byte("text")
	good := ed25519.Sign(key, text)
	sigs := []Signature{{Text: text, Sig: good}}
	for i := range int64(16) {
		s := new(big.Int).SetBytes(reversed(good[32:]))
		s.Add(s, new(big.Int).Mul(order, big.NewInt(i)))
		if s.BitLen() > 256 {
			break
		}
		sigs = append(sigs, Signature{Text: text, Sig: append(bytes.Clone(good[:32]), reversed(s.FillBytes(make([]byte, 32)))...)})
	}
	for _, v := range []*big.Int{order, new(big.Int).Sub(order, big.NewInt(1)), new(big.Int).Add(order, big.NewInt(1)), big.NewInt(0)} {
		sigs = append(sigs, Signature{Text: text, Sig: append(bytes.Clone(good[:32]), reversed(v.FillBytes(make([]byte, 32)))...)})
	}
	for bit := 252; bit < 256; bit++ {
		sig := bytes.Clone(good)
		sig[bit/8+32] |= 1 << (bit % 8)
		sigs = append(sigs, Signature{Text: text, Sig: sig})
	}
	if n := all(t, "scalars", key.Public().(ed25519.PublicKey), sigs); n != 2 {
		t.Errorf("%d are accepted, the good one came twice", n)
	}
}

func reversed(b []byte) []byte {
	out := make([]byte, len(b))
	for i := range b {
		out[len(b)-1-i] = b[i]
	}
	return out
}

// TestNoPoint takes keys that are no point of the curve.
func TestNoPoint(t *testing.T) {
	r := seeded(t)
	found := 0
	for range 40 {
		pub := make([]byte, 32)
		r.Read(pub)
		if _, err := new(edwards25519.Point).SetBytes(pub); err == nil {
			continue
		}
		found++
		sigs := make([]Signature, 70)
		for i := range sigs {
			sigs[i].Sig = make([]byte, 64)
			sigs[i].Sig[0] = byte(i)
		}
		all(t, "no point", pub, sigs)
	}
	if found == 0 {
		t.Error("all were points")
	}
}

// TestDigits puts scalars together again from their digits.
func TestDigits(t *testing.T) {
	r := seeded(t)
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	for width := 4; width <= 8; width++ {
		s := shape{width: width, step: 1}
		for i := range 200 {
			var raw [32]byte
			r.Read(raw[:])
			v := new(big.Int).Mod(new(big.Int).SetBytes(raw[:]), order)
			switch i {
			case 0:
				v.SetInt64(0)
			case 1:
				v.Sub(order, big.NewInt(1))
			}
			digits := make([]int16, s.digits())
			s.cut(digits, (*[32]byte)(reversed(v.FillBytes(make([]byte, 32)))))
			sum := new(big.Int)
			for i := len(digits) - 1; i >= 0; i-- {
				if d := int(digits[i]); d > s.row() || d < -s.row() {
					t.Fatalf("width %d: digit %d", width, d)
				}
				sum.Add(sum.Lsh(sum, uint(width)), big.NewInt(int64(digits[i])))
			}
			if sum.Cmp(v) != 0 {
				t.Fatalf("width %d: %v became %v", width, v, sum)
			}
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	r := seeded(t)
	const limit = 200 << 10
	c := New(limit)
	var tables int
	for range 40 {
		key := newKey(r)
		text := []byte("x")
		sigs := make([]Signature, 8)
		for i := range sigs {
			sigs[i] = Signature{Text: text, Sig: ed25519.Sign(key, text)}
		}
		pub := [32]byte(key.Public().(ed25519.PublicKey))
		c.Verify(&pub, sigs)
		for _, s := range sigs {
			if !s.OK {
				t.Fatal("refused")
			}
		}
		sum := 0
		tables = 0
		for at := c.lru.Front(); at != nil; at = at.Next() {
			k := at.Value.(*cached)
			sum += k.bytes()
			if k.table != nil {
				tables++
			}
		}
		if sum != c.used || sum > limit || c.lru.Len() != len(c.keys) {
			t.Fatalf("%d bytes are counted, %d are there, %d may be", c.used, sum, limit)
		}
	}
	if tables < 10 {
		t.Errorf("%d tables", tables)
	}
}

func FuzzVerify(f *testing.F) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	f.Add([]byte(key.Public().(ed25519.PublicKey)), []byte("x"), ed25519.Sign(key, []byte("x")))
	c := New(1 << 20)
	f.Fuzz(func(t *testing.T, pub, text, sig []byte) {
		if len(pub) != 32 {
			return
		}
		want := len(sig) == 64 && ed25519.Verify(pub, text, sig)
		sigs := []Signature{{Text: text, Sig: sig}, {Text: text, Sig: sig}, {Text: text, Sig: sig}, {Text: text, Sig: sig}}
		c.Verify((*[32]byte)(pub), sigs)
		for _, s := range sigs {
			if s.OK != want {
				t.Fatalf("%v where crypto/ed25519 says %v", s.OK, want)
			}
		}
	})
}

func scalar(r *rand.ChaCha8) (*edwards25519.Scalar, *edwards25519.Point) {
	var b [64]byte
	r.Read(b[:])
	s, err := edwards25519.NewScalar().SetUniformBytes(b[:])
	if err != nil {
		panic(err)
	}
	return s, new(edwards25519.Point).ScalarBaseMult(s)
}

func plus(t *testing.T, p *edwards25519.Point, enc []byte) *edwards25519.Point {
	t.Helper()
	q, err := new(edwards25519.Point).SetBytes(enc)
	if err != nil {
		t.Fatal(err)
	}
	return q.Add(q, p)
}

func challenge(t *testing.T, r, pub, text []byte) *edwards25519.Scalar {
	t.Helper()
	sum := sha512.Sum512(slices.Concat(r, pub, text))
	k, err := edwards25519.NewScalar().SetUniformBytes(sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// used is the processor's time so far: another program's work does not count.
func used(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkBatch checks signatures as they come in a join, with new tables each
// time, and one by one.
func BenchmarkBatch(b *testing.B) {
	for _, c := range []struct{ servers, each int }{{20, 250}, {500, 10}, {500, 2}} {
		r := seeded(b)
		keys := make([][32]byte, c.servers)
		sigs := make([][]Signature, c.servers)
		text := make([]byte, 500)
		for i := range keys {
			key := newKey(r)
			keys[i] = [32]byte(key.Public().(ed25519.PublicKey))
			for range c.each {
				r.Read(text[:8])
				own := bytes.Clone(text)
				sigs[i] = append(sigs[i], Signature{Text: own, Sig: ed25519.Sign(key, own)})
			}
		}
		name := fmt.Sprintf("%d_servers_%d_each", c.servers, c.each)
		per := func(b *testing.B, since time.Duration) {
			b.ReportMetric(float64((used(b)-since).Microseconds())/float64(b.N*c.servers*c.each), "cpu-µs/signature")
		}
		b.Run(name+"/tables", func(b *testing.B) {
			since := used(b)
			for range b.N {
				check := New(3 << 20)
				for i := range keys {
					check.Verify(&keys[i], sigs[i])
					if !sigs[i][0].OK {
						b.Fatal("refused")
					}
				}
			}
			per(b, since)
		})
		b.Run(name+"/one_by_one", func(b *testing.B) {
			since := used(b)
			for range b.N {
				for i := range keys {
					for _, s := range sigs[i] {
						if !ed25519.Verify(keys[i][:], s.Text, s.Sig) {
							b.Fatal("refused")
						}
					}
				}
			}
			per(b, since)
		})
	}
}
