package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"hearth/cmd/internal/client"
	"hearth/cmd/internal/mqttclient"
)

// maxLine is a little above the largest event there is (64 KiB), so that the server's word on it is heard.
const maxLine = 128 << 10

const pubHelp = `hearth pub -r ROOM [-m MESSAGE] [flags]
hearth pub --mqtt HOST:PORT --topic TOPIC [-m MESSAGE] [flags]

Sends events into a room, or messages to a topic: the one of -m, or one for each line of standard input that is not
empty, in their order. Each is sent until the server has it on disk: while the server is away it is tried again with
the same transaction id, so that nothing is lost and nothing doubled. By MQTT that is so with --qos 2; with 1 a message
may come twice, with 0 it may get lost.

What to send:
  -m, --message TEXT     one event or message with this text
      --retain           by MQTT: the message is the topic's last word, for those who subscribe later; empty: it has none

What to send into a room:
      --json             the text is the event's content, a JSON object
  -t, --type TYPE        event type, default m.room.message; other types take plain text as {"body": TEXT}
      --state-key KEY    send a state event, which replaces the last one of its type and key
      --ids              print the id of each event
` + "\n" + reachHelp + "\n" + exitHelp + `
Examples:
  hearth pub -u alice -r '#lights:hub' -m 'on'
  sensor | hearth pub --token-file t -r '#log:hub' --json -t org.example.reading
  hearth pub --mqtt hub.local -u porch --password-file s --topic porch/temperature --retain -m 21.5
`

// publisher is one run of hearth pub.
type publisher struct {
	*reach
	message string
	given   bool // -m was, be it empty
	json    bool
	typ     string
	state   *string
	ids     bool
	retain  bool

	mq     *mqttclient.Client
	c      *client.Client
	roomID string
	tried  bool // joining
	sent   int
}

func pub(args []string, s streams) int {
	r, fs := newReach("pub", s)
	p := &publisher{reach: r}
	take := func(text string) error { p.message, p.given = text, true; return nil }
	fs.Func("m", "", take)
	fs.Func("message", "", take)
	fs.BoolVar(&p.json, "json", false, "")
	fs.StringVar(&p.typ, "t", usualType, "")
	fs.StringVar(&p.typ, "type", usualType, "")
	fs.Func("state-key", "", func(key string) error { p.state = &key; return nil })
	fs.BoolVar(&p.ids, "ids", false, "")
	fs.BoolVar(&p.retain, "retain", false, "")
	return r.run(pubHelp, func() error {
		if err := r.parse(fs, args); err != nil {
			return err
		}
		switch {
		case r.mqtt != "":
			return p.checkMessage()
		case p.retain:
			return usage("--retain goes with --mqtt")
		case p.typ == "":
			return usage("--type must not be empty")
		}
		return nil
	}, p.publish)
}

// usualType is that of events where none is given.
const usualType = "m.room.message"

// checkMessage checks what there is by MQTT besides the rest.
func (p *publisher) checkMessage() error {
	if p.json || p.ids || p.state != nil {
		return usage("--json, --ids and --state-key go with a room")
	}
	if p.typ != usualType { // -t, which is the topic to everybody who knows MQTT
		p.topics = append(p.topics, p.typ)
	}
	return p.oneTopic()
}

func (p *publisher) publish(ctx context.Context) error {
	if p.mqtt != "" {
		var err error
		if p.mq, err = p.session(); err != nil {
			return err
		}
		defer p.mq.Close(p.device == "")
		return p.all(ctx)
	}
	c, end, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer end()
	p.c = c
	if p.roomID, err = p.find(ctx, c); err != nil {
		return err
	}
	return p.all(ctx)
}

func (p *publisher) all(ctx context.Context) error {
	if p.given {
		return p.send(ctx, []byte(p.message))
	}
	return p.lines(ctx)
}

// lines sends standard input line by line. It reads no further ahead than one line, so that a full pipe is what slows
// the producer down while the server is away.
func (p *publisher) lines(ctx context.Context) error {
	read := make(chan []byte)
	var failed error
	go func() {
		defer close(read)
		failed = readLines(p.s.in, func(line []byte) bool {
			select {
			case read <- line:
				return true
			case <-ctx.Done():
				return false
			}
		})
	}()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return p.explain(fmt.Errorf("%w; %d sent", context.Cause(ctx), p.sent), exitRefused)
		case line, more := <-read:
			if !more {
				return failed
			}
			if len(line) == 0 {
				continue
			}
			if err := p.send(ctx, line); err != nil {
				return fmt.Errorf("line %d: %w", n, err)
			}
		}
	}
}

// readLines calls each with every line, without its end, until it returns false.
func readLines(r io.Reader, each func([]byte) bool) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), maxLine)
	for lines.Scan() {
		if !each(append([]byte(nil), lines.Bytes()...)) {
			return nil
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return &failure{exitRefused, fmt.Errorf("a line is longer than %d bytes, more than an event can hold", maxLine)}
	} else if err != nil {
		return &failure{exitLocal, err}
	}
	return nil
}

// send sends one event or message.
func (p *publisher) send(ctx context.Context, text []byte) error {
	if p.mq == nil {
		return p.sendEvent(ctx, text)
	}
	err := p.mq.Publish(ctx, mqttclient.Message{Topic: p.topics[0], Payload: text, QoS: byte(p.qos), Retain: p.retain})
	if err != nil {
		return p.explain(err, exitRefused)
	}
	p.sent++
	return nil
}

// sendEvent sends one event, joining the room when that is what it takes.
func (p *publisher) sendEvent(ctx context.Context, text []byte) error {
	content, err := p.content(text)
	if err != nil {
		return err
	}
	o := client.Outgoing{
		Room: p.roomID, Type: p.typ, State: p.state, Transaction: p.c.Transaction(), Content: content,
	}
	id, err := p.c.Send(ctx, o)
	// A member is the usual case and needs no request more; only who is turned away asks to be let in.
	if client.Refused(err, "M_FORBIDDEN") && !p.tried {
		p.tried = true
		in, ask := p.c.Member(ctx, p.roomID)
		if ask != nil {
			return p.explain(ask, exitRoom)
		}
		if !in {
			if _, err := p.c.Join(ctx, p.room); err != nil {
				return p.explain(err, exitRoom)
			}
			id, err = p.c.Send(ctx, o)
		}
	}
	if err != nil {
		return p.explain(err, exitRefused)
	}
	p.sent++
	if p.ids {
		if _, err := fmt.Fprintln(p.s.out, id); err != nil {
			return &failure{exitLocal, err}
		}
	}
	return nil
}

type textContent struct {
	MsgType string `json:"msgtype,omitempty"`
	Body    string `json:"body"`
}

// content makes an event's content of a line.
func (p *publisher) content(text []byte) (json.RawMessage, error) {
	if p.json {
		var object map[string]json.RawMessage
		if err := json.Unmarshal(text, &object); err != nil || object == nil {
			return nil, &failure{exitRefused, errors.New("--json wants one JSON object, the event's content")}
		}
		return text, nil
	}
	c := textContent{Body: string(text)}
	if p.typ == usualType {
		c.MsgType = "m.text"
	}
	return json.Marshal(c)
}
