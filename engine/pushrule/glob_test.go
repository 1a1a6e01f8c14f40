package pushrule

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func TestGlobWhole(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true},
		{"", "x", false},
		{"*", "", true},
		{"*", "anything\nat all", true},
		{"?", "", false},
		{"?", "é", true},
		{"lunc?*", "Lunch plans", true},
		{"lunc?*", "LUNCH", true},
		{"lunc?*", " lunch", false},
		{"lunc?*", "lunc", false},
		{"a*b*c", "aXbXbc", true},
		{"a*b*c", "aXbXb", false},
		{"a*ba", "aba", true},
		{"a*a", "a", false},
		{"*ab", "aab", true},
		{"*?b", "b", false},
		{"ÄRGER*", "ärger im haus", true},
		{"m.room.member", "M.ROOM.MEMBER", true},
		{`a\*`, `a\b`, true},
		{"*é", "caf\u00e9", true},
	} {
		if got := newGlob(c.pattern).whole([]byte(c.text)); got != c.want {
			t.Errorf("%q on %q: %v", c.pattern, c.text, got)
		}
	}
}

func TestGlobWord(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"ex*ple", "An example event.", true},
		{"ex*ple", "exple", true},
		{"ex*ple", "An exciting triple-whammy", true},
		{"ex*ple", "An exampled event", false},
		{"cake", "a CAKE!", true},
		{"cake", "cakes", false},
		{"cake", "cupcake", false},
		{"cake", "cup_cake", false},
		{"cake", "cup-cake", true},
		{"cake", "cakes and cake", true},
		{"cake", "cake", true},
		{"cake", "écakeé", true},
		{"@room", "hey@room", true},
		{"c?ke", "some coke", true},
		{"c?ke", "some cke", false},
		{"cake*", "cupcake cakewalk", true},
		{"cake*", "cupcake", false},
		{"*cake", "cupcake", true},
		{"*cake", "cupcakes", false},
		{"*cake", "cupcakes cake", true},
		{"cake*lie", "the cake is a lie", true},
		{"cake*lie", "the cake is a lied, not a belief", false},
		{"cake*lie", "the cake and a belie", true},
		{"foo bar", "a foo bar b", true},
		{"", "", true},
		{"", "abc", true},
		{"x", "", false},
	} {
		if got := newGlob(c.pattern).word([]byte(c.text)); got != c.want {
			t.Errorf("%q in %q: %v", c.pattern, c.text, got)
		}
	}
}

// naive is the definition, spelled as recursion.
func naive(p, s []rune) bool {
	switch {
	case len(p) == 0:
		return len(s) == 0
	case p[0] == '*':
		return naive(p[1:], s) || len(s) > 0 && naive(p, s[1:])
	case len(s) == 0:
		return false
	}
	return (p[0] == '?' || p[0] == s[0]) && naive(p[1:], s[1:])
}

func naiveWord(p string, s string) bool {
	for i := 0; i <= len(s); i++ {
		for j := i; j <= len(s); j++ {
			if startsWord([]byte(s), i) && endsWord([]byte(s), i, j) && naive([]rune(p), []rune(s[i:j])) {
				return true
			}
		}
	}
	return false
}

func TestGlobAgreesWithItsDefinition(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	pick := func(n int, set string) string {
		var b strings.Builder
		for range rnd.IntN(n) {
			b.WriteByte(set[rnd.IntN(len(set))])
		}
		return b.String()
	}
	for range 20000 {
		p, s := pick(6, "ab*? "), pick(9, "ab -")
		if got, want := newGlob(p).whole([]byte(s)), naive([]rune(p), []rune(s)); got != want {
			t.Fatalf("whole %q on %q: %v, want %v", p, s, got, want)
		}
		if got, want := newGlob(p).word([]byte(s)), naiveWord(p, s); got != want {
			t.Fatalf("word %q in %q: %v, want %v", p, s, got, want)
		}
	}
}

func FuzzGlob(f *testing.F) {
	f.Add("a*b?", "axbx")
	f.Fuzz(func(t *testing.T, p, s string) {
		g := newGlob(p)
		if g.whole([]byte(s)) && !newGlob("*"+p+"*").whole([]byte(s)) {
			t.Fatalf("%q matches %q but not inside stars", p, s)
		}
		g.word([]byte(s))
	})
}
