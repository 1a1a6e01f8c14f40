package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"hearth/cmd/internal/client"
	"hearth/cmd/internal/mqttclient"
)

const subHelp = `hearth sub -r ROOM [flags]
hearth sub --mqtt HOST:PORT --topic FILTER... [flags]

Prints the events sent into a room, or the messages of topics, from now on, one a line, until it is interrupted. When
the server was away it goes on where it was, with what came meanwhile.

What to print:
      --json             the content of each event as JSON; by MQTT the payload, which is a string where it is no JSON
      --event            the whole event as JSON; by MQTT topic, payload, qos and retain
  -v, --verbose          sender and type before each text; by MQTT the topic
  -t, --type TYPE        only events of this type; may be repeated, and end in *. Without it: all but state events
      --past N           begin with the last N events, at most 100
  -n, --count N          end after N events or messages

Without --json and --event it prints the body of a text and the content of all else; control characters are escaped.
With --timeout and no --count the end of the time is a success.

` + reachHelp + "\n" + exitHelp + `
Examples:
  hearth sub -u bob -r '#lights:hub'
  hearth sub --token-file t -r '#log:hub' --json -t org.example.reading | jq .celsius
  hearth sub --mqtt hub.local -u porch --password-file s --topic 'porch/#' -v
`

// subscriber is one run of hearth sub.
type subscriber struct {
	*reach
	json, event, verbose bool
	types                []string
	past, count          int

	out     *bufio.Writer
	printed int
}

func sub(args []string, s streams) int {
	r, fs := newReach("sub", s)
	p := &subscriber{reach: r, out: bufio.NewWriter(s.out)}
	fs.BoolVar(&p.json, "json", false, "")
	fs.BoolVar(&p.event, "event", false, "")
	fs.BoolVar(&p.verbose, "v", false, "")
	fs.BoolVar(&p.verbose, "verbose", false, "")
	add := func(typ string) error {
		if typ == "" {
			return errors.New("must not be empty")
		}
		p.types = append(p.types, typ)
		return nil
	}
	fs.Func("t", "", add)
	fs.Func("type", "", add)
	fs.IntVar(&p.past, "past", 0, "")
	fs.IntVar(&p.count, "n", 0, "")
	fs.IntVar(&p.count, "count", 0, "")
	return r.run(subHelp, func() error {
		if err := r.parse(fs, args); err != nil {
			return err
		}
		switch {
		case p.json && p.event:
			return usage("give --json or --event, not both")
		case p.mqtt != "" && p.past != 0:
			return usage("--past goes with a room: a topic has a retained message at most")
		case p.past < 0 || p.past > 100:
			return usage("--past must be 0 to 100")
		case p.count < 0:
			return usage("--count must not be negative")
		}
		if p.mqtt != "" {
			p.topics = append(p.topics, p.types...) // -t, which is the topic to everybody who knows MQTT
			return p.someFilters()
		}
		return nil
	}, p.subscribe)
}

func (p *subscriber) subscribe(ctx context.Context) error {
	if p.mqtt != "" {
		return p.subscribeTopics(ctx)
	}
	c, end, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer end()
	room, err := p.enter(ctx, c)
	if err != nil {
		return p.explain(err, exitRoom)
	}
	err = c.Follow(ctx, client.Feed{
		Room:  room,
		Types: p.types,
		Past:  p.past,
		Ready: func() { p.remark("following " + room) },
	}, p.print)
	if errors.Is(err, client.ErrLeft) {
		return &failure{exitRoom, err}
	}
	return p.ended(err, "events")
}

// ended turns what following ended with into what the command ends with.
func (p *subscriber) ended(err error, what string) error {
	switch {
	case p.count == 0 && over(err):
		return nil
	case err != nil && p.count > 0:
		return p.explain(fmt.Errorf("%w; %d of %d %s came", err, p.printed, p.count, what), exitRefused)
	}
	return p.explain(err, exitRefused)
}

// subscribeTopics follows topics.
func (p *subscriber) subscribeTopics(ctx context.Context) error {
	c, err := p.session()
	if err != nil {
		return err
	}
	defer c.Close(p.device == "")
	err = c.Follow(ctx, p.topics, byte(p.qos), func() { p.remark("following " + strings.Join(p.topics, " ")) }, func(m mqttclient.Message) error {
		p.message(&m)
		if err := p.out.Flush(); err != nil {
			return &failure{exitLocal, err}
		}
		if p.printed++; p.printed == p.count {
			return mqttclient.ErrStop
		}
		return nil
	})
	return p.ended(err, "messages")
}

// seen is a message as --event prints it.
type seen struct {
	Topic   string          `json:"topic"`
	QoS     byte            `json:"qos"`
	Retain  bool            `json:"retain"`
	Payload json.RawMessage `json:"payload,omitempty"`
	Bytes   []byte          `json:"payload_base64,omitempty"` // of one that is no text
}

// message writes one message.
func (p *subscriber) message(m *mqttclient.Message) {
	value, isText := json.RawMessage(nil), utf8.Valid(m.Payload)
	if isText && json.Valid(m.Payload) {
		value = m.Payload
	} else if quoted, err := json.Marshal(string(m.Payload)); err == nil {
		value = quoted
	}
	switch {
	case p.event:
		s := seen{Topic: m.Topic, QoS: m.QoS, Retain: m.Retain, Payload: value}
		if !isText {
			s.Payload, s.Bytes = nil, m.Payload
		}
		if line, err := json.Marshal(s); err == nil {
			p.compact(line)
		}
	case p.json:
		p.compact(value)
	default:
		if p.verbose {
			p.out.WriteString(printable(m.Topic) + " ")
		}
		p.out.WriteString(printable(string(m.Payload)))
	}
	p.out.WriteByte('\n')
}

// enter gives the room's id once the user is in it.
func (p *subscriber) enter(ctx context.Context, c *client.Client) (string, error) {
	room, err := p.find(ctx, c)
	if err != nil {
		return "", err
	}
	in, err := c.Member(ctx, room)
	if err != nil || in {
		return room, err
	}
	// By the name that was given: an alias tells the server which others know the room.
	return c.Join(ctx, p.room)
}

// print writes one event. Each is flushed: whoever reads the pipe wants it now.
func (p *subscriber) print(e client.Event) error {
	if len(p.types) == 0 && e.State != nil {
		return nil
	}
	p.line(e)
	if err := p.out.Flush(); err != nil {
		return &failure{exitLocal, err}
	}
	p.printed++
	if p.printed == p.count {
		return client.ErrStop
	}
	return nil
}

func (p *subscriber) line(e client.Event) {
	switch {
	case p.event:
		p.compact(e.Raw)
	case p.json:
		p.compact(e.Content)
	default:
		if p.verbose {
			p.out.WriteString(printable(e.Sender) + " " + printable(e.Type) + " ")
		}
		var text struct {
			Body *string `json:"body"`
		}
		if json.Unmarshal(e.Content, &text) == nil && text.Body != nil {
			p.out.WriteString(printable(*text.Body))
		} else {
			p.compact(e.Content)
		}
	}
	p.out.WriteByte('\n')
}

// compact writes JSON on one line.
func (p *subscriber) compact(src []byte) {
	var b bytes.Buffer
	if json.Compact(&b, src) == nil {
		p.out.WriteString(printable(b.String()))
	}
}

// printable keeps a text on one line and from steering the terminal: what others wrote is not trusted with it. The
// escapes are those of JSON, so that JSON stays what it was.
func printable(s string) string {
	if strings.IndexFunc(s, steers) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case !steers(r):
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// steers reports control characters, and the marks that turn the direction of writing for what follows them.
func steers(r rune) bool {
	return r != '\t' && unicode.IsControl(r) || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 ||
		r == 0x2028 || r == 0x2029
}
