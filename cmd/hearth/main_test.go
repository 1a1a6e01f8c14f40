package main

import (
	"strings"
	"testing"
)

func TestWords(t *testing.T) {
	tests := []struct {
		args     string
		code     int
		out, err string // what standard output and standard error begin with
	}{
		{"", exitUsage, "", "hearth COMMAND"},
		{"help", exitDone, "hearth COMMAND", ""},
		{"--help", exitDone, "hearth COMMAND", ""},
		{"help pub", exitDone, "hearth pub", ""},
		{"pub --help", exitDone, "hearth pub", ""},
		{"sub", exitUsage, "", "hearth sub: which room?"},
		{"serv", exitUsage, "", `hearth: there is no command "serv"`},
	}
	for _, test := range tests {
		got := ask(run, "", nil, strings.Fields(test.args)...)
		if got.code != test.code || !strings.HasPrefix(got.out, test.out) || !strings.HasPrefix(got.err, test.err) ||
			(test.out == "") != (got.out == "") || (test.err == "") != (got.err == "") {
			t.Errorf("hearth %s: code %d, printed %q and %q", test.args, got.code, got.out, got.err)
		}
	}
	for _, c := range commands() {
		if got := ask(run, "", nil, c.name, "--help"); got.code != exitDone || !strings.HasPrefix(got.out, "hearth "+c.name) {
			t.Errorf("hearth %s --help: code %d, %q, %q", c.name, got.code, got.out, got.err)
		}
	}
}
