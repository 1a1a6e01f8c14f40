package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"hearth/engine"
	"hearth/engine/fault"
)

const verifyHelp = `hearth verify [flags]

Reads the whole data folder of a hub that is not running, and holds its tables to each other: events to their ids,
rooms to their states, members, timelines and the log, accounts to their devices and tokens. It changes nothing, and
prints one line for each thing that does not agree.

Settings:
`

const verifyExits = `
Exit codes:
  0    all agrees
  1    something does not, or the folder cannot be read
  2    wrong usage, or settings that cannot be read
`

// verify reads a data folder.
func verify(args []string, s streams) int {
	return told("verify", "", s, func() error {
		c, err := settings(args, s, verifyHelp, verifyExits)
		if err != nil {
			return err
		}
		if running(c.DataDir) {
			return &failure{exitLocal, errors.New("a hub is running on this folder: stop it first")}
		}
		if _, err := os.Stat(filepath.Join(c.DataDir, "store")); err != nil {
			return &failure{exitLocal, fmt.Errorf("there is no hub in %s; --data-dir names another folder", folder(c))}
		}
		e, err := engine.Open(engine.Options{Dir: c.DataDir, ReadOnly: true})
		if err != nil {
			return &failure{exitLocal, err}
		}
		found := 0
		err = e.Verify(func(line string) {
			found++
			fmt.Fprintln(s.out, line)
		})
		// What a part of the hub would write when it ends is left as it was.
		if end := e.Close(); err == nil && !fault.Is(end, fault.Full) {
			err = end
		}
		if err != nil {
			return &failure{exitLocal, err}
		}
		if found > 0 {
			return &failure{exitLocal, fmt.Errorf("%d things do not agree", found)}
		}
		fmt.Fprintf(s.out, "%s: all agrees, up to position %d of its log.\n", folder(c), e.Tip())
		return nil
	})
}
