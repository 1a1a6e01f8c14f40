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

	"hearth/cmd/internal/client"
)

const subHelp = `hearth sub -r ROOM [flags]

Prints the events sent into a room from now on, one a line, until it is interrupted. When the server was away it goes
on where it was, with what came meanwhile.

What to print:
      --json             the content of each event as JSON
      --event            the whole event as JSON
  -v, --verbose          sender and type before each text
  -t, --type TYPE        only events of this type; may be repeated, and end in *. Without it: all but state events
      --past N           begin with the last N events, at most 100
  -n, --count N          end after N events

Without --json and --event it prints the body of a text and the content of all else; control characters are escaped.
With --timeout and no --count the end of the time is a success.

` + reachHelp + "\n" + exitHelp + `
Examples:
  hearth sub -u bob -r '#lights:hub'
  hearth sub --token-file t -r '#log:hub' --json -t org.example.reading | jq .celsius
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
		case p.past < 0 || p.past > 100:
			return usage("--past must be 0 to 100")
		case p.count < 0:
			return usage("--count must not be negative")
		}
		return nil
	}, p.subscribe)
}

func (p *subscriber) subscribe(ctx context.Context) error {
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
	open := p.count == 0
	switch {
	case errors.Is(err, client.ErrLeft):
		return &failure{exitRoom, err}
	case open && (errors.Is(err, errTimeout) || errors.Is(err, errInterrupted)):
		return nil
	case err != nil && p.count > 0:
		return p.explain(fmt.Errorf("%w; %d of %d events came", err, p.printed, p.count), exitRefused)
	}
	return p.explain(err, exitRefused)
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
