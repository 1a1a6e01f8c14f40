package update

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"hearth/firmware/card"
	"hearth/firmware/fat"
)

// keys are made anew in every run.
func keys(t testing.TB) (ed25519.PublicKey, ed25519.PrivateKey) {
	public, secret, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return public, secret
}

// content is what a version's part holds: nothing that another version's could be taken for.
func content(version, part string, size int) []byte {
	b := make([]byte, size)
	sum := sha256.Sum256([]byte(version + part))
	r := rand.NewChaCha8(sum)
	r.Read(b[:size/2]) // the rest is zero
	return b
}

// bootPart is a boot partition with a place for the root.
func bootPart(version string) []byte {
	b := content(version, PartBoot, 20*Sector)
	copy(b[3*Sector:], RootBlank+" quiet\n")
	return b
}

// archive builds one.
func archive(t testing.TB, m Manifest, key ed25519.PrivateKey, parts map[string][]byte) []byte {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	var body []byte
	for _, name := range []string{PartRoot, PartBoot, PartKernel} {
		if b, ok := parts[name]; ok {
			packed, sum := z.EncodeAll(b, nil), sha256.Sum256(b)
			m.Parts = append(m.Parts, Part{Name: name, Size: int64(len(b)), SHA256: hex.EncodeToString(sum[:]), Packed: int64(len(packed))})
			body = append(body, packed...)
		}
	}
	head, err := Header(&m, key)
	if err != nil {
		t.Fatal(err)
	}
	return append(head, body...)
}

func release(version string, sequence int64) Release {
	return Release{Board: "test", Version: version, Sequence: sequence, Floor: 5, Store: 2}
}

// TestRefusals: every archive that is not right is refused, in words.
func TestRefusals(t *testing.T) {
	public, secret := keys(t)
	_, stranger := keys(t)
	old, _ := keys(t)
	parts := map[string][]byte{PartRoot: content("2", PartRoot, 5000)}
	good := archive(t, Manifest{Release: release("2", 20)}, secret, parts)
	open := func(b []byte) error {
		a, err := Open(bytes.NewReader(b), int64(len(b)), []ed25519.PublicKey{old, public})
		if err != nil {
			return err
		}
		if err := a.Suits(release("1", 10), 7); err != nil {
			return err
		}
		return a.Verify()
	}
	if err := open(good); err != nil {
		t.Fatalf("a good archive: %v", err)
	}
	change := func(b []byte, at int, to byte) []byte {
		b = bytes.Clone(b)
		b[at] ^= to
		return b
	}
	other := func(f func(r *Release)) []byte {
		r := release("2", 20)
		f(&r)
		return archive(t, Manifest{Release: r}, secret, parts)
	}
	unsigned := bytes.Clone(good)
	clear(unsigned[len(magic)+4 : head])
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"empty":         {nil, "no update"},
		"another file":  {bytes.Repeat([]byte("x"), 1000), "no update"},
		"unsigned":      {unsigned, "not signed"},
		"a stranger's":  {archive(t, Manifest{Release: release("2", 20)}, stranger, parts), "not signed"},
		"altered":       {change(good, head+20, 1), "not signed"},
		"long manifest": {change(good, len(magic), 1), "manifest is too large"},
		"damaged":       {change(good, len(good)-100, 1), "damaged"},
		"cut off":       {good[:len(good)-1], "cut off"},
		"cut header":    {good[:head+10], "cut off"},
		"with more":     {append(bytes.Clone(good), 0), "behind it"},
		"other board":   {other(func(r *Release) { r.Board = "toaster" }), "board toaster"},
		"below floor":   {other(func(r *Release) { r.Sequence = 6 }), "older than what is safe"},
		"old store":     {other(func(r *Release) { r.Store = 1 }), "form"},
	} {
		if err := open(c.b); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	big := Manifest{Release: release("2", 20), Parts: []Part{{Name: PartRoot, Size: maxPart + 1, SHA256: strings.Repeat("0", 64), Packed: 1}}}
	if _, err := Header(&big, secret); !errors.Is(err, ErrRefused) {
		t.Errorf("a part that is too large: %v", err)
	}
}

// TestBomb: a part that unpacks to more than it says is refused before it has filled anything.
func TestBomb(t *testing.T) {
	public, secret := keys(t)
	b := archive(t, Manifest{Release: release("2", 20)}, secret, map[string][]byte{PartRoot: make([]byte, 50<<20)})
	a, err := Open(bytes.NewReader(b), int64(len(b)), []ed25519.PublicKey{public})
	if err != nil {
		t.Fatal(err)
	}
	a.Parts[0].Size = 1000
	var got bytes.Buffer
	if err := a.copy(PartRoot, &got); !errors.Is(err, ErrRefused) || got.Len() > 1001 {
		t.Errorf("%v after %d bytes", err, got.Len())
	}
}

func FuzzOpen(f *testing.F) {
	public, secret := keys(f)
	good := archive(f, Manifest{Release: release("2", 20)}, secret, map[string][]byte{PartRoot: content("2", PartRoot, 5000)})
	text := good[head : head+int(binary.BigEndian.Uint32(good[len(magic):]))]
	f.Add(good, text)
	f.Add([]byte(magic), []byte(`{"parts":[{}]}`))
	f.Fuzz(func(t *testing.T, raw, manifest []byte) {
		if a, err := Open(bytes.NewReader(raw), int64(len(raw)), []ed25519.PublicKey{public}); err == nil && a.Verify() == nil && !bytes.Equal(raw, good) {
			t.Error("another archive was taken")
		}
		if len(manifest) > maxManifest {
			return
		}
		// What the owner of the key signs may be wrong as well.
		signed := append([]byte(magic), byte(0), byte(0), byte(len(manifest)>>8), byte(len(manifest)))
		signed = append(signed, ed25519.Sign(secret, append([]byte(domain), manifest...))...)
		signed = append(append(signed, manifest...), raw...)
		if a, err := Open(bytes.NewReader(signed), int64(len(signed)), []ed25519.PublicKey{public}); err == nil {
			_ = a.Verify()
		}
	})
}

// disk is one in memory that loses its power after a number of sectors.
type disk struct {
	b    []byte
	left *int
}

var errCut = errors.New("power cut")

func (d *disk) ReadAt(p []byte, at int64) (int, error) { return copy(p, d.b[at:]), nil }

func (d *disk) WriteAt(p []byte, at int64) (int, error) {
	if at%Sector != 0 || len(p)%Sector != 0 || at+int64(len(p)) > int64(len(d.b)) {
		return 0, fmt.Errorf("%d bytes at %d", len(p), at)
	}
	for n := 0; n < len(p); n += Sector {
		if *d.left == 0 {
			return n, errCut
		}
		*d.left--
		copy(d.b[at+int64(n):], p[n:n+Sector])
	}
	return len(p), nil
}

func (d *disk) flush() error {
	if *d.left == 0 {
		return errCut
	}
	return nil
}

// box is a card in memory.
type box struct {
	home  []byte
	roots [2][]byte
	boots [2][]byte
	left  int
	pi    bool
}

const (
	testUUID = "0000000%d-0%d"
	kernel   = 30 * Sector
)

func (b *box) loader() Loader {
	dev := func(p []byte) *Device {
		d := &disk{b: p, left: &b.left}
		return &Device{ReaderAt: d, WriterAt: d, Flush: d.flush, Size: int64(len(p))}
	}
	s := Slots{Home: dev(b.home), BootNumbers: [2]int{2, 3}}
	for i := range 2 {
		s.Roots[i], s.Boots[i], s.UUIDs[i] = dev(b.roots[i]), dev(b.boots[i]), fmt.Sprintf(testUUID, i, i)
	}
	if b.pi {
		return Raspberry(s)
	}
	return UEFI(s)
}

func (b *box) clone() *box {
	c := &box{home: bytes.Clone(b.home), left: -1, pi: b.pi}
	for i := range 2 {
		c.roots[i], c.boots[i] = bytes.Clone(b.roots[i]), bytes.Clone(b.boots[i])
	}
	return c
}

// parts are a version's.
func (b *box) parts(version string) map[string][]byte {
	if b.pi {
		return map[string][]byte{PartRoot: content(version, PartRoot, 15*Sector), PartBoot: bootPart(version)}
	}
	return map[string][]byte{PartRoot: content(version, PartRoot, 15*Sector+100), PartKernel: content(version, PartKernel, 20*Sector+len(version))}
}

// newBox has version 1 in slot A.
func newBox(t *testing.T, pi bool) *box {
	b := &box{left: -1, pi: pi}
	for i := range 2 {
		b.roots[i], b.boots[i] = make([]byte, 40*Sector), make([]byte, 20*Sector)
	}
	copy(b.roots[0], b.parts("1")[PartRoot])
	spec := fat.Spec{Size: 64 << 20, Label: "HEARTH", When: time.Unix(0, 0), Files: map[string][]byte{"hearth.txt": []byte("text")}}
	if pi {
		copy(b.boots[0], bootPart("1"))
		if err := FillRoot(b.boots[0][3*Sector:4*Sector], 0, fmt.Sprintf(testUUID, 0, 0)); err != nil {
			t.Fatal(err)
		}
		spec.Files[AutobootFile] = Autoboot(2, 3)
	} else {
		spec.Size = 128 << 20 // clusters of two sectors, as on a card
		spec.Room = map[string]int{KernelFile(0): kernel, KernelFile(1): kernel}
		spec.Files[KernelFile(0)], spec.Files[KernelFile(1)] = b.parts("1")[PartKernel], nil
		for slot, name := range []string{EntryName(0, 1, -1, 0), EntryName(1, 1, 0, 0)} {
			text, err := EntryText(slot, &Manifest{Release: release("1", 10)}, fmt.Sprintf(testUUID, slot, slot))
			if err != nil {
				t.Fatal(err)
			}
			spec.Files[EntryFolder+"/"+name] = text
		}
	}
	var err error
	if b.home, err = fat.Make(spec); err != nil {
		t.Fatal(err)
	}
	if !pi { // only the front is in use
		b.home = b.home[:2<<20]
	}
	return b
}

// start does what firmware does, and gives the slot that it starts, -1 where the power is cut before; trial is a
// Raspberry Pi's restart with words. It changes the box as firmware does.
func (b *box) start(t *testing.T, trial bool) (slot int) {
	t.Helper()
	v, err := fat.Open(bytes.NewReader(b.home))
	if err != nil {
		t.Fatal(err)
	}
	if b.pi {
		f, err := v.Find(AutobootFile)
		if err != nil {
			t.Fatal(err)
		}
		text := string(b.home[f.At : f.At+f.Size])
		if !trial {
			text, _, _ = strings.Cut(text, "[tryboot]")
		}
		return int(text[strings.LastIndex(text, "boot_partition=")+len("boot_partition=")] - '2')
	}
	u := b.loader().(*uefi)
	f, err := u.read()
	if err != nil {
		t.Fatal(err)
	}
	a, z := f.entries[0], f.entries[1]
	switch {
	case (a.left == 0) != (z.left == 0):
		if a.left == 0 {
			slot = 1
		}
	case z.order > a.order:
		slot = 1
	}
	if e := f.entries[slot]; e.left > 0 {
		if err := u.rename(slot, func(e, _ *entry) { e.left, e.done = e.left-1, e.done+1 }); errors.Is(err, errCut) {
			return -1
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return slot
}

// whole says which version a slot holds, with all its parts, empty if it is none.
func (b *box) whole(t *testing.T, slot int) string {
	t.Helper()
	for _, version := range []string{"1", "2", "3"} {
		p := b.parts(version)
		if !bytes.HasPrefix(b.roots[slot], p[PartRoot]) {
			continue
		}
		if b.pi {
			want := p[PartBoot]
			if err := FillRoot(want[3*Sector:4*Sector], 0, fmt.Sprintf(testUUID, slot, slot)); err != nil {
				t.Fatal(err)
			}
			if bytes.Equal(b.boots[slot], want) {
				return version
			}
			continue
		}
		v, err := fat.Open(bytes.NewReader(b.home))
		if err != nil {
			t.Fatal(err)
		}
		k, err := v.Find(KernelFile(slot))
		if err != nil {
			t.Fatal(err)
		}
		f, err := b.loader().(*uefi).read()
		if err != nil {
			t.Fatal(err)
		}
		at := f.entries[slot].file.At
		text := string(b.home[at : at+EntrySize])
		if bytes.Equal(b.home[k.At:k.At+k.Size], p[PartKernel]) && strings.Contains(text, "linux /"+card.SlotName(slot)+"/vmlinuz\n") && strings.Contains(text, fmt.Sprintf(testUUID, slot, slot)) && strings.Contains(text, "title Hearth "+version+"\n") {
			return version
		}
	}
	return ""
}

// TestPowerCuts updates a box three times, with the power cut before every sector that is written. Whatever starts then
// is whole: the old version, or once a trial was begun, the new one once and then the old one.
func TestPowerCuts(t *testing.T) {
	public, secret := keys(t)
	for _, pi := range []bool{false, true} {
		b := newBox(t, pi)
		for turn, next := range []string{"2", "3", "1"} {
			raw := archive(t, Manifest{Release: release(next, int64(20+turn)), RootAt: 3 * Sector}, secret, b.parts(next))
			a, err := Open(bytes.NewReader(raw), int64(len(raw)), []ed25519.PublicKey{public})
			if err != nil {
				t.Fatal(err)
			}
			b = cutEverywhere(t, b, a, next)
		}
	}
}

// cutEverywhere gives the box after an update that no cut disturbed.
func cutEverywhere(t *testing.T, from *box, a *Archive, next string) *box {
	slot := from.start(t, false)
	old := from.whole(t, slot)
	if def, err := from.loader().Default(); err != nil || def != slot || old == "" {
		t.Fatalf("slot %d starts with version %q; the default is %d, %v", slot, old, def, err)
	}
	for cut := 0; ; cut++ {
		b := from.clone()
		b.left = cut
		armed, committed := false, false
		l := b.loader()
		err := Install(a, l, 1-slot, func(string) {})
		if err == nil {
			armed = true
			err = l.Arm(1 - slot)
		}
		if err == nil {
			if got := b.start(t, true); got == 1-slot { // the cut comes while firmware writes, too
				committed = true
				err = l.Commit(1 - slot)
			}
		}
		left := b.left
		b.left = -1
		if err != nil && !errors.Is(err, errCut) {
			t.Fatalf("pi %v, cut at %d: %v", b.pi, cut, err)
		}
		got := b.start(t, armed && !committed && b.pi)
		version := b.whole(t, got)
		if version != old && (version != next || !armed) {
			t.Fatalf("pi %v, cut at %d: slot %d starts with version %q", b.pi, cut, got, version)
		}
		if again := b.start(t, false); !committed && (again != slot || b.whole(t, again) != old) {
			t.Fatalf("pi %v, cut at %d: after the trial slot %d starts", b.pi, cut, again)
		}
		if err == nil && left > 0 {
			if def, err := b.loader().Default(); got != 1-slot || version != next || def != got || err != nil {
				t.Fatalf("pi %v: the update ended with slot %d, version %q, %v", b.pi, got, version, err)
			}
			return b
		}
	}
}

// TestTooLarge: what does not fit, and what was made for another kind of board, touches nothing.
func TestTooLarge(t *testing.T) {
	public, secret := keys(t)
	for _, pi := range []bool{false, true} {
		b := newBox(t, pi)
		before := b.clone()
		large, other := b.parts("2"), (&box{pi: !pi}).parts("2")
		large[PartRoot] = content("2", PartRoot, 41*Sector)
		for _, parts := range []map[string][]byte{large, other, {PartRoot: content("2", PartRoot, Sector)}} {
			raw := archive(t, Manifest{Release: release("2", 20), RootAt: 3 * Sector}, secret, parts)
			a, err := Open(bytes.NewReader(raw), int64(len(raw)), []ed25519.PublicKey{public})
			if err != nil {
				t.Fatal(err)
			}
			if err := Install(a, b.loader(), 1, func(string) {}); !errors.Is(err, ErrRefused) {
				t.Errorf("pi %v: %v", pi, err)
			}
			if err := Install(a, b.loader(), 0, func(string) {}); err == nil {
				t.Error("the slot in use was written")
			}
		}
		if !bytes.Equal(b.home, before.home) || !bytes.Equal(slices.Concat(b.roots[0], b.roots[1], b.boots[0], b.boots[1]), slices.Concat(before.roots[0], before.roots[1], before.boots[0], before.boots[1])) {
			t.Errorf("pi %v: something was written", pi)
		}
	}
}

// TestRename is what firmware leaves when the power is cut while it renames an entry.
func TestRename(t *testing.T) {
	b := newBox(t, false)
	u := b.loader().(*uefi)
	f, err := u.read()
	if err != nil {
		t.Fatal(err)
	}
	sector := b.home[f.at : f.at+Sector]
	lost := bytes.Clone(sector)
	clear(lost[5*32:])
	both := fat.AppendFile(bytes.Clone(sector[:5*32]), EntryName(1, 2, 1, 0), 1, f.entries[1].file, time.Unix(0, 0))
	both = fat.AppendFile(both, EntryName(1, 2, 0, 1), 2, f.entries[1].file, time.Unix(0, 0))
	for name, rows := range map[string][]byte{"lost": lost, "both": both} {
		clear(sector)
		copy(sector, rows)
		if def, err := u.Default(); err != nil || def != 0 {
			t.Errorf("%s: default %d, %v", name, def, err)
		}
		if err := u.Arm(1); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if f, err := u.read(); err != nil || f.entries[1].left != 1 || f.entries[1].file.Size != EntrySize {
			t.Errorf("%s: %+v, %v", name, f.entries[1], err)
		}
	}
	clear(sector[64:])
	if _, err := u.Default(); !errors.Is(err, fat.ErrShape) {
		t.Errorf("no entry at all: %v", err)
	}
}
