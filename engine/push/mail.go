package push

import (
	"context"
	"fmt"
	"strings"
	"time"

	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/outbox"
	"hearth/engine/room"
	"hearth/engine/stream"
)

// toMail mails what has been unread for a while, all in one. Whatever is read
// before that is never mailed.
func (p *Push) toMail(ctx context.Context, l *letter, hits []hit, from stream.Pos) (stream.Pos, error) {
	if len(hits) == 0 || p.o.Mail == nil {
		return l.s.upto, nil
	}
	address, err := account.CanonicalEmail(l.pusher.Key)
	if err != nil {
		return l.s.upto, p.drop(l, "is no address")
	}
	owner, err := p.Accounts.FindThreepid("email", address)
	if err != nil {
		return from, err
	}
	if owner != l.s.r.User {
		return l.s.upto, p.drop(l, "is their address no more")
	}
	now := p.o.Now()
	// An event's time is what its sender says: never in the future.
	first := now
	for i := range hits {
		if t := time.UnixMilli(hits[i].e.Time); t.Before(first) {
			first = t
		}
	}
	if due := first.Add(p.o.MailDelay); now.Before(due) {
		return from, outbox.Later{At: due}
	}
	subject, text, err := p.digest(l, hits)
	if err != nil {
		return from, err
	}
	if err := p.o.Mail(ctx, l.pusher.Key, subject, text); err != nil {
		return from, err
	}
	return l.s.upto, nil
}

// maxLine bounds what a mail shows of a message.
const maxLine = 300

// digest writes the mail.
func (p *Push) digest(l *letter, hits []hit) (subject, text string, err error) {
	var b strings.Builder
	fmt.Fprintf(&b, "What %s has not read on %s:\n", l.s.r.ID, l.s.r.ID.Server())
	last := room.Num(0)
	for i := range hits {
		h := &hits[i]
		if last != h.head.Room {
			name, err := p.roomName(h, l.s.r.User)
			if err != nil {
				return "", "", err
			}
			fmt.Fprintf(&b, "\n%s\n", line(name))
		}
		last = h.head.Room
		who, err := p.stateText(h, "m.room.member", string(h.e.Sender), "displayname")
		if err != nil {
			return "", "", err
		}
		if who == "" {
			who = string(h.e.Sender)
		}
		fmt.Fprintf(&b, "  %s: %s\n", line(who), said(h))
	}
	subject = fmt.Sprintf("[%s] %d unread", l.s.r.ID.Server(), len(hits))
	return subject, b.String(), nil
}

// said is what a mail shows of an event.
func said(h *hit) string {
	body, _ := cjson.LookupString(h.e.Content, "body")
	switch {
	case h.e.Type == "m.room.encrypted":
		return "(an encrypted message)"
	case h.e.Type == "m.room.member":
		return "(an invitation)"
	case body == "":
		return "(" + line(h.e.Type) + ")"
	}
	return line(body)
}

// line makes one line of a text that somebody else wrote.
func line(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > maxLine {
		s = string(r[:maxLine]) + "…"
	}
	return s
}
