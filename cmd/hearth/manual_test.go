package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestManual asks for every topic, and holds them and README.md to the commands and settings that there are.
func TestManual(t *testing.T) {
	all := ask(run, "", nil, "help")
	if all.code != exitDone || all.err != "" {
		t.Fatal(all)
	}
	known := map[string]bool{"help": true}
	for _, c := range commands() {
		known[c.name] = true
		if !strings.Contains(all.out, "  "+c.name+" ") {
			t.Errorf("hearth help does not list %s", c.name)
		}
	}
	settings, keys := ask(run, "", nil, "example-config").out, ask(run, "", nil, "mapping", "--help").out
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{"README.md": string(readme)}
	parts, err := topics()
	if err != nil || len(parts) == 0 {
		t.Fatal(parts, err)
	}
	for _, p := range parts {
		got := ask(run, "", nil, "help", p.name)
		if got.code != exitDone || got.out != p.text || known[p.name] || !strings.Contains(all.out, "  "+p.name+" ") {
			t.Errorf("hearth help %s: %+v", p.name, got)
		}
		texts[p.name] = got.out
	}
	word := regexp.MustCompile(`(?:^|[^-/.\w])hearth ([a-z][a-z-]+)`)
	setting := regexp.MustCompile(`\b([a-z][a-z_]+) = ["\[]`)
	for name, text := range texts {
		for i, line := range strings.Split(text, "\n") {
			if name != "README.md" && len(line) > 120 {
				t.Errorf("%s:%d is longer than 120", name, i+1)
			}
			for _, m := range word.FindAllStringSubmatch(line, -1) {
				if !known[m[1]] {
					t.Errorf("%s:%d: there is no command %q", name, i+1, m[1])
				}
			}
			for _, m := range setting.FindAllStringSubmatch(line, -1) {
				there := strings.Contains(settings, m[1]+" =") || strings.Contains(keys, "\n  "+m[1]+" ")
				if !there && !strings.HasPrefix(m[1], "box_") {
					t.Errorf("%s:%d: there is no setting %q", name, i+1, m[1])
				}
			}
		}
	}
	if got := ask(run, "", nil, "help", "nothing"); got.code != exitUsage || !strings.Contains(got.err, "nothing") {
		t.Error(got)
	}
}
