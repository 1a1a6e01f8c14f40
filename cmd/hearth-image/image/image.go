// Package image builds the disk image of a box: what is written to a card, put into a board, and serves.
//
// It owns the layout of the card, which is for good, since an owner's data lies behind it:
//
//	boot A   128 MiB  FAT32: firmware, kernel and hearth.txt, the owner's settings
//	root A   192 MiB  ext4 without a journal, never written: init, dhcp, the hub, certificates
//	boot B, root B    as A, for the version after this; empty in an image
//	data              ext4 with 4 KiB blocks, beginning at a multiple of 4 MiB as all do, which is what cards erase at
//	                  once; it gets the rest of the card at the first start
//
// A boot partition and the root behind it are a pair: a kernel never meets another version's root. It refuses to
// compile anything: it takes the programs that were tested, and kernels and firmware from the modules that go.mod pins.
// What it needs beside Go is mkfs.ext4. Two images of the same sources differ in nothing but the hour of the build, which
// some versions of that write into the inodes of the root.
package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"hearth/cmd/hearth-image/fat"
	"hearth/firmware/gpt"
)

// Options is what to build from.
type Options struct {
	Board    Board
	Programs string         // folder with init, dhcp and hearth for the board
	Parts    string         // folder of the go.mod that pins kernels and firmware
	Certs    string         // file with the authorities that the hub trusts; empty: none
	Settings []string       // key=value, for hearth.txt
	Version  string         // goes into the name
	Time     time.Time      // of all files; no box's clock is ever before it
	To       string         // folder that gets the image
	Raw      bool           // whether the image that is not compressed stays too
	Say      func(s string) // hears of each step
}

// Result is what was built.
type Result struct {
	Raw, Packed string // paths; Raw is empty where it did not stay
	Size        int64  // of the image, in bytes
	PackedSize  int64
}

// Sizes and places, in bytes.
const (
	grain    = 4 << 20
	bootSize = 128 << 20
	rootSize = 192 << 20
	dataSize = 64 << 20
)

// Build writes the image.
func Build(o Options) (*Result, error) {
	if err := os.MkdirAll(o.To, 0o755); err != nil {
		return nil, err
	}
	table := layout(o)
	name := filepath.Join(o.To, "building-"+o.Board.Name+".img")
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	defer os.Remove(name)
	defer f.Close()
	if err := f.Truncate(int64(table.Sectors * gpt.Sector)); err != nil {
		return nil, err
	}
	o.Say("boot partition: " + o.Board.What)
	boot, err := bootFiles(o, table.Partitions[1].ID)
	if err != nil {
		return nil, err
	}
	b, err := fat.Make(bootSize, "HEARTH-A", boot, o.Time)
	if err != nil {
		return nil, err
	}
	if err := sparse(f, b, int64(table.Partitions[0].First*gpt.Sector)); err != nil {
		return nil, err
	}
	o.Say("root: init, dhcp, hub")
	if err := o.root(name, table); err != nil {
		return nil, err
	}
	o.Say("data partition")
	if err := o.mkfs(name, table.Partitions[4], "-E", "lazy_itable_init=0,lazy_journal_init=0", "-J", "size=16"); err != nil {
		return nil, err
	}
	if err := table.Write(f, 0, func() error { return nil }); err != nil {
		return nil, err
	}
	return o.finish(f)
}

// layout divides the image. Every identifier follows from what is built, so that two builds agree.
func layout(o Options) *gpt.Table {
	id := func(what string) (g gpt.GUID) {
		sum := sha256.Sum256([]byte("hearth image " + o.Board.Name + " " + o.Version + " " + what))
		copy(g[:], sum[:])
		g[7], g[8] = g[7]&0x0f|0x40, g[8]&0x3f|0x80
		return g
	}
	t := &gpt.Table{ID: id("disk")}
	at := uint64(grain)
	for _, p := range []struct {
		name string
		kind gpt.GUID
		size uint64
	}{{"boot A", gpt.ESP, bootSize}, {"root A", gpt.Linux, rootSize}, {"boot B", gpt.ESP, bootSize}, {"root B", gpt.Linux, rootSize}, {"data", gpt.Linux, dataSize}} {
		t.Partitions = append(t.Partitions, gpt.Partition{Kind: p.kind, ID: id(p.name), First: at / gpt.Sector, Last: (at+p.size)/gpt.Sector - 1, Name: p.name})
		at += p.size
	}
	t.Sectors = (at + grain) / gpt.Sector
	return t
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

// root lays out the root's files and makes a file system of them.
func (o *Options) root(image string, t *gpt.Table) error {
	dir, err := os.MkdirTemp("", "hearth-root")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, d := range []string{"bin", "boot", "data", "dev", "etc/ssl/certs", "proc", "run", "sys", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	put := func(name string, b []byte, mode os.FileMode) error {
		return os.WriteFile(filepath.Join(dir, name), b, mode)
	}
	for from, to := range map[string]string{"init": "init", "dhcp": "bin/dhcp", "hearth": "bin/hearth"} {
		b, err := os.ReadFile(filepath.Join(o.Programs, from))
		if err != nil {
			return fmt.Errorf("a program of the box: %w", err)
		}
		if err := put(to, b, 0o755); err != nil {
			return err
		}
	}
	if b, err := os.ReadFile(filepath.Join(o.Programs, "e2fsck")); err == nil {
		if err := put("bin/e2fsck", b, 0o755); err != nil {
			return err
		}
	} else {
		o.Say("no e2fsck: a damaged data partition will not be mended by the box")
	}
	certs, err := o.certs()
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/:/bin/false\nhearth:x:1000:1000:hub:/data/hearth:/bin/false\n", "etc/group": "root:x:0:\nhearth:x:1000:\n",
		"etc/hosts": "127.0.0.1 localhost\n::1 localhost\n", "etc/nsswitch.conf": "hosts: files dns\n", "etc/hearth-version": o.Version + "\n",
		"etc/ssl/certs/ca-certificates.crt": certs,
	} {
		if err := put(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := os.Symlink("/tmp/resolv.conf", filepath.Join(dir, "etc/resolv.conf")); err != nil {
		return err
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		return os.Chtimes(path, o.Time, o.Time)
	})
	if err != nil {
		return err
	}
	return o.mkfs(image, t.Partitions[1], "-O", "^has_journal", "-d", dir)
}

func (o *Options) certs() (string, error) {
	if o.Certs == "" {
		return "", nil
	}
	b, err := os.ReadFile(o.Certs)
	return string(b), err
}

// mkfs makes an ext4 in a partition of the image.
func (o *Options) mkfs(image string, p gpt.Partition, more ...string) error {
	path, err := exec.LookPath("mkfs.ext4")
	if err != nil {
		for _, known := range []string{"/sbin/mkfs.ext4", "/usr/sbin/mkfs.ext4"} {
			if _, there := os.Stat(known); there == nil {
				path, err = known, nil
			}
		}
	}
	if err != nil {
		return errors.New("mkfs.ext4 is not there; it comes with the package e2fsprogs")
	}
	extended := fmt.Sprintf("offset=%d,root_owner=0:0,hash_seed=%s", p.First*gpt.Sector, p.ID)
	args := []string{"-q", "-F", "-b", "4096", "-T", "default", "-m", "0", "-L", strings.ReplaceAll(p.Name, " ", "-"), "-U", p.ID.String()}
	for i := 0; i < len(more); i++ {
		if more[i] == "-E" {
			extended += "," + more[i+1]
			i++
			continue
		}
		args = append(args, more[i])
	}
	args = append(args, "-E", extended, image, fmt.Sprint((p.Last-p.First+1)*gpt.Sector/4096))
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("E2FSPROGS_FAKE_TIME=%d", o.Time.Unix()), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", o.Time.Unix()))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
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
