package update

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"
)

// image is a kernel that says of itself how much memory it takes.
func image(size int, takes uint64) []byte {
	b := make([]byte, size)
	copy(b[56:], "ARM\x64")
	binary.LittleEndian.PutUint64(b[16:], takes)
	return b
}

// TestKernelFits: a kernel that the memory has no room for is refused, by its file's size or by its own word.
func TestKernelFits(t *testing.T) {
	const mb = 1 << 20
	for _, c := range []struct {
		size   int
		takes  uint64
		memory int64
		ok     bool
	}{
		{2 * mb, 3 * mb, 5 * mb, true},
		{2 * mb, 3 * mb, 5*mb - 1, false},
		{2 * mb, 0, 4 * mb, true}, // an old one, which does not say it
		{2 * mb, 0, 4*mb - 1, false},
		{2 * mb, math.MaxInt64, math.MaxInt64, false},
		{2 * mb, math.MaxUint64, math.MaxInt64, false},
	} {
		var head prefix
		for b := image(c.size, c.takes); len(b) > 0; b = b[min(len(b), 33):] {
			if n, err := head.Write(b[:min(len(b), 33)]); n != min(len(b), 33) || err != nil {
				t.Fatal(n, err)
			}
		}
		if err := fits(head, int64(c.size), c.memory); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if err := fits([]byte("short"), 5, 10); err != nil {
		t.Errorf("a file that is no kernel of this kind: %v", err)
	}
	public, secret := keys(t)
	raw := archive(t, Manifest{Release: release("2", 20)}, secret, map[string][]byte{PartRoot: content("2", PartRoot, 5000), PartKernel: image(5000, 1<<50)})
	a, err := Open(bytes.NewReader(raw), int64(len(raw)), []ed25519.PublicKey{public})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Verify(); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "memory") {
		t.Errorf("an archive with a kernel of a petabyte: %v", err)
	}
}
