package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestWords: every command explains itself, and what is no command is told apart from what fails.
func TestWords(t *testing.T) {
	for words, want := range map[string]struct {
		code int
		says string
	}{
		"help":              {exitDone, "hearth-image COMMAND"},
		"":                  {exitUsage, "hearth-image COMMAND"},
		"dance":             {exitUsage, `no command "dance"`},
		"boards":            {exitDone, "virt"},
		"boards all":        {exitUsage, `unexpected argument "all"`},
		"image --help":      {exitDone, "-set key=value"},
		"archive --help":    {exitDone, "-key file"},
		"key --help":        {exitDone, "-to file"},
		"key":               {exitUsage, "--to is needed"},
		"fetch --help":      {exitDone, "-to folder"},
		"fetch wifi --help": {exitDone, "-to folder"},
		"fetch":             {exitUsage, "e2fsck or wifi"},
		"packages --help":   {exitDone, "-settings file"},
		"image":             {exitUsage, "--version is needed"},
	} {
		var out bytes.Buffer
		if code := run(strings.Fields(words), &out, &out); code != want.code || !strings.Contains(out.String(), want.says) {
			t.Errorf("hearth-image %s: exit code %d, %s", words, code, &out)
		}
	}
}
