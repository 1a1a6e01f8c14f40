package stateres

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hearth/engine/auth"
	"hearth/engine/event"
	"hearth/engine/mxid"
)

var rewrite = flag.Bool("rewrite", false, "write what the scripts in testdata give into them")

// A script draws a room line by line:
//
//	version 10
//	NAME TYPE KEY SENDER CONTENT [prev=A,B] [auth=A,B] [at=TIME] [depth=N] [bad] [rejected]
//	state NAME A B C
//	resolve [v1|v2|v2.1] NAME NAME...
//
// TYPE is short for m.room.TYPE, or "power" and "rules". KEY is "." for an empty
// state key and "-" for none. Users are of server "test" where they name none.
// CONTENT is a membership, a join rule, levels as "alice=100,topic=50,ban=50" or any
// word. Without prev an event follows the line before; without auth it names what
// it has to in the state before it. Every event has to be allowed there, unless it is
// "bad", and a bad one has to be refused; "rejected" is bad and known to be.
//
// resolve joins the states after events, or states made of events by name. What it
// gives stands below it, up to an empty line.
type script struct {
	v      *event.Version
	room   mxid.RoomID
	events map[mxid.EventID]*event.Event
	after  map[string]State // by event or state name
	bad    map[mxid.EventID]bool
	last   string
	time   int64
}

func newScript(version string) *script {
	s := &script{
		v: event.LookupVersion(version), room: "!room:test", events: make(map[mxid.EventID]*event.Event),
		after: make(map[string]State), bad: make(map[mxid.EventID]bool),
	}
	if s.v != nil && s.v.RoomIDIsCreate {
		s.room = "!CREATE"
	}
	return s
}

func (s *script) lookup(id mxid.EventID) *event.Event { return s.events[id] }

func (s *script) resolver(res event.StateRes) *Room {
	v := *s.v
	v.Res = res
	return &Room{Version: &v, Lookup: s.lookup, Rejected: func(id mxid.EventID) bool { return s.bad[id] }}
}

func user(name string) string {
	if strings.HasPrefix(name, "@") && !strings.Contains(name, ":") {
		return name + ":test"
	}
	return name
}

func longType(short string) string {
	switch short {
	case "power":
		return typePowerLevels
	case "rules":
		return typeJoinRules
	}
	return "m.room." + short
}

// content spells a word of the script out.
func content(v *event.Version, typ, sender, word string) string {
	switch typ {
	case typeCreate:
		if word != "." {
			return `{"additional_creators":["` + user(word) + `"]}`
		}
		if v.ImplicitCreator {
			return `{}`
		}
		return `{"creator":"` + sender + `"}`
	case typeMember:
		return `{"membership":"` + word + `"}`
	case typeJoinRules:
		return `{"join_rule":"` + word + `"}`
	case typePowerLevels:
		return levels(word)
	}
	return `{"body":"` + word + `"}`
}

func levels(word string) string {
	var single, events, users []string
	for _, part := range strings.Split(word, ",") {
		name, val, _ := strings.Cut(part, "=")
		switch {
		case strings.Contains(" users_default events_default state_default invite kick ban redact ", " "+name+" "):
			single = append(single, `"`+name+`":`+val)
		case strings.HasPrefix(name, "@"):
			users = append(users, `"`+user(name)+`":`+val)
		default:
			events = append(events, `"`+longType(name)+`":`+val)
		}
	}
	single = append(single, `"events":{`+strings.Join(events, ",")+`}`, `"users":{`+strings.Join(users, ",")+`}`)
	return `{` + strings.Join(single, ",") + `}`
}

// add takes an event line.
func (s *script) add(line string) error {
	f := strings.Fields(line)
	if len(f) < 5 {
		return fmt.Errorf("short line")
	}
	name := f[0]
	s.time++
	e := &event.Event{
		Version: s.v, ID: mxid.EventID("$" + name), Room: s.room, Type: longType(f[1]), Sender: mxid.UserID(user(f[3])),
		Time: s.time, JSON: []byte("{}"),
	}
	e.Content = []byte(content(s.v, e.Type, string(e.Sender), f[4]))
	if f[2] != "-" {
		e.IsState, e.StateKey = true, strings.TrimPrefix(user(f[2]), ".")
	}
	prev, authBy, bad := []string{s.last}, []string(nil), false
	if e.Type == typeCreate {
		prev = nil
	}
	for _, opt := range f[5:] {
		key, val, _ := strings.Cut(opt, "=")
		switch key {
		case "prev":
			prev = strings.Split(val, ",")
		case "auth":
			authBy = strings.Split(val, ",")
		case "at":
			e.Time, _ = strconv.ParseInt(val, 10, 64)
		case "depth":
			e.Depth, _ = strconv.ParseInt(val, 10, 64)
		case "bad", "rejected":
			bad = true
			s.bad[e.ID] = key == "rejected"
		default:
			return fmt.Errorf("unknown option %s", opt)
		}
	}
	return s.place(name, e, prev, authBy, bad)
}

// place puts an event into the graph and keeps the state after it.
func (s *script) place(name string, e *event.Event, prev, authBy []string, bad bool) error {
	var sets []State
	depth := int64(0)
	for _, p := range prev {
		after, ok := s.after[p]
		if !ok {
			return fmt.Errorf("no event or state %s", p)
		}
		sets = append(sets, after)
		e.Prev = append(e.Prev, mxid.EventID("$"+p))
		if pe := s.events[mxid.EventID("$"+p)]; pe != nil {
			depth = max(depth, pe.Depth+1)
		}
	}
	if e.Depth == 0 {
		e.Depth = depth
	}
	before := s.resolver(s.v.Res).Resolve(sets)
	for _, key := range auth.NeededFor(e) {
		if id, ok := before[key]; ok && authBy == nil {
			e.Auth = append(e.Auth, id)
		}
	}
	for _, a := range authBy {
		if s.events[mxid.EventID("$"+a)] == nil {
			return fmt.Errorf("no event %s", a)
		}
		e.Auth = append(e.Auth, mxid.EventID("$"+a))
	}
	err := auth.Check(e, func(typ, stateKey string) *event.Event {
		return s.events[before[auth.Key{Type: typ, StateKey: stateKey}]]
	})
	if err != nil && !bad {
		return err
	}
	if err == nil && bad {
		return fmt.Errorf("%s is allowed", name)
	}
	s.events[e.ID] = e
	after := State{}
	for key, id := range before {
		after[key] = id
	}
	if e.IsState && !s.bad[e.ID] {
		after[auth.Key{Type: e.Type, StateKey: e.StateKey}] = e.ID
	}
	s.after[name], s.last = after, name
	return nil
}

// set makes a state of named events.
func (s *script) set(f []string) error {
	state := State{}
	for _, name := range f[1:] {
		e := s.events[mxid.EventID("$"+name)]
		if e == nil {
			return fmt.Errorf("no event %s", name)
		}
		state[auth.Key{Type: e.Type, StateKey: e.StateKey}] = e.ID
	}
	s.after[f[0]] = state
	return nil
}

// resolve joins states by name and draws the result. It tries the sets in other
// orders too.
func (s *script) resolve(f []string) (string, error) {
	room := s.resolver(s.v.Res)
	switch f[0] {
	case "v1":
		room, f = s.resolver(event.ResV1), f[1:]
	case "v2":
		room, f = s.resolver(event.ResV2), f[1:]
	case "v2.1":
		room, f = s.resolver(event.ResV21), f[1:]
	}
	var sets []State
	for _, name := range f {
		after, ok := s.after[name]
		if !ok {
			return "", fmt.Errorf("no state %s", name)
		}
		sets = append(sets, after)
	}
	out := s.draw(room.Resolve(sets))
	for range 4 {
		rand.Shuffle(len(sets), func(i, j int) { sets[i], sets[j] = sets[j], sets[i] })
		if again := s.draw(room.Resolve(sets)); again != out {
			return "", fmt.Errorf("another order of the sets gives another state:\n%s\n%s", out, again)
		}
	}
	return out, nil
}

func (s *script) draw(state State) string {
	var lines []string
	for key, id := range state {
		short := strings.TrimPrefix(key.Type, "m.room.")
		lines = append(lines, strings.TrimSpace(short+" "+strings.TrimSuffix(key.StateKey, ":test"))+" = "+string(id[1:])+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// runScript gives the script back with what its commands gave.
func runScript(text string) (string, error) {
	var out strings.Builder
	s := newScript("2")
	skip := false
	for i, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		if skip = skip && line != ""; skip {
			continue
		}
		out.WriteString(line + "\n")
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		var err error
		switch {
		case len(f) == 0:
		case f[0] == "version":
			s = newScript(f[1])
		case f[0] == "state":
			err = s.set(f[1:])
		case f[0] == "resolve":
			var got string
			got, err = s.resolve(f[1:])
			out.WriteString(got)
			skip = true
		default:
			err = s.add(line)
		}
		if err != nil {
			return "", fmt.Errorf("line %d: %s: %w", i+1, line, err)
		}
	}
	return out.String(), nil
}

func TestScripts(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txt")
	if len(files) == 0 {
		t.Fatal("no scripts")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, err := runScript(string(text))
			if err != nil {
				t.Fatal(err)
			}
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(text) {
				t.Errorf("%s gives:\n%s", file, got)
			}
		})
	}
}
