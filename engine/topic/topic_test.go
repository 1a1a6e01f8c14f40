package topic

import (
	"slices"
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		filter, name string
		want         bool
	}{
		{"a/b", "a/b", true}, {"a/b", "a/c", false}, {"a/+", "a/b", true}, {"a/+", "a/b/c", false},
		{"a/#", "a", true}, {"a/#", "a/b/c", true}, {"#", "a", true}, {"#", "$SYS/x", false}, {"+/x", "$SYS/x", false},
		{"$SYS/#", "$SYS/x", true}, {"+", "/a", false}, {"/+", "/a", true}, {"+/+", "/a", true}, {"a/+/c", "a//c", true},
		{"a", "a/b", false}, {"a/b/c", "a/b", false}, {"a/+/#", "a", false}, {"a/+/#", "a/b", true}, {"A", "a", false},
	} {
		if got := Match(c.filter, c.name); got != c.want {
			t.Errorf("%s on %s: %v", c.filter, c.name, got)
		}
	}
}

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		allowed, asked string
		want           bool
	}{
		{"porch/#", "porch/#", true}, {"porch/#", "porch", true}, {"porch/#", "porch/+/x", true}, {"porch/#", "#", false},
		{"porch/#", "+/x", false}, {"porch/+", "porch/#", false}, {"porch/+", "porch/+", true}, {"porch/a", "porch/+", false},
		{"#", "a/#", true}, {"#", "$SYS/#", false}, {"+/a", "b/a", true}, {"+/a", "b/+", false}, {"a", "a/b", false},
	} {
		if got := Covers(c.allowed, c.asked); got != c.want {
			t.Errorf("%s covers %s: %v", c.allowed, c.asked, got)
		}
	}
}

func TestGrammar(t *testing.T) {
	for _, bad := range []string{"", "a+", "a/#/b", "#a", "a/b#", "+a/b", "a\x00b", "a\xff", strings.Repeat("a/", 64), strings.Repeat("a", 1025)} {
		if CheckFilter(bad) == nil {
			t.Errorf("the filter %q is taken", bad)
		}
	}
	for _, good := range []string{"#", "+", "+/+/#", "/", "a//b", "$share/x", "ä/b"} {
		if err := CheckFilter(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	if CheckName("a/+") == nil || CheckName("a/#") == nil || CheckName("a/b") != nil {
		t.Error("names")
	}
}

func TestCaptures(t *testing.T) {
	for _, c := range []struct {
		filter, name string
		want         []string
	}{
		{"home/+/temp/#", "home/attic/temp/a/b", []string{"attic", "a/b"}}, {"home/+/#", "home/attic", []string{"attic", ""}},
		{"a/b", "a/b", nil}, {"+/+", "x/", []string{"x", ""}},
	} {
		got, ok := Captures(c.filter, c.name)
		if !ok || !slices.Equal(got, c.want) {
			t.Errorf("%s on %s: %q %v", c.filter, c.name, got, ok)
		}
	}
}

func TestCompare(t *testing.T) {
	sorted := []string{"a/b/c", "a/b/+", "a/b/#", "a/+/c", "a/+/#", "a/#", "+/b/c", "+/+", "#"}
	for i, a := range sorted {
		for j, b := range sorted {
			if got := Compare(a, b); got < 0 != (i < j) || got > 0 != (i > j) {
				t.Errorf("%s and %s: %d", a, b, got)
			}
		}
	}
}

// What a filter covers it matches, and what it matches it has captures of.
func FuzzMatch(f *testing.F) {
	f.Add("a/+/#", "a/b/c", "a/b/c")
	f.Add("#", "+/x", "y/x")
	f.Fuzz(func(t *testing.T, allowed, asked, name string) {
		if CheckFilter(allowed) != nil || CheckFilter(asked) != nil || CheckName(name) != nil {
			return
		}
		if Covers(allowed, asked) && Match(asked, name) && !Match(allowed, name) {
			t.Fatalf("%q covers %q, which matches %q", allowed, asked, name)
		}
		if _, ok := Captures(allowed, name); ok != Match(allowed, name) {
			t.Fatalf("captures of %q in %q", allowed, name)
		}
	})
}

func TestOverlap(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"a/+", "+/b", true}, {"a/b", "a/c", false}, {"a/#", "a", true}, {"a", "a/+", false}, {"#", "x/y", true}, {"#", "$SYS/#", false},
		{"a/+/c", "a/b/#", true}, {"a/+/c", "a/b/d", false},
	} {
		if Overlap(c.a, c.b) != c.want || Overlap(c.b, c.a) != c.want {
			t.Errorf("%s and %s: not %v", c.a, c.b, c.want)
		}
	}
}
