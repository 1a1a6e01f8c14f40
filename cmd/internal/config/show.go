package config

import (
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
)

// Help writes the settings as flags, for a command's manual.
func Help(w io.Writer) {
	var c Config
	fmt.Fprintf(w, "  --config FILE\n        settings in TOML (hearth example-config prints one); HEARTH_CONFIG\n")
	for _, s := range c.settings() {
		fmt.Fprintf(w, "  --%s %s\n        %s\n", s.flag(), s.arg, strings.ReplaceAll(s.help, "\n", "\n        "))
		if s.def != "" {
			fmt.Fprintf(w, "        Default: %s.\n", s.def)
		}
	}
	fmt.Fprintf(w, "\nA flag beats a variable, which beats the file. The variable of --data-dir is\n"+
		"HEARTH_DATA_DIR, its key in the file data_dir, and so on for all of them.\n")
}

// Sample writes a settings file that sets nothing and shows everything.
func Sample(w io.Writer) {
	fmt.Fprintf(w, "# Settings of a Hearth hub. Each line that is commented out shows the default.\n"+
		"# Start with: hearth serve --config FILE. Check with: hearth check --config FILE.\n")
	var c Config
	for _, s := range c.settings() {
		fmt.Fprintf(w, "\n")
		for line := range strings.SplitSeq(upper(s.help), "\n") {
			fmt.Fprintf(w, "# %s\n", line)
		}
		fmt.Fprintf(w, "#%s = %s\n", s.key, s.literal())
	}
}

// upper makes the first letter a capital: help reads on from the flag, a
// sample begins a sentence.
func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// literal is the default in TOML.
func (s *setting) literal() string {
	switch {
	case s.field.Kind() == reflect.Slice && s.def == "":
		return "[]"
	case s.field.Kind() == reflect.Slice:
		return fmt.Sprintf("[%q]", s.def)
	case s.quoted():
		return strconv.Quote(s.def)
	}
	return s.def
}

// Each calls f for every setting with its value in words and where it was set,
// "default" where it was not.
func (c *Config) Each(f func(key, value, origin string)) {
	for _, s := range c.settings() {
		value := fmt.Sprint(s.field.Interface())
		switch v := s.field.Interface().(type) {
		case bool:
			value = map[bool]string{true: "on", false: "off"}[v]
		case []string:
			value = strings.Join(v, ", ")
		}
		origin := c.origin[s.key]
		if origin == "" {
			origin = "default"
		}
		f(s.key, value, origin)
	}
}
