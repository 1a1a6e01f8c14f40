package mqtt

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestFilters(t *testing.T) {
	for filter, want := range map[string]string{
		"#": "yes", "+": "yes", "a/#": "yes", "+/+/#": "yes", "/": "yes", "a//b": "yes", "$share/g/a/#": "yes", "$SYS/#": "yes",
		"": "no", "a#": "no", "#/a": "no", "a/#/b": "no", "a+": "no", "+a/b": "no", "a\x00": "no", "\xff": "no",
		"$share/g": "no", "$share//a": "no", "$share/g/": "no", "$share/+/a": "no", "$share/g#/a": "no", "$share/g/#/a": "no",
	} {
		if got := ValidFilter(filter); got != (want == "yes") {
			t.Errorf("ValidFilter(%q) = %v", filter, got)
		}
	}
}

// The tree finds what Match finds, for any filters and topics.
func TestTreeAgreesWithMatch(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	word := func(words ...string) string {
		levels := make([]string, 1+rng.IntN(4))
		for i := range levels {
			levels[i] = words[rng.IntN(len(words))]
		}
		return strings.Join(levels, "/")
	}
	var tr tree
	live := map[*subscription]bool{}
	for range 3000 {
		f := word("a", "b", "", "+", "$x")
		if rng.IntN(3) == 0 {
			f += "/#"
		}
		if rng.IntN(50) == 0 {
			f = "#"
		}
		u := &subscription{s: &session{}, filter: f}
		tr.add(u)
		live[u] = true
		for old := range live {
			if len(live) > 40 {
				tr.remove(old)
				delete(live, old)
			}
		}
		topic := word("a", "b", "", "c", "$x")
		var h hits
		tr.match(topic, &h)
		for u := range live {
			if got, want := slices.Contains(h.subs, u), Match(u.filter, topic); got != want {
				t.Fatalf("seed %d: filter %q, topic %q: the tree says %v, Match %v", seed, u.filter, topic, got, want)
			}
		}
		if slices.ContainsFunc(h.subs, func(u *subscription) bool { return !live[u] }) {
			t.Fatalf("seed %d: a subscription that was removed is found", seed)
		}
	}
	for u := range live {
		tr.remove(u)
	}
	if len(tr.root.parts) > 0 || tr.root.plus != nil {
		t.Error("nodes are left")
	}
}

// The matcher takes any text, and the tree agrees with it.
func FuzzMatch(f *testing.F) {
	for _, s := range []string{"a/#", "+/b", "#", "$SYS/#", "a//+", "/", "$share/g/x/+"} {
		f.Add(s, "a/b")
		f.Add(s, "$SYS/x")
	}
	f.Fuzz(func(t *testing.T, filter, topic string) {
		if !ValidFilter(filter) || !ValidTopic(topic) || strings.Count(filter, "/") > 200 {
			return
		}
		_, filter, _ = SplitShared(filter)
		var tr tree
		u := &subscription{s: &session{}, filter: filter}
		tr.add(u)
		var h hits
		tr.match(topic, &h)
		if got, want := len(h.subs) == 1, Match(filter, topic); got != want {
			t.Errorf("filter %q, topic %q: the tree says %v, Match %v", filter, topic, got, want)
		}
		if Match(filter, topic) && !strings.HasPrefix(topic, plainPrefix(filter)) {
			t.Errorf("the topic %q does not begin with %q", topic, plainPrefix(filter))
		}
		tr.remove(u)
	})
}
