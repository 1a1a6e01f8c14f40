package house

import (
	"path"
	"slices"
	"strings"
	"testing"
)

// levels places every package of the engine: a package imports lower levels
// only; below level 30 it may use a sibling, from there on it may not.
var levels = map[string]int{
	"fault": 0, "mxid": 0, "topic": 0, "cjson": 0, "fields": 0, "meter": 0, "budget": 0, "invariant": 0, "crew": 0, "edkey": 0,
	"event": 10, "auth": 10, "stateres": 10, "pushrule": 10, "filter": 10, "slide": 10, "oauth": 10,
	"store": 20, "stream": 20, "snapshot": 20,
	"room": 30, "account": 30, "e2ee": 30, "ephemeral": 30, "media": 30, "threepid": 30, "outbox": 30, "directory": 30, "delay": 30, "thing": 30,
	"identity": 30, "telemetry": 30, "shadow": 30, "keyring": 30,
	"unread": 35, "history": 35,
	"sync": 40, "search": 40, "federation": 40, "push": 40, "appservice": 40, "mqtt": 40, "backup": 40,
	"bridge": 45, // hears what the broker takes in
}

// top is what the module's root may hold, besides names that begin with a dot.
var top = []string{"cmd", "engine", "httpd", "firmware", "scripts"}

// fences name packages that only some may import. A path that ends with a
// slash stands for all below it.
var fences = []struct {
	what    string
	allowed []string
	tests   bool // whether the rule binds tests too
}{
	{"hearth/engine/store", []string{"engine", "engine/", "httpd/simnet"}, true}, // its disks lose their power
	{"hearth/engine/stream", []string{"engine", "engine/"}, true},
	{"hearth/engine/snapshot", []string{"engine", "engine/"}, true},
	{"github.com/cockroachdb/pebble/v2/", []string{"engine/store", "engine/sim", "httpd/simnet", "httpd/hubtest"}, false},
	{"github.com/valyala/fasthttp", []string{"httpd", "httpd/"}, false},
	{"net/http", []string{"cmd/internal/client", "httpd/peer"}, false},
	{"unsafe", []string{"firmware/boot"}, false}, // ioctls that growing a disk needs
	{"math/rand", nil, true},
	{"log", []string{"firmware/"}, false}, // a box has a console and nothing else
}

func TestImports(t *testing.T) {
	tr := load(t)
	for dir, p := range tr.pkgs {
		root, _, _ := strings.Cut(dir, "/")
		if !slices.Contains(top, root) {
			t.Errorf("%s: the module's root holds only %v", dir, top)
		}
		for imp, where := range p.imports(true) {
			if rest, ours := strings.CutPrefix(imp, module+"/"); ours && rest != dir {
				if why := forbidden(dir, rest); why != "" {
					t.Errorf("%s imports %s: %s", where, imp, why)
				}
			}
		}
		for _, f := range fences {
			for imp, where := range p.imports(f.tests) {
				if within(f.what, imp) && !slices.ContainsFunc(f.allowed, func(a string) bool { return within(a, dir) }) {
					t.Errorf("%s imports %s, which only %v may", where, imp, f.allowed)
				}
			}
		}
	}
}

// within says whether path is pattern, or below it where that ends with a slash.
func within(pattern, path string) bool {
	if dir, ok := strings.CutSuffix(pattern, "/"); ok {
		return path == dir || strings.HasPrefix(path, pattern)
	}
	return path == pattern
}

// forbidden says why package from may not import package to, empty if it may.
func forbidden(from, to string) string {
	fromTop, fromRest, _ := strings.Cut(from, "/")
	toTop, toRest, _ := strings.Cut(to, "/")
	switch fromTop {
	case "cmd":
		if toTop == "cmd" && path.Dir(to) != "cmd/internal" {
			return "a program is imported by nobody"
		}
		return ""
	case "httpd":
		switch {
		case toTop == "engine":
			return ""
		case toTop == "httpd" && (fromRest == "" || to == "httpd/wire" && from != "httpd/wire"):
			return ""
		case strings.HasPrefix(to, from+"/"):
			return "" // what lies in a package's own folder is a part of it
		case from == "httpd/simnet", to == "httpd/simnet", to == "httpd/hubtest":
			return "" // test only: whole hubs and what the tests of APIs share
		}
		return "httpd imports engine, and inside httpd siblings share only wire"
	case "engine":
		if toTop != "engine" {
			return "engine imports nothing above it"
		}
		return inside(fromRest, toRest)
	case "firmware":
		if toTop == "firmware" {
			return ""
		}
	}
	return from + " imports nothing of ours"
}

// inside judges an import between packages of the engine.
func inside(from, to string) string {
	if from == "" || from == "sim" {
		return ""
	}
	f, ok := levels[from]
	if !ok {
		return "engine/" + from + " has no level: give it one in house"
	}
	l, ok := levels[to]
	switch {
	case !ok:
		return "engine/" + to + " has no level: give it one in house"
	case l > f:
		return "it lies at a higher level"
	case l == f && f >= 30:
		return "records and readers do not import each other"
	}
	return ""
}
