package bridge

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/topic"
)

// Mode says how much of Matrix a topic needs.
type Mode string

// The modes.
const (
	Local     Mode = "local"     // plain publish and subscribe
	Shadow    Mode = "shadow"    // the last state, outside of the room, and a state event now and then
	Telemetry Mode = "telemetry" // samples kept for a while, and a digest now and then
	Event     Mode = "event"     // one room event each
	Command   Mode = "command"   // from the room to the thing, and its answer back
)

// Bounds of mappings.
const (
	maxMappings   = 256
	maxRetainDays = 3650
	leastInterval = time.Second
	maxInterval   = 24 * time.Hour
	maxHidden     = 32
)

// Mapping ties the topics of a filter to a room. It is written in the owner's
// file and as state events of the control room, in the same words.
//
// A level {name} of the filter matches any one level and gives it a name; + does
// too and is named by its number. Room, type and state key are templates: {name}
// and {1} are replaced by the level, {topic} by the topic.
type Mapping struct {
	Name     string   `json:"name,omitempty" toml:"name"`
	Topic    string   `json:"topic" toml:"topic"`
	Room     string   `json:"room,omitempty" toml:"room"` // id, alias, or a template of one; not for local
	Mode     Mode     `json:"mode" toml:"mode"`
	Type     string   `json:"type,omitempty" toml:"type"`
	StateKey string   `json:"state_key,omitempty" toml:"state_key"`
	Interval string   `json:"interval,omitempty" toml:"interval"` // as 30s or 15m
	Hide     []string `json:"hide,omitempty" toml:"hide"`         // mode shadow: members of a state that the room is not shown, nor their changes
	Retain   int      `json:"retain_days,omitempty" toml:"retain_days"`
	Create   bool     `json:"create,omitempty" toml:"create"`     // make the room where its alias is free
	Joins    *bool    `json:"join,omitempty" toml:"join"`         // whether the hub lets things into the room; it does
	Alert    bool     `json:"alert,omitempty" toml:"alert"`       // a last will mentions the whole room
	Changes  bool     `json:"changes,omitempty" toml:"changes"`   // mode event: a retained message that says what is retained already makes none
	AlertIn  string   `json:"alert_in,omitempty" toml:"alert_in"` // how long a last will waits for the thing's return
	Origin   string   `json:"-" toml:"-"`                         // where it stands, for messages

	// By is who wrote it: it leads to rooms that they are in, and what power it
	// needs is theirs to give. Empty: it stands in the file, and is the owner's.
	By mxid.UserID `json:"-" toml:"-"`

	filter   string
	names    []string // of the captures, in order; empty: none but its number
	interval time.Duration
	alertIn  time.Duration
}

// Types of events that a mapping makes where it names none.
const (
	typeEvent   = "io.hearth.event"
	typeShadow  = "io.hearth.shadow"
	typeDigest  = "io.hearth.digest"
	typeCommand = "io.hearth.command"
	typeReply   = "io.hearth.reply"
	typeMessage = "m.room.message"
	typeMapping = "io.hearth.mapping"
	typeDesired = "io.hearth.shadow.desired"
	typePublish = "io.hearth.publish"
)

// ParseMapping reads a mapping as it stands in a state event. Unknown members are
// refused: a setting that is silently ignored is found out on the worst day.
func ParseMapping(content []byte, origin string) (*Mapping, error) {
	m := &Mapping{}
	d := json.NewDecoder(strings.NewReader(string(content)))
	d.DisallowUnknownFields()
	if err := d.Decode(m); err != nil {
		return nil, fault.E(fault.BadJSON, "bridge.ParseMapping", "%s: %w", origin, err)
	}
	m.Origin = origin
	return m, m.Check()
}

// Check judges a mapping by itself, and completes it.
func (m *Mapping) Check() error {
	bad := func(format string, args ...any) error {
		return fault.E(fault.Invalid, "bridge.Mapping", "%s: %s", m.Origin, fmt.Sprintf(format, args...))
	}
	m.names = nil
	levels := strings.Split(m.Topic, "/")
	for i, l := range levels {
		name, named := strings.CutPrefix(l, "{")
		if named {
			if name, named = strings.CutSuffix(name, "}"); !named || name == "" {
				return bad("%q of the topic is no {name}", l)
			}
			levels[i] = "+"
		}
		if levels[i] == "+" || levels[i] == "#" {
			m.names = append(m.names, name)
		}
	}
	m.filter = strings.Join(levels, "/")
	if err := topic.CheckFilter(m.filter); err != nil {
		return bad("the topic %q: %v", m.Topic, err)
	}
	if strings.HasPrefix(m.filter, "$") {
		return bad("topics that begin with $ are the hub's own")
	}
	switch m.Mode {
	case Local, Event, Command:
	case Shadow, Telemetry:
		m.interval = time.Minute
		if m.Mode == Telemetry {
			m.interval = 15 * time.Minute
		}
	default:
		return bad("the mode %q is none of local, shadow, telemetry, event and command", m.Mode)
	}
	if err := m.durations(); err != nil {
		return bad("%v", err)
	}
	if m.Retain < 0 || m.Retain > maxRetainDays {
		return bad("retain_days is at most %d", maxRetainDays)
	}
	if m.Room == "" && m.Mode != Local && m.Mode != Telemetry {
		return bad("the mode %s needs a room", m.Mode)
	}
	if m.Type == "" {
		m.Type = map[Mode]string{Event: typeEvent, Shadow: typeShadow, Telemetry: typeDigest, Command: typeMessage}[m.Mode]
	}
	if err := forbidden(m, m.Type); err != nil {
		return err
	}
	if m.Mode == Shadow && m.StateKey == "" {
		m.StateKey = "{topic}"
	}
	switch {
	case m.Changes && m.Mode != Event:
		return bad("changes goes with the mode event only")
	case len(m.Hide) > 0 && m.Mode != Shadow:
		return bad("hide goes with the mode shadow only")
	case len(m.Hide) > maxHidden:
		return bad("hide names more than %d members", maxHidden)
	}
	return m.checkTemplates(bad)
}

// forbidden refuses types of events that say what a room is and who may do what
// there: no topic is to make these, by whosever power.
func forbidden(m *Mapping, typ string) error {
	if !strings.HasPrefix(typ, "m.room.") || m.Mode == Command {
		return nil
	}
	switch typ {
	case typeMessage, "m.room.name", "m.room.topic", "m.room.avatar", "m.room.pinned_events":
		return nil
	}
	return fault.E(fault.Invalid, "bridge.Mapping", "%s: no mapping makes events of type %s", m.Origin, typ)
}

// durations reads the intervals.
func (m *Mapping) durations() error {
	for _, d := range [...]struct {
		name, text string
		to         *time.Duration
	}{{"interval", m.Interval, &m.interval}, {"alert_in", m.AlertIn, &m.alertIn}} {
		if d.text == "" {
			continue
		}
		v, err := time.ParseDuration(d.text)
		if err != nil || v < leastInterval || v > maxInterval {
			return fmt.Errorf("%s is %q and no time from 1s to 24h", d.name, d.text)
		}
		*d.to = v
	}
	return nil
}

// checkTemplates refuses templates that name levels there are not.
func (m *Mapping) checkTemplates(bad func(string, ...any) error) error {
	for _, text := range []string{m.Room, m.Type, m.StateKey} {
		for rest := text; ; {
			_, after, found := strings.Cut(rest, "{")
			if !found {
				break
			}
			name, behind, closed := strings.Cut(after, "}")
			if !closed || name != "topic" && m.capture(name) < 0 {
				return bad("{%s in %q names no level of the topic %s", name, text, m.Topic)
			}
			rest = behind
		}
	}
	if m.Room != "" && !strings.Contains(m.Room, "{") && m.Room[0] != '!' && m.Room[0] != '#' {
		return bad("the room %q is neither a room id nor an alias", m.Room)
	}
	return nil
}

// capture is the place of a named or numbered level; -1 where there is none.
func (m *Mapping) capture(name string) int {
	for i, n := range m.names {
		if n == name && n != "" || strconv.Itoa(i+1) == name {
			return i
		}
	}
	return -1
}

// fixed says whether all topics of the mapping have one room.
func (m *Mapping) fixed() bool { return !strings.Contains(m.Room, "{") }

func (m *Mapping) joins() bool { return m.Joins == nil || *m.Joins }

// expand fills a template for a topic, which the filter matches. Levels that
// stand in an alias are made into what an alias may hold.
func (m *Mapping) expand(template, name string) string {
	if !strings.Contains(template, "{") {
		return template
	}
	levels, _ := topic.Captures(m.filter, name)
	alias := strings.HasPrefix(template, "#")
	var b strings.Builder
	for {
		before, after, found := strings.Cut(template, "{")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		var key string
		key, template, _ = strings.Cut(after, "}")
		val := name
		if key != "topic" {
			val = ""
			if i := m.capture(key); i >= 0 && i < len(levels) {
				val = levels[i]
			}
		}
		if alias {
			val = mxid.MapLocalpart(val)
		}
		b.WriteString(val)
	}
}

// table is all mappings, the most specific first. It is never written to.
type table struct {
	inbound  []*Mapping // what becomes of a message of a thing
	commands []*Mapping
	faults   []string // what is wrong with mappings that are left out
}

// newTable sorts mappings and names those that contradict each other. Of two for
// the same topics the first counts: the owner's file comes before the control room.
func newTable(list []*Mapping) *table {
	t := &table{}
	for _, m := range list {
		to := &t.inbound
		if m.Mode == Command {
			to = &t.commands
		}
		if len(t.inbound)+len(t.commands) >= maxMappings {
			t.faults = append(t.faults, fmt.Sprintf("%s: left out, there are more than %d mappings", m.Origin, maxMappings))
			continue
		}
		at, clash := 0, false
		for ; at < len(*to); at++ {
			o := (*to)[at]
			if o.filter == m.filter && (m.Mode != Command || o.Room == m.Room) {
				t.faults = append(t.faults, fmt.Sprintf("%s: the topic %s is mapped in %s already", m.Origin, m.Topic, o.Origin))
				clash = true
				break
			}
			if topic.Compare(m.filter, o.filter) < 0 {
				break
			}
		}
		if !clash {
			*to = append((*to)[:at], append([]*Mapping{m}, (*to)[at:]...)...)
		}
	}
	return t
}

// find gives the mapping of a topic; nil where it has none.
func (t *table) find(name string) *Mapping {
	for _, m := range t.inbound {
		if topic.Match(m.filter, name) {
			return m
		}
	}
	return nil
}

// any gives the mapping whose room says who may use a topic: the one of its
// messages, else the one of commands to it.
func (t *table) any(name string) *Mapping {
	if m := t.find(name); m != nil {
		return m
	}
	for _, m := range t.commands {
		if topic.Match(m.filter, name) || topic.Match(m.filter, strings.TrimSuffix(name, replySuffix)) {
			return m
		}
	}
	return nil
}
