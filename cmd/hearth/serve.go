package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"hearth/cmd/internal/config"
	"hearth/engine/fault"
	"hearth/httpd/peer"
)

const serveHelp = `hearth serve [flags]

Runs the hub until it is told to stop (SIGTERM, or Ctrl-C). Without any setting its data is in ./hearth-data and
clients reach it at http://127.0.0.1:8008; it prints what to try next. Under systemd (Type=notify) it says when it is
ready and feeds the watchdog.

Settings:
`

const serveExits = `
Exit codes:
  0    stopped as it was told
  1    the hub could not start or go on; standard error says why
  2    wrong usage, or a setting that cannot be
`

// stopTime is how long the whole end may take; systemd and people wait no longer.
const stopTime = 5 * time.Second

// serve runs the hub until the first signal.
func serve(args []string, s streams) int {
	return told("serve", "", s, func() error {
		c, err := settings(args, s, serveHelp, serveExits)
		if err != nil {
			return err
		}
		if err := judge(c, s); err != nil {
			return err
		}
		ctx, end := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer end()
		return runHub(ctx, c, s)
	})
}

// settings loads them for a command whose arguments are nothing but settings.
func settings(args []string, s streams, before, after string) (*config.Config, error) {
	c, rest, err := config.Load(config.Source{Args: args, Env: s.env})
	switch {
	case errors.Is(err, flag.ErrHelp):
		io.WriteString(s.out, before)
		config.Help(s.out)
		io.WriteString(s.out, after)
		return nil, err
	case err != nil:
		return nil, usage("%w", err)
	case len(rest) > 0:
		return nil, usage("unexpected argument %q", rest[0])
	}
	return c, nil
}

// judge prints what is wrong with the settings; only some of it keeps the hub from running.
func judge(c *config.Config, s streams) error {
	var fatal []string
	for _, p := range c.Check() {
		if p.Fatal {
			fatal = append(fatal, p.String())
		} else {
			fmt.Fprintf(s.err, "hearth: note: %s\n", p)
		}
	}
	if len(fatal) > 0 {
		return usage("%s", strings.Join(fatal, "\n  "))
	}
	return nil
}

// runHub starts a hub, says so, and ends it when ctx ends.
func runHub(ctx context.Context, c *config.Config, s streams) error {
	log := newLog(c, s)
	super := newSupervisor(s.env)
	super.say("STATUS=opening the data folder")
	began := time.Now()
	h, err := startHub(c, log)
	if err != nil {
		return err
	}
	if s.env(boxSocket) == "" { // a box has words of its own for its screen, where nobody types commands
		h.greet(s.out)
	}
	log.Info("ready", "server", string(h.engine.Server), "after", time.Since(began).Round(time.Millisecond).String())
	return h.run(ctx, super)
}

// run keeps a hub that has started until ctx ends.
func (h *hub) run(ctx context.Context, super supervisor) error {
	said := h.news("")
	super.say("READY=1\nSTATUS=running" + said)
	beat := super.beat()
	defer beat.Stop()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-hup:
			h.reload()
			continue
		case <-beat.C:
			if h.well() {
				now := h.news(said)
				super.say("WATCHDOG=1" + now)
				if now != "" {
					said = now
				}
			}
			continue
		case <-ctx.Done():
		}
		break
	}
	super.say("STOPPING=1\nSTATUS=stopping")
	// Whatever hangs, the process is gone in time: nothing acknowledged needs an orderly end.
	late := time.AfterFunc(stopTime-stopTime/10, func() {
		h.log.Error("it took too long to stop; what was acknowledged is safe on disk")
		os.Exit(exitLocal)
	})
	defer late.Stop()
	err := h.stop()
	h.log.Info("stopped")
	return err
}

// newLog writes to standard error, without the time where systemd's journal notes it.
func newLog(c *config.Config, s streams) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		panic("the level was checked: " + err.Error())
	}
	o := &slog.HandlerOptions{Level: level}
	if s.env("JOURNAL_STREAM") != "" {
		o.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey && len(groups) == 0 {
				return slog.Attr{}
			}
			return a
		}
	}
	return slog.New(slog.NewTextHandler(s.err, o))
}

// told turns a command's error into words and an exit code. help is what is printed
// where it was asked for; commands that print it by themselves give none.
func told(name, help string, s streams, work func() error) int {
	err := work()
	var f *failure
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, flag.ErrHelp):
		io.WriteString(s.out, help)
		return exitDone
	case !errors.As(err, &f):
		if several, ok := err.(interface{ Unwrap() []error }); ok && len(several.Unwrap()) == 1 {
			err = several.Unwrap()[0]
		}
		if known, ok := err.(*fault.Error); ok {
			err = errors.New(plainText(known))
		}
		fmt.Fprintf(s.err, "hearth %s: %v\n", name, err)
		return exitLocal
	}
	fmt.Fprintf(s.err, "hearth %s: %v\n", name, err)
	if f.code == exitUsage {
		fmt.Fprintf(s.err, "hearth %s --help explains.\n", name)
	}
	return f.code
}

const checkHelp = `hearth check [flags]

Reads the settings as serve does, and prints each with the place it was set in, what the hub would do with them, and
what is wrong. It looks for the hub as other servers do, which takes a few seconds where the network is away. It
changes nothing and works beside a running hub.

Settings:
`

const checkExits = `
Exit codes:
  0    serve would start
  1    serve would not start
  2    wrong usage, or settings that cannot be read
`

// check prints what serve would do.
func check(args []string, s streams) int {
	return told("check", "", s, func() error {
		c, err := settings(args, s, checkHelp, checkExits)
		if err != nil {
			return err
		}
		fmt.Fprintln(s.out, "Settings:")
		c.Each(func(key, value, origin string) {
			if value == "" {
				value = "-"
			}
			fmt.Fprintf(s.out, "  %-32s %-24s %s\n", key, value, origin)
		})
		fmt.Fprintln(s.out, "\nThe hub:")
		seen, notes := outside(c, peer.NewServers(peer.ServersOptions{Allow: everywhere(), Agent: "Hearth"}))
		for _, line := range append(append(forecast(c), worn(c.DataDir)...), seen...) {
			fmt.Fprintf(s.out, "  %s\n", line)
		}
		problems := slices.Concat(c.Check(), inspect(c), notes)
		fatal := 0
		for i, p := range problems {
			if i == 0 {
				fmt.Fprintln(s.out, "\nFindings:")
			}
			kind := "note "
			if p.Fatal {
				kind = "WRONG"
				fatal++
			}
			fmt.Fprintf(s.out, "  %s  %s\n", kind, p)
		}
		if fatal > 0 {
			return &failure{exitLocal, fmt.Errorf("%d of the findings would keep the hub from starting", fatal)}
		}
		if running(c.DataDir) {
			fmt.Fprintln(s.out, "\nserve would start, were the hub stopped that is running.")
			return nil
		}
		fmt.Fprintln(s.out, "\nserve would start.")
		return nil
	})
}

const exampleHelp = `hearth example-config

Prints a settings file that shows every setting with its default, all commented out. Keep what you change:

  hearth example-config > hearth.toml
  hearth check --config hearth.toml
`

// exampleConfig prints the sample file.
func exampleConfig(args []string, s streams) int {
	return told("example-config", exampleHelp, s, func() error {
		fs := flag.NewFlagSet("", flag.ContinueOnError)
		fs.SetOutput(io.Discard)
		words, err := wordsOf(fs, args)
		switch {
		case err != nil:
			return err
		case len(words) > 0:
			return usage("unexpected argument %q", words[0])
		}
		config.Sample(s.out)
		return nil
	})
}

// folder is the data folder with its full path, for messages.
func folder(c *config.Config) string {
	if full, err := filepath.Abs(c.DataDir); err == nil {
		return full
	}
	return c.DataDir
}
