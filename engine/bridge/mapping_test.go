package bridge

import (
	"fmt"
	"strings"
	"testing"

	"hearth/engine/fault"
)

func parse(t *testing.T, text string) *Mapping {
	t.Helper()
	m, err := ParseMapping([]byte(text), "here")
	if err != nil {
		t.Fatal(text, err)
	}
	return m
}

func TestTemplates(t *testing.T) {
	for _, c := range []struct{ mapping, topic, want string }{
		{`{"topic":"{area}/{thing}/state","room":"#{area}:hub","mode":"event","type":"io.{thing}.{2}","state_key":"{topic}"}`, "attic/lamp/state", "#attic:hub io.lamp.lamp attic/lamp/state"},
		{`{"topic":"+/x/#","room":"#r-{1}-{2}:hub","mode":"event"}`, "A b/x/c/d", "#r-a=20b-c/d:hub io.hearth.event "},
		{`{"topic":"a","room":"!r:hub","mode":"shadow"}`, "a", "!r:hub io.hearth.shadow a"},
	} {
		m := parse(t, c.mapping)
		got := fmt.Sprint(m.expand(m.Room, c.topic), " ", m.expand(m.Type, c.topic), " ", m.expand(m.StateKey, c.topic))
		if got != c.want {
			t.Errorf("%s on %s: %s", c.mapping, c.topic, got)
		}
	}
}

func TestBadMappings(t *testing.T) {
	for _, c := range []struct{ mapping, want string }{
		{`{"topic":"a","mode":"event"}`, "needs a room"}, {`{"topic":"a/#/b","mode":"local"}`, "#"}, {`{"topic":"a","mode":"x"}`, "the mode"},
		{`{"topic":"a","room":"house","mode":"event"}`, "neither"}, {`{"topic":"a","room":"#h:x","mode":"event","type":"{y}"}`, "no level"},
		{`{"topic":"a","mode":"local","colour":1}`, "colour"}, {`{"topic":"$SYS/x","mode":"local"}`, "own"}, {`{`, "here"},
		{`{"topic":"a","room":"#h:x","mode":"shadow","interval":"1"}`, "interval"}, {`{"topic":"{a/b","mode":"local"}`, "{name}"},
		{`{"topic":"a","room":"#{1:x","mode":"event"}`, "no level"},
		{`{"topic":"a","room":"#h:x","mode":"shadow","changes":true}`, "changes goes"}, {`{"topic":"a","room":"#h:x","mode":"event","hide":["b"]}`, "hide goes"},
		{`{"topic":"a","room":"#h:x","mode":"shadow","hide":[1]}`, "here"},
	} {
		_, err := ParseMapping([]byte(c.mapping), "here")
		if err == nil || !strings.Contains(err.Error(), c.want) || !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.BadJSON) {
			t.Errorf("%s: %v", c.mapping, err)
		}
	}
}

func TestFirstTopic(t *testing.T) {
	for _, c := range [][3]string{
		{"z/+/set", `z/lamp/set {"state": "ON"}`, "z/lamp/set"}, {"z/+/set", "z/desk lamp/set ON", "z/desk lamp/set"}, {"cmnd/+/+", "cmnd/x/POWER ON", "cmnd/x/POWER"},
		{"z/+/set", "z/lamp/set", ""}, {"z/+/set", "hello there", ""}, {"z/+/set", "", ""}, {"z/+/set", "z/+/set x", ""}, {"#", " x", ""}, {"#", "a\x00 b", ""},
	} {
		if got, ok := firstTopic(c[0], c[1]); got != c[2] || ok != (got != "") {
			t.Errorf("%s: %q", c[1], got)
		}
	}
}

func TestHidden(t *testing.T) {
	m := parse(t, `{"topic":"a","room":"#h:x","mode":"shadow","hide":["rssi","b"]}`)
	for val, want := range map[string]string{`{"rssi":1,"on":true,"b":{},"c":{"rssi":2}}`: `{"on":true,"c":{"rssi":2}}`, `{"b":1}`: `{}`, `"rssi"`: `"rssi"`, ` [1]`: ` [1]`} {
		if got := string(visible(m, []byte(val))); got != want {
			t.Errorf("%s: %s", val, got)
		}
	}
}

func TestMostSpecificWins(t *testing.T) {
	var list []*Mapping
	for _, filter := range []string{"#", "a/+", "a/b", "a/#", "+/b", "{x}/b"} {
		list = append(list, parse(t, `{"topic":"`+filter+`","mode":"local"}`))
	}
	tab := newTable(list)
	for topic, want := range map[string]string{"a/b": "a/b", "a/c": "a/+", "a/c/d": "a/#", "x/b": "+/b", "x": "#", "a": "a/#"} {
		if m := tab.find(topic); m == nil || m.Topic != want {
			t.Errorf("%s: %+v", topic, m)
		}
	}
	if len(tab.faults) != 1 || !strings.Contains(tab.faults[0], "{x}/b is mapped") {
		t.Errorf("%q", tab.faults)
	}
}

func TestContent(t *testing.T) {
	for _, c := range []struct{ typ, payload, want, back string }{
		{"x", `{"a":1}`, `{"a":1,"io.hearth.topic":"t"}`, ""},
		{"x", `{"a":1.5}`, `{"payload":"{\"a\":1.5}","encoding":"json","io.hearth.topic":"t"}`, `{"a":1.5}`},
		{"x", "on", `{"payload":"on","io.hearth.topic":"t"}`, "on"},
		{"x", "\xff", `{"payload":"/w==","encoding":"base64","io.hearth.topic":"t"}`, "\xff"},
		{"x", "", `{"payload":"","io.hearth.topic":"t"}`, ""},
		{"x", ` {} `, `{"io.hearth.topic":"t"}`, ""},
		{"m.room.message", "on", `{"msgtype":"m.text","body":"on","io.hearth.topic":"t"}`, "on"},
		{"m.room.message", `{"body":"x"}`, `{"body":"x","msgtype":"m.text","io.hearth.topic":"t"}`, "x"},
		{"m.room.message", `{"t":2}`, `{"msgtype":"m.text","body":"{\"t\":2}","io.hearth.topic":"t"}`, `{"t":2}`},
	} {
		got := content(c.typ, "t", []byte(c.payload))
		if string(got) != c.want {
			t.Errorf("%q: %s", c.payload, got)
		}
		if c.back == "" {
			continue
		}
		if back, ok := payloadOf(c.typ, got); !ok || string(back) != c.back {
			t.Errorf("%s came back as %q", got, back)
		}
	}
}
