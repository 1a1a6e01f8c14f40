package image

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"hearth/firmware/card"
	"hearth/firmware/fat"
	"hearth/firmware/update"
)

// parts are what a slot is made of, as files in a folder of their own.
type parts struct {
	manifest update.Manifest // but for the list of parts
	names    []string
	files    map[string]string
	dir      string
}

func (p *parts) drop() { os.RemoveAll(p.dir) }

// parts makes them.
func (o *Options) parts(plan card.Plan) (p *parts, err error) {
	p = &parts{manifest: update.Manifest{Release: o.release(), Cmdline: o.cmdline()}, files: map[string]string{}}
	if p.dir, err = os.MkdirTemp("", "hearth-parts"); err != nil {
		return nil, err
	}
	made := p
	defer func() {
		if err != nil {
			made.drop()
		}
	}()
	put := func(name string) string {
		p.names = append(p.names, name)
		p.files[name] = filepath.Join(p.dir, name)
		return p.files[name]
	}
	o.Say("root: init, dhcp, hub")
	tree := filepath.Join(p.dir, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return nil, err
	}
	if err := o.root(put(update.PartRoot), tree); err != nil {
		return nil, err
	}
	o.Say("kernel")
	files, err := o.startFiles()
	if err != nil {
		return nil, err
	}
	if plan.Loader == card.UEFI {
		return p, os.WriteFile(put(update.PartKernel), files["vmlinuz"], 0o644)
	}
	p.manifest.Cmdline = ""
	b, err := fat.Make(fat.Spec{Size: card.BootSize, Label: "HEARTH-BOOT", Files: files, When: o.Time})
	if err != nil {
		return nil, err
	}
	v, err := fat.Open(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	f, err := v.Find("cmdline.txt")
	if err != nil {
		return nil, err
	}
	p.manifest.RootAt = f.At // it stands in front
	return p, os.WriteFile(put(update.PartBoot), b, 0o644)
}

// Archive writes the archive that brings what Build would build onto boxes with cards of the same board, and gives its
// path.
func Archive(o Options, key ed25519.PrivateKey) (path string, err error) {
	plan, err := card.PlanOf(o.Board.Loader)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(o.To, 0o755); err != nil {
		return "", err
	}
	p, err := o.parts(plan)
	if err != nil {
		return "", err
	}
	defer p.drop()
	return o.pack(p, key)
}

// pack makes an archive of parts.
func (o *Options) pack(p *parts, key ed25519.PrivateKey) (path string, err error) {
	for _, name := range p.names {
		o.Say("compressing " + name)
		part, err := squeeze(p.files[name], name)
		if err != nil {
			return "", err
		}
		p.manifest.Parts = append(p.manifest.Parts, part)
	}
	head, err := update.Header(&p.manifest, key)
	if err != nil {
		return "", err
	}
	path = filepath.Join(o.To, fmt.Sprintf("hearth-%s-%s.update", o.Board.Name, o.Version))
	out, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer out.Close()
	if _, err := out.Write(head); err != nil {
		return "", err
	}
	for _, name := range p.names {
		b, err := os.ReadFile(p.files[name] + ".zst")
		if err != nil {
			return "", err
		}
		if _, err := out.Write(b); err != nil {
			return "", err
		}
	}
	return path, out.Close()
}

// squeeze compresses a part beside itself. The window is small: a box with little memory unpacks it.
func squeeze(file, name string) (part update.Part, err error) {
	in, err := os.Open(file)
	if err != nil {
		return part, err
	}
	defer in.Close()
	out, err := os.Create(file + ".zst")
	if err != nil {
		return part, err
	}
	defer out.Close()
	z, err := zstd.NewWriter(out, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithWindowSize(4<<20), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return part, err
	}
	sum := sha256.New()
	part.Name = name
	if part.Size, err = io.Copy(io.MultiWriter(z, sum), in); err != nil {
		return part, err
	}
	if err := z.Close(); err != nil {
		return part, err
	}
	part.SHA256 = hex.EncodeToString(sum.Sum(nil))
	part.Packed, err = out.Seek(0, io.SeekCurrent)
	return part, err
}
