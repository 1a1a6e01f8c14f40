// Package image builds the disk image of a box: what is written to a card, put into a board, and serves.
//
// It owns what goes onto a card and into an archive that updates one; where it goes is package card's. Both are made of
// the same parts, a root and what starts it, so that a box that was updated is the same as one that was written anew:
//
//	root     ext4 without a journal, never written: init, dhcp, the hub, certificates, the keys of updates
//	boot     on a Raspberry Pi: FAT32 with firmware, kernel, and what the kernel is told
//	kernel   with UEFI
//
// In an image they are in slot A, and slot B is empty. It refuses to compile
// anything: it takes the programs that were tested, and kernels and firmware from the modules that go.mod pins.
// What it needs beside Go is mkfs.ext4. Two images of the same sources differ in nothing but the hour of the build, which
// some versions of that write into the inodes of the root.
package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"

	"hearth/firmware/card"
	"hearth/firmware/fat"
	"hearth/firmware/gpt"
	"hearth/firmware/update"
)

// Options is what to build from.
type Options struct {
	Board    Board
	Programs string         // folder with init, dhcp, hearth and, with UEFI, efi for the board
	Parts    string         // folder of the go.mod that pins kernels and firmware
	Certs    string         // file with the authorities that the hub trusts; empty: none
	Settings []string       // key=value, for hearth.txt
	Version  string         // goes into the name
	Time     time.Time      // of all files; no box's clock is ever before it
	To       string         // folder that gets the image
	Raw      bool           // whether the image that is not compressed stays too
	Sequence int64          // later versions have higher ones
	Floor    int64          // what a box refuses to go back behind, once it runs this version
	Keys     string         // file with the public keys of updates; empty: the box takes none
	Say      func(s string) // hears of each step
}

// Result is what was built.
type Result struct {
	Raw, Packed string // paths; Raw is empty where it did not stay
	Size        int64  // of the image, in bytes
	PackedSize  int64
}

// Build writes the image.
func Build(o Options) (*Result, error) {
	if err := os.MkdirAll(o.To, 0o755); err != nil {
		return nil, err
	}
	plan, err := card.PlanOf(o.Board.Loader)
	if err != nil {
		return nil, err
	}
	p, err := o.parts(plan)
	if err != nil {
		return nil, err
	}
	defer p.drop()
	name := filepath.Join(o.To, "building-"+o.Board.Name+".img")
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	defer os.Remove(name)
	defer f.Close()
	c := card.New(plan, o.Board.Name)
	if err := f.Truncate(c.Size()); err != nil {
		return nil, err
	}
	o.Say("card: " + o.Board.What)
	if err := o.home(f, c, p); err != nil {
		return nil, err
	}
	root, err := os.ReadFile(p.files[update.PartRoot])
	if err != nil {
		return nil, err
	}
	if err := sparse(f, root, c.Part(plan.Root[card.A]).Begin); err != nil {
		return nil, err
	}
	o.Say("data partition")
	data := c.Part(plan.Data)
	if err := o.mkfs(name, fileSystem{name: data.Name, id: o.id("data"), at: data.Begin, size: data.Size}, "-E", "lazy_itable_init=0,lazy_journal_init=0", "-J", "size=16"); err != nil {
		return nil, err
	}
	if err := c.Write(f, func() error { return nil }); err != nil {
		return nil, err
	}
	return o.finish(f)
}

// home writes the partition HEARTH, and on a board that has them the boot partition of slot A.
func (o *Options) home(f *os.File, c *card.Card, p *parts) error {
	files, err := o.homeFiles(c, p)
	if err != nil {
		return err
	}
	b, err := fat.Make(fat.Spec{Size: int(c.Plan.Home), Label: "HEARTH", Files: files, Room: map[string]int{update.KernelFile(card.A): card.KernelMax, update.KernelFile(card.B): card.KernelMax}, When: o.Time})
	if err != nil {
		return err
	}
	if err := sparse(f, b, c.Part(1).Begin); err != nil || c.Plan.Boot[card.A] == 0 {
		return err
	}
	if b, err = os.ReadFile(p.files[update.PartBoot]); err != nil {
		return err
	}
	at := p.manifest.RootAt / gpt.Sector * gpt.Sector
	if err := update.FillRoot(b[at:at+gpt.Sector], p.manifest.RootAt-at, c.Part(c.Plan.Root[card.A]).UUID); err != nil {
		return err
	}
	return sparse(f, b, c.Part(c.Plan.Boot[card.A]).Begin)
}

// id is an identifier that follows from what is built, so that two builds agree.
func (o *Options) id(what string) (g gpt.GUID) {
	sum := sha256.Sum256([]byte("hearth image " + o.Board.Name + " " + o.Version + " " + what))
	copy(g[:], sum[:])
	g[7], g[8] = g[7]&0x0f|0x40, g[8]&0x3f|0x80
	return g
}

// sparse writes b at a place, but no zeroes: the file is zero where nothing was written.
func sparse(f *os.File, b []byte, at int64) error {
	zero := make([]byte, 64<<10)
	for len(b) > 0 {
		n := min(len(b), len(zero))
		if !bytes.Equal(b[:n], zero[:n]) {
			if _, err := f.WriteAt(b[:n], at); err != nil {
				return err
			}
		}
		b, at = b[n:], at+int64(n)
	}
	return nil
}

// finish names the image by its hash and compresses it.
func (o *Options) finish(f *os.File) (*Result, error) {
	o.Say("checksum and compression")
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	packed, err := os.Create(filepath.Join(o.To, "building-"+o.Board.Name+".zst"))
	if err != nil {
		return nil, err
	}
	defer os.Remove(packed.Name())
	defer packed.Close()
	whole, small := sha256.New(), sha256.New()
	z, err := zstd.NewWriter(io.MultiWriter(packed, small), zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(2))
	if err != nil {
		return nil, err
	}
	r := &Result{}
	if r.Size, err = io.Copy(io.MultiWriter(z, whole), f); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	if r.PackedSize, err = packed.Seek(0, io.SeekCurrent); err != nil {
		return nil, err
	}
	base := fmt.Sprintf("hearth-%s-%s-%s.img", o.Board.Name, o.Version, hex.EncodeToString(whole.Sum(nil))[:8])
	r.Packed = filepath.Join(o.To, base+".zst")
	if err := os.Rename(packed.Name(), r.Packed); err != nil {
		return nil, err
	}
	if o.Raw {
		r.Raw = filepath.Join(o.To, base)
		if err := os.Rename(f.Name(), r.Raw); err != nil {
			return nil, err
		}
	}
	sum := fmt.Sprintf("%x  %s.zst\n", small.Sum(nil), base)
	return r, os.WriteFile(r.Packed+".sha256", []byte(sum), 0o644)
}
