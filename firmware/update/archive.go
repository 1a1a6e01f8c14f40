package update

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"regexp"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// An archive is, in this order: the magic, the length of the manifest in four bytes, a signature of 64 bytes over domain
// and manifest, the manifest in JSON, and the parts, each one zstd stream.
const (
	magic  = "HEARTH-UPDATE-1\n"
	domain = "hearth update archive, manifest\x00"
	head   = len(magic) + 4 + ed25519.SignatureSize
)

// Bounds of what is read, in bytes.
const (
	MaxArchive  = 256 << 20
	MaxHeader   = 16<<10 + int64(head)
	maxManifest = 16 << 10
	maxParts    = 4
	maxPart     = 256 << 20
	maxWindow   = 8 << 20 // of a zstd stream, held in memory
)

// Names of parts: what a slot is made of.
const (
	PartRoot   = "root"   // the root's file system
	PartBoot   = "boot"   // on a Raspberry Pi: the boot partition
	PartKernel = "kernel" // with UEFI: the kernel
)

// Release is what a root says of itself in the file etc/hearth-release.
type Release struct {
	Board    string `json:"board"`
	Version  string `json:"version"`
	Sequence int64  `json:"sequence"` // later versions have higher ones
	Floor    int64  `json:"floor"`    // once this version was committed, archives with a lower sequence are refused
	Store    int    `json:"store"`    // the newest form of a store that this version reads
}

// Manifest is what is signed.
type Manifest struct {
	Release
	Cmdline string `json:"cmdline,omitempty"` // with UEFI: what the kernel is told besides where its root is
	RootAt  int64  `json:"root_at,omitempty"` // on a Raspberry Pi: where in the boot partition RootBlank stands
	Parts   []Part `json:"parts"`
}

// Part is one part. Sizes are in bytes.
type Part struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // in hexadecimal, of the part as it is written
	Packed int64  `json:"packed"` // what it takes in the archive
}

// ErrRefused is wrapped by the error of every archive that is not taken.
var ErrRefused = errors.New("the archive is refused")

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
}

// Header is what an archive begins with, signed.
func Header(m *Manifest, key ed25519.PrivateKey) ([]byte, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	if len(text) > maxManifest {
		return nil, fmt.Errorf("the manifest has %d bytes, more than %d", len(text), maxManifest)
	}
	b := binary.BigEndian.AppendUint32([]byte(magic), uint32(len(text)))
	b = append(b, ed25519.Sign(key, append([]byte(domain), text...))...)
	return append(b, text...), nil
}

var (
	word  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]{0,63}$`)
	plain = regexp.MustCompile(`^[ -~]{0,512}$`)
)

// check sees that a manifest is in bounds, whoever signed it.
func (m *Manifest) check() error {
	switch {
	case !word.MatchString(m.Board) || !word.MatchString(m.Version) || !plain.MatchString(m.Cmdline):
		return refused("its board, version or command line are no words")
	case m.Sequence < 0 || m.Floor < 0 || m.Floor > m.Sequence || m.Store < 1 || m.RootAt < 0:
		return refused("its numbers are out of bounds")
	case len(m.Parts) == 0 || len(m.Parts) > maxParts:
		return refused("it has %d parts", len(m.Parts))
	}
	seen := map[string]bool{}
	for _, p := range m.Parts {
		sum, err := hex.DecodeString(p.SHA256)
		switch {
		case p.Name != PartRoot && p.Name != PartBoot && p.Name != PartKernel || seen[p.Name]:
			return refused("%q is no part, or twice", p.Name)
		case err != nil || len(sum) != sha256.Size:
			return refused("part %s has no hash", p.Name)
		case p.Size <= 0 || p.Size > maxPart || p.Packed <= 0 || p.Packed > MaxArchive:
			return refused("part %s is too large", p.Name)
		}
		seen[p.Name] = true
	}
	return nil
}

// size is how long the archive must be.
func (m *Manifest) size(header int64) int64 {
	for _, p := range m.Parts {
		header += p.Packed
	}
	return header
}

// ReadHeader reads what an archive begins with, checks it, and gives the size that the archive must have.
func ReadHeader(r io.Reader, keys []ed25519.PublicKey) (m *Manifest, header, size int64, err error) {
	b := make([]byte, head)
	if _, err := io.ReadFull(r, b); err != nil || string(b[:len(magic)]) != magic {
		return nil, 0, 0, refused("it is no update for a box")
	}
	n := binary.BigEndian.Uint32(b[len(magic):])
	if n > maxManifest {
		return nil, 0, 0, refused("its manifest is too large")
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return nil, 0, 0, refused("it is cut off")
	}
	if !signed(b[len(magic)+4:], text, keys) {
		return nil, 0, 0, refused("it is not signed by a key that this box knows")
	}
	m = &Manifest{}
	d := json.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(m); err != nil {
		return nil, 0, 0, refused("its manifest cannot be read: %v", err)
	}
	if err := m.check(); err != nil {
		return nil, 0, 0, err
	}
	header = int64(head) + int64(n)
	if size = m.size(header); size > MaxArchive {
		return nil, 0, 0, refused("it has %d bytes, more than %d", size, MaxArchive)
	}
	return m, header, size, nil
}

func signed(signature, text []byte, keys []ed25519.PublicKey) bool {
	for _, k := range keys {
		if len(k) == ed25519.PublicKeySize && ed25519.Verify(k, append([]byte(domain), text...), signature) {
			return true
		}
	}
	return false
}

// Suits says why a box does not take a version, where it does not: box is the one that runs, and floor the higher of
// the root's and what the data partition keeps.
func (m *Manifest) Suits(box Release, floor int64) error {
	switch floor = max(floor, box.Floor); {
	case m.Board != box.Board:
		return refused("it is for the board %s, and this is a %s", m.Board, box.Board)
	case m.Sequence < floor:
		return refused("version %s is older than what is safe on this box (%d, at least %d)", m.Version, m.Sequence, floor)
	case m.Store < box.Store:
		return refused("version %s reads stores up to form %d, and this box may have form %d", m.Version, m.Store, box.Store)
	}
	return nil
}

// Archive is one whose header was found good.
type Archive struct {
	Manifest
	r      io.ReaderAt
	header int64
}

// Open reads the header of an archive of size bytes.
func Open(r io.ReaderAt, size int64, keys []ed25519.PublicKey) (*Archive, error) {
	m, header, want, err := ReadHeader(io.NewSectionReader(r, 0, min(size, MaxHeader)), keys)
	switch {
	case err != nil:
		return nil, err
	case size < want:
		return nil, refused("it is cut off: %d of %d bytes", size, want)
	case size > want:
		return nil, refused("there is something behind it: %d bytes, and not %d", size, want)
	}
	return &Archive{Manifest: *m, r: r, header: header}, nil
}

// Verify reads all parts and sees that each is what the manifest says, and a kernel one that the machine has the memory for.
func (a *Archive) Verify() error {
	for _, p := range a.Parts {
		var head prefix
		if err := a.copy(p.Name, &head); err != nil {
			return err
		}
		if p.Name != PartKernel {
			continue
		}
		if err := fits(head, p.Size, memory()); err != nil {
			return err
		}
	}
	return nil
}

// copy unpacks a part. What was written when it fails is of no use.
func (a *Archive) copy(name string, w io.Writer) error {
	at := a.header
	for _, p := range a.Parts {
		if p.Name != name {
			at += p.Packed
			continue
		}
		z, err := zstd.NewReader(io.NewSectionReader(a.r, at, p.Packed), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return err
		}
		defer z.Close()
		sum := sha256.New()
		n, err := io.CopyBuffer(io.MultiWriter(w, sum), io.LimitReader(z, p.Size+1), make([]byte, chunk))
		var full *writeError
		switch {
		case errors.As(err, &full):
			return err
		case err != nil:
			return refused("part %s is damaged: %v", name, err)
		case n != p.Size || !matches(sum, p):
			return refused("part %s is damaged: it is not what was signed", name)
		}
		return nil
	}
	return refused("it has no part %s", name)
}

func matches(sum hash.Hash, p Part) bool { return hex.EncodeToString(sum.Sum(nil)) == p.SHA256 }

// Keys reads public keys, one a line in base64; a remark may follow, and lines that begin with # are none.
func Keys(text []byte) (keys []ed25519.PublicKey, err error) {
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0][0] == '#' {
			continue
		}
		b, err := base64.StdEncoding.DecodeString(f[0])
		if err != nil || len(b) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("%q is no public key of an update", f[0])
		}
		keys = append(keys, b)
	}
	return keys, nil
}
