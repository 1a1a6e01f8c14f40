package main

import (
	"flag"
	"fmt"
	"io"
	"strings"

	"hearth/cmd/hearth-image/image"
)

// fetch brings what a box needs beside Go programs.
func fetch(args []string, out io.Writer) error {
	fs := flag.NewFlagSet("fetch e2fsck|wifi", flag.ContinueOnError)
	to := fs.String("to", "bin/box", "`folder` of the box's programs")
	what := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		what, args = args[0], args[1:]
	}
	if err := parse(fs, args, out); err != nil {
		return err
	}
	if what == "" {
		return fmt.Errorf("%w: what? e2fsck or wifi", errUsage)
	}
	return image.Fetch(what, *to)
}
