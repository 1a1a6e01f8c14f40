package main

import (
	"flag"
	"io"

	"hearth/cmd/hearth-image/image"
)

// fetchChecker brings e2fsck.
func fetchChecker(args []string, out io.Writer) error {
	fs := flag.NewFlagSet("e2fsck", flag.ContinueOnError)
	to := fs.String("to", "bin/box/e2fsck", "`file` that it becomes")
	if err := parse(fs, args, out); err != nil {
		return err
	}
	return image.FetchChecker(*to)
}
