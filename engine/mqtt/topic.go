package mqtt

import (
	"strings"
	"unicode/utf8"
)

// MaxTopic is the most bytes that a topic to publish to, or a filter, may have. The
// protocol allows 65,535; nothing needs them, and they are kept for each session.
const MaxTopic = 1024

// maxLevels bounds the levels of a filter: each is a node of the tree.
const maxLevels = 128

// ValidTopic says whether s may be published to: 1 to 65,535 bytes of UTF-8
// without NUL and wildcards.
//
// Spec: MQTT 5, 4.7.1 and 4.7.3.
func ValidTopic(s string) bool {
	return s != "" && len(s) <= 65535 && !strings.ContainsAny(s, "+#\x00") && utf8.ValidString(s)
}

// ValidFilter says whether s may be subscribed to. A shared subscription is
// judged with its $share and group.
//
// Spec: MQTT 5, 4.7.1 and 4.8.2.
func ValidFilter(s string) bool {
	if len(s) > 65535 || strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s) {
		return false
	}
	if group, rest, shared := SplitShared(s); shared {
		if group == "" || strings.ContainsAny(group, "+#") {
			return false
		}
		s = rest
	}
	if s == "" {
		return false
	}
	for more := true; more; {
		var level string
		level, s, more = strings.Cut(s, "/")
		switch {
		case level == "#":
			return !more
		case level == "+":
		case strings.ContainsAny(level, "+#"):
			return false
		}
	}
	return true
}

// SplitShared takes a filter of the form $share/GROUP/FILTER apart.
func SplitShared(s string) (group, filter string, shared bool) {
	rest, ok := strings.CutPrefix(s, "$share/")
	if !ok {
		return "", s, false
	}
	group, filter, _ = strings.Cut(rest, "/")
	return group, filter, true
}

// Match says whether a valid filter, without $share, takes in a valid topic.
// A wildcard in the first level does not match a topic that begins with $.
func Match(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") && (strings.HasPrefix(filter, "+") || strings.HasPrefix(filter, "#")) {
		return false
	}
	for {
		f, frest, fmore := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		t, trest, tmore := strings.Cut(topic, "/")
		if f != "+" && f != t {
			return false
		}
		if !tmore {
			return !fmore || frest == "#"
		}
		if !fmore {
			return false
		}
		filter, topic = frest, trest
	}
}

// plainPrefix is the part of a filter that every topic it takes in begins with.
func plainPrefix(filter string) string {
	i := strings.IndexAny(filter, "+#")
	switch {
	case i < 0:
		return filter
	case i > 0 && filter[i] == '#':
		return filter[:i-1] // a/# takes in a
	}
	return filter[:i]
}
