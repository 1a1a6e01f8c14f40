// Command hearth is the hub and all that goes with it: one program, one word for what it shall do.
//
// This package owns the words, what they print and the codes they end with; it refuses to do the work itself. What
// runs a hub or speaks to one stands in the packages below, so that it can be tested without a process.
package main

import (
	"fmt"
	"io"
	"os"
)

// streams are what a command reads and writes.
type streams struct {
	in  io.Reader
	out io.Writer
	err io.Writer
	env func(string) string
}

// command is one word that hearth knows. run gets the arguments after the word and gives the exit code.
type command struct {
	name, what string
	run        func(args []string, s streams) int
}

func commands() []command {
	return []command{
		{"serve", "run the hub", serve},
		{"check", "say what serve would do, and what is wrong", check},
		{"verify", "read a stopped hub's whole data folder, and say what does not agree", verify},
		{"backup", "copy the data folder, while the hub runs or not", backupCmd},
		{"restore", "make a data folder of a backup", restore},
		{"example-config", "print a settings file with all settings and their defaults", exampleConfig},
		{"identity", "run an identity service without a hub", identityAlone},
		{"user", "add, list or deactivate users, or set a password", user},
		{"thing", "add, list, approve or revoke things that speak MQTT", things},
		{"mapping", "list what topics belong to which room, and show ready mappings", mappingCmd},
		{"history", "remove what a room has of its past", history},
		{"federation", "show how other servers stand with what the hub has for them", federationCmd},
		{"export", "print what sensors said, for other programs", export},
		{"bridges", "say where bridges and other application services stand", bridges},
		{"update", "bring a new version onto a box, or say which one runs", updateCmd},
		{"key", "list the hub's signing keys, or renew them", key},
		{"support", "write a file for who helps, without secrets", supportCmd},
		{"pub", "send events into a room", pub},
		{"sub", "print the events of a room as they come", sub},
	}
}

func main() {
	os.Exit(run(os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr, os.Getenv}))
}

func run(args []string, s streams) int {
	if len(args) == 0 {
		help("", streams{out: s.err, err: s.err})
		return exitUsage
	}
	word, rest := args[0], args[1:]
	asked := word == "help" || word == "-h" || word == "--help" || word == "-help"
	if asked && len(rest) > 0 {
		word, rest = rest[0], []string{"--help"}
	}
	for _, c := range commands() {
		if c.name == word {
			return c.run(rest, s)
		}
	}
	switch {
	case asked && len(rest) > 0:
		return help(word, s)
	case asked:
		return help("", s)
	}
	fmt.Fprintf(s.err, "hearth: there is no command %q; hearth help lists them\n", word)
	return exitUsage
}
