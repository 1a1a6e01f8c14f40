// Command hearth-image builds what Hearth is handed out as: packages for other systems, and whole disk images of boards.
//
// It owns the words and what they print; it refuses to compile the hub, which make does before, so that a package and
// an image hold the very program that was tested.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"hearth/cmd/hearth-image/image"
	"hearth/cmd/hearth-image/pack"
)

const overview = `hearth-image COMMAND [flags]

  image     build the disk image of a board
  boards    list the boards that there are images for
  packages  wrap built hubs as deb, rpm, OpenWrt ipk and apk, and tar.gz

hearth-image COMMAND --help explains one.
`

// Exit codes.
const (
	exitDone  = 0
	exitLocal = 1
	exitUsage = 2
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run does what the first word says.
func run(args []string, out, complain io.Writer) int {
	if len(args) == 0 {
		io.WriteString(complain, overview)
		return exitUsage
	}
	var err error
	switch args[0] {
	case "packages":
		err = packages(args[1:], out)
	case "image":
		err = buildImage(args[1:], out)
	case "boards":
		err = boards(out)
	case "help", "-h", "--help":
		io.WriteString(out, overview)
		return exitDone
	default:
		fmt.Fprintf(complain, "hearth-image: there is no command %q\n", args[0])
		return exitUsage
	}
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return exitDone
	case errors.Is(err, errUsage):
		fmt.Fprintf(complain, "hearth-image %s: %v\n", args[0], err)
		return exitUsage
	}
	fmt.Fprintf(complain, "hearth-image %s: %v\n", args[0], err)
	return exitLocal
}

var errUsage = errors.New("wrong usage")

// parse reads flags, of which none may be left over.
func parse(fs *flag.FlagSet, args []string, out io.Writer) error {
	fs.SetOutput(out)
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return err
	} else if err != nil {
		return fmt.Errorf("%w: %v", errUsage, err)
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("%w: unexpected argument %q", errUsage, fs.Arg(0))
	}
	return nil
}

// packages wraps built hubs.
func packages(args []string, out io.Writer) error {
	fs := flag.NewFlagSet("packages", flag.ContinueOnError)
	from := fs.String("from", "bin", "`folder` with hearth-linux-amd64 and so on")
	settings := fs.String("settings", "", "`file` with what hearth example-config prints")
	to := fs.String("to", "bin/packages", "`folder` that gets the packages")
	version := fs.String("version", "", "as 0.1.0, or 0.1.0-git20260102030405")
	stamp := fs.Int64("time", 0, "`seconds` since 1970, the time of all files")
	only := fs.String("only", "", "`words`, separated by commas, of which a package's name must contain one")
	extra := fs.String("extra", "", "`files`, separated by commas, that go into the tar.gz too")
	if err := parse(fs, args, out); err != nil {
		return err
	}
	if *version == "" || *settings == "" {
		return fmt.Errorf("%w: --version and --settings are needed", errUsage)
	}
	text, err := os.ReadFile(*settings)
	if err != nil {
		return err
	}
	o := pack.Options{
		Programs: *from, Settings: text, To: *to, Version: *version, Time: time.Unix(*stamp, 0).UTC(), Only: words(*only),
		Extra: map[string]string{}, Say: func(name string) { fmt.Fprintln(out, " ", name) },
	}
	for _, path := range words(*extra) {
		o.Extra[path[strings.LastIndexByte(path, '/')+1:]] = path
	}
	_, err = pack.Build(o)
	return err
}

// boards lists them.
func boards(out io.Writer) error {
	all, err := image.Boards()
	for _, b := range all {
		fmt.Fprintf(out, "%-8s %s\n", b.Name, b.What)
	}
	return err
}

// buildImage builds the image of a board, and says where it is and how it gets onto a card.
func buildImage(args []string, out io.Writer) error {
	fs := flag.NewFlagSet("image", flag.ContinueOnError)
	name := fs.String("board", "", "one of those that hearth-image boards lists")
	programs := fs.String("programs", "bin/box", "`folder` with init, dhcp and hearth for the board")
	parts := fs.String("parts", "cmd/hearth-image", "`folder` of the go.mod that pins kernels and firmware")
	certs := fs.String("certs", "/etc/ssl/certs/ca-certificates.crt", "`file` with the authorities that the hub trusts")
	version := fs.String("version", "", "as 0.1.0; goes into the name")
	stamp := fs.Int64("time", 0, "`seconds` since 1970, the time of all files")
	to := fs.String("to", "bin/images", "`folder` that gets the image")
	raw := fs.Bool("raw", false, "leave the image that is not compressed there too")
	var set []string
	fs.Func("set", "`key=value` for hearth.txt, as server_name=hub.example; may be repeated", func(s string) error {
		set = append(set, s)
		return nil
	})
	if err := parse(fs, args, out); err != nil {
		return err
	}
	if *version == "" {
		return fmt.Errorf("%w: --version is needed", errUsage)
	}
	board, err := image.FindBoard(*name)
	if err != nil {
		return fmt.Errorf("%w: %v", errUsage, err)
	}
	began := time.Now()
	r, err := image.Build(image.Options{
		Board: board, Programs: *programs, Parts: *parts, Certs: *certs, Settings: set, Version: *version, Time: time.Unix(*stamp, 0).UTC(),
		To: *to, Raw: *raw, Say: func(s string) { fmt.Fprintf(out, "%5.1f s  %s\n", time.Since(began).Seconds(), s) },
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%5.1f s  done\n\n  %s\n  %.1f MB, for cards from 1 GB; its checksum is in the file beside it\n", time.Since(began).Seconds(), r.Packed, float64(r.PackedSize)/1e6)
	if r.Raw != "" {
		fmt.Fprintf(out, "  %s\n", r.Raw)
	}
	fmt.Fprintf(out, "\nWrite it with Raspberry Pi Imager or: zstd -dc %s | sudo dd of=/dev/YOUR-CARD bs=4M conv=fsync\n", r.Packed)
	return nil
}

// words splits a list at its commas; an empty text is no word.
func words(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' })
}
