package main

import (
	"embed"
	"fmt"
	"io"
	"strings"
)

// The manual is about what no single command is; hearth help TOPIC prints a part of it. The first line of each says
// what it is about.
//
//go:embed manual/*.txt
var manual embed.FS

// part is one text of the manual.
type part struct{ name, what, text string }

func topics() (list []part, err error) {
	files, err := manual.ReadDir("manual")
	for _, f := range files {
		text, err := manual.ReadFile("manual/" + f.Name())
		if err != nil {
			return nil, err
		}
		first, _, _ := strings.Cut(string(text), "\n")
		list = append(list, part{strings.TrimSuffix(f.Name(), ".txt"), strings.TrimSuffix(first, "."), string(text)})
	}
	return list, err
}

// overview lists the commands and the parts of the manual.
func overview() (string, error) {
	var b strings.Builder
	b.WriteString("hearth COMMAND [flags]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "  %-15s %s\n", c.name, c.what)
	}
	b.WriteString("\nhearth COMMAND --help explains one. hearth help TOPIC is about the whole:\n\n")
	list, err := topics()
	for _, t := range list {
		fmt.Fprintf(&b, "  %-15s %s\n", t.name, t.what)
	}
	return b.String(), err
}

// aboutTopic gives a part of the manual; without a name, what there is. A name that is no part's gives nothing.
func aboutTopic(name string) (string, error) {
	if name == "" {
		return overview()
	}
	list, err := topics()
	for _, t := range list {
		if t.name == name {
			return t.text, nil
		}
	}
	return "", err
}

// help prints a part of the manual.
func help(name string, s streams) int {
	text, err := aboutTopic(name)
	if err == nil && text == "" {
		fmt.Fprintf(s.err, "hearth: there is no command or topic %q; hearth help lists them\n", name)
		return exitUsage
	}
	if err == nil {
		_, err = io.WriteString(s.out, text)
	}
	if err != nil {
		fmt.Fprintf(s.err, "hearth help: %v\n", err)
		return exitLocal
	}
	return exitDone
}
