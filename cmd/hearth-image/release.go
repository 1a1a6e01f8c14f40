package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"hearth/cmd/hearth-image/image"
)

// source adds the flags that say what an image or an archive is built from, and gives a function that reads them.
func source(fs *flag.FlagSet, out io.Writer) func() (image.Options, error) {
	name := fs.String("board", "", "one of those that hearth-image boards lists")
	programs := fs.String("programs", "bin/box", "`folder` with init, dhcp, hearth and, with UEFI, efi for the board")
	parts := fs.String("parts", "cmd/hearth-image", "`folder` of the go.mod that pins kernels and firmware")
	certs := fs.String("certs", "/etc/ssl/certs/ca-certificates.crt", "`file` with the authorities that the hub trusts")
	version := fs.String("version", "", "as 0.1.0; goes into the name")
	stamp := fs.Int64("time", time.Now().Unix(), "`seconds` since 1970, the time of all files")
	sequence := fs.Int64("sequence", 0, "`number` that is higher for later versions; 0: the time")
	floor := fs.Int64("floor", 0, "`number` below which a box that runs this version takes no archive any more")
	keys := fs.String("update-key", "", "`file` with the public keys of updates that a box takes, one a line; without it none")
	to := fs.String("to", "bin/images", "`folder` that gets what is built")
	began := time.Now()
	return func() (o image.Options, err error) {
		if *version == "" {
			return o, fmt.Errorf("%w: --version is needed", errUsage)
		}
		if *sequence == 0 {
			*sequence = *stamp
		}
		board, err := image.FindBoard(*name)
		if err != nil {
			return o, fmt.Errorf("%w: %v", errUsage, err)
		}
		return image.Options{
			Board: board, Programs: *programs, Parts: *parts, Certs: *certs, Version: *version, Time: time.Unix(*stamp, 0).UTC(),
			Sequence: *sequence, Floor: *floor, Keys: *keys, To: *to,
			Say: func(s string) { fmt.Fprintf(out, "%5.1f s  %s\n", time.Since(began).Seconds(), s) },
		}, nil
	}
}

// buildImage builds the image of a board, and says where it is and how it gets onto a card.
func buildImage(args []string, out io.Writer) error {
	fs := flag.NewFlagSet("image", flag.ContinueOnError)
	options := source(fs, out)
	raw := fs.Bool("raw", false, "leave the image that is not compressed there too")
	var set []string
	fs.Func("set", "`key=value` for hearth.txt, as server_name=hub.example; may be repeated", func(s string) error {
		set = append(set, s)
		return nil
	})
	if err := parse(fs, args, out); err != nil {
		return err
	}
	o, err := options()
	if err != nil {
		return err
	}
	o.Settings, o.Raw = set, *raw
	r, err := image.Build(o)
	if err != nil {
		return err
	}
	o.Say("done")
	fmt.Fprintf(out, "\n  %s\n  %.1f MB, for cards from 1 GB; its checksum is in the file beside it\n", r.Packed, float64(r.PackedSize)/1e6)
	if r.Raw != "" {
		fmt.Fprintf(out, "  %s\n", r.Raw)
	}
	fmt.Fprintf(out, "\nWrite it with Raspberry Pi Imager or: zstd -dc %s | sudo dd of=/dev/YOUR-CARD bs=4M conv=fsync\n", r.Packed)
	return nil
}

// buildArchive builds what updates boxes.
func buildArchive(args []string, out io.Writer) error {
	fs := flag.NewFlagSet("archive", flag.ContinueOnError)
	options := source(fs, out)
	secret := fs.String("key", "", "`file` with the key that hearth-image key made")
	if err := parse(fs, args, out); err != nil {
		return err
	}
	o, err := options()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(*secret)
	if err != nil {
		return fmt.Errorf("%w: --key: %v", errUsage, err)
	}
	seed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return fmt.Errorf("%s is no key that hearth-image key made", *secret)
	}
	path, err := image.Archive(o, ed25519.NewKeyFromSeed(seed))
	if err != nil {
		return err
	}
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	o.Say("done")
	fmt.Fprintf(out, "\n  %s\n  %.1f MB\n\nBring it onto a box with: hearth update %s\n", path, float64(st.Size())/1e6, path)
	return nil
}

// makeKey writes a new pair of keys, and no file that is there already.
func makeKey(args []string, out io.Writer) error {
	fs := flag.NewFlagSet("key", flag.ContinueOnError)
	to := fs.String("to", "", "`file` that gets the secret key; the public one goes into a file beside it that ends with .pub")
	if err := parse(fs, args, out); err != nil {
		return err
	}
	if *to == "" {
		return fmt.Errorf("%w: --to is needed", errUsage)
	}
	public, secret, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	put := func(path string, b []byte, mode os.FileMode) error {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if err != nil {
			return err
		}
		_, err = io.WriteString(f, base64.StdEncoding.EncodeToString(b)+"\n")
		return errors.Join(err, f.Close())
	}
	if err := put(*to, secret.Seed(), 0o600); err != nil {
		return err
	}
	if err := put(*to+".pub", public, 0o644); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s signs archives: keep it where nobody else can read it, and a copy where it does not burn.\n%s goes into images.\n", *to, *to+".pub")
	return nil
}
