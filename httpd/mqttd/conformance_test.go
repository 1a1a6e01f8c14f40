package mqttd

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"hearth/engine/mqtt"
)

// statements counts the normative statements of MQTT 5 in each section, as the
// standard's appendix B numbers them; drafts before it had others. What is said
// of conformance as such has no number there. One that begins at 2 says so.
var statements = []struct {
	section     string
	first, last int
}{
	{"1.5.4", 1, 3}, {"1.5.5", 1, 1}, {"1.5.7", 1, 1}, {"2.1.3", 1, 1}, {"2.2.1", 2, 6}, {"2.2.2", 1, 1}, {"3.1.0", 1, 2},
	{"3.1.2", 1, 30}, {"3.1.3", 1, 12}, {"3.1.4", 1, 6}, {"3.2.0", 1, 2}, {"3.2.2", 1, 22}, {"3.3.1", 1, 13}, {"3.3.2", 1, 20},
	{"3.3.4", 1, 10}, {"3.4.2", 1, 3}, {"3.5.2", 1, 3}, {"3.6.1", 1, 1}, {"3.6.2", 1, 3}, {"3.7.2", 1, 3}, {"3.8.1", 1, 1},
	{"3.8.3", 1, 5}, {"3.8.4", 1, 8}, {"3.9.2", 1, 2}, {"3.9.3", 1, 2}, {"3.10.1", 1, 1}, {"3.10.3", 1, 2}, {"3.10.4", 1, 6},
	{"3.11.2", 1, 2}, {"3.11.3", 1, 2}, {"3.12.4", 1, 1}, {"3.14.0", 1, 1}, {"3.14.1", 1, 1}, {"3.14.2", 1, 4}, {"3.14.4", 1, 3},
	{"3.15.1", 1, 1}, {"3.15.2", 1, 3}, {"4.1.0", 1, 2}, {"4.2.0", 1, 1}, {"4.3.1", 1, 1}, {"4.3.2", 1, 5}, {"4.3.3", 1, 13},
	{"4.4.0", 1, 2}, {"4.5.0", 1, 2}, {"4.6.0", 1, 6}, {"4.7.0", 1, 1}, {"4.7.1", 1, 2}, {"4.7.2", 1, 1}, {"4.7.3", 1, 4},
	{"4.8.2", 1, 6}, {"4.9.0", 1, 3}, {"4.12.0", 1, 7}, {"4.12.1", 1, 2}, {"4.13.1", 1, 1}, {"4.13.2", 1, 1}, {"6.0.0", 1, 4},
}

// inChapters is how many of them each chapter has, and the standard of 7 March 2019
// in all.
var inChapters = map[string]int{"1": 5, "2": 7, "3": 175, "4": 60, "6": 4}

// exceptions are the statements without a script, and why.
var exceptions = map[string]string{
	"2.2.1-3": "binds clients", "3.1.2-20": "binds clients", "3.1.2-21": "binds clients", "3.1.2-30": "binds clients",
	"3.2.2-4": "binds clients", "3.2.2-5": "binds clients", "3.2.2-11": "binds clients", "3.2.2-14": "binds clients",
	"3.2.2-15": "binds clients", "3.2.2-17": "binds clients", "3.2.2-18": "binds clients", "3.2.2-21": "binds clients",
	"3.3.2-9": "binds clients", "3.3.2-10": "binds clients", "3.3.4-7": "binds clients", "3.3.4-8": "binds clients",
	"4.5.0-2": "binds clients", "4.6.0-1": "binds clients", "4.6.0-2": "binds clients", "4.6.0-3": "binds clients",
	"4.6.0-4": "binds clients", "4.12.0-3": "binds clients", "4.12.0-7": "binds clients", "4.12.1-1": "binds clients",
	"6.0.0-3": "binds clients",

	"3.2.2-9": "all QoS are supported", "3.2.2-10": "all QoS are supported", "3.2.2-12": "all QoS are supported",
	"3.2.2-13": "retained messages are supported",
	"3.3.4-5":  "one copy is sent, with all identifiers",
	"3.15.2-1": "no AUTH is ever sent", "3.15.2-2": "no AUTH is ever sent", "3.15.2-3": "no AUTH is ever sent",
	"4.12.0-2": "no AUTH is ever sent", "4.12.0-4": "no AUTH is ever sent", "4.12.0-5": "a CONNECT with a method is never let in",
	"4.12.1-2": "a CONNECT with a method is never let in, so nothing can be authenticated again",
}

// elsewhere are statements that tests beside the scripts look after.
var elsewhere = map[string]string{
	"6.0.0-1": "TestWebSocket", "6.0.0-2": "TestWebSocket", "6.0.0-4": "TestWebSocket",
	"3.1.2-22": "TestKeepAlive", "3.2.2-22": "TestKeepAlive",
	"4.2.0-1": "TestTLS", // besides TCP, on which all scripts run, and TestWebSocket
}

// clause is what some statements come to, in our words, with a script.
type clause struct {
	ids, says, script string
}

func TestConformance(t *testing.T) {
	h := start(t, mqtt.Options{Limits: mqtt.Limits{Inflight: 8}, May: func(_ mqtt.Identity, op mqtt.Op, topic string) bool {
		return !strings.HasPrefix(topic, "forbidden/")
	}}, Options{Packet: 20_000, TopicAliases: 4})
	all, count := map[string]bool{}, map[string]int{}
	for _, s := range statements {
		for n := s.first; n <= s.last; n++ {
			all[fmt.Sprintf("%s-%d", s.section, n)] = false
			chapter, _, _ := strings.Cut(s.section, ".")
			count[chapter]++
		}
	}
	if !maps.Equal(count, inChapters) || len(all) != 251 {
		t.Errorf("the chapters have %v statements, not %v", count, inChapters)
	}
	for _, id := range lawful {
		if _, ok := all[id]; !ok {
			t.Errorf("there is no statement %s", id)
		}
		all[id] = true
	}
	for _, c := range slices.Concat(connectClauses, publishClauses, subscribeClauses, sessionClauses) {
		for id := range strings.FieldsSeq(c.ids) {
			if _, ok := all[id]; !ok {
				t.Errorf("there is no statement %s", id)
			}
			all[id] = true
		}
		t.Run(strings.ReplaceAll(c.ids, " ", ",")+"/"+strings.ReplaceAll(c.says, " ", "_"), func(t *testing.T) {
			hh := *h
			hh.t = t
			hh.play(t, c.script)
		})
	}
	source, err := os.ReadFile("transport_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for id, name := range elsewhere {
		if _, ok := all[id]; !ok || !strings.Contains(string(source), "\nfunc "+name+"(t *testing.T) {") {
			t.Errorf("%s has no test %s", id, name)
		}
		all[id] = true
	}
	for id, why := range exceptions {
		if seen, ok := all[id]; !ok || seen || why == "" {
			t.Errorf("the exception %s is none: it is known: %v, covered: %v, and its reason is %q", id, ok, seen, why)
		}
		all[id] = true
	}
	for id, seen := range all {
		if !seen {
			t.Errorf("[MQTT-%s] has no script, and no exception says why", id)
		}
	}
}
