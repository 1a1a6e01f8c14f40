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
  archive   build and sign what updates boxes of a board
  key       make the pair of keys that archives are signed with
  boards    list the boards that there are images for
  fetch     fetch what a box needs besides, from Debian: e2fsck, or wifi
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
	case "archive":
		err = buildArchive(args[1:], out)
	case "key":
		err = makeKey(args[1:], out)
	case "boards":
		err = boards(args[1:], out)
	case "fetch":
		err = fetch(args[1:], out)
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
	stamp := fs.Int64("time", time.Now().Unix(), "`seconds` since 1970, the time of all files")
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
func boards(args []string, out io.Writer) error {
	if err := parse(flag.NewFlagSet("boards", flag.ContinueOnError), args, out); err != nil {
		return err
	}
	all, err := image.Boards()
	for _, b := range all {
		fmt.Fprintf(out, "%-8s %s\n", b.Name, b.What)
	}
	return err
}

// words splits a list at its commas; an empty text is no word.
func words(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' })
}
