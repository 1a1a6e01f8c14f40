package config

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// Source is where settings are read from. The zero value of a function reads
// the real thing.
type Source struct {
	Args []string
	Env  func(name string) string
	Read func(file string) ([]byte, error)
}

// Load reads all settings. rest is the arguments behind the flags. It is
// flag.ErrHelp where help was asked for; other errors say what to change.
func Load(src Source) (c *Config, rest []string, err error) {
	if src.Env == nil {
		src.Env = os.Getenv
	}
	if src.Read == nil {
		src.Read = os.ReadFile
	}
	c = &Config{origin: map[string]string{}}
	all := c.settings()
	for i := range all {
		if err := all[i].set(all[i].def); err != nil {
			panic("config: the default of " + all[i].key + ": " + err.Error())
		}
	}

	// Flags come first because they may name the file, and are applied last.
	given := map[string]string{}
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	file := fs.String("config", "", "")
	for i := range all {
		s := &all[i]
		fs.Func(s.flag(), "", func(text string) error {
			given[s.key] = text
			return nil
		})
	}
	if err := ParseFlags(fs, src.Args); err != nil {
		return nil, nil, err
	}
	if *file == "" {
		*file = src.Env("HEARTH_CONFIG")
	}
	if *file != "" {
		if err := c.readFile(*file, src.Read, all); err != nil {
			return nil, nil, err
		}
	}
	for i := range all {
		s := &all[i]
		if text := src.Env(s.env()); text != "" {
			if err := c.apply(s, text, s.env()); err != nil {
				return nil, nil, err
			}
		}
		if text, ok := given[s.key]; ok {
			if err := c.apply(s, text, "--"+s.flag()); err != nil {
				return nil, nil, err
			}
		}
	}
	return c, fs.Args(), nil
}

// apply sets one setting and notes where it came from.
func (c *Config) apply(s *setting, text, origin string) error {
	if err := s.set(text); err != nil {
		return fmt.Errorf("%s: %w", origin, err)
	}
	c.origin[s.key] = origin
	return nil
}

// Origin says where a key was set, for messages; the key itself where it has
// its default.
func (c *Config) Origin(key string) string {
	if o := c.origin[key]; o != "" {
		return o
	}
	return key
}

// readFile reads the TOML file. It is walked by the parser and not decoded into
// the struct, so that each message can name its line, and that a number in place
// of a size is seen.
func (c *Config) readFile(name string, read func(string) ([]byte, error), all []setting) error {
	doc, err := read(name)
	if err != nil {
		return fmt.Errorf("the settings cannot be read: %w", err)
	}
	var p unstable.Parser
	var maps []table
	p.Reset(doc)
	for p.NextExpression() {
		e := p.Expression()
		if e.Kind == unstable.Comment {
			continue
		}
		it := e.Key()
		it.Next()
		key := it.Node()
		at := fmt.Sprintf("%s:%d", name, p.Shape(p.Range(key.Data)).Start.Line)
		if e.Kind == unstable.ArrayTable && string(key.Data) == "mapping" && !it.Next() {
			maps = append(maps, table{at: at})
			continue
		}
		if e.Kind != unstable.KeyValue {
			if string(key.Data) == "mapping" {
				return fmt.Errorf("%s: a mapping begins with [[mapping]], in two pairs of brackets", at)
			}
			return fmt.Errorf("%s: the only tables in this file are [[mapping]], [%s] is none of its parts", at, key.Data)
		}
		if len(maps) > 0 {
			if err := maps[len(maps)-1].add(at, string(key.Data), e.Value()); err != nil {
				return err
			}
			continue
		}
		if it.Next() {
			return fmt.Errorf("%s: there is no setting %s.%s", at, key.Data, it.Node().Data)
		}
		s := find(all, string(key.Data))
		if s == nil {
			return fmt.Errorf("%s: there is no setting %q%s", at, key.Data, meant(all, string(key.Data)))
		}
		if before := c.origin[s.key]; before != "" {
			return fmt.Errorf("%s: %s was set already in %s", at, s.key, before)
		}
		text, err := s.value(e.Value())
		if err != nil {
			return fmt.Errorf("%s: %s: %w", at, s.key, err)
		}
		if err := c.apply(s, text, at); err != nil {
			return fmt.Errorf("%s: %s: %w", at, s.key, errors.Unwrap(err))
		}
	}
	if err := p.Error(); err != nil {
		var pe *unstable.ParserError
		if errors.As(err, &pe) && len(pe.Highlight) > 0 {
			return fmt.Errorf("%s:%d: not TOML: %s%s", name, p.Shape(p.Range(pe.Highlight)).Start.Line, pe.Message, quotes(pe.Message))
		}
		return fmt.Errorf("%s: not TOML: %w", name, err)
	}
	return c.readMappings(maps)
}

// quotes says of what is no TOML that quotes are missing, where that is likely.
func quotes(message string) string {
	if strings.Contains(message, "at start of value") || strings.Contains(message, "strings cannot have new lines") {
		return "; text stands between two quotes"
	}
	return ""
}

// value gives a TOML value as the text that set reads.
func (s *setting) value(n *unstable.Node) (string, error) {
	switch {
	case n.Kind == unstable.String && s.quoted():
		return string(n.Data), nil
	case n.Kind == unstable.Integer && !s.quoted():
		return string(n.Data), nil
	case n.Kind == unstable.Integer && s.arg == "SIZE":
		return string(n.Data), nil // set says that the unit is missing
	case n.Kind == unstable.Array && s.field.Kind() == reflect.Slice:
		text := ""
		for it := n.Children(); it.Next(); {
			if it.Node().Kind != unstable.String {
				return "", errors.New("each part of the list must be text in quotes")
			}
			text += string(it.Node().Data) + ","
		}
		return text, nil
	case !s.quoted():
		return "", errors.New("this must be a whole number without quotes")
	case s.choices != nil:
		return "", fmt.Errorf("this must be one of the words %q in quotes", s.choices)
	}
	return "", errors.New("this must be text in quotes")
}

func find(all []setting, key string) *setting {
	for i := range all {
		if all[i].key == key {
			return &all[i]
		}
	}
	return nil
}

// ParseFlags is fs.Parse with errors that say what to write.
func ParseFlags(fs *flag.FlagSet, args []string) error {
	err := fs.Parse(args)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return err
	}
	if name, ok := strings.CutPrefix(err.Error(), "flag needs an argument: -"); ok {
		return fmt.Errorf("--%s needs a value behind it", strings.TrimPrefix(name, "-"))
	}
	name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: -")
	if !ok {
		return err
	}
	hint := ""
	fs.VisitAll(func(f *flag.Flag) {
		if len(f.Name) > 3 && distance(f.Name, name) <= 2 {
			hint = fmt.Sprintf("; did you mean --%s?", f.Name)
		}
	})
	return fmt.Errorf("there is no flag --%s%s", name, hint)
}

// meant guesses which key was meant: one that differs in two letters at most.
func meant(all []setting, key string) string {
	for i := range all {
		if distance(all[i].key, key) <= 2 {
			return fmt.Sprintf("; did you mean %s?", all[i].key)
		}
	}
	return "; hearth example-config shows all that there are"
}

// distance counts the letters to change, add or drop to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := last
			if a[i] != b[j] {
				d = 1 + min(last, row[j], row[j+1])
			}
			last, row[j+1] = row[j+1], d
		}
	}
	return row[len(b)]
}
