package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"

	"hearth/cmd/internal/config"
	"hearth/engine/budget"
)

// What the commands about a hub on this machine share: where its data are, and who
// carries out orders there.

// hubFlags are the flags of a command that is about a hub on this machine.
type hubFlags struct{ dataDir, config string }

// flags reads them, and whatever a command adds.
func (f *hubFlags) flags() *flag.FlagSet {
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&f.dataDir, "data-dir", "", "")
	fs.StringVar(&f.config, "config", "", "")
	return fs
}

// wordsOf gives the arguments that are no flags, which may stand among them.
func wordsOf(fs *flag.FlagSet, args []string) (words []string, err error) {
	for rest := args; ; {
		if err := config.ParseFlags(fs, rest); errors.Is(err, flag.ErrHelp) {
			return nil, err
		} else if err != nil {
			return nil, usage("%w", err)
		}
		if fs.NArg() == 0 {
			return words, nil
		}
		words, rest = append(words, fs.Arg(0)), fs.Args()[1:]
	}
}

// settings finds the data folder as the hub itself would.
func (f *hubFlags) settings(s streams) (*config.Config, error) {
	var args []string
	if f.config != "" {
		args = append(args, "--config", f.config)
	}
	if f.dataDir != "" {
		args = append(args, "--data-dir", f.dataDir)
	}
	c, _, err := config.Load(config.Source{Args: args, Env: s.env})
	if err != nil {
		return nil, usage("%w", err)
	}
	return c, nil
}

// hub finds who carries out orders: a running hub, or this process on the folder of
// one that does not run. done has to follow.
func (f *hubFlags) hub(s streams) (do func(o order) (report, error), done func(), err error) {
	c, err := f.settings(s)
	if err != nil {
		return nil, nil, err
	}
	do = func(o order) (report, error) { return askHub(c.DataDir, o) }
	_, err = do(order{Do: "list", After: 1<<32 - 1}) // asks for nothing: is there a hub?
	if !errors.Is(err, errNotRunning) {
		return do, func() {}, err
	}
	if _, err := os.Stat(c.DataDir); err != nil {
		return nil, nil, fmt.Errorf("there is no hub in %s: %w; hearth serve makes one, --data-dir names another folder", folder(c), errors.Unwrap(err))
	}
	a, done, err := ownEngine(c)
	if err != nil {
		return nil, nil, err
	}
	return func(o order) (report, error) {
		r, err := a.do(o)
		if err != nil {
			err = errors.New(plainText(err))
		}
		return r, err
	}, done, nil
}

// ask has one order carried out; see hub.
func (f *hubFlags) ask(s streams, o order) (report, error) {
	do, done, err := f.hub(s)
	if err != nil {
		return report{}, err
	}
	defer done()
	return do(o)
}

// ownEngine opens the data folder of a hub that is not running.
func ownEngine(c *config.Config) (admin, func(), error) {
	shares, err := budget.Plan(0, budget.RAM())
	if err != nil {
		return admin{}, nil, err
	}
	e, _, err := openEngine(c, shares, slog.New(slog.DiscardHandler), ways{})
	if err != nil {
		return admin{}, nil, err
	}
	where := func() []string { return thingAddresses(c.MQTTListen, c.MDNS) }
	return admin{e, where}, func() { _ = e.Close() }, nil // what was done is on disk already
}
