package main

import (
	"flag"
	"fmt"
	"io"

	"hearth/cmd/hearth-image/image"
)

// fetch brings what a box needs beside Go programs.
func fetch(args []string, out io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("%w: what? e2fsck or wifi", errUsage)
	}
	fs := flag.NewFlagSet("fetch", flag.ContinueOnError)
	to := fs.String("to", "bin/box", "`folder` of the box's programs")
	if err := parse(fs, args[1:], out); err != nil {
		return err
	}
	return image.Fetch(args[0], *to)
}
